"""What QEMU is told over its monitor when a machine begins from a template.

All of it is said in advance and no answer is waited for: a machine that does not begin is one whose agent does not
answer. Source: QEMU's QMP reference, version 7.2.
"""

import json

IGNORE_SHARED = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}
"""The memory is a file's, and no part of the state."""


def restore_orders(state_fd: int) -> bytes:
    """The commands that let a machine which waits for its state have it from this descriptor, and run."""
    commands: list[dict[str, object]] = [
        {"execute": "qmp_capabilities"},
        {"execute": "migrate-set-capabilities", "arguments": IGNORE_SHARED},
        {"execute": "migrate-incoming", "arguments": {"uri": f"fd:{state_fd}"}},
    ]
    return b"".join(json.dumps(command).encode() + b"\n" for command in commands)
