"""One command in a machine that exists for it alone (`pyro run`, `run_in_vm`, `vm_run`)."""

import asyncio
import time
from collections.abc import Coroutine

from pyro_mcp import phases, tasks
from pyro_mcp.errors import InvalidRequest, PyroError
from pyro_mcp.events import OutputChunk
from pyro_mcp.guest.client import GuestCommand
from pyro_mcp.guest.frames import Output, Tag
from pyro_mcp.guest.messages import Exec, Exited, Failed, Started
from pyro_mcp.images import catalog, store
from pyro_mcp.models import (
    MEM_MIB_RANGE,
    NOTICE,
    TIMEOUT_SECONDS_RANGE,
    VCPU_RANGE,
    Progress,
    RunFinished,
    RunRequest,
    RunStarted,
)
from pyro_mcp.workspace.backlog import Backlog, Emit, emitting
from pyro_mcp.workspace.boot import Guest, boot_guest
from pyro_mcp.workspace.command_words import check_command, check_range
from pyro_mcp.workspace.control import RunControl
from pyro_mcp.workspace.endings import GRACE_SECONDS, LAST_WORDS_SECONDS, TIMED_OUT, exit_code, not_started
from pyro_mcp.workspace.environments import ensure_installed
from pyro_mcp.workspace.host import Host


async def run_in_vm(host: Host, request: RunRequest, control: RunControl, emit: Emit) -> None:
    """Run a command and emit what happens, ending with `RunFinished`; nothing of the machine is left afterwards.

    An environment that is not installed is pulled first. Raises `InvalidRequest`, `NotFound`, `HostUnfit`,
    `SourceFailed`, `CommandNotStarted` (127 or 126) or `GuestFailed`. Cancelling it ends the machine.
    """
    check(request)
    began = time.monotonic()
    try:
        if host.notice is not None:
            await emit(Progress("run", NOTICE, "", host.notice))
        await ensure_installed(host.images, request.environment, emit)
        async with emitting(emit) as backlog:
            finished = await _within_ttl(request, _boot_and_run(host, request, control, backlog, began))
    finally:
        control.close()
    phases.ended("last_output")
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
    """Refuse what cannot be run, naming the parameter, before anything is found out that takes its time."""
    catalog.lookup(request.environment)
    check_command(request.command, request.timeout_seconds)
    if request.network:
        raise InvalidRequest(
            "network_unsupported",
            "guests have no network in this version of pyro",
            "leave --network out",
        )
    check_range("--vcpu-count", request.vcpu_count, VCPU_RANGE)
    check_range("--mem-mib", request.mem_mib, MEM_MIB_RANGE)
    if request.ttl_seconds is not None:
        check_range("--ttl-seconds", request.ttl_seconds, TIMEOUT_SECONDS_RANGE)


async def _boot_and_run(
    host: Host, request: RunRequest, control: RunControl, backlog: Backlog, began: float
) -> RunFinished:
    async def tell(text: str) -> None:
        await backlog.put(Progress("run", NOTICE, "", text))

    with await store.open_verified(host.images, request.environment) as image:
        phases.ended("environment")
        booting = boot_guest(host, image.path, vcpu_count=request.vcpu_count, mem_mib=request.mem_mib, tell=tell)
        async with booting as guest:
            exited = await _run_command(guest, request, control, backlog)
            phases.ended("command")
            finished = RunFinished(
                environment=request.environment,
                vmm=guest.vmm,
                exit_code=exit_code(exited),
                timed_out=exited.timed_out,
                duration_ms=round((time.monotonic() - began) * 1000),
            )
    phases.ended("machine_gone")
    return finished


async def _run_command(guest: Guest, request: RunRequest, control: RunControl, backlog: Backlog) -> Exited:
    wanted = Exec(argv=request.command, stdin=request.stdin, timeout_ms=request.timeout_seconds * 1000)
    async with guest.client.exec(wanted) as command:
        following = asyncio.create_task(_follow(command, guest, control, backlog))
        try:
            if not await _ended(following, request.timeout_seconds + GRACE_SECONDS):
                # Either nobody reads the output, so that the end is stuck behind it, or the agent fails to end it.
                await backlog.lift()
                if not await _ended(following, LAST_WORDS_SECONDS):
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
            raise not_started(event)
        else:
            return event
    raise AssertionError("a command's events end with its end or an error")
