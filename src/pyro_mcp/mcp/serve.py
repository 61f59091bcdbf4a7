"""`pyro mcp serve`: answers the opening at once, then loads the SDK and has it do the rest.

One thread, and nothing imported before it is needed: what comes while the SDK loads waits in the pipe.
"""

import os
from dataclasses import dataclass

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.mcp.front import Front, load_answers
from pyro_mcp.mcp.stdio import LineReader, claim, write_all


@dataclass(frozen=True)
class ServeOptions:
    """What the user allows: a profile's tools, folders beside the default ones, and at most this network policy."""

    profile: str = "workspace-core"
    allow_paths: tuple[str, ...] = ()
    network_policy: str = "off"


def serve(options: ServeOptions) -> None:
    """Serve the chat host at stdin and stdout until it closes. Raises `InvalidRequest` for a folder that is none."""
    for folder in options.allow_paths:
        if not os.path.isdir(folder):
            raise InvalidRequest("bad_usage", f"--allow-path {folder!r} is not a folder", "name a folder that exists")
    front = Front(load_answers(options.profile))
    wire_in, wire_out = claim()
    reader = LineReader(wire_in)
    while (line := reader.next()) is not None:
        step = front.take(line)
        if step.answer is not None:
            write_all(wire_out, step.answer + b"\n")
        if step.hand_over:
            from pyro_mcp.mcp.session import serve_session  # noqa: PLC0415  (late on purpose: see above)

            opening = [*front.replay, *([] if step.taken else [line])]
            serve_session(options, opening, front.handshake_id, reader, wire_out)
            return
