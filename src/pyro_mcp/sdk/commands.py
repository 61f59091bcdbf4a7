"""Commands in workspaces, and their history."""

import contextlib
import threading
from collections.abc import Sequence

from pyro_mcp import sdk, workspace_models
from pyro_mcp.errors import PyroError
from pyro_mcp.sdk.addresses import exec_path, workspace_path
from pyro_mcp.sdk.calls import Calls
from pyro_mcp.workspace_models import SHOWN_OUTPUT_BYTES


class CommandCalls(Calls):
    """The part of `Pyro` that runs commands in workspaces.

    A workspace that was stopped by its time limit is started by these calls; one that the user stopped is not.
    """

    def exec_workspace(
        self, workspace: str, command: Sequence[str], *, timeout_seconds: int = 30, stdin: bytes | None = None
    ) -> "sdk.CommandResult":
        """Run a command in `/workspace` to its end and return all that it wrote.

        `timeout_seconds` (1 to 86400) limits it: at its end the exit code is 124. Raises `CommandNotStarted` (127, 126)
        and other `PyroError`s; a command that ran and failed is no error.
        """
        request = sdk.ExecRequest(tuple(command), timeout_seconds, stdin is not None)
        with self.stream_in_workspace(workspace, request) as running:
            return _collect(running, stdin)

    def stream_in_workspace(self, workspace: str, request: "sdk.ExecRequest") -> "sdk.ExecStream":
        """Run a command in `/workspace` and follow it as it happens."""
        return sdk.ExecStream(self._daemon, workspace, request)

    def start_command(
        self,
        workspace: str,
        command: Sequence[str],
        *,
        timeout_seconds: int = 30,
        wait_seconds: int = 45,
        on_progress: "sdk.OnProgress | None" = None,
    ) -> "sdk.ExecResult":
        """Run a command and wait no longer than `wait_seconds` (0 to 300); it goes on after that.

        `on_progress` hears if the workspace's machine had ended and was started again for it.

        The answer has the beginning and the end of its output. Giving up before the answer cancels the command.
        """
        request = workspace_models.WaitedExecRequest(tuple(command), timeout_seconds, wait_seconds)
        return self._long(sdk.ExecResult, workspace_path(workspace, "/execs/wait"), request, on_progress)

    def wait_for_command(self, workspace: str, exec_id: str, *, wait_seconds: int = 45) -> "sdk.ExecResult":
        """Wait on for a command; also gives the result of one that has ended."""
        request = workspace_models.CommandWait(wait_seconds)
        return self._post(sdk.ExecResult, exec_path(workspace, exec_id, "/wait"), request)

    def command_status(self, workspace: str, exec_id: str) -> "sdk.ExecInfo":
        """How a command stands now, without its output. Raises `NotFound`. Starts no workspace, waits for nothing."""
        return self._get(lambda: sdk.ExecInfo, exec_path(workspace, exec_id))

    def read_command_output(
        self, workspace: str, exec_id: str, *, offset: int = 0, limit: int = SHOWN_OUTPUT_BYTES, grep: str | None = None
    ) -> "sdk.OutputPage":
        """A page of what a command wrote, at most `limit` bytes from `offset`; with `grep` only lines that match it."""
        request = workspace_models.OutputQuery(offset, limit, grep)
        return self._post(sdk.OutputPage, exec_path(workspace, exec_id, "/output"), request)

    def cancel_command(self, workspace: str, exec_id: str) -> "sdk.ExecInfo":
        """End a command's process group; nothing happens to one that has ended."""
        return self._post(sdk.ExecInfo, exec_path(workspace, exec_id, "/cancel"))

    def workspace_logs(self, workspace: str) -> "tuple[sdk.ExecInfo, ...]":
        """The workspace's commands, oldest first; the newest thousand are kept."""
        return self._get(lambda: workspace_models.CommandHistory, workspace_path(workspace, "/execs")).execs


def _collect(running: "sdk.ExecStream", stdin: bytes | None) -> "sdk.CommandResult":
    output = {"stdout": bytearray(), "stderr": bytearray()}
    end: sdk.ExecInfo | None = None
    for event in running:
        if isinstance(event, sdk.OutputChunk):
            output[event.stream] += event.data
        elif isinstance(event, sdk.ExecStarted) and stdin is not None:
            # In a thread of its own: a command may write before it has read all of its input.
            threading.Thread(target=_send, args=(running, stdin), daemon=True).start()
        elif isinstance(event, sdk.ExecInfo):
            end = event
    assert end is not None  # noqa: S101  (a stream without an end has raised)
    return sdk.CommandResult(
        exec_id=end.exec_id,
        status=end.status,
        exit_code=end.exit_code,
        duration_ms=end.duration_ms or 0,
        stdout=bytes(output["stdout"]),
        stderr=bytes(output["stderr"]),
    )


def _send(running: "sdk.ExecStream", stdin: bytes) -> None:
    # The command may end before it has read its input; that is no error.
    with contextlib.suppress(PyroError, OSError):
        running.send_input([stdin])
