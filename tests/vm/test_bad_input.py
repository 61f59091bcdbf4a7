"""What bad input gets, from the command line and from the MCP server alike: an error with a code and a hint.

Each row is asked of both, against one workspace in a real guest, and must change nothing: no workspace more or less, no
machine, no difference in the workspace's files, no file on the host.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyro_mcp import Pyro
from tests.support.daemons import end_daemon
from tests.support.pace import patience
from tests.support.small_disk import small_disk
from tests.support.waiting import wait_until
from tests.vm.bad_input_rows import ROWS, Row, W
from tests.vm.bad_things import make_folder
from tests.vm.front_ends import FOLDER, Ask, CommandLine, Conversation, Mcp, refusal, text_of
from tests.vm.pyro_command import Ended, PyroCommand, kill
from tests.vm.vmms import vmms_of


@dataclass(frozen=True)
class Asked:
    """Both front ends over one home, and what is there to be changed."""

    pyro: PyroCommand
    folder: Path
    outside: Path
    command_line: CommandLine
    mcp: Mcp

    @property
    def server(self) -> Conversation:
        return self.mcp.server

    def state(self) -> tuple[object, ...]:
        """What no refusal may change."""
        sdk = Pyro(self.pyro.client.settings)
        known = [
            (info.workspace_id, info.name, info.state, info.labels)
            for deleted in (False, True)
            for info in sdk.list_workspaces(deleted=deleted)
        ]
        files = [sorted(folder.rglob("*")) for folder in (self.folder, self.outside)]
        return known, vmms_of(self.pyro.home), sdk.diff_workspace(W), files


@pytest.fixture(scope="module")
def asked(pyro: PyroCommand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """One workspace of a small project, with a link out of it and a binary file."""
    base = tmp_path_factory.mktemp("bad-input")
    folder, outside = make_folder(base / "folder", base / "outside"), base / "outside"
    made = pyro("workspace", "create", "debian:12", "--name", W, "--seed-path", str(folder / "project"))
    assert made.exit_code == 0, made.stderr
    assert in_guest(pyro, "ln -s /etc link-out; printf '\\377\\000' >binary") == ""
    server = Conversation(pyro, folder, "--allow-path", "/dev")
    yield Asked(pyro, folder, outside, CommandLine(pyro, folder), Mcp.of(pyro, folder, server))
    server.close()
    pyro("workspace", "delete", W)
    pyro("workspace", "prune", W)


def in_guest(pyro: PyroCommand, line: str) -> str:
    """What a shell line in the workspace prints; it must succeed."""
    ended = pyro("workspace", "exec", W, "--", "sh", "-c", line)
    assert ended.exit_code == 0, ended
    return ended.stdout.decode()


@pytest.mark.parametrize(
    ("row", "front_end"),
    [pytest.param(row, front_end, id=f"{row.name}-{front_end}") for row in ROWS for front_end in row.asked()],
)
def test_is_refused_and_changes_nothing(asked: Asked, row: Row, front_end: str) -> None:
    before = asked.state()
    front: CommandLine | Mcp = getattr(asked, front_end)
    said = front.refused(row.ask, row.code, row.exit_code)
    assert [part for part in row.says if part not in said] == [], said
    assert asked.state() == before


def test_nothing_got_out_of_the_workspaces_folder(asked: Asked) -> None:
    assert in_guest(asked.pyro, "find / -xdev -name escaped") == ""


GROUP = "echo $$; sleep 1000 & sleep 1000"


def by_command_line(asked: Asked) -> str:
    ended = asked.pyro("workspace", "exec", W, "--timeout-seconds", "1", "--", "sh", "-c", GROUP)
    assert ended.exit_code == 124
    assert "pyro: the command reached its limit of 1 s" in ended.stderr
    return ended.stdout.decode()


def by_mcp(asked: Asked) -> str:
    result = asked.server("workspace_exec", workspace=W, command=GROUP, timeout_seconds=1)
    done = result["structuredContent"]
    assert isinstance(done, dict)
    assert (done["status"], done["exit_code"]) == ("timed_out", 124)
    assert text_of(result).startswith("timed out")
    return str(done["output"])


@pytest.mark.parametrize("asking", [by_command_line, by_mcp])
def test_a_time_out_leaves_nothing_of_the_process_group(asked: Asked, asking: Callable[[Asked], str]) -> None:
    before = asked.state()
    group = int(asking(asked))
    assert in_guest(asked.pyro, f"pgrep -g {group} || echo none") == "none\n"
    assert asked.state() == before


@contextmanager
def fronts(pyro: PyroCommand, folder: Path) -> Iterator[tuple[CommandLine, Mcp]]:
    """Both front ends over a home of its own, whose daemon ends with the block."""
    server = Conversation(pyro, folder)
    try:
        yield CommandLine(pyro, folder), Mcp.of(pyro, folder, server)
    finally:
        server.close()
        end_daemon(pyro.client.settings)


NEW = Ask(("create", "debian:12"), "workspace_create", {"environment": "debian:12"})
NEW_AND_LARGE = Ask(
    (*NEW.words, "--seed-path", f"{FOLDER}/large.tar"), NEW.tool, {**NEW.arguments, "seed_path": "large.tar"}
)


def refused_and_nothing_made(front: CommandLine | Mcp, pyro: PyroCommand, ask: Ask, code: str) -> str:
    said = front.refused(ask, code)
    sdk = Pyro(pyro.client.settings)
    assert (sdk.list_workspaces(), sdk.list_workspaces(deleted=True)) == ((), ())
    assert list((pyro.home / "workspaces").glob("*")) == []
    return said


def test_no_vmm_on_the_host(asked: Asked, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    bare = PyroCommand(tmp_path / "home", {"PATH": str(tmp_path / "bin"), "PYRO_VMM": "qemu"})
    with fronts(bare, asked.folder) as both:
        for front in both:
            said = refused_and_nothing_made(front, bare, NEW, "no_vmm")
            assert "apt-get install qemu-system-x86" in said


@pytest.mark.parametrize("ask", [NEW, NEW_AND_LARGE], ids=["disk", "seed"])
def test_no_room_for_a_workspace(asked: Asked, tmp_path: Path, ask: Ask) -> None:
    # SQLite resolves the path and so writes to the ordinary disk; what fills up is the one with the workspaces' files.
    with small_disk(tmp_path / "small", 2) as home:
        _fill(home, leaving=64 << 10)  # some for a daemon's log, and none for a disk, nor for one of the pool's
        small = PyroCommand(home)
        with fronts(small, asked.folder) as both:
            for front in both:
                assert "set PYRO_HOME" in refused_and_nothing_made(front, small, ask, "no_disk_space")


def _fill(folder: Path, *, leaving: int) -> None:
    """Take all space of a file system but so many bytes."""
    space = os.statvfs(folder)
    with (folder / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - leaving)


def started(asked: Asked, seen: int) -> Callable[[], bool]:
    """Whether a command more than those runs."""
    sdk = Pyro(asked.pyro.client.settings)
    return lambda: [info.status for info in sdk.workspace_logs(W)[seen:]] == ["running"]


@pytest.mark.parametrize("front_end", ["command_line", "mcp"])
def test_a_guest_that_dies_in_the_middle_of_a_call(asked: Asked, front_end: str) -> None:
    sdk = Pyro(asked.pyro.client.settings)
    in_guest(asked.pyro, "sync")  # what no machine has written out goes with it
    before, seen = asked.state(), len(sdk.workspace_logs(W))
    (vmm,) = vmms_of(asked.pyro.home)
    if front_end == "mcp":
        arguments = {"workspace": W, "command": "sleep 500", "timeout_seconds": 600}
        number = asked.server.begin("workspace_exec", arguments)
        wait_until(started(asked, seen))
        kill(vmm)
        said = asked.mcp.refusal(asked.server.end(number), "guest_gone")
    else:
        words = ("workspace", "exec", W, "--timeout-seconds", "600", "--", "sleep", "500")
        process = asked.pyro.start(*words)
        with process:
            wait_until(started(asked, seen))
            kill(vmm)
            stdout, stderr = process.communicate(timeout=patience(60))
        said = refusal(Ended(process.returncode, stdout, stderr.decode()), "guest_gone", 2)
    status = "workspace_status" if front_end == "mcp" else "pyro workspace status"
    assert status in said  # not that one has to make a new one
    wait_until(lambda: sdk.workspace_logs(W)[-1].status == "lost")
    assert vmms_of(asked.pyro.home) == set()
    assert in_guest(asked.pyro, "cat text") == "one\ntwo\n"
    known, vmms, *rest = asked.state()
    assert (known, *rest) == (before[0], *before[2:])
    assert len(vmms) == 1  # type: ignore[arg-type]
