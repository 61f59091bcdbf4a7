"""What a confined program can see and do, found out by confined programs; runs without root as with it."""

import os
import resource
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from pyro_mcp.process import run
from pyro_mcp.vmm import confine
from pyro_mcp.vmm.confine import INPUTS, confined, limits, why_unconfinable


async def _says(script: str, inputs: Mapping[Path, Path] | None = None) -> list[str]:
    ended = await run(confined(["/bin/sh", "-c", script], inputs or {}))
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
    given.chmod(0o444)
    inside = INPUTS / "given"
    script = (
        f"cat {inside}; echo; test -e {hidden} -o -e {given} || echo hidden; "
        f"(chmod 666 {inside}; echo x >{inside}) 2>/dev/null || echo read-only; "
        "for place in /usr/x /x /inputs/x /proc/sys/kernel/core_pattern; do "
        "(echo x >$place) 2>/dev/null || echo $place is closed; done; "
        "ls /root /home /etc /var /tmp 2>/dev/null; true"
    )
    closed = ["/usr/x", "/x", "/inputs/x", "/proc/sys/kernel/core_pattern"]
    said = await _says(script, {inside: given})
    assert said == ["content", "hidden", "read-only", *(f"{place} is closed" for place in closed)]
    assert given.read_text() == "content"


async def test_no_switch_of_the_kernel_can_be_opened_for_writing() -> None:
    # The one that anybody may write belongs to the namespace of its reader.
    assert await _says("find /proc/sys -type f -writable 2>/dev/null | head") == ["/proc/sys/kernel/ns_last_pid"]


async def test_it_is_nobody_where_root_starts_it() -> None:
    assert await _says("id -u") == ["65534" if os.geteuid() == 0 else str(os.getuid())]


def test_limits_are_little_more_than_the_guest_needs() -> None:
    given = limits(mem_mib=512, disk_bytes=1 << 31)
    assert given[resource.RLIMIT_CORE] == 0
    assert given[resource.RLIMIT_FSIZE] == 1 << 31
    assert 512 << 20 < given[resource.RLIMIT_AS] <= (512 << 20) + (4 << 30)


async def test_there_is_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        connect = ["/bin/bash", "-c", f": </dev/tcp/127.0.0.1/{port}"]
        assert (await run(connect)).exit_code == 0
        assert (await run(confined(connect, {}))).exit_code != 0
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
    ended = await run(confined(["/bin/bash", "-c", f"cat <&{reader}"], {}), pass_fds=[reader])
    os.close(reader)
    assert ended.stdout == b"through"
