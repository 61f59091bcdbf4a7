"""From an environment to a guest that answers, in a machine that is thrown away; and what every boot has in common."""

import errno
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pyro_mcp import phases, regular_file
from pyro_mcp.errors import GuestFailed, HostUnfit
from pyro_mcp.guest import client, identity
from pyro_mcp.images import disk, no_seed
from pyro_mcp.resource_limits import limit_hint
from pyro_mcp.vmm.machine import Driver, Machine, MachineSpec
from pyro_mcp.vmm.template import Template
from pyro_mcp.workspace import host_memory, last_words
from pyro_mcp.workspace.host import Host
from pyro_mcp.workspace.template_stages import PREPARED, WAITING, Stage

log = logging.getLogger(__name__)
_READY_SECONDS = 20.0
# The second attempt prints the guest's console, which is slower, and decides.
_LAST_READY_SECONDS = 60.0
TEMPLATE_GONE = (
    "the template that this machine was to begin from does not work and is thrown away; the machine boots, which takes"
    " longer (`pyro doctor` says why)"
)
_OF_BEGINNING = ("no_template", "vmm_failed")  # HostUnfit's codes where a machine that boots may get further
_LACKS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS),
    *(errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EFBIG),
)
NO_DISK = -1
"""In place of a machine's disk until it is known what it begins from, or where that is all that is asked."""
T = TypeVar("T")
Tell = Callable[[str], Awaitable[None]]
"""Is told what the machine's user should know about its start."""


async def nobody(_text: str) -> None:
    """For a machine whose user need not know."""


@dataclass(frozen=True)
class Guest:
    """A guest that answers. `boot_ms` is what it took, a failed first attempt included."""

    vmm: str
    client: client.GuestClient
    boot_ms: int


@asynccontextmanager
async def boot_guest(
    host: Host, image: Path, *, vcpu_count: int, mem_mib: int, tell: Tell = nobody
) -> AsyncIterator[Guest]:
    """Boot a machine with a fresh disk of its own; it is gone, disk and all, when the block ends.

    A boot that hangs is tried once more, this time with the guest's console kept for the error message. Raises
    `GuestFailed` when that fails too.
    """
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        attempt = _Attempt(host, image, vcpu_count, mem_mib)
        machine, guest = await twice(host, lambda trial: attempt.enter(stack, trial), tell)
        async with last_words.told_if_lost(machine):
            yield Guest(machine.vmm, guest, round((time.monotonic() - began) * 1000))


@dataclass
class Trial:
    """One attempt to start a machine: by which driver, and how many seconds its guest has to come up."""

    host: Host
    driver: Driver
    ready_seconds: float
    may_copy: bool
    template: Template | None = None

    async def equipped(self, spec: MachineSpec, stage: Stage = WAITING) -> MachineSpec:
        """The machine as it is to be started in this attempt: as a template's copy where there is one."""
        if not self.may_copy or self.host.templates is None:
            return spec
        begun = await self.host.templates.begin_from(self.host, spec, stage)
        self.template = begun.template
        return begun

    @asynccontextmanager
    async def timed(self) -> AsyncIterator[None]:
        """Around what starts the machine: takes the time of a copy that comes up."""
        began = time.monotonic()
        yield
        if self.template is not None and self.host.templates is not None:
            self.host.templates.note_copy(self.template, round((time.monotonic() - began) * 1000))


async def twice(host: Host, attempt: Callable[[Trial], Awaitable[T]], tell: Tell) -> T:
    """Start a machine, and if its guest does not come up boot it, with the guest's console kept.

    A template that it was to begin from is thrown away then, which is told, unless this host was in the way.
    """
    first = Trial(host, host.driver, _READY_SECONDS, may_copy=True)
    try:
        return await attempt(first)
    except (GuestFailed, HostUnfit) as error:
        if isinstance(error, HostUnfit) and (first.template is None or error.code not in _OF_BEGINNING):
            raise  # a boot would not get further
        why, of_host = error.message, _is_of_host(error)
    if first.template is not None and host.templates is not None and not of_host:
        if await host.templates.discard(first.template, why):
            await tell(TEMPLATE_GONE)
    else:
        log.warning("a machine did not start, trying once more: %s", why)
    return await attempt(Trial(host, host.driver.with_console(), _LAST_READY_SECONDS, may_copy=False))


