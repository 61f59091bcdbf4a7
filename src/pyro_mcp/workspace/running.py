"""A command that runs in a workspace, from the request to its end."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from pyro_mcp import tasks
from pyro_mcp.errors import CommandNotStarted, Conflict, GuestFailed, InvalidRequest, NotFound, PyroError
from pyro_mcp.events import OutputChunk
from pyro_mcp.guest.client import GuestClient, GuestCommand
from pyro_mcp.guest.frames import MAX_PAYLOAD, Output, Tag
from pyro_mcp.guest.messages import CommandState, Exec, Exited, Failed, Started
from pyro_mcp.workspace import output
from pyro_mcp.workspace.backlog import Backlog, Emit
from pyro_mcp.workspace.endings import GRACE_SECONDS, LAST_WORDS_SECONDS, TIMED_OUT, exit_code, not_started
from pyro_mcp.workspace_models import WORKSPACE_FOLDER, ExecInfo, ExecRequest, ExecResult

log = logging.getLogger(__name__)
# How long the agent may take to say that it begins to end a command, and then to end it: a second of grace, and what
# an emulated processor needs.
_END_ANSWER_SECONDS = 3.0
_END_SECONDS = 5.0

# Told once, when it is known how the command ended.
Record = Callable[["RunningCommand"], None]


class RunningCommand:
    """Follows a command by a task of its own, so that its end is recorded whoever looks.

    Output is held for the one who follows; as soon as somebody only waits for the end it passes, but for its beginning
    and its end. So call `follow` before anybody can know the command's id, or not at all.
    """

    def __init__(self, guest: GuestClient, info: ExecInfo, record: Record) -> None:
        self.exec_id = info.exec_id
        self.done = asyncio.Event()  # nothing more will happen
        self.recorded = False
        self._guest = guest
        self._info = info
        self._record = record
        self._began = time.monotonic()
        self._count = 0
        self._backlog: Backlog | None = None
        self._shown: output.Shown | None = None
        self._takes_input = False
        self._followed = False
        self._cancelled = False
        self._failure: PyroError | None = None
        self._leaving: tuple[PyroError, bool] | None = None
        self._started: asyncio.Future[GuestCommand] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self._background: set[asyncio.Task[None]] = set()

    # Its beginning

    async def start(self, request: ExecRequest) -> None:
        """Ask the guest for it; returns when it runs. Raises `CommandNotStarted`, `InvalidRequest`, `GuestFailed`."""
        self._backlog = Backlog()
        self._shown = output.Shown()
        self._takes_input = request.stdin
        wanted = Exec(
            argv=request.command,
            cwd=WORKSPACE_FOLDER,
            stdin=request.stdin,
            timeout_ms=request.timeout_seconds * 1000,
            keep=self.exec_id,
        )
        self._task = asyncio.create_task(self._run(self._guest.exec(wanted)))
        loop = asyncio.get_running_loop()
        self._overdue = loop.call_later(request.timeout_seconds + GRACE_SECONDS, self._begin, self._force_end)
        try:
            await asyncio.shield(self._started)
        except asyncio.CancelledError:
            self.cancel_soon()
            raise

    def adopt(self, state: CommandState) -> None:
        """Follow one that an earlier session started, from the present end of its output."""
        since = datetime.now(UTC) - datetime.fromisoformat(self._info.started_at)
        self._began -= max(since.total_seconds(), 0)
        self._count = state.output_bytes
        self._cancelled = state.cancelled
        self._task = asyncio.create_task(self._run(self._guest.attach(self.exec_id, self._count)))

    # What others do with it

    @property
    def info(self) -> ExecInfo:
        """How it stands."""
        if self.done.is_set():
            return self._info
        return replace(self._info, duration_ms=self._age_ms(), output_bytes=self._count)

    async def follow(self, emit: Emit) -> ExecInfo:
        """Emit its output until its end; a slow `emit` holds the command back. Being cancelled cancels the command.

        Raises `GuestFailed` when the machine goes away, `Conflict` where somebody else follows.
        """
        if self._followed:
            raise Conflict("already_followed", f"somebody follows the command {self.exec_id} already")
        self._followed = True
        if self._backlog is None:
            self._backlog = Backlog()
            if self.done.is_set():
                await self._backlog.close()
        try:
            await self._backlog.emit_all(emit)
            await self.done.wait()
        except BaseException:
            self.cancel_soon()
            raise
        if self._failure is not None:
            raise self._failure
        return self._info

    async def result(self, seconds: float) -> ExecResult:
        """Wait for its end that long, and say how it stands; it goes on. Raises `GuestFailed`."""
        if not self._followed:
            await self._pass_output()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.done.wait()
        if self._failure is not None:
            raise self._failure
        ends = self.ends()
        head, tail = await output.shown(self._guest, self.exec_id) if ends is None else ends
        return ExecResult(self.info, head, tail)

    def ends(self) -> tuple[bytes, bytes] | None:
        """Head and tail of its output, if all of it came by here."""
        return None if self._shown is None else self._shown.ends()

    async def write_stdin(self, data: bytes) -> None:
        """Give it input; waits while it does not read. Raises `NotFound` when it has ended, `InvalidRequest`."""
        command = await self._reading_command()
        try:
            for start in range(0, len(data), MAX_PAYLOAD):
                await command.write_stdin(data[start : start + MAX_PAYLOAD])
        except GuestFailed as error:
            raise self._gone() if self.done.is_set() and self._failure is None else error from None

    async def close_stdin(self) -> None:
        """Tell it that its input has ended."""
        with suppress(GuestFailed):  # it has ended, and its input with it
            await (await self._reading_command()).close_stdin()

    async def signal(self, number: int) -> None:
        """Send a signal to its process group. Raises `NotFound` when it has ended."""
        if self.done.is_set():
            raise self._gone()
        await (await asyncio.shield(self._started)).signal(number)

    async def cancel(self) -> None:
        """End it: SIGTERM to its group, SIGKILL a second later; returns when it is over, or was.

        Raises `GuestFailed` if the guest does not end it within some seconds.
        """
        if self.done.is_set():
            return
        self._cancelled = True
        if not await self._end(_END_SECONDS):
            raise GuestFailed(
                "not_cancelled",
                f"the guest does not end the command {self.exec_id}",
                "`pyro workspace stop` and `pyro workspace start` end everything in it",
            )

    def cancel_soon(self) -> None:
        """As `cancel`, without waiting."""
        if not self.done.is_set():
            self._cancelled = True
            self._begin(self._end_unheard)

    async def leave(self, failure: PyroError, *, lost: bool) -> None:
        """Follow it no longer; whoever does is told `failure`. It is recorded as `lost`, or not at all."""
        if self._task is not None and not self.done.is_set():
            self._leaving = (failure, lost)
            await tasks.end(self._task)
        elif lost and not self.recorded:
            self._finish("lost", None, failure)
        for task in list(self._background):
            await tasks.end(task)

    # Its task

    async def _run(self, following: AbstractAsyncContextManager[GuestCommand]) -> None:
        try:
            async with following as command:
                async for event in command.events():
                    if isinstance(event, Output):
                        await self._take(event)
                    elif isinstance(event, Started):
                        self._started.set_result(command)
                    else:
                        self._ended(event)
        except asyncio.CancelledError:
            if self._leaving is None:
                raise
            failure, lost = self._leaving
            self._finish("lost" if lost else None, None, failure)
        except PyroError as error:
            self._finish(self._status_after_failure(), None, error)
        finally:
            if not self.done.is_set():
                self._finish("lost", None, GuestFailed("guest_failed", "the command cannot be followed any more"))
            if self._backlog is not None:
                await self._backlog.close()

    async def _take(self, event: Output) -> None:
        self._count += len(event.data)
        if self._shown is not None:
            self._shown.add(event.data)
        if self._backlog is not None:
            await self._backlog.put(OutputChunk("stdout" if event.tag is Tag.STDOUT else "stderr", event.data))

    def _ended(self, event: Exited | Failed) -> None:
        if isinstance(event, Exited):
            status = "timed_out" if event.timed_out else "cancelled" if self._cancelled else "exited"
            self._finish(status, exit_code(event))
        elif event.code == "no_such_command":
            self._finish("lost", None, GuestFailed("command_lost", "the guest does not know the command any more"))
        else:
            error = not_started(event)
            self._finish("failed", error.exit_code if isinstance(error, CommandNotStarted) else None, error)

    def _status_after_failure(self) -> str | None:
        if self._guest.closed.is_set():
            return None  # only the session has ended, perhaps; whoever ends the machine knows
        return "lost" if self._started.done() else "failed"

    def _finish(self, status: str | None, code: int | None, failure: PyroError | None = None) -> None:
        """Nothing more happens; `status` None says that nobody knows how it ended, if it did."""
        self._failure = failure
        if status is not None:
            self._info = replace(self.info, status=status, exit_code=code)
        self.done.set()
        if status is not None:
            self.recorded = True
            self._record(self)
        if self._overdue is not None:
            self._overdue.cancel()
        if not self._started.done():
            self._started.set_exception(failure or self._gone())
            self._started.exception()  # perhaps nobody waits

    # Ending it

    async def _end(self, within_seconds: float) -> bool:
        """Ask the agent to end it, whose last words must not stay behind a reader who does not read."""
        if self._backlog is not None:
            await self._backlog.lift()
        try:
            async with asyncio.timeout(_END_ANSWER_SECONDS):
                await self._guest.end(self.exec_id)
        except (TimeoutError, GuestFailed) as error:
            why = str(error) or type(error).__name__
            log.warning("the guest does not take the end of %s: %s", self.exec_id, why)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self.done.wait()
        return self.done.is_set()

    async def _end_unheard(self) -> None:
        await self._pass_output()
        await self._end(_END_SECONDS)

    async def _force_end(self) -> None:
        """Its time is long up: nobody reads its output, so that the end is stuck behind it, or the agent fails."""
        if await self._end(LAST_WORDS_SECONDS) or self._task is None:
            return
        if self._started.done():
            self._finish("timed_out", TIMED_OUT)
        else:
            self._finish("failed", None, _silent())
        await tasks.end(self._task)

    def _begin(self, action: Callable[[], Coroutine[None, None, None]]) -> None:
        task = asyncio.create_task(action())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # Small things

    async def _pass_output(self) -> None:
        if self._backlog is not None:
            backlog, self._backlog = self._backlog, None
            await backlog.drop()

    async def _reading_command(self) -> GuestCommand:
        if self.done.is_set():
            raise self._gone()
        if not self._takes_input:
            raise InvalidRequest("no_stdin", f"the command {self.exec_id} takes no input", "say so when it is started")
        return await asyncio.shield(self._started)

    def _gone(self) -> NotFound:
        return NotFound("command_not_running", f"the command {self.exec_id} does not run any more")

    def _age_ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000)


def _silent() -> GuestFailed:
    return GuestFailed(
        "guest_silent",
        "the guest did not start the command",
        "it may be overloaded: try again, or end its machine and all that runs: `pyro workspace stop`, then `start`",
    )
