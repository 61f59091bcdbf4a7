"""Commands: in a throwaway VM, and in a workspace, where they go on after the call that started them."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Annotated

from pyro_mcp.errors import InvalidRequest, PyroError
from pyro_mcp.events import OutputChunk
from pyro_mcp.mcp import output
from pyro_mcp.mcp.call import Call
from pyro_mcp.mcp.tools.tool import CHANGES, MemMib, Reply, Tool, Vcpus, with_note
from pyro_mcp.models import TIMEOUT_SECONDS_RANGE, Progress, RunFinished, RunRequest, RunStarted
from pyro_mcp.workspace_models import SHOWN_OUTPUT_BYTES, WAIT_SECONDS_RANGE, ExecResult

_SLICE_SECONDS = 5
_STOP_SECONDS = 5.0
SILENT = "[no output]"
Command = Annotated[str | tuple[str, ...], "shell line, or list of words"]
Timeout = Annotated[int, "limit (default 30)", TIMEOUT_SECONDS_RANGE]


def words_of(command: str | tuple[str, ...]) -> tuple[str, ...]:
    """A command as the list of words to start; text is a shell's business. Raises `InvalidRequest` for an empty one."""
    words = ("sh", "-c", command) if isinstance(command, str) else command
    if not words or not words[0] or (isinstance(command, str) and not command.strip()):
        raise InvalidRequest("no_command", "`command` is empty", "give a shell line, or a list of words: program first")
    return words


@dataclass(frozen=True)
class RunParameters:
    environment: Annotated[str, "such as debian:12"]
    command: Command
    timeout_seconds: Timeout = 30
    vcpu_count: Vcpus = 1
    mem_mib: MemMib = 1024


@dataclass(frozen=True)
class RunReply:
    exit_code: int
    timed_out: bool
    duration_ms: int
    stdout: str
    stderr: str
    note: str | None = None


async def vm_run(call: Call, parameters: RunParameters) -> Reply:
    """Run one command in a throwaway VM. Of its output only what is shown is kept."""
    request = RunRequest(
        environment=parameters.environment,
        command=words_of(parameters.command),
        vcpu_count=parameters.vcpu_count,
        mem_mib=parameters.mem_mib,
        timeout_seconds=parameters.timeout_seconds,
    )
    kept = {"stdout": output.Shown(), "stderr": output.Shown()}
    end: RunFinished | None = None
    async with call.telling("starting a VM") as teller, call.pyro.stream_in_vm(request) as events:
        async for event in events:
            match event:
                case OutputChunk():
                    kept[event.stream].add(event.data)
                case Progress():
                    teller.progress(event)
                case RunStarted():
                    teller.say("the command runs")
                case RunFinished():
                    end = event
                case _:
                    pass
    assert end is not None  # noqa: S101  (a stream without an end has raised)
    return _run_reply(end, kept["stdout"], kept["stderr"], teller.note)