def _is_of_host(error: GuestFailed | HostUnfit) -> bool:
    """Whether this host lacked something for a machine to start, so that a template which it was to begin from may be
    as good as it was. VMMs say that they could not have their memory when they end."""
    cause = error.__cause__
    if isinstance(cause, OSError):
        return cause.errno in _LACKS
    return isinstance(error, GuestFailed) and os.strerror(errno.ENOMEM) in error.message


def machine_spec(host: Host, image: Path, disk_fd: int, *, vcpu_count: int, mem_mib: int) -> MachineSpec:
    """A machine with this host's runtime bundle. Raises `HostUnfit` where this host has not so much memory at all."""
    host_memory.check(mem_mib)
    bundle = host.bundle
    return MachineSpec(
        kernel=Path(bundle.kernel),
        initramfs=Path(bundle.initramfs),
        modules=Path(bundle.modules),
        image=image,
        disk_fd=disk_fd,
        vcpu_count=vcpu_count,
        mem_mib=mem_mib,
        seed=no_seed.path(host.images.cache_dir),
    )


@dataclass(frozen=True)
class _Attempt:
    host: Host
    image: Path
    vcpu_count: int
    mem_mib: int

    async def enter(self, stack: AsyncExitStack, trial: Trial) -> tuple[Machine, client.GuestClient]:
        """Boot once; whatever it needs is closed by `stack`, or before this raises."""
        async with AsyncExitStack() as attempt:
            plain = machine_spec(self.host, self.image, NO_DISK, vcpu_count=self.vcpu_count, mem_mib=self.mem_mib)
            begun = await trial.equipped(plain, PREPARED)
            phases.ended("template")
            disk_fd = await _fresh_disk(self.host.images.cache_dir, begun.template)
            attempt.callback(os.close, disk_fd)
            spec = replace(begun, disk_fd=disk_fd)
            phases.ended("disk")
            async with self.host.boot_slots, trial.timed():
                phases.ended("turn")
                machine = await _entered(attempt, trial.driver, spec)
                phases.ended("vmm")
                session = client.reconnect if machine.reopens else client.connect
                try:
                    guest = await attempt.enter_async_context(
                        session(
                            machine.open_channel,
                            timeout_seconds=trial.ready_seconds,
                            identity=identity.of_throwaway(),
                        )
                    )
                except GuestFailed as error:
                    raise last_words.explained(error, machine.console()) from error
                phases.ended("session")
            stack.push_async_exit(attempt.pop_all().__aexit__)
        return machine, guest


async def _entered(stack: AsyncExitStack, driver: Driver, spec: MachineSpec) -> Machine:
    try:
        return await stack.enter_async_context(driver.boot(spec))
    except OSError as error:
        raise not_started(error) from error


def not_started(error: OSError) -> HostUnfit:
    """The error for a machine whose VMM or sandbox this host does not start."""
    return HostUnfit("vmm_failed", f"the machine cannot be started: {error}", limit_hint(error) or "pyro doctor")


async def _fresh_disk(cache_dir: Path, template: Template | None) -> int:
    """A disk that has no name and is gone with its last user, as is the machine: it needs no journal.

    It is blank, or as that of the machine's `template` was.
    """
    if template is None:
        source = await disk.open_blank(cache_dir, PREPARED.disk_mib << 20, journal=PREPARED.journal)
    else:
        source = _open_whole(template.disk)
    try:
        return await disk.clone(source, cache_dir / "disks")
    finally:
        os.close(source)


def _open_whole(path: Path) -> int:
    """A template's disk. Raises `HostUnfit` where it is not all there."""
    try:
        fd = regular_file.opened(path)
    except OSError as error:
        raise HostUnfit("no_template", f"the template's disk cannot be opened: {error}", "pyro env prune") from error
    if os.fstat(fd).st_size != PREPARED.disk_mib << 20:
        os.close(fd)
        raise HostUnfit("no_template", "the template's disk is not as large as it was", "pyro env prune")
    return fd
