"""The initramfs: the agent as /init, and the modules that it needs to reach the root file system and the host."""

from collections.abc import Mapping, Sequence

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.runtime import cpio, elf


def initramfs(agent: bytes, order: Sequence[str], modules: Mapping[str, bytes]) -> bytes:
    """The archive, uncompressed: unpacking costs the guest more than reading.

    `order` names the modules in the order of loading, dependencies first, and `modules` holds their content. Raises
    `InvalidRequest` when the agent is no static x86-64 program: there is no loader in the guest for any other.
    """
    if not elf.is_static_program(agent):
        raise InvalidRequest(
            "agent_not_static", "the agent is no static x86-64 Linux program", "build it as `make agent` does"
        )
    return cpio.archive(
        [
            cpio.file("init", agent, executable=True),
            # The kernel opens its console before /init runs and complains when it cannot.
            cpio.folder("dev"),
            cpio.character_device("dev/console", 5, 1),
            cpio.folder("proc"),
            cpio.folder("sys"),
            cpio.folder("modules"),
            cpio.file("modules/order", "".join(f"{name}\n" for name in order).encode()),
            *(cpio.file(f"modules/{name}", modules[name]) for name in order),
        ]
    )
