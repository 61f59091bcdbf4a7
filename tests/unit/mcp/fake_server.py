"""`python -m tests.unit.mcp.fake_server NOTES [PROFILE]`: the whole MCP server with `FakePyro` for a daemon.

What is asked of that is noted in the file NOTES, a line each.
"""

import sys
from pathlib import Path

from pyro_mcp import sdk
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.mcp.serve import ServeOptions, serve
from tests.unit.mcp.fake_pyro import FakePyro


def main() -> None:
    notes = Path(sys.argv[1])
    profile = sys.argv[2] if len(sys.argv) > 2 else "workspace-full"

    def note(words: str) -> None:
        with notes.open("a") as file:
            file.write(words + "\n")
        print("a library that prints", flush=True)  # is not to be seen by the chat host

    sdk.AsyncPyro = lambda: FakePyro(note)  # type: ignore[assignment, misc]
    DaemonClient.ask = lambda *_: note("wake")  # type: ignore[method-assign]
    serve(ServeOptions(profile))


if __name__ == "__main__":
    main()
