"""What a confined program can see and do, found out by confined programs; runs without root as with it."""

import os
import socket
from pathlib import Path

import pytest

from pyro_mcp.process import run
from pyro_mcp.vmm import confine
from pyro_mcp.vmm.confine import confined, why_unconfinable


async def _says(script: str, *readable: Path) -> list[str]:
    ended = await run(confined(["/bin/sh", "-c", script], readable))
    assert ended.exit_code == 0, ended.stderr.decode()
    return ended.stdout.decode().splitlines()


async def test_it_can_be_done_here() -> None:
    assert await why_unconfinable() is None


async def test_where_bubblewrap_is_missing_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "not installed" in (await why_unconfinable() or "")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'bwrap: No permissions to create new namespace' >&2; exit 1", "No permissions"),
        ("exit 3", "ended with 3"),
    ],
)
async def test_where_it_cannot_be_done_it_is_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    stand_in = tmp_path / confine.BWRAP
    stand_in.write_text(f"#!/bin/sh\n{script}\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert why in (await why_unconfinable() or "")


async def test_only_the_files_given_can_be_seen_and_none_written(tmp_path: Path) -> None:
    given, hidden = tmp_path / "given", tmp_path / "hidden"
    given.write_text("content")
    hidden.write_text("secret")
    script = (
        f"cat {given}; echo; test -e {hidden} || echo hidden; "
        f"(echo x >{given}) 2>/dev/null || echo read-only; (echo x >/usr/x) 2>/dev/null || echo system read-only; "
        "ls /root /home /etc /var 2>/dev/null; true"
    )
    assert await _says(script, given) == ["content", "hidden", "read-only", "system read-only"]
    assert given.read_text() == "content"


async def test_there_is_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        connect = ["/bin/bash", "-c", f": </dev/tcp/127.0.0.1/{port}"]
        assert (await run(connect)).exit_code == 0
        assert (await run(confined(connect, []))).exit_code != 0
    assert await _says("ls /sys/class/net 2>/dev/null; grep -c : /proc/net/dev") == ["1"]  # the loopback alone


async def test_there_is_no_other_process_and_no_capability() -> None:
    processes = await _says("ls /proc | grep -c '^[0-9]'")
    assert int(processes[0]) <= 4
    status = await _says("grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs)' /proc/self/status")
    assert [line.split()[1].strip("0") for line in status] == ["", "", "", "1"]


async def test_nothing_of_the_environment_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "do not tell")
    assert not [line for line in await _says("env") if not line.startswith(("PWD=", "SHLVL=", "_="))]


async def test_descriptors_are_passed_on() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"through")
    os.close(writer)
    ended = await run(confined(["/bin/sh", "-c", f"cat /proc/self/fd/{reader}"], []), pass_fds=[reader])
    os.close(reader)
    assert ended.stdout == b"through"
