"""One command in a machine that exists for it alone (`pyro run`, `run_in_vm`, `vm_run`)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine

from pyro_mcp.errors import CommandNotStarted, GuestFailed, InvalidRequest, NotFound, PyroError
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.guest.client import GuestCommand
from pyro_mcp.guest.frames import Output, Tag
from pyro_mcp.guest.messages import Exec, Exited, Failed, Started
from pyro_mcp.images import store
from pyro_mcp.models import MEM_MIB_RANGE, TIMEOUT_SECONDS_RANGE, VCPU_RANGE, RunFinished, RunRequest, RunStarted
from pyro_mcp.workspace.boot import Guest, boot_guest
from pyro_mcp.workspace.environments import ensure_installed
from pyro_mcp.workspace.host import Host

TIMED_OUT = 124  # as timeout(1) exits
_SIGNALLED = 128  # plus the signal's number, as a shell reports it
# What the agent may take to end a command whose time is up, before the machine is taken away instead.
_GRACE_SECONDS = 10.0

Emit = Callable[[Event | OutputChunk], Awaitable[None]]


class RunControl:
    """The way in to a run that is under way: input and signals, from whoever addresses it by id."""

    def __init__(self) -> None:
        self._command: asyncio.Future[GuestCommand] = asyncio.get_running_loop().create_future()

    async def write_stdin(self, data: bytes) -> None:
        """Give the command input; waits for its start, and while it does not read."""
        await (await asyncio.shield(self._command)).write_stdin(data)

    async def close_stdin(self) -> None:
        """Tell the command that its input has ended."""
        await (await asyncio.shield(self._command)).close_stdin()

    async def signal(self, number: int) -> None:
        """Signal the command's process group; waits for its start."""
        await (await asyncio.shield(self._command)).signal(number)

    def attach(self, command: GuestCommand) -> None:
        """From now on there is a command."""
        self._command.set_result(command)

    def close(self) -> None:
        """From now on there is none; whoever still waits or comes later is turned away with `NotFound`."""
        if self._command.done():
            self._command = asyncio.get_running_loop().create_future()
        self._command.set_exception(NotFound("unknown_run", "there is no such run under way"))
        self._command.exception()  # usually nobody waits


async def run_in_vm(host: Host, request: RunRequest, control: RunControl, emit: Emit) -> None:
    """Run a command and emit what happens, ending with `RunFinished`; nothing of the machine is left afterwards.

    An environment that is not installed is pulled first. Raises `InvalidRequest`, `NotFound`, `HostUnfit`,
    `SourceFailed`, `CommandNotStarted` (127 or 126) or `GuestFailed`. Cancelling it ends the machine.
    """
    check(request)
    began = time.monotonic()
    try:
        await ensure_installed(host.images, request.environment, emit)
        finished = await _within_ttl(request, _boot_and_run(host, request, control, emit, began))
    finally:
        control.close()
    await emit(finished)


async def _within_ttl(request: RunRequest, running: Coroutine[None, None, RunFinished]) -> RunFinished:
    try:
        async with asyncio.timeout(request.ttl_seconds):
            return await running
    except TimeoutError:
        raise PyroError(
            "ttl_expired",
            f"the machine reached its time to live of {request.ttl_seconds} s",
            "give it more with --ttl-seconds",
            exit_code=TIMED_OUT,
        ) from None


def check(request: RunRequest) -> None:
    """Refuse what cannot be run, naming the parameter."""
    if not request.command or not request.command[0]:
        raise InvalidRequest("no_command", "there is no command to run", "put it after `--`: pyro run ENV -- ls -la")
    if any("\0" in word for word in request.command):
        raise InvalidRequest("bad_command", "the command holds a NUL byte")
    if request.network:
        raise InvalidRequest(
            "network_unsupported",
            "guests have no network in this version of pyro",
            "leave --network out",
        )
    _check_range("--vcpu-count", request.vcpu_count, VCPU_RANGE)
    _check_range("--mem-mib", request.mem_mib, MEM_MIB_RANGE)
    _check_range("--timeout-seconds", request.timeout_seconds, TIMEOUT_SECONDS_RANGE)
    if request.ttl_seconds is not None:
        _check_range("--ttl-seconds", request.ttl_seconds, TIMEOUT_SECONDS_RANGE)


def _check_range(name: str, value: int, allowed: range) -> None:
    if value not in allowed:
        raise InvalidRequest(
            "out_of_range", f"{name} is {value}", f"it must be between {allowed.start} and {allowed.stop - 1}"
        )


async def _boot_and_run(host: Host, request: RunRequest, control: RunControl, emit: Emit, began: float) -> RunFinished:
    with await store.open_verified(host.images, request.environment) as image:
        async with boot_guest(host, image, vcpu_count=request.vcpu_count, mem_mib=request.mem_mib) as guest:
            exited = await _run_command(guest, request, control, emit)
            return RunFinished(
                environment=request.environment,
                vmm=guest.vmm,
                exit_code=_exit_code(exited),
                timed_out=exited.timed_out,
                duration_ms=round((time.monotonic() - began) * 1000),
            )


async def _run_command(guest: Guest, request: RunRequest, control: RunControl, emit: Emit) -> Exited:
    wanted = Exec(argv=request.command, stdin=request.stdin, timeout_ms=request.timeout_seconds * 1000)
    async with guest.client.exec(wanted) as command:
        try:
            async with asyncio.timeout(request.timeout_seconds + _GRACE_SECONDS):
                return await _follow(command, guest, control, emit)
        except TimeoutError:
            # The agent should have ended it. Whatever keeps it from that, the machine goes now.
            return Exited(exit_code=None, signal=9, timed_out=True)


async def _follow(command: GuestCommand, guest: Guest, control: RunControl, emit: Emit) -> Exited:
    async for event in command.events():
        if isinstance(event, Output):
            await emit(OutputChunk("stdout" if event.tag is Tag.STDOUT else "stderr", event.data))
        elif isinstance(event, Started):
            control.attach(command)
            await emit(RunStarted(guest.vmm, guest.boot_ms))
        elif isinstance(event, Failed):
            raise _not_started(event)
        else:
            return event
    raise AssertionError("a command's events end with its end or an error")


def _not_started(failed: Failed) -> PyroError:
    said = failed.message[:300]
    match failed.code:
        case "not_found":
            return CommandNotStarted("command_not_found", said, "is it installed in this environment?", exit_code=127)
        case "not_executable":
            return CommandNotStarted("command_not_executable", said, "check its permissions and format", exit_code=126)
        case "bad_request" | "bad_cwd":
            return InvalidRequest("bad_command", said)
        case _:
            return GuestFailed("guest_failed", f"the guest could not start the command: {said}")


def _exit_code(exited: Exited) -> int:
    if exited.timed_out:
        return TIMED_OUT
    return exited.exit_code if exited.exit_code is not None else _SIGNALLED + (exited.signal or 0)
