"""What the workspace's features ask of the guest, asked of the real agent."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from pyro_mcp.errors import CommandNotStarted, InvalidRequest, NotFound
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.guest.client import GuestClient, reconnect
from pyro_mcp.unix_path import connect_to
from pyro_mcp.workspace.commands import CommandRunner
from pyro_mcp.workspace.diff import diff
from pyro_mcp.workspace.files import list_files, read_file, write_file
from pyro_mcp.workspace.patch import apply_patch
from pyro_mcp.workspace_models import (
    ApplyPatch,
    DiffRequest,
    ExecInfo,
    ExecRequest,
    ListFiles,
    OutputQuery,
    PatchedFile,
    ReadFile,
    WriteFile,
)
from tests.support.live_guest import MemoryHistory
from tests.support.real_agent import AgentFolders, real_agent
from tests.support.waiting import until


class Daemon:
    """One session with the agent, as a daemon has it; `chunks` is what was followed."""

    def __init__(self, client: GuestClient, history: MemoryHistory) -> None:
        self.client = client
        self.history = history
        self.runner = CommandRunner("w-1", client, history)
        self.chunks: list[OutputChunk] = []

    async def emit(self, event: Event | OutputChunk) -> None:
        assert isinstance(event, OutputChunk)
        self.chunks.append(event)

    def output(self, stream: str) -> bytes:
        return b"".join(chunk.data for chunk in self.chunks if chunk.stream == stream)

    async def run(self, *command: str, timeout_seconds: int = 60) -> ExecInfo:
        started = await self.runner.start(ExecRequest(command, timeout_seconds))
        return await started.follow(self.emit)


@asynccontextmanager
async def daemon(folders: AgentFolders, history: MemoryHistory | None = None) -> AsyncIterator[Daemon]:
    async with reconnect(partial(connect_to, folders.socket), timeout_seconds=30) as client:
        yield Daemon(client, history or MemoryHistory())


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[AgentFolders]:
    async with asyncio.timeout(120), real_agent(tmp_path) as folders:
        yield folders


# Commands


async def test_a_command_from_start_to_end(agent: AgentFolders) -> None:
    async with daemon(agent) as host:
        info = await host.run("sh", "-c", "pwd; echo oops >&2; exit 3")
        assert (host.output("stdout"), host.output("stderr")) == (f"{agent.workspace}\n".encode(), b"oops\n")
        assert (info.status, info.exit_code) == ("exited", 3)
        assert info.output_bytes == len(f"{agent.workspace}\noops\n")
        assert host.history.rows[info.exec_id] == info
        (state,) = await host.client.commands()
        assert (state.id, state.running, state.exit_code) == (info.exec_id, False, 3)
        assert state.output_bytes == info.output_bytes


async def test_commands_that_do_not_start(agent: AgentFolders) -> None:
    (agent.workspace / "plain").touch(mode=0o644)
    async with daemon(agent) as host:
        for program, code in (("no-such-program", 127), ("./plain", 126)):
            with pytest.raises(CommandNotStarted) as caught:
                await host.run(program)
            assert caught.value.exit_code == code
        for row in host.history.rows.values():
            assert (await host.runner.output(row.exec_id, OutputQuery())).data == b""


async def test_input_signals_and_time_outs(agent: AgentFolders) -> None:
    async with daemon(agent) as host:
        cat = await host.runner.start(ExecRequest(("cat",), stdin=True))
        following = asyncio.create_task(cat.follow(host.emit))
        await cat.write_stdin(b"x" * (3 << 20))
        await cat.close_stdin()
        assert (await following).exit_code == 0
        assert host.output("stdout") == b"x" * (3 << 20)
        sleep = await host.runner.start(ExecRequest(("sleep", "1000")))
        await sleep.signal(signal.SIGUSR1)
        assert (await host.runner.wait(sleep.exec_id, 60)).info.exit_code == 128 + signal.SIGUSR1
        late = await host.run("sleep", "1000", timeout_seconds=1)
        assert (late.status, late.exit_code) == ("timed_out", 124)


async def test_a_slow_follower_holds_the_command_back_and_loses_nothing(agent: AgentFolders) -> None:
    going = asyncio.Event()
    taken = 0

    async def emit(event: Event | OutputChunk) -> None:
        nonlocal taken
        await going.wait()
        assert isinstance(event, OutputChunk)
        taken += len(event.data)

    async with daemon(agent) as host:
        script = "head -c 30000000 /dev/zero; touch done"
        command = await host.runner.start(ExecRequest(("sh", "-c", script)))
        following = asyncio.create_task(command.follow(emit))
        before = -1
        while before != command.info.output_bytes:  # until nothing moves any more
            before = command.info.output_bytes or 0
            await asyncio.sleep(0.2)
        assert not (agent.workspace / "done").exists()
        going.set()
        assert (await following).output_bytes == 30_000_000
        assert taken == 30_000_000


async def test_cancelling_ends_the_whole_group(agent: AgentFolders) -> None:
    async with daemon(agent) as host:
        script = "trap '' TERM; sleep 1000 & echo $!; wait"
        command = await host.runner.start(ExecRequest(("sh", "-c", script)))
        following = asyncio.create_task(command.follow(host.emit))
        await until(lambda: host.output("stdout").endswith(b"\n"))
        child = int(host.output("stdout"))
        info = await host.runner.cancel(command.exec_id)
        assert (info.status, info.exit_code) == ("cancelled", 137)
        assert (await following).status == "cancelled"
        await until(lambda: not _runs(child))
        (state,) = await host.client.commands()
        assert (state.cancelled, state.running) == (True, False)


async def test_a_follower_that_goes_away_cancels_the_command(agent: AgentFolders) -> None:
    async with daemon(agent) as host:
        command = await host.runner.start(ExecRequest(("cat", "/dev/zero")))
        following = asyncio.create_task(command.follow(host.emit))
        await until(lambda: len(host.chunks) > 3)
        following.cancel()
        await asyncio.wait((following,))
        await command.done.wait()
        assert host.history.rows[command.exec_id].status == "cancelled"


async def test_commands_outlive_a_daemon(agent: AgentFolders) -> None:
    history = MemoryHistory()
    async with daemon(agent, history) as first:
        script = "echo begun; while [ ! -e go ]; do sleep 0.02; done; echo done; exit 7"
        lasting = await first.runner.start(ExecRequest(("sh", "-c", script)))
        ending = await first.runner.start(ExecRequest(("sh", "-c", "while [ ! -e stop ]; do sleep 0.02; done; exit 8")))
        flooding = await first.runner.start(ExecRequest(("sh", "-c", "seq 2000000; touch flooded")))
        await until(lambda: lasting.info.output_bytes == 6)
        # The session breaks off, as when a daemon is killed: nothing is recorded, nothing is ended.
    (agent.workspace / "stop").touch()
    async with daemon(agent, history) as second:
        await until((agent.workspace / "flooded").exists)  # nobody follows, so nothing holds it back
        states = {state.id: state for state in await second.client.commands()}
        while states[ending.exec_id].running or states[flooding.exec_id].running:
            states = {state.id: state for state in await second.client.commands()}
        await second.runner.adopt()
        assert history.rows[ending.exec_id].exit_code == 8
        assert history.rows[flooding.exec_id].status == "exited"
        assert history.rows[flooding.exec_id].output_bytes == len(b"".join(b"%d\n" % n for n in range(1, 2_000_001)))
        assert second.runner.active == 1
        now = await second.runner.wait(lasting.exec_id, 0)
        assert (now.info.status, now.head) == ("running", b"begun\n")
        (agent.workspace / "go").touch()
        then = await second.runner.wait(lasting.exec_id, 60)
        assert (then.info.exit_code, then.info.output_bytes, then.head) == (7, 11, b"begun\ndone\n")


async def test_an_adopted_command_can_be_cancelled(agent: AgentFolders) -> None:
    history = MemoryHistory()
    async with daemon(agent, history) as first:
        command = await first.runner.start(ExecRequest(("sleep", "1000")))
        await first.runner.detach()
    async with daemon(agent, history) as second:
        await second.runner.adopt()
        assert (await second.runner.cancel(command.exec_id)).status == "cancelled"
        assert history.rows[command.exec_id].status == "cancelled"


async def test_output_in_pages(agent: AgentFolders) -> None:
    async with daemon(agent) as host:
        command = await host.runner.start(ExecRequest(("seq", "100000")))
        result = await host.runner.wait(command.exec_id, 60)
        whole = b"".join(b"%d\n" % n for n in range(1, 100_001))
        assert result.info.output_bytes == len(whole)
        assert whole.startswith(result.head)
        assert whole.endswith(result.tail)
        pages, at = [], 0
        while True:
            page = await host.runner.output(command.exec_id, OutputQuery(at, 100_000))
            pages.append(page.data)
            assert (page.offset, page.total_bytes, page.running) == (at, len(whole), False)
            if page.next_offset is None:
                break
            at = page.next_offset
        assert b"".join(pages) == whole
        matching = await host.runner.output(command.exec_id, OutputQuery(grep="^9{3,}$"))
        assert matching.data == b"999\n9999\n99999\n"
        with pytest.raises(InvalidRequest) as caught:
            await host.runner.output(command.exec_id, OutputQuery(grep="("))
        assert caught.value.code == "bad_pattern"
        with pytest.raises(NotFound):
            await host.runner.output("x-nothere", OutputQuery())


async def test_many_commands_leave_little_behind(agent: AgentFolders) -> None:
    async with daemon(agent) as host:
        for number in range(300):
            assert (await host.run("true")).exit_code == 0, number
        assert host.runner.active == 0
        (first, *_) = host.history.rows.values()
        result = await host.runner.wait(first.exec_id, 0)  # its log is gone by now
        assert (result.info, result.head) == (first, b"")
        assert len(list((agent.state / "commands").iterdir())) <= 2 * 257


# Files


async def test_files_are_written_listed_and_read(agent: AgentFolders) -> None:
    data = os.urandom(3 << 20)
    async with daemon(agent) as host:
        written = await write_file(host.client, WriteFile("sub/ä", data))
        assert (written.path, written.size, written.created) == ("/workspace/sub/ä", len(data), True)
        (agent.workspace / "link").symlink_to("sub/ä")
        listing = await list_files(host.client, ListFiles(recursive=True))
        assert [(entry.path, entry.kind, entry.target) for entry in listing.entries] == [
            ("/workspace/link", "symlink", "sub/ä"),
            ("/workspace/sub", "directory", None),
            ("/workspace/sub/ä", "file", None),
        ]
        assert (listing.entries[2].size, listing.entries[2].mode) == (len(data), 0o644)
        content = await read_file(host.client, ReadFile("link", max_bytes=1 << 20, offset=5))
        assert (content.data, content.size, content.truncated) == (data[5 : (1 << 20) + 5], len(data), True)
        cut = await list_files(host.client, ListFiles(recursive=True, limit=1))
        assert (len(cut.entries), cut.truncated) == (1, True)


async def test_what_files_cannot_do(agent: AgentFolders) -> None:
    (agent.workspace / "folder").mkdir()
    (agent.workspace / "out").symlink_to("/etc")
    async with daemon(agent) as host:
        for path, code in (("missing", "file_not_found"), ("folder", "is_a_directory"), ("out/passwd", None)):
            with pytest.raises((NotFound, InvalidRequest)) as caught:
                await read_file(host.client, ReadFile(path))
            assert code is None or caught.value.code == code
            assert str(agent.workspace) not in caught.value.message
        with pytest.raises(InvalidRequest):
            await write_file(host.client, WriteFile("folder", b""))
        with pytest.raises(InvalidRequest):
            await write_file(host.client, WriteFile("out/passwd", b""))
        with pytest.raises(NotFound):
            await list_files(host.client, ListFiles("missing"))


async def test_differences(agent: AgentFolders) -> None:
    (agent.lower / "changed").write_text("one\ntwo\n")
    (agent.upper / "changed").write_text("one\nthree\n")
    (agent.upper / "added").write_bytes(bytes(range(256)))
    async with daemon(agent) as host:
        report = await diff(host.client, DiffRequest())
    assert [(entry.path, entry.change, entry.binary) for entry in report.entries] == [
        ("/workspace/added", "added", True),
        ("/workspace/changed", "modified", False),
    ]
    assert (report.insertions, report.deletions, report.truncated) == (1, 1, False)
    assert b"-two\n+three\n" in report.text
    assert b"GIT binary patch" in report.text


async def test_patches(agent: AgentFolders) -> None:
    (agent.workspace / "a").write_text("one\ntwo\nthree\n")
    patch = "--- a/a\n+++ b/a\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n"
    async with daemon(agent) as host:
        report = await apply_patch(host.client, ApplyPatch(patch))
        assert report.files == (PatchedFile("/workspace/a", "modified", 1),)
        assert (agent.workspace / "a").read_text() == "one\n2\nthree\n"
        with pytest.raises(InvalidRequest) as caught:
            await apply_patch(host.client, ApplyPatch(patch))
        assert caught.value.code == "patch_failed"
        with pytest.raises(InvalidRequest) as bad:
            await apply_patch(host.client, ApplyPatch("no patch at all"))
        assert bad.value.code == "bad_patch"
