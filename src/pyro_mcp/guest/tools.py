"""Running a tool of the agent: input to it, output from it, and what its failure means to us."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from pyro_mcp import tasks
from pyro_mcp.errors import Conflict, GuestFailed, HostUnfit, InvalidRequest, NotFound, PyroError
from pyro_mcp.guest.client import GuestClient, GuestCommand
from pyro_mcp.guest.frames import Output, Tag
from pyro_mcp.guest.json_text import parsed
from pyro_mcp.guest.messages import Exited, Failed
from pyro_mcp.guest.mux import StreamReset
from pyro_mcp.guest.patience import Patience
from pyro_mcp.guest.printable import printable
from pyro_mcp.guest.tool_requests import (
    DiffTool,
    ListTool,
    OutputTool,
    PackTool,
    PatchTool,
    ReadTool,
    SpareTool,
    Tool,
    UnpackTool,
    WriteTool,
    tool_name,
)
from pyro_mcp.guest.violation import ProtocolViolation

__all__ = [
    "DiffTool",
    "ListTool",
    "OutputTool",
    "PackTool",
    "PatchTool",
    "ReadTool",
    "SpareTool",
    "Tool",
    "UnpackTool",
    "WriteTool",
    "run",
]

OnOutput = Callable[[bytes], Awaitable[None]]
_ANSWER_BYTES = 64 * 1024  # a tool's answer besides the content that it was asked for
_COMPLAINT_BYTES = 64 * 1024
_WRITE_BYTES = 256 * 1024
# Without anything said or taken. Tools say what they find as they find it; what they do in silence takes seconds.
_STALL_SECONDS = 60.0

# What a tool's code means: the kind of error, our code for it, and a hint.
_MEANINGS: dict[str, tuple[type[PyroError], str, str | None]] = {
    "outside": (InvalidRequest, "outside_workspace", "paths are relative to /workspace, or absolute below it"),
    "not_found": (NotFound, "file_not_found", "see what is there: `pyro workspace file list W`"),
    "exists": (Conflict, "file_exists", "take another path, or remove what is there"),
    "not_a_directory": (
        InvalidRequest,
        "not_a_directory",
        "give a folder: see `pyro workspace file list W`",
    ),
    "is_a_directory": (
        InvalidRequest,
        "is_a_directory",
        "give a file in it: see `pyro workspace file list W`",
    ),
    "not_a_file": (InvalidRequest, "not_a_file", "only plain files can be read and written"),
    "no_space": (HostUnfit, "workspace_full", "the workspace's disk is full: delete something in it"),
    "read_only": (
        Conflict,
        "read_only",
        "the workspace's disk takes no more writes, as after this host's disk was full: free space on this host, then "
        "`pyro workspace stop W` and `pyro workspace start W`",
    ),
    "bad_archive": (InvalidRequest, "bad_archive", None),
    "bad_patch": (InvalidRequest, "bad_patch", "give it as a unified diff, as `git diff` writes them"),
    "patch_failed": (InvalidRequest, "patch_failed", "nothing was changed; read the file and make the patch anew"),
    "bad_pattern": (InvalidRequest, "bad_pattern", "it must be a regular expression of Rust's regex-lite"),
    "unknown_command": (NotFound, "output_gone", "the output of the newest commands is kept, until a reset"),
    "io": (GuestFailed, "guest_io", None),
}


async def run(
    guest: GuestClient,
    tool: Tool,
    *,
    stdin: bytes | AsyncIterable[bytes] | None = None,
    on_output: OnOutput | None = None,
    most: int = 0,
    stall_seconds: float = _STALL_SECONDS,
) -> bytes:
    """Run a tool to its end, feeding it `stdin` while its output is taken.

    Output goes to `on_output`, whose slowness holds the tool back, or is returned: at most 64 KiB and `most` bytes.
    Raises what the tool's failure means (`_MEANINGS`), `GuestFailed` for a guest that dies or speaks rubbish, or that
    neither says nor takes anything for `stall_seconds` while it could (`guest_stalled`), and whatever `stdin` or
    `on_output` raise. Being cancelled ends the tool.
    """
    patience = Patience(stall_seconds)
    taking = _Taking(tool, on_output, _ANSWER_BYTES + most, patience)
    try:
        async with patience.limit, guest.tool(tool) as command:
            if stdin is None:
                return await taking.all_of(command)
            feeding = asyncio.create_task(_feed(command, stdin, patience))
            return await _both(asyncio.create_task(taking.all_of(command)), feeding)
    except TimeoutError:
        if not patience.limit.expired():
            raise  # somebody else's
        raise _stalled(tool_name(tool), stall_seconds) from None


async def _both(taking: "asyncio.Task[bytes]", feeding: "asyncio.Task[None]") -> bytes:
    """What the tool says, which may come before it has taken all input; an error of the input ends it."""
    try:
        await asyncio.wait((taking, feeding), return_when=asyncio.FIRST_COMPLETED)
        if not taking.done():
            fed = feeding.exception()
            if fed is not None and not isinstance(fed, StreamReset):
                raise fed
            await asyncio.wait((taking,))
        return taking.result()
    finally:
        await tasks.end(feeding)
        await tasks.end(taking)


async def _feed(command: GuestCommand, stdin: bytes | AsyncIterable[bytes], patience: Patience) -> None:
    async with _closing(stdin) as pieces:
        waiting = aiter(pieces)
        while True:
            with patience.ours():
                data = await anext(waiting, None)
            if data is None:
                break
            for start in range(0, len(data), _WRITE_BYTES):
                await command.write_stdin(data[start : start + _WRITE_BYTES])
                patience.moved()
    await command.close_stdin()
    patience.moved()


@asynccontextmanager
async def _closing(stdin: bytes | AsyncIterable[bytes]) -> AsyncIterator[AsyncIterable[bytes]]:
    """What there is to read; a generator is closed at once when nobody reads on, not when it is collected."""
    pieces = _once(stdin) if isinstance(stdin, bytes) else stdin
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


class _Taking:
    """A tool's output and complaints, bounded."""

    def __init__(self, tool: Tool, on_output: OnOutput | None, most: int, patience: Patience) -> None:
        self._name = tool_name(tool)
        self._patience = patience
        self._on_output = on_output
        self._most = most
        self._output = bytearray()
        self._complaint = bytearray()

    async def all_of(self, command: GuestCommand) -> bytes:
        async for event in command.events():
            if isinstance(event, Output):
                with self._patience.ours():
                    await self._take(event)
                continue
            self._patience.moved()
            if isinstance(event, Failed | Exited):
                self._patience.end()
                return self._result(event)
        raise AssertionError("a tool's events end with its end or an error")

    async def _take(self, output: Output) -> None:
        if output.tag is Tag.STDERR:
            self._complaint += output.data[: _COMPLAINT_BYTES - len(self._complaint)]
        elif self._on_output is not None:
            await self._on_output(output.data)
        elif len(self._output) + len(output.data) > self._most:
            raise ProtocolViolation(f"more than {self._most} bytes in answer to `{self._name}`")
        else:
            self._output += output.data

    def _result(self, exited: Exited | Failed) -> bytes:
        if isinstance(exited, Failed):
            raise _not_done(self._name, exited)
        if exited.exit_code == 0:
            return bytes(self._output)
        if exited.exit_code == 1:
            raise _failure(self._name, bytes(self._complaint))
        ended = f"exit code {exited.exit_code}" if exited.signal is None else f"signal {exited.signal}"
        raise GuestFailed("guest_tool", f"the agent's `{self._name}` ended with {ended}")


def _failure(name: str, complaint: bytes) -> PyroError:
    """The error that a tool's complaint tells of."""
    try:
        content = parsed(complaint)
        if not isinstance(content, dict):
            raise TypeError("no object")
        code, message = content["code"], content["message"]
        kind, ours, hint = _MEANINGS[code]
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolViolation(f"`{name}` failed without a reason that makes sense") from error
    return kind(ours, printable(str(message)), hint)


def _stalled(name: str, seconds: float) -> GuestFailed:
    return GuestFailed(
        "guest_stalled",
        f"the guest did nothing about `{name}` for {seconds:g} s",
        "try again; if it goes on, `pyro workspace stop W` and `pyro workspace start W` boot it anew",
    )


def _not_done(name: str, failed: Failed) -> PyroError:
    said = printable(failed.message[:300])
    if failed.code == "bad_request":
        return InvalidRequest("bad_request", f"the agent refuses `{name}`: {said}")
    return GuestFailed("guest_failed", f"the agent cannot do `{name}`: {said}")
