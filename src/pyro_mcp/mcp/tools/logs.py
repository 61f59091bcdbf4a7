"""What commands of a workspace did: the history, and the whole output of each."""

import shlex
import time
from dataclasses import dataclass, fields
from typing import Annotated

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.mcp import output
from pyro_mcp.mcp.call import Call
from pyro_mcp.mcp.tools.commands import SILENT, exec_reply, shown_output, standing
from pyro_mcp.mcp.tools.tool import READS, Offset, PageBytes, Reply, Tool
from pyro_mcp.workspace_models import SHOWN_OUTPUT_BYTES, WAIT_SECONDS_RANGE, ExecInfo, ExecResult, OutputPage

_SLICE_SECONDS = 5
_LISTED = 30
_COMMAND_CHARACTERS = 160


@dataclass(frozen=True)
class LogsParameters:
    workspace: str
    exec_id: Annotated[str | None, "default: list all"] = None
    offset: Offset = 0
    limit: PageBytes = SHOWN_OUTPUT_BYTES
    grep: Annotated[str | None, "only lines that match this regex"] = None
    wait_seconds: Annotated[int, "wait for its end (default 0)", WAIT_SECONDS_RANGE] = 0


@dataclass(frozen=True)
class LoggedCommand:
    exec_id: str
    status: str
    command: str
    exit_code: int | None = None
    duration_ms: int | None = None


@dataclass(frozen=True)
class LogsReply:
    status: str | None = None
    exit_code: int | None = None
    output: str | None = None
    total_bytes: int | None = None
    next_offset: int | None = None
    commands: tuple[LoggedCommand, ...] | None = None


async def workspace_logs(call: Call, parameters: LogsParameters) -> Reply:
    """The history, or a page of one command's output. Giving a wait up does nothing to the command."""
    if parameters.exec_id is None:
        _check_history(parameters)
        return _history(await call.pyro.workspace_logs(parameters.workspace))
    if parameters.wait_seconds:
        result = await _waited(call, parameters.workspace, parameters.exec_id, parameters.wait_seconds)
        if not parameters.offset and parameters.grep is None:
            return _followed(result)
        info = result.info
    else:
        info = await call.pyro.command_status(parameters.workspace, parameters.exec_id)
    page = await call.pyro.read_command_output(
        parameters.workspace,
        parameters.exec_id,
        offset=parameters.offset,
        limit=parameters.limit,
        grep=parameters.grep,
    )
    if info.status == "running" and not page.running:
        # It ended meanwhile, or while no daemon watched: reading has made this one look.
        info = await call.pyro.command_status(parameters.workspace, parameters.exec_id)
    return _page(info, page, whole_lines=parameters.grep is not None)


def _check_history(parameters: LogsParameters) -> None:
    """Refuse what says something about one command's output where no command is named."""
    for field in fields(parameters):
        if field.name not in ("workspace", "exec_id") and getattr(parameters, field.name) != field.default:
            raise InvalidRequest(
                "bad_argument",
                f"workspace_logs: `{field.name}` needs `exec_id`, the command whose output is meant",
                "leave it out to list the commands with their exec_id",
            )


def _page(info: ExecInfo, page: OutputPage, *, whole_lines: bool) -> Reply:
    """Part of a command's output, which ends between characters (as whole lines do)."""
    data, next_offset = page.data, page.next_offset
    if next_offset is not None and not whole_lines:
        data = output.whole_characters(data) or data
        next_offset -= len(page.data) - len(data)
    shown = output.text(data)
    reply = LogsReply(info.status, info.exit_code, shown, page.total_bytes, next_offset)
    lines = [
        standing(info.status, info.exit_code, info.duration_ms, info.exec_id),
        shown or _nothing(page, searched=whole_lines),
    ]
    if next_offset is not None:
        lines.append(f"[there is more of the {page.total_bytes} bytes: read on with offset={next_offset}]")
    return Reply("\n".join(line for line in lines if line), reply)


def _nothing(page: OutputPage, *, searched: bool) -> str:
    if searched:
        return "[no line matches]"
    return f"[no output from offset {page.offset} on]" if page.offset else SILENT


def _followed(result: ExecResult) -> Reply:
    """What a caller wants to see who has waited: how it ended, and the end of the output, too."""
    reply = exec_reply(result)
    info, total = result.info, result.info.output_bytes
    next_offset = len(result.head) if result.tail and (total or 0) > len(result.head) + len(result.tail) else None
    shown = LogsReply(info.status, info.exit_code, shown_output(result), total, next_offset)
    return Reply(reply.text, shown)


async def _waited(call: Call, workspace: str, exec_id: str, seconds: int) -> ExecResult:
    """How the command stands when it has ended, or after so many seconds."""
    deadline = time.monotonic() + seconds
    async with call.telling("waiting for the command") as teller:
        while True:
            left = max(0, round(deadline - time.monotonic()))
            slice_seconds = min(left, _SLICE_SECONDS)
            result = await call.pyro.wait_for_command(workspace, exec_id, wait_seconds=slice_seconds)
            if result.info.status != "running" or slice_seconds == left:
                return result
            teller.say(f"the command runs, {result.info.output_bytes or 0} bytes of output")


def _history(commands: tuple[ExecInfo, ...]) -> Reply:
    listed = tuple(
        LoggedCommand(info.exec_id, info.status, _short(info.command), info.exit_code, info.duration_ms)
        for info in commands[-_LISTED:]
    )
    lines = [f"{len(commands)} commands, the last {len(listed)}:"] if len(commands) > len(listed) else []
    for each in listed:
        ended = each.status if each.exit_code is None else f"{each.status} {each.exit_code}"
        lines.append(f"{each.exec_id}  {ended}  {each.command}")
    return Reply("\n".join(lines) or "no commands yet", LogsReply(commands=listed))


def _short(command: tuple[str, ...]) -> str:
    words = command[2] if len(command) == 3 and command[:2] == ("sh", "-c") else shlex.join(command)
    return words if len(words) <= _COMMAND_CHARACTERS else words[: _COMMAND_CHARACTERS - 3] + "..."


TOOLS = (
    Tool(
        name="workspace_logs",
        title="Read output and history of commands",
        description=(
            "Use to wait for a running command (wait_seconds), read all of its output in pages (offset) or search it "
            "(grep), or list the workspace's commands."
        ),
        effect=READS,
        parameters=LogsParameters,
        result=LogsReply,
        run=workspace_logs,
    ),
)