def _run_reply(end: RunFinished, stdout: output.Shown, stderr: output.Shown, note: str | None) -> Reply:
    # Errors get a quarter of the room at least, so that they are not lost below much output.
    errors = stderr.text(max(SHOWN_OUTPUT_BYTES // 4, SHOWN_OUTPUT_BYTES - stdout.total))
    shown = stdout.text(max(SHOWN_OUTPUT_BYTES * 3 // 4, SHOWN_OUTPUT_BYTES - stderr.total))
    after = f" after {end.duration_ms / 1000:.1f} s"
    code = f"exit code {end.exit_code}"
    first = _timed_out(f"{after}, {code}") if end.timed_out else f"{code}{after}"
    parts = [first, shown, *(("[stderr]", errors) if errors else ())]
    reply = RunReply(end.exit_code, end.timed_out, end.duration_ms, shown, errors, note)
    text = "\n".join(part for part in parts if part) + ("" if shown or errors else f"\n{SILENT}")
    return Reply(with_note(text, note), reply)


@dataclass(frozen=True)
class ExecParameters:
    workspace: str
    command: Annotated[str | tuple[str, ...] | None, "shell line, or list of words"] = None
    timeout_seconds: Timeout = 30
    wait_seconds: Annotated[int, "wait here (default 45)", WAIT_SECONDS_RANGE] = 45
    cancel: Annotated[str | None, "exec_id of a command to stop instead"] = None


@dataclass(frozen=True)
class ExecReply:
    exec_id: str
    status: str
    output: str
    exit_code: int | None = None
    duration_ms: int | None = None
    output_bytes: int | None = None
    note: str | None = None


async def workspace_exec(call: Call, parameters: ExecParameters) -> Reply:
    """Run a command in a workspace and wait for it, or stop one."""
    if (parameters.command is None) == (parameters.cancel is None):
        raise InvalidRequest("bad_argument", "workspace_exec needs either `command` or `cancel`")
    if parameters.cancel is not None:
        await call.pyro.cancel_command(parameters.workspace, parameters.cancel)
        return exec_reply(await call.pyro.wait_for_command(parameters.workspace, parameters.cancel, wait_seconds=0))
    assert parameters.command is not None  # noqa: S101  (exactly one of the two is given)
    words = words_of(parameters.command)
    async with call.telling("the command starts") as teller:
        deadline = time.monotonic() + parameters.wait_seconds
        result = await call.pyro.start_command(
            parameters.workspace,
            words,
            timeout_seconds=parameters.timeout_seconds,
            wait_seconds=min(parameters.wait_seconds, _SLICE_SECONDS),
            on_progress=teller.progress,
        )
        # From now on it would go on without us, so it is ended where the chat host gives the call up.
        try:
            while result.info.status == "running" and (left := deadline - time.monotonic()) > 0:
                teller.say(f"the command runs, {result.info.output_bytes or 0} bytes of output")
                result = await _wait_on(call, parameters.workspace, result.info.exec_id, left)
        except asyncio.CancelledError:
            await _stop(call, parameters.workspace, result.info.exec_id)
            raise
    return exec_reply(result, teller.note)


async def _wait_on(call: Call, workspace: str, exec_id: str, seconds: float) -> ExecResult:
    whole = max(1, min(_SLICE_SECONDS, round(seconds)))
    return await call.pyro.wait_for_command(workspace, exec_id, wait_seconds=whole)


async def _stop(call: Call, workspace: str, exec_id: str) -> None:
    """End a command though we are being cancelled ourselves: in a task that nobody else cancels."""
    stopping = asyncio.create_task(call.pyro.cancel_command(workspace, exec_id))
    with contextlib.suppress(PyroError, TimeoutError):
        async with asyncio.timeout(_STOP_SECONDS):
            await asyncio.shield(stopping)


def exec_reply(result: ExecResult, note: str | None = None) -> Reply:
    """How a command stands, and the beginning and the end of its output."""
    info, shown = result.info, shown_output(result)
    reply = ExecReply(info.exec_id, info.status, shown, info.exit_code, info.duration_ms, info.output_bytes, note)
    first = standing(info.status, info.exit_code, info.duration_ms, info.exec_id)
    return Reply(with_note(f"{first}\n{shown or SILENT}", note), reply)


def shown_output(result: ExecResult) -> str:
    """The beginning and the end of a command's output, and how to read what is between them."""
    left_out = f"; read them with workspace_logs exec_id={result.info.exec_id} offset={{offset}}"
    total = result.info.output_bytes or 0 if result.tail else 0  # without a tail, the head is all of it
    return output.head_and_tail(result.head, result.tail, total, left_out)


def standing(status: str, exit_code: int | None, duration_ms: int | None, exec_id: str) -> str:
    """One line on how a command stands."""
    after = "" if duration_ms is None else f" after {duration_ms / 1000:.1f} s"
    match status:
        case "exited":
            return f"exit code {exit_code}{after} (exec_id {exec_id})"
        case "running":
            return (
                f"still running (exec_id {exec_id}); wait with workspace_logs exec_id={exec_id} wait_seconds=45, "
                f"stop with workspace_exec cancel={exec_id}"
            )
        case "timed_out":
            return _timed_out(f"{after}, exit code {exit_code} (exec_id {exec_id})")
        case "lost":
            return f"lost: the machine went away under the command (exec_id {exec_id})"
        case _:
            return f"{status}{after} (exec_id {exec_id})"


def _timed_out(how: str) -> str:
    return f"timed out{how}; give it more timeout_seconds"


TOOLS = (
    Tool(
        name="vm_run",
        title="Run a command in a throwaway VM",
        description=(
            "Use to try one command on a clean Linux machine that is gone afterwards, without network or the user's "
            "files. Returns when the command has ended (timeout_seconds). For files, several steps or "
            "long work: workspace_create, workspace_exec."
        ),
        effect=CHANGES,
        parameters=RunParameters,
        result=RunReply,
        run=vm_run,
    ),
    Tool(
        name="workspace_exec",
        title="Run a command in a workspace",
        description=(
            "Use to run commands, builds and tests in /workspace, as root. Long output is shown head and tail. "
            "One still running after wait_seconds goes on; follow it with workspace_logs exec_id."
        ),
        effect=CHANGES,
        parameters=ExecParameters,
        result=ExecReply,
        run=workspace_exec,
    ),
)
