"""A program in QEMU's place: for the driver, without a guest. Its monitor speaks QMP.

What it does is up to a script, in Python; what it needs for that is below.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.vmm.qemu import PROGRAM

STATE = b"the state of the devices"
_GREETING = {"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}


def fake_qemu(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put it into this process's PATH; `qemu` is this module, and `argv` what it was told."""
    program = folder / PROGRAM
    root = Path(__file__).parents[2]
    begin = f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'src')!r}]"
    program.write_text(
        f"#!{sys.executable}\n{begin}\nimport os, time\nfrom tests.support import fake_qemu as qemu\n{script}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


# What scripts are made of


def chardev(name: str) -> socket.socket:
    """The socket that QEMU would take for this character device."""
    found = [word.split(",")[2] for word in sys.argv if word.startswith(f"socket,id={name},")]
    return socket.socket(fileno=int(found[0].removeprefix("fd=")))


def memory() -> int:
    """The descriptor of the guest's memory."""
    words = [part for word in sys.argv if word.startswith("memory-backend-file,") for part in word.split(",")]
    (path,) = (word for word in words if word.startswith("mem-path="))
    return int(path.rpartition("/")[2])


class Monitor:
    """QMP at its end of a socket.

    `answers` are what commands are answered with, in turn and the last one again and again; others with `{}`. An answer
    of None is none.
    """

    def __init__(self, end: socket.socket, answers: dict[str, list[Any]] | None = None) -> None:
        self.end = end
        self.answers = answers or {}
        self.asked: list[tuple[str, Any]] = []
        self.given: dict[str, int] = {}

    def serve(self) -> None:
        """Until nobody is at the other end any more."""
        self._say(_GREETING)
        for command, fds in self._commands():
            name = command["execute"]
            self.asked.append((name, command.get("arguments")))
            if name == "getfd":
                self.given[command["arguments"]["fdname"]] = fds.pop()
            if name == "migrate":
                os.write(self.given[command["arguments"]["uri"].removeprefix("fd:")], STATE)
            turns = self.answers.get(name, [{"status": "completed"} if name == "query-migrate" else {}])
            answer = turns.pop(0) if len(turns) > 1 else turns[0]
            if answer is not None:
                kind = "error" if "class" in answer else "return"
                self._say({kind: answer, "id": command.get("id")})
        for fd in self.given.values():
            os.close(fd)

    def _say(self, what: object) -> None:
        self.end.sendall(json.dumps(what).encode() + b"\r\n")

    def _commands(self) -> Iterator[tuple[dict[str, Any], list[int]]]:
        got, fds = "", list[int]()
        while True:
            try:
                data, new, _, _ = socket.recv_fds(self.end, 65536, 4)
            except ConnectionError:
                return
            fds += new
            got = (got + data.decode()).lstrip()
            if not data:
                return
            while got:  # nothing tells where a command ends but the command itself
                try:
                    command, end = json.JSONDecoder().raw_decode(got)
                except ValueError:
                    break
                got = got[end:].lstrip()
                yield command, fds
