"""Templates in the cache, one for each shape of machine: made when a machine of that shape is first wanted.

A machine begins as a template's copy wherever that is possible. Where no template can be made, or none can be begun
from, it boots; that is slower and nothing else. What cannot be made is not tried again in this daemon's life, unless
the host's disk was in the way.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import math
import os
import platform
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_mcp import sparse
from pyro_mcp.errors import PyroError
from pyro_mcp.images import disk, locks, no_seed
from pyro_mcp.images.prune import partly
from pyro_mcp.images.store import disk_usage, unusable
from pyro_mcp.models import PruneReport, TemplateInfo
from pyro_mcp.to_the_end import to_the_end
from pyro_mcp.vmm.machine import MachineSpec
from pyro_mcp.vmm.template import Template
from pyro_mcp.workspace import template_facts, template_room, template_trouble
from pyro_mcp.workspace.template_facts import TimedBoot
from pyro_mcp.workspace.template_stages import WAITING, Stage

if TYPE_CHECKING:
    from pyro_mcp.workspace.host import Host

log = logging.getLogger(__name__)
FOLDER = "templates"  # in the cache
# Changes with what a template is; those of another generation are not used.
_GENERATION = 1
_MOST = 8  # templates in the cache; those that were not used for longest go first
_MOST_DISCARDED = 3  # of one shape, in one daemon's life
_TIMED_COPIES = 10  # of one template in one daemon's life
_USED = "used"  # its modification time is that of the last use
_UNFINISHED = "new-"


@dataclass
class Templates:
    """The templates below `folder`."""

    folder: Path
    _making: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _unmakeable: dict[str, float] = field(default_factory=dict)  # until when: seconds of the monotonic clock
    _discarded: Counter[str] = field(default_factory=Counter)
    _copies: Counter[str] = field(default_factory=Counter)
    _bundles: dict[str, str] = field(default_factory=dict)  # the digests of those that templates were wanted with

    async def begin_from(self, host: "Host", spec: MachineSpec, stage: Stage = WAITING) -> MachineSpec:
        """The same machine, as a template's copy if there is one or one can be made now; that takes a boot.

        Where the template is of a stage with a disk, the machine needs a copy of that as its own.
        """
        key = await asyncio.to_thread(key_of, host, spec, stage)
        self._bundles[key] = host.bundle.digest
        template = Template(self.folder / key)
        if not _is_whole(template) and not await self._made(host, spec, stage, template):
            return spec
        if await asyncio.to_thread(template_facts.mend, template.folder, host, spec, throwaway=stage.with_disk):
            del self._copies[key]
        with contextlib.suppress(OSError):
            os.utime(template.folder / _USED)
        return replace(spec, template=template)

    def note_copy(self, template: Template, took_ms: int) -> None:
        """How long a machine took to begin from it; kept for `infos`."""
        key = template.folder.name
        self._copies[key] += 1
        if self._copies[key] <= _TIMED_COPIES:
            template_facts.note_copy(template.folder, took_ms)

    def infos(self) -> tuple[TemplateInfo, ...]:
        """Those that are there, the one used last first; blocks."""
        found = (_info(Template(folder)) for folder in self._folders())
        return tuple(sorted((info for info in found if info is not None), key=lambda info: info.used_at, reverse=True))

    async def discard(self, template: Template, why: str) -> bool:
        """Remove one that a machine could not begin from; a new one is made in its place, but not over and over.

        False where it was no fault of the template's: somebody has removed it meanwhile.
        """
        key = template.folder.name
        if not _is_whole(template):
            log.info("a machine could not begin from the template %s, which somebody has removed: %s", key, why)
            return False
        known = template_facts.in_words(template.folder)
        log.warning("a machine could not begin from the template %s (%s), which is thrown away: %s", key, known, why)
        self._discarded[key] += 1
        if self._discarded[key] >= _MOST_DISCARDED:
            self._unmakeable[key] = math.inf
        self._note_trouble(key, template_trouble.DISCARDED, why)
        with contextlib.suppress(OSError):
            async with locks.for_long(self.folder / "lock", lambda: None):
                await _removed(template.folder)
        return True

    async def prune(self, *, dry_run: bool) -> PruneReport:
        """Remove all of them, or with `dry_run` only say what that would be; machines that began from them go on.

        What could not be made is tried again. Raises `HostUnfit` where one cannot be removed, after the others.
        """
        if not dry_run:
            self._unmakeable.clear()
            self._discarded.clear()
            template_trouble.forget(self.folder)
        try:
            if not self.folder.exists():
                return PruneReport((), 0, dry_run)
            async with locks.for_long(self.folder / "lock", lambda: None):
                return await to_the_end(asyncio.to_thread(self._prune, dry_run))
        except OSError as error:
            raise unusable(self.folder, error) from error

    def _note_trouble(self, key: str, what: str, why: str) -> None:
        template_trouble.note(self.folder, key, self._bundles.get(key, ""), what, why)

    def _prune(self, dry_run: bool) -> PruneReport:
        names, freed, failed = list[str](), 0, list[OSError]()
        for folder in self._folders():
            size = disk_usage(folder)
            try:
                if not dry_run:
                    _remove(folder)
            except OSError as error:
                failed.append(error)
                freed += size - disk_usage(folder)
            else:
                names.append(f"template {folder.name}")
                freed += size
        report = PruneReport(tuple(names), freed, dry_run)
        if failed:
            raise partly(unusable(self.folder, self._why(failed[0])), report) from failed[0]
        return report

    def _why(self, error: OSError) -> OSError:
        """Why one could not be removed, naming the folder of all where that cannot be changed."""
        if os.access(self.folder, os.W_OK | os.X_OK):
            return error
        return OSError(error.errno, error.strerror, str(self.folder))

    def _folders(self) -> list[Path]:
        return sorted(entry for entry in self.folder.glob("*") if entry.is_dir())

    async def _made(self, host: "Host", spec: MachineSpec, stage: Stage, template: Template) -> bool:
        key = template.folder.name
        async with self._making[key]:
            if time.monotonic() < self._unmakeable.get(key, -math.inf):
                return False
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                async with locks.for_long(self.folder / "lock", lambda: None), host.boot_slots:
                    if not _is_whole(template):
                        await self._make(host, spec, stage, template)
            except (PyroError, OSError) as error:
                self._not_made(key, error)
                return False
            self._unmakeable.pop(key, None)
        return True

    def _not_made(self, key: str, error: PyroError | OSError) -> None:
        """Keep in mind why, and until when not to try again; say it the first time."""
        why, passes = template_room.in_words(error, self.folder), template_room.may_pass(error)
        if key not in self._unmakeable or not passes:
            log.warning("machines boot, because no template could be made: %s", why)
        self._unmakeable[key] = time.monotonic() + template_room.AGAIN_SECONDS if passes else math.inf
        self._note_trouble(key, template_trouble.NOT_MADE, why)

    async def _make(self, host: "Host", spec: MachineSpec, stage: Stage, template: Template) -> None:
        unfinished = self.folder / f"{_UNFINISHED}{template.folder.name}"
        await asyncio.to_thread(self._clear, keep=_MOST - 1)
        await asyncio.to_thread(template_room.check, self.folder)
        try:
            unfinished.mkdir()
            async with _blank_machine(host, spec, stage) as plain:
                boot = TimedBoot(stage.until_ready)
                await host.driver.make_template(plain, unfinished, boot.until_ready)
                if stage.with_disk:
                    await to_the_end(asyncio.to_thread(_keep, plain.disk_fd, Template(unfinished).disk))
            if boot.ms is not None:
                template_facts.write(unfinished, host, spec, boot.ms, throwaway=stage.with_disk)
            await to_the_end(asyncio.to_thread(_finish, unfinished, template))
            template_trouble.forget(self.folder, template.folder.name)
        finally:
            await _removed(unfinished)

    def _clear(self, *, keep: int) -> None:
        """Remove what was never finished, and all but those that were used last; only the lock's holder does that."""
        folders = self._folders()
        whole = [folder for folder in folders if _is_whole(Template(folder))]
        whole.sort(key=lambda folder: (folder / _USED).stat().st_mtime, reverse=True)
        for folder in folders:
            if folder not in whole[:keep]:
                with contextlib.suppress(OSError):
                    _remove(folder)


