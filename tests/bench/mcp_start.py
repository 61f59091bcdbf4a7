"""How soon `pyro mcp serve` has told a chat host its tools, counted from the start of its process."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pyro_mcp.config import Settings
from tests.bench.report import Ratio
from tests.support.daemons import daemon_pid, end_daemon

_ROUNDS = 15
_WITH_DAEMON_SECONDS = 0.3  # what is promised on a machine of the kind that this was measured on
_WITHOUT_SECONDS = 0.8
_CLIENT = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
_OPENING = (
    {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": _CLIENT},
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
)


def list_of_tools() -> list[Ratio]:
    """Against the bare interpreter, and against what is promised; with a daemon that runs, and without."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.from_environment({"PYRO_HOME": f"{home}/state", "PYRO_CACHE_DIR": f"{home}/cache"})
        running, without, bare = [], [], []
        for _ in range(_ROUNDS):
            end_daemon(settings)
            without.append(_seconds_to_tools(settings))
            daemon_pid(settings)
            running.append(_seconds_to_tools(settings))
            bare.append(_seconds([sys.executable, "-c", "pass"]))
        end_daemon(settings)
    return [
        Ratio("mcp tools/list / python -c pass", tuple(running), tuple(bare), None),
        Ratio("mcp tools/list, daemon runs / promised", tuple(running), (_WITH_DAEMON_SECONDS,) * _ROUNDS, 1.0),
        Ratio("mcp tools/list, no daemon / promised", tuple(without), (_WITHOUT_SECONDS,) * _ROUNDS, 1.0),
    ]


def _seconds_to_tools(settings: Settings) -> float:
    pyro = str(Path(sys.executable).parent / "pyro")
    lines = b"".join(json.dumps(message).encode() + b"\n" for message in _OPENING)
    began = time.perf_counter()
    environment = {"HOME": "/", "PATH": "/usr/bin:/bin", **settings.to_environment()}
    pipe = subprocess.PIPE
    with subprocess.Popen([pyro, "mcp", "serve"], env=environment, stdin=pipe, stdout=pipe) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(lines)
        server.stdin.flush()
        answers = [json.loads(server.stdout.readline()) for _ in range(2)]
        seconds = time.perf_counter() - began
        server.stdin.close()
    if not answers[1]["result"]["tools"]:
        raise RuntimeError("no tools were listed")
    return seconds


def _seconds(argv: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    from tests.bench.report import print_table

    print_table(list_of_tools())
