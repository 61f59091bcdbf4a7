"""A program in QEMU's place that has a pulse for a while, and a monitor.

    fake_emulator.py BEATS AFTERWARDS [QEMU's arguments]

It is heard of two processors that many times, and then turns itself off (`off`), hangs without a pulse (`freeze`), or
does that and has no ear for its monitor either (`deaf`).
"""

import json
import os
import socket
import stat
import sys
import time
from pathlib import Path


def fake_qemu(folder: Path, beats: int, afterwards: str) -> None:
    """Put it into a folder under QEMU's name."""
    program = folder / "qemu-system-x86_64"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {beats} {afterwards} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def main(beats: str, afterwards: str, *arguments: str) -> None:
    """Beat, and then what was said."""
    out = _descriptor("output", arguments)
    pulse = _descriptor("pulse", arguments)
    os.write(out, b"booted\n")
    for _ in range(int(beats)):
        os.write(pulse, bytes([0, 1]))
        time.sleep(0.02)
    if afterwards == "freeze":
        _answer(socket.socket(fileno=_descriptor("monitor", arguments)))
    if afterwards == "deaf":
        time.sleep(1000)


def _answer(channel: socket.socket) -> None:
    with channel.makefile("rw") as monitor:
        print(json.dumps({"QMP": {}}), file=monitor, flush=True)
        for line in monitor:
            asked = json.loads(line)
            words = asked["arguments"].get("command-line", "")
            print(
                json.dumps({"event": "X"}),
                json.dumps({"return": f"told of {words}", "id": asked["id"]}),
                sep="\n",
                file=monitor,
                flush=True,
            )


def _descriptor(name: str, arguments: tuple[str, ...]) -> int:
    (word,) = (word for word in arguments if word.startswith(f"socket,id={name},"))
    return int(word.partition("fd=")[2])


if __name__ == "__main__":
    main(*sys.argv[1:])