def key_of(host: "Host", spec: MachineSpec, stage: Stage) -> str:
    """The name of the template that such a machine begins from on this host. Blocks. Raises as `Driver.shape` does."""
    shape = host.driver.shape(replace(spec, durable=False))
    files = [host.bundle.digest, str(spec.image)]  # an image's path names its digest
    text = json.dumps([_GENERATION, stage.name, host.driver.name, shape, *files, platform.release(), _processor()])
    return hashlib.blake2s(text.encode(), digest_size=16).hexdigest()


@asynccontextmanager
async def _blank_machine(host: "Host", spec: MachineSpec, stage: Stage) -> AsyncIterator[MachineSpec]:
    """The machine without what its copies have of their own."""
    cache_dir = host.images.cache_dir
    blank = await disk.open_blank(cache_dir, stage.disk_mib << 20, journal=stage.journal)
    try:
        copy = await disk.clone(blank, cache_dir / "disks")
    finally:
        os.close(blank)
    try:
        yield replace(spec, disk_fd=copy, seed=no_seed.path(cache_dir), durable=False)
    finally:
        os.close(copy)


def _keep(disk_fd: int, path: Path) -> None:
    """Copy the disk of a machine that has ended; blocks."""
    sparse.copy_to(disk_fd, path)
    # A copy's guest has most of it in memory, and would not notice at once what a crash of the host has left out.
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _is_whole(template: Template) -> bool:
    # It gets its name when it is whole.
    return not template.folder.name.startswith(_UNFINISHED) and (template.folder / _USED).exists()


def _info(template: Template) -> TemplateInfo | None:
    try:
        used = (template.folder / _USED).stat().st_mtime
    except OSError:  # it is not finished, or was removed meanwhile
        return None
    if not _is_whole(template):
        return None
    facts = template_facts.read(template.folder)
    return TemplateInfo(
        name=template.folder.name,
        size_bytes=disk_usage(template.folder),
        used_at=datetime.fromtimestamp(used, UTC).isoformat(),
        facts=facts,
        saved_ms=None if facts is None else facts.saved_ms,
    )


async def _removed(folder: Path) -> None:
    with contextlib.suppress(OSError):
        await to_the_end(asyncio.to_thread(_remove, folder))


def _remove(folder: Path) -> None:
    """Remove a template, which is not whole any more as soon as something of it is gone. Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        (folder / _USED).unlink(missing_ok=True)
        shutil.rmtree(folder)


def _finish(unfinished: Path, template: Template) -> None:
    for file in (template.state, template.memory, template.disk):
        with contextlib.suppress(FileNotFoundError):
            (unfinished / file.name).chmod(0o444)
    (unfinished / _USED).touch()
    unfinished.rename(template.folder)


def _processor() -> str:
    """The processor's model and features, as the kernel shows them; those of the first one stand for all."""
    first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
    telling = ("vendor_id", "model", "stepping", "flags")
    return "\n".join(line for line in first.splitlines() if line.startswith(telling))
