"""Processes that outlive whoever started them, and watching what need not be ours."""

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp.process import Detached, spawn_detached
from pyro_mcp.process_watch import Watched, start_time, wait_for_end
from pyro_mcp.start_gate import behind
from tests.support.descriptors import none_left
from tests.support.waiting import wait_until

SLEEP = ["sleep", "1000"]
PATH = {"PATH": os.defpath}


@pytest.fixture
def started() -> Iterator[list[Detached]]:
    """Where `before_start` puts processes; they are ended with the test."""
    seen: list[Detached] = []
    yield seen
    for process in seen:
        found = Watched.find(process)
        if found is not None:
            found.kill()
            found.close()


def spawn(
    argv: list[str], started: list[Detached], output: int, limits: dict[int, int] | None = None, *, gate: bool = True
) -> Detached:
    gated = behind(argv) if gate else argv
    return spawn_detached(gated, env=PATH, pass_fds=(), output=output, limits=limits or {}, before_start=started.append)


@pytest.fixture
def output(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "output", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_a_detached_process_is_nobodys_child_in_a_session_of_its_own(started: list[Detached], output: int) -> None:
    process = spawn(SLEEP, started, output)
    assert started == [process]
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    parent, session = int(fields[1]), int(fields[3])
    assert parent != os.getpid()
    assert session == process.pid
    with pytest.raises(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def test_it_gets_its_output_environment_and_limits(started: list[Detached], output: int) -> None:
    process = spawn(["sh", "-c", "env; pwd; ulimit -n; echo error >&2"], started, output, {resource.RLIMIT_NOFILE: 77})
    assert wait_for_end(process.pid, 30)
    said = os.pread(output, 10_000, 0).decode().splitlines()
    assert said[-3:] == ["/", "77", "error"]
    assert {line.partition("=")[0] for line in said[:-3]} <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD"}


def test_it_works_where_it_is_told_to(started: list[Detached], output: int, tmp_path: Path) -> None:
    process = spawn_detached(
        behind(["sh", "-c", "pwd"]),
        env=PATH,
        cwd=tmp_path,
        pass_fds=(),
        output=output,
        limits={},
        before_start=started.append,
    )
    assert wait_for_end(process.pid, 30)
    assert os.pread(output, 10_000, 0).decode() == f"{tmp_path}\n"


def test_a_place_to_work_that_is_not_there_is_an_error(started: list[Detached], output: int, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        spawn_detached(
            behind(SLEEP),
            env=PATH,
            cwd=tmp_path / "none",
            pass_fds=(),
            output=output,
            limits={},
            before_start=started.append,
        )
    assert started == []


def test_it_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import os\nfrom pyro_mcp.process import spawn_detached\nfrom pyro_mcp.start_gate import behind\n"
        "process = spawn_detached(behind(['sleep', '1000']), env={'PATH': os.defpath}, pass_fds=(), output=2,"
        " limits={}, before_start=lambda process: None)\n"
        "print(process.pid, process.start_time, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    pid, began = map(int, ended.stdout.split())
    process = Detached(pid, began)
    assert ended.returncode == -signal.SIGKILL
    watched = Watched.find(process)
    assert watched is not None
    watched.kill()
    watched.close()
    assert wait_for_end(process.pid, 30)


def test_a_program_that_cannot_be_started_is_told(started: list[Detached], output: int) -> None:
    with none_left():
        with pytest.raises(FileNotFoundError):
            spawn(["/no/such/program"], started, output, gate=False)
        with pytest.raises(PermissionError):
            spawn(["/etc/passwd"], started, output, gate=False)
        assert all(wait_for_end(process.pid, 30) for process in started)


def test_what_cannot_be_written_down_is_not_started(output: int, tmp_path: Path) -> None:
    seen: list[Detached] = []

    def refuse(process: Detached) -> None:
        seen.append(process)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        spawn_detached(
            behind(["touch", str(tmp_path / "started")]),
            env=PATH,
            pass_fds=(),
            output=output,
            limits={},
            before_start=refuse,
        )
    assert wait_for_end(seen[0].pid, 30)
    assert not (tmp_path / "started").exists()


def test_there_is_no_program_when_we_die_before_it_is_written_down(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pyro_mcp.process import spawn_detached\nfrom pyro_mcp.start_gate import behind\n"
        "def die(process):\n    print(process.pid, flush=True)\n    os.kill(os.getpid(), 9)\n"
        "spawn_detached(behind(['touch', sys.argv[1]]), env={'PATH': os.defpath}, pass_fds=(), output=2, limits={},"
        " before_start=die)\n"
    )
    mark = tmp_path / "started"
    ended = subprocess.run([sys.executable, "-c", script, str(mark)], stdout=subprocess.PIPE, check=False)
    assert wait_for_end(int(ended.stdout), 30)
    assert not mark.exists()


async def test_an_end_is_seen_by_all_who_wait(started: list[Detached], output: int) -> None:
    process = await asyncio.to_thread(spawn, SLEEP, started, output)
    watched = Watched.find(process)
    assert watched is not None
    assert watched.alive
    waiting = [asyncio.create_task(watched.wait()) for _ in range(3)]
    waiting[0].cancel()
    await asyncio.sleep(0)
    watched.kill()
    async with asyncio.timeout(30):
        await asyncio.gather(*waiting[1:])
        await watched.wait()
    watched.kill()
    watched.close()
    watched.close()
    assert Watched.find(process) is None


async def test_it_is_killed_with_what_it_has_started(started: list[Detached], output: int) -> None:
    script = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    process = await asyncio.to_thread(spawn, script, started, output)
    await asyncio.to_thread(wait_until, lambda: os.pread(output, 100, 0).endswith(b"\n"))
    watched = Watched.find(process)
    assert watched is not None
    watched.kill()
    assert wait_for_end(int(os.pread(output, 100, 0)), 20)
    assert wait_for_end(process.pid, 20)
    watched.close()
    watched.kill()


def test_another_process_of_the_same_pid_is_not_taken_for_it() -> None:
    began = start_time(os.getpid())
    assert began is not None
    own = Watched.find(Detached(os.getpid(), began))
    assert own is not None
    own.close()
    assert Watched.find(Detached(os.getpid(), began + 1)) is None
    assert Watched.find(Detached(os.getpid(), began, "another boot")) is None


def _sandboxed(command: list[str]) -> list[str]:
    from pyro_mcp.vmm.confine import Sandbox, confined

    return confined(behind(command), Sandbox())


def test_a_sandbox_dies_as_a_whole_when_its_outermost_process_does(started: list[Detached], output: int) -> None:
    """As VMMs are confined: with the process that is known dies what it stands for."""
    process = spawn(_sandboxed(SLEEP), started, output, gate=False)
    inside = _below(process.pid)
    assert len(inside) == 2
    os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    assert all(wait_for_end(pid, max(0, deadline - time.monotonic())) for pid in inside)


@pytest.mark.parametrize("victim", ["sandbox", "starter"])
def test_a_sandbox_that_is_killed_at_any_moment_leaves_nothing(tmp_path: Path, victim: str) -> None:
    """Whether it is still being set up, waits at its gate or runs its program."""
    marked = str(tmp_path / "here")  # what stands on the command line of all its processes
    script = (
        "import os, sys, time\nfrom pyro_mcp.process import spawn\nfrom pyro_mcp.start_gate import StartGate\n"
        "gate = StartGate()\nprocess = spawn(sys.argv[3:], stdin=gate.inner.fileno(), dies_with_us=False)\n"
        "killer = os.fork()\n"
        "if killer == 0:\n"
        "    time.sleep(float(sys.argv[2]))\n"
        "    os.killpg(process.pid, 9) if sys.argv[1] == 'sandbox' else os.kill(os.getppid(), 9)\n"
        "    os._exit(0)\n"
        "gate.pass_blocking(lambda: process.exit_code is None)\nos.waitid(os.P_PID, process.pid, os.WEXITED)\n"
    )
    for number in range(60):
        command = _sandboxed(["sh", "-c", "sleep 1000; :", marked])
        delay = f"{number * 0.0008:.4f}"
        subprocess.run([sys.executable, "-c", script, victim, delay, *command], check=False, stdin=subprocess.DEVNULL)
    wait_until(lambda: not _processes_of(marked))


def _processes_of(word: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            with contextlib.suppress(OSError):
                if word.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
    return found


def _below(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in children for each in (child, *_below(child))]


def test_it_is_watched_through_a_descriptor_of_any_number(started: list[Detached], output: int) -> None:
    process = spawn(SLEEP, started, output)
    found = Watched.find(process)
    assert found is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        high = Watched(process.pid, fcntl.fcntl(found._pidfd, fcntl.F_DUPFD_CLOEXEC, 1024))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found.close()
    before = high.alive
    high.kill()
    assert wait_for_end(process.pid, 30)
    assert (before, high.alive) == (True, False)
    high.close()
