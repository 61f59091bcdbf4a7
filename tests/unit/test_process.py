"""Processes are seen to their end, whatever they and their children do."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyro_mcp.process import Process, Tail, detach, run, spawn, start_time, wait_for_end
from tests.support.descriptors import none_left
from tests.support.waiting import until

SLEEP = ["sleep", "1000"]
# Ignores SIGTERM, and says so when it does.
STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]


async def _stubborn() -> Process:
    reader, writer = os.pipe()
    process = spawn(STUBBORN, stdout=writer)
    os.close(writer)
    assert await asyncio.to_thread(os.read, reader, 100) == b"ready\n"
    os.close(reader)
    return process


@pytest.mark.parametrize("code", [0, 1, 42, 255])
async def test_run_tells_the_exit_code(code: int) -> None:
    ended = await run(["sh", "-c", f"exit {code}"])
    assert (ended.exit_code, ended.argv) == (code, ("sh", "-c", f"exit {code}"))


async def test_run_tells_the_signal_as_a_negative_code() -> None:
    assert (await run(["sh", "-c", "kill -KILL $$"])).exit_code == -signal.SIGKILL


async def test_run_keeps_the_outputs_apart() -> None:
    ended = await run(["sh", "-c", "echo out; echo err >&2"])
    assert (ended.stdout, ended.stderr) == (b"out\n", b"err\n")


async def test_run_keeps_the_last_bytes_of_much_output() -> None:
    ended = await run(["sh", "-c", "yes | head -c 1000000; echo end; yes err | head -c 1000000 >&2"], keep_bytes=1000)
    assert len(ended.stdout) == 1000
    assert ended.stdout.endswith(b"y\nend\n")
    assert ended.stderr == (b"err\n" * 250000)[-1000:]


async def test_run_keeps_nothing_when_nothing_is_wanted() -> None:
    ended = await run(["sh", "-c", "yes | head -c 1000000"], keep_bytes=0)
    assert (ended.exit_code, ended.stdout) == (0, b"")


async def test_a_grandchild_that_holds_the_pipe_does_not_delay_run() -> None:
    async with asyncio.timeout(20):
        ended = await run(["sh", "-c", "sleep 1000 & echo $!"])
    grandchild = int(ended.stdout)
    assert start_time(grandchild) is not None
    os.kill(grandchild, signal.SIGKILL)


async def test_a_grandchild_that_floods_the_pipe_does_not_delay_run() -> None:
    async with asyncio.timeout(20):
        ended = await run(["sh", "-c", "yes & echo $! >&2"])
    # It ends by itself: nobody reads its pipe any more.
    assert wait_for_end(int(ended.stderr), 20)


async def test_run_passes_on_what_it_is_given(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"through a descriptor")
    os.close(writer)
    script = f'pwd; echo "$COLOUR $HOME"; cat /proc/self/fd/{reader}'
    ended = await run(["/bin/sh", "-c", script], env={"COLOUR": "red"}, cwd=tmp_path, pass_fds=[reader])
    os.close(reader)
    assert ended.stdout == f"{tmp_path}\nred \nthrough a descriptor".encode()


async def test_run_inherits_the_environment_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", "blue")
    assert (await run(["sh", "-c", "echo $COLOUR"])).stdout == b"blue\n"


@pytest.mark.parametrize(("program", "error"), [("/no/such/program", FileNotFoundError), ("/etc", PermissionError)])
async def test_a_program_that_cannot_be_started_leaves_no_descriptor(program: str, error: type[OSError]) -> None:
    with none_left(), pytest.raises(error):
        await run([program])


async def test_run_leaves_no_descriptor_and_no_zombie() -> None:
    await run(["true"])
    with none_left():
        await run(["true"])
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # noqa: ASYNC222  (it does not wait)


async def test_cancelling_run_ends_the_process(tmp_path: Path) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    running = asyncio.create_task(run(["sh", "-c", f"echo $$ >{fifo}; exec sleep 1000"]))
    pid = int(await asyncio.to_thread(fifo.read_text))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert start_time(pid) is None


async def test_stop_asks_first() -> None:
    process = spawn(SLEEP)
    assert process.exit_code is None
    assert await process.stop() == -signal.SIGTERM
    assert process.exit_code == -signal.SIGTERM


async def test_stop_kills_what_does_not_listen_within_the_time_given() -> None:
    process = await _stubborn()
    began = time.monotonic()
    assert await process.stop(grace_seconds=0.2) == -signal.SIGKILL
    assert 0.2 <= time.monotonic() - began < 10
    assert start_time(process.pid) is None


async def test_stop_may_be_called_again_and_for_one_that_has_ended() -> None:
    process = spawn(["sh", "-c", "exit 3"])
    assert await process.wait() == 3
    assert await process.stop() == 3
    assert await process.stop() == 3
    process.signal(signal.SIGTERM)


async def test_several_tasks_may_wait_and_one_may_give_up() -> None:
    process = spawn(SLEEP)
    impatient, *patient = [asyncio.create_task(process.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    impatient.cancel()
    process.signal(signal.SIGUSR1)
    assert await asyncio.gather(*patient) == [-signal.SIGUSR1] * 2
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert await process.close() == -signal.SIGUSR1


async def test_a_process_is_in_a_session_of_its_own() -> None:
    process = spawn(SLEEP)
    assert os.getsid(process.pid) == process.pid
    await process.stop()


async def test_limits_hold_for_the_process_alone() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = {resource.RLIMIT_NOFILE: 17, resource.RLIMIT_CORE: 0}
    reader, writer = os.pipe()
    process = spawn(["sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c"], stdout=writer, limits=limits)
    os.close(writer)
    await process.wait()
    assert Tail(reader, 100).finish() == b"17\n17\n0\n"
    await process.close()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_a_limit_is_no_more_than_its_user_may_have() -> None:
    script = (
        "import asyncio, resource\n"
        "from pyro_mcp.process import spawn\n"
        "async def main():\n"
        "    process = spawn(['sh', '-c', 'ulimit -n'], stdout=1, limits={resource.RLIMIT_NOFILE: 100})\n"
        "    await process.wait()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    assert ended.stdout == b"64\n"


def test_a_process_dies_with_the_one_that_started_it() -> None:
    script = (
        "import asyncio\n"
        "from pyro_mcp.process import spawn\n"
        "async def main():\n"
        "    print(spawn(['sleep', '1000']).pid, flush=True)\n"
        "    await asyncio.sleep(1000)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert start_time(child) is not None
        parent.kill()
    assert wait_for_end(child, 20)


def test_one_that_is_to_ask_for_that_itself_does_not() -> None:
    script = (
        "import time\nfrom pyro_mcp.process import spawn\n"
        "print(spawn(['sleep', '1000'], dies_with_us=False).pid, flush=True)\ntime.sleep(1000)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    assert not wait_for_end(child, 0.1)
    os.kill(child, signal.SIGKILL)
    assert wait_for_end(child, 20)


async def test_a_group_is_killed_as_a_whole_and_no_other() -> None:
    reader, writer = os.pipe()
    process, another = spawn(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=writer), spawn(SLEEP)
    os.close(writer)
    child = int(await asyncio.to_thread(os.read, reader, 100))
    os.close(reader)
    process.kill_group()
    assert await process.close() == -signal.SIGKILL
    assert wait_for_end(child, 20)
    process.kill_group()
    assert another.exit_code is None
    another.kill_group()
    await another.wait()
    another.kill_group()
    await another.close()


def test_detach_waits_for_the_launcher_and_passes_its_code_on(tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    reader, writer = os.pipe()
    # The launcher leaves a child behind, which writes when the launcher has ended.
    script = f'(while kill -0 $$; do :; done; echo "$COLOUR $(pwd)" >/proc/self/fd/{writer}) & echo launched; exit 7'
    code = detach(["/bin/sh", "-c", script], env={"COLOUR": "red", "PATH": os.defpath}, pass_fds=[writer], log=log)
    os.close(writer)
    os.close(log)
    assert code == 7
    with os.fdopen(reader) as left_behind:
        assert left_behind.read() == "red /\n"
    assert "launched" in (tmp_path / "log").read_text()


def test_start_time_names_a_process_for_good() -> None:
    first = start_time(os.getpid())
    assert first is not None
    assert start_time(os.getpid()) == first
    with subprocess.Popen(SLEEP) as child:
        later = start_time(child.pid)
        assert later is not None
        assert later >= first
        child.kill()


def test_start_time_of_a_process_with_a_wild_name(tmp_path: Path) -> None:
    wild = tmp_path / ") R 1 1 (("
    wild.symlink_to("/bin/sleep")
    with subprocess.Popen([str(wild), "1000"]) as child:
        found = start_time(child.pid)
        plain = start_time(os.getpid())
        child.kill()
    assert found is not None
    assert plain is not None
    assert found >= plain


def test_a_zombie_and_a_free_pid_have_no_start_time() -> None:
    child = subprocess.Popen(["true"])
    assert wait_for_end(child.pid, 20)
    assert start_time(child.pid) is None
    child.wait()
    assert start_time(child.pid) is None


def test_wait_for_end_sees_the_end_of_somebody_elses_process() -> None:
    with subprocess.Popen(SLEEP) as child:
        assert not wait_for_end(child.pid, 0)
        assert not wait_for_end(child.pid, 0.01)
        child.kill()
        assert wait_for_end(child.pid, 20)
    assert wait_for_end(child.pid, 20)


async def test_a_tail_tells_when_nobody_can_write_any_more() -> None:
    reader, writer = os.pipe()
    tail = Tail(reader, 4)
    os.write(writer, b"abcdef")
    assert not tail.closed.is_set()
    os.close(writer)
    async with asyncio.timeout(20):
        await tail.closed.wait()
    assert tail.data == b"cdef"
    assert tail.finish() == b"cdef"


async def test_a_tail_tells_when_it_holds_what_is_waited_for() -> None:
    reader, writer = os.pipe()
    tail = Tail(reader, 100)
    waiting = [asyncio.create_task(tail.holds(words)) for words in (b"world", b"hello w", b"never")]
    given_up = asyncio.create_task(tail.holds(b"never"))
    for part in (b"hel", b"lo wor"):
        os.write(writer, part)
        await until(lambda part=part: tail.data.endswith(part))  # type: ignore[misc]
        given_up.cancel()
    async with asyncio.timeout(20):
        assert await waiting[1]
    assert not waiting[0].done()
    os.write(writer, b"ld")
    async with asyncio.timeout(20):
        assert await waiting[0]
        assert await tail.holds(b"hello world"), "what is there already is not waited for"
    assert not waiting[2].done()
    os.close(writer)
    async with asyncio.timeout(20):
        assert not await waiting[2]
        assert not await tail.holds(b"something else")
        assert await tail.holds(b"hello")
    assert given_up.cancelled()
    assert tail.finish() == b"hello world"


async def test_last_words_are_held_although_nobody_can_write_any_more() -> None:
    reader, writer = os.pipe()
    tail = Tail(reader, 5)
    waiting = asyncio.create_task(tail.holds(b"words"))
    os.write(writer, b"the last words")
    os.close(writer)
    async with asyncio.timeout(20):
        assert await waiting
        await tail.closed.wait()
        assert not await tail.holds(b"last"), "it keeps no more than it was told to"
    tail.finish()


async def test_finishing_a_tail_takes_no_more_than_a_pipe_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    tail = Tail(reader, 10)
    reads: list[int] = []

    def never_empty(_fd: int, count: int) -> bytes:
        reads.append(count)
        assert len(reads) < 1000, "reading what somebody else goes on writing"
        return b"x" * count

    monkeypatch.setattr(os, "read", never_empty)
    assert tail.finish() == b"x" * 10
    os.close(writer)
