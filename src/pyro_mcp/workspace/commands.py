"""The commands of one live workspace: started, followed, waited for, ended, and found again by the next daemon."""

import asyncio
import logging
import secrets
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from pyro_mcp.errors import Conflict, DaemonFailed, GuestFailed, NotFound, PyroError
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.messages import CommandState
from pyro_mcp.workspace import output
from pyro_mcp.workspace.command_words import check_command, check_range
from pyro_mcp.workspace.endings import exit_code
from pyro_mcp.workspace.running import RunningCommand
from pyro_mcp.workspace_models import (
    WAIT_SECONDS_RANGE,
    ExecInfo,
    ExecRequest,
    ExecResult,
    OutputPage,
    OutputQuery,
)

log = logging.getLogger(__name__)
# Each takes one of the 256 streams of a session; the rest is for tools, signals and the like.
_MOST_RUNNING = 200
# Ended commands whose result is still at hand, for who waits for a short one.
_REMEMBERED = 16
_ID_BYTES = 3


class CommandHistory(Protocol):
    """Where commands are recorded for good."""

    def add_exec(self, info: ExecInfo) -> None:
        """A new command."""

    def update_exec(self, info: ExecInfo) -> None:
        """How a command that was added stands now."""

    def exec(self, workspace_id: str, exec_id: str) -> ExecInfo:
        """One command. Raises `NotFound` (`unknown_command`)."""

    def execs(self, workspace_id: str, *, running: bool = False) -> tuple[ExecInfo, ...]:
        """All commands of a workspace, or those that run, the oldest first."""


class CommandRunner:
    """Runs the commands of one workspace in its live guest, for as long as one session with it lasts."""

    def __init__(self, workspace_id: str, guest: GuestClient, history: CommandHistory) -> None:
        self._workspace_id = workspace_id
        self._guest = guest
        self._history = history
        self._commands: dict[str, RunningCommand] = {}
        self._ended: OrderedDict[str, ExecResult] = OrderedDict()
        self._left: PyroError | None = None

    @property
    def active(self) -> int:
        """How many commands run."""
        return len(self._commands)

    async def adopt(self) -> None:
        """Take over what earlier sessions started: follow what runs, record what ended meanwhile, or is lost.

        Raises `GuestFailed`.
        """
        states = {state.id: state for state in await self._guest.commands()}
        for info in self._history.execs(self._workspace_id, running=True):
            state = states.get(info.exec_id)
            if info.exec_id in self._commands:
                continue
            if state is None:
                self._update(replace(info, status="lost"))
            elif state.running:
                command = RunningCommand(self._guest, info, self._record)
                self._commands[info.exec_id] = command
                command.adopt(state)
            else:
                self._update(_ended_meanwhile(info, state))

    async def start(self, request: ExecRequest) -> RunningCommand:
        """Start a command in `/workspace`; returns when it runs.

        Raises `InvalidRequest`, `CommandNotStarted` (127 or 126), `Conflict` (too many run), `GuestFailed`.
        """
        check_command(request.command, request.timeout_seconds)
        if self._left is not None:
            raise self._left
        if len(self._commands) >= _MOST_RUNNING:
            raise Conflict(
                "too_many_commands", f"{_MOST_RUNNING} commands run in the workspace", "wait for some to end"
            )
        info = ExecInfo(self._new_id(), self._workspace_id, request.command, "running", _now())
        self._history.add_exec(info)
        command = RunningCommand(self._guest, info, self._record)
        self._commands[info.exec_id] = command
        await command.start(request)
        return command

    def running(self, exec_id: str) -> RunningCommand:
        """A command that runs. Raises `NotFound` (`unknown_command`, `command_not_running`)."""
        command = self._commands.get(exec_id)
        if command is None:
            self.info(exec_id)
            raise NotFound("command_not_running", f"the command {exec_id} does not run any more")
        return command

    def info(self, exec_id: str) -> ExecInfo:
        """How a command stands, with the figures of the moment if it runs. Raises `NotFound`."""
        if (command := self._commands.get(exec_id)) is not None:
            return command.info
        if (ended := self._ended.get(exec_id)) is not None:
            return ended.info
        return self._history.exec(self._workspace_id, exec_id)

    async def wait(self, exec_id: str, seconds: float) -> ExecResult:
        """Wait that long (0 to 300 seconds) for a command's end, and say how it stands; it may have ended long ago.

        Raises `NotFound`, `InvalidRequest`, `GuestFailed`.
        """
        check_range("wait_seconds", int(seconds), WAIT_SECONDS_RANGE)
        if (command := self._commands.get(exec_id)) is not None:
            return await command.result(seconds)
        if (ended := self._ended.get(exec_id)) is not None:
            return ended
        info = self.info(exec_id)
        head, tail = await output.shown(self._guest, exec_id)
        return ExecResult(info, head, tail)

    async def output(self, exec_id: str, query: OutputQuery) -> OutputPage:
        """A page of a command's output, whether it runs or has ended. Raises `NotFound`, `InvalidRequest`."""
        output.check_query(query)
        info = self.info(exec_id)
        try:
            return await output.read_page(self._guest, exec_id, query)
        except NotFound:
            if info.status != "failed":
                raise
            return OutputPage(exec_id, query.offset, b"", 0, running=False)

    async def cancel(self, exec_id: str) -> ExecInfo:
        """End a command: SIGTERM to its group, SIGKILL a second later; one that has ended stays as it is.

        Raises `NotFound`, or `GuestFailed` if the guest does not end it.
        """
        command = self._commands.get(exec_id)
        if command is None:
            return self.info(exec_id)
        await command.cancel()
        return command.info

    async def close(self) -> None:
        """The machine is gone or will be: who follows a command is told, and those that ran are recorded as lost."""
        await self._leave(
            GuestFailed(
                "workspace_stopped",
                "the workspace's machine was ended while it was used: at its time limit, or by somebody",
                f"`pyro workspace status {self._workspace_id}` says why; the next use starts it again, unless the user "
                "stopped it",
            ),
            lost=True,
        )

    async def detach(self) -> None:
        """The daemon ends and the machine lives on, with its commands: nothing is recorded."""
        await self._leave(
            DaemonFailed(
                "daemon_ended",
                "the daemon ended; the command goes on",
                f"find it again with `pyro workspace logs {self._workspace_id}`",
            ),
            lost=False,
        )

    async def _leave(self, failure: PyroError, *, lost: bool) -> None:
        self._left = failure
        leaving = [command.leave(failure, lost=lost) for command in list(self._commands.values())]
        await asyncio.gather(*leaving)
        self._commands.clear()
        self._ended.clear()

    def _record(self, command: RunningCommand) -> None:
        info = command.info
        self._commands.pop(info.exec_id, None)
        if (ends := command.ends()) is not None and info.status != "lost":
            self._ended[info.exec_id] = ExecResult(info, *ends)
            if len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
        self._update(info)

    def _update(self, info: ExecInfo) -> None:
        try:
            self._history.update_exec(info)
        except Exception:  # the command has ended all the same, and whoever waits must hear of it
            log.exception("cannot record how %s ended", info.exec_id)

    def _new_id(self) -> str:
        while True:
            exec_id = f"x-{secrets.token_hex(_ID_BYTES)}"
            try:
                self.info(exec_id)
            except NotFound:
                return exec_id


def _ended_meanwhile(info: ExecInfo, state: CommandState) -> ExecInfo:
    status = "timed_out" if state.timed_out else "cancelled" if state.cancelled else "exited"
    return replace(info, status=status, exit_code=exit_code(state), output_bytes=state.output_bytes)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
