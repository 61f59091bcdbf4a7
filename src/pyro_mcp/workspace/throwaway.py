"""One command in a machine that exists for it alone (`pyro run`, `run_in_vm`, `vm_run`)."""

import asyncio
import json
import time
from collections.abc import Coroutine

from pyro_mcp import tasks
from pyro_mcp.errors import CommandNotStarted, GuestFailed, InvalidRequest, PyroError
from pyro_mcp.events import OutputChunk
from pyro_mcp.guest.client import GuestCommand
from pyro_mcp.guest.frames import Output, Tag
from pyro_mcp.guest.messages import Exec, Exited, Failed, Started
from pyro_mcp.images import store
from pyro_mcp.models import MEM_MIB_RANGE, TIMEOUT_SECONDS_RANGE, VCPU_RANGE, RunFinished, RunRequest, RunStarted
from pyro_mcp.workspace.backlog import Backlog, Emit, emitting
from pyro_mcp.workspace.boot import Guest, boot_guest
from pyro_mcp.workspace.control import RunControl
from pyro_mcp.workspace.environments import ensure_installed
from pyro_mcp.workspace.host import Host

TIMED_OUT = 124  # as timeout(1) exits
_SIGNALLED = 128  # plus the signal's number, as a shell reports it
# A command's words as they travel to the guest (JSON), with room left in the frame that holds them.
_COMMAND_BYTES = 512 * 1024
# What the agent may take to end a command whose time is up.
_GRACE_SECONDS = 10.0
# What it may take after that to hand over what a slow reader had held back, before the machine is taken away.
_LAST_WORDS_SECONDS = 3.0


async def run_in_vm(host: Host, request: RunRequest, control: RunControl, emit: Emit) -> None:
    """Run a command and emit what happens, ending with `RunFinished`; nothing of the machine is left afterwards.

    An environment that is not installed is pulled first. Raises `InvalidRequest`, `NotFound`, `HostUnfit`,
    `SourceFailed`, `CommandNotStarted` (127 or 126) or `GuestFailed`. Cancelling it ends the machine.
    """
    check(request)
    began = time.monotonic()
    try:
        await ensure_installed(host.images, request.environment, emit)
        async with emitting(emit) as backlog:
            finished = await _within_ttl(request, _boot_and_run(host, request, control, backlog, began))
    finally:
        control.close()
    await emit(finished)


async def _within_ttl(request: RunRequest, running: Coroutine[None, None, RunFinished]) -> RunFinished:
    limit = asyncio.timeout(request.ttl_seconds)
    try:
        async with limit:
            return await running
    except TimeoutError:
        if not limit.expired():
            raise
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
    if len(json.dumps(request.command)) > _COMMAND_BYTES:
        raise InvalidRequest("bad_command", f"the command is too long: over {_COMMAND_BYTES // 1024} KiB encoded")
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


async def _boot_and_run(
    host: Host, request: RunRequest, control: RunControl, backlog: Backlog, began: float
) -> RunFinished:
    with await store.open_verified(host.images, request.environment) as image:
        async with boot_guest(host, image.path, vcpu_count=request.vcpu_count, mem_mib=request.mem_mib) as guest:
            exited = await _run_command(guest, request, control, backlog)
            return RunFinished(
                environment=request.environment,
                vmm=guest.vmm,
                exit_code=_exit_code(exited),
                timed_out=exited.timed_out,
                duration_ms=round((time.monotonic() - began) * 1000),
            )


async def _run_command(guest: Guest, request: RunRequest, control: RunControl, backlog: Backlog) -> Exited:
    wanted = Exec(argv=request.command, stdin=request.stdin, timeout_ms=request.timeout_seconds * 1000)
    async with guest.client.exec(wanted) as command:
        following = asyncio.create_task(_follow(command, guest, control, backlog))
        try:
            if not await _ended(following, request.timeout_seconds + _GRACE_SECONDS):
                # Either nobody reads the output, so that the end is stuck behind it, or the agent fails to end it.
                await backlog.lift()
                if not await _ended(following, _LAST_WORDS_SECONDS):
                    return Exited(exit_code=None, signal=9, timed_out=True)
            return following.result()
        finally:
            await tasks.end(following)


async def _ended(task: asyncio.Task[Exited], within_seconds: float) -> bool:
    done, _ = await asyncio.wait((task,), timeout=within_seconds)
    return bool(done)


async def _follow(command: GuestCommand, guest: Guest, control: RunControl, backlog: Backlog) -> Exited:
    async for event in command.events():
        if isinstance(event, Output):
            await backlog.put(OutputChunk("stdout" if event.tag is Tag.STDOUT else "stderr", event.data))
        elif isinstance(event, Started):
            control.attach(command)
            await backlog.put(RunStarted(guest.vmm, guest.boot_ms))
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
