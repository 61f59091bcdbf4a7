import asyncio
import os
import pwd
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyro_mcp import process
from pyro_mcp.errors import HostUnfit
from pyro_mcp.images import confine
from pyro_mcp.images.confine import Confinement
from tests.support.descriptors import none_left

# A process that leaves its session, ignores signals and outlives its parent if it can; it says who it is.
STUBBORN = """
trap '' TERM INT HUP
setsid sh -c 'trap "" TERM INT HUP; echo started; exec sleep 1000' &
exec sleep 1000
"""


def processes_with(mark: str) -> list[int]:
    """Processes with these characters in their command lines."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if mark.encode() in Path(f"/proc/{entry}/cmdline").read_bytes():
                found.append(int(entry))
        except (OSError, ValueError):
            continue
    return found


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


async def test_output_comes_line_by_line_from_both_streams() -> None:
    seen: list[str] = []
    ended = await confine.run(
        Confinement(()),
        ["sh", "-c", r"echo one; echo two >&2; printf 'three\r\n\377\nrest'; exit 7"],
        env=confine.environment(),
        on_line=seen.append,
    )
    assert ended.exit_code == 7
    assert ended.lines == tuple(seen) == ("one", "two", "three", "\ufffd", "rest")


async def test_only_the_last_lines_are_kept_and_no_line_grows_without_bound() -> None:
    ended = await confine.run(
        Confinement(()), ["sh", "-c", "seq 1000; head -c 1000000 /dev/zero"], env=confine.environment()
    )
    assert len(ended.lines) == confine._KEEP_LINES
    assert ended.lines[-2] == "1000"
    assert len(ended.lines[-1]) <= confine._MAX_LINE


async def test_a_missing_program_leaves_no_descriptor() -> None:
    with none_left(), pytest.raises(FileNotFoundError):
        await confine.run(Confinement(()), ["/no/such/program"], env={})


async def test_it_looks_like_root_there() -> None:
    ended = await confine.run(await confine.find(), ["id", "-u"], env=confine.environment())
    assert ended == confine.Ended(0, ("0",))


async def test_cancelling_ends_everything_that_was_started_before_it_returns(tmp_path: Path) -> None:
    confinement, started, mark = await confine.find(), asyncio.Event(), str(1000 + time.time_ns() % 10**9)
    script = STUBBORN.replace("1000", mark)
    before = mounts()
    task = asyncio.create_task(
        confine.run(
            confinement,
            ["sh", "-c", f'mount -t tmpfs tmpfs "{tmp_path}"; {script}'],
            env=confine.environment(),
            on_line=lambda line: started.set(),
        )
    )
    async with asyncio.timeout(20):
        await started.wait()
    assert len(processes_with(mark)) >= 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert processes_with(mark) == []
    assert mounts() == before


async def test_without_namespaces_cancelling_ends_the_process_group() -> None:
    started, mark = asyncio.Event(), str(1000 + time.time_ns() % 10**9)
    task = asyncio.create_task(
        confine.run(
            Confinement(()),
            ["sh", "-c", f"trap '' TERM; echo x; sleep {mark} & sleep {mark}"],
            env=confine.environment(),
            on_line=lambda line: started.set(),
        )
    )
    async with asyncio.timeout(20):
        await started.wait()
    pids = processes_with(mark)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pids
    assert all(process.wait_for_end(pid, timeout_seconds=20) for pid in pids)


def test_little_of_the_users_environment_gets_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APT_CONFIG", "PERL5LIB", "LD_PRELOAD", "SECRET"):
        monkeypatch.setenv(name, "/x")
    monkeypatch.setenv("https_proxy", "http://proxy.invalid")
    monkeypatch.setenv("PATH", "/home/somebody/bin")
    got = confine.environment(TMPDIR="/t")
    assert not {"APT_CONFIG", "PERL5LIB", "LD_PRELOAD", "SECRET"} & set(got)
    assert (got["https_proxy"], got["TMPDIR"], got["LC_ALL"]) == ("http://proxy.invalid", "/t", "C.UTF-8")
    assert "/home" not in got["PATH"]


async def test_trees_are_removed_whole_and_missing_ones_are_no_error(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    os.makedirs(tree / "a" / "b")
    os.chmod(tree / "a", 0o700)
    await confine.remove_tree(tree)
    await confine.remove_tree(tree)
    assert os.listdir(tmp_path) == []


async def test_root_without_namespaces_still_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(confine, "_NAMESPACES", ("false",))
    assert await confine.find() == Confinement(())


@dataclass(frozen=True)
class Lack:
    """What an ordinary user's host has, and how the error for what it lacks is known."""

    programs: tuple[str, ...]
    subuids: str
    code: str
    mends: str


@dataclass(frozen=True)
class User:
    pw_name: str


BOTH_PROGRAMS = ("newuidmap", "newgidmap")
LACKS = (
    Lack((), "me:100000:65536\n", "no_uidmap", "apt-get install uidmap"),
    Lack(BOTH_PROGRAMS, "other:100000:65536\n", "no_subuids", "usermod --add-subuids 100000-165535"),
    Lack(BOTH_PROGRAMS, "me:100000:65536\n", "no_user_namespace", "user.max_user_namespaces"),
)


@pytest.mark.parametrize("lack", LACKS, ids=lambda lack: lack.code)
async def test_a_user_who_cannot_build_is_told_what_mends_it(
    lack: Lack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for program in lack.programs:
        make_program(tmp_path / program)
    ranges = tmp_path / "subid"
    write(ranges, lack.subuids)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: User("me"))
    monkeypatch.setattr(confine, "_ID_RANGES", (ranges, ranges))
    monkeypatch.setattr(confine, "_PATH", str(tmp_path))
    monkeypatch.setattr(confine, "_NAMESPACES", ("/bin/false",))
    with pytest.raises(HostUnfit) as caught:
        await confine.find()
    assert caught.value.code == lack.code
    assert lack.mends in str(caught.value.hint)
    assert "as root" in str(caught.value.hint)


def test_a_user_without_a_name_goes_by_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 987654)
    assert confine._user_name() == "987654"
    (tmp_path / "subuid").write_text("987654:1:65536\n")
    assert confine._has_range(tmp_path / "subuid", "987654")
    assert not confine._has_range(tmp_path / "missing", "987654")


def make_program(path: Path) -> None:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


def write(path: Path, content: str) -> None:
    path.write_text(content)
