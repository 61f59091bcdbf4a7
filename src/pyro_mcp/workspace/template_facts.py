"""What is known of a template, in its folder: which machines begin from it, and what that saves, measured here.

Nothing depends on it. What cannot be read, or makes no sense, is not known until the next machine begins from the
template; what cannot be written is left.
"""

import contextlib
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_mcp.images import store
from pyro_mcp.models import TemplateFacts
from pyro_mcp.vmm.machine import OpenChannel
from pyro_mcp.vmm.template import Template, UntilReady
from pyro_mcp.workspace.record import now

if TYPE_CHECKING:
    from pyro_mcp.vmm.machine import MachineSpec
    from pyro_mcp.workspace.host import Host

_FILE = "facts.json"
_LONGEST = 200  # characters of a name, a digest or a date
_LARGEST = 1 << 31


class TimedBoot:
    """How long a boot takes, from now until its agent answers for the first time."""

    def __init__(self, until_ready: UntilReady) -> None:
        self._until_ready = until_ready
        self._began = time.monotonic()
        self.ms: int | None = None

    async def until_ready(self, open_channel: OpenChannel) -> None:
        """An `UntilReady` that takes the time."""
        await self._until_ready(open_channel)
        if self.ms is None:
            self.ms = round((time.monotonic() - self._began) * 1000)


def write(folder: Path, host: "Host", spec: "MachineSpec", boot_ms: int, *, throwaway: bool) -> None:
    """Write down what is known of a template that has just been made in that folder."""
    _write(folder, _facts(host, spec, now(), boot_ms, throwaway=throwaway))


def read(folder: Path) -> TemplateFacts | None:
    """What is known of the template in that folder."""
    facts = store.read_json(folder / _FILE, TemplateFacts)
    return facts if facts is not None and _makes_sense(facts) else None


def in_words(folder: Path) -> str:
    """The machines that begin from the template in that folder, as far as they are known."""
    facts = read(folder)
    return "of which nothing is known" if facts is None else facts.machine


def mend(folder: Path, host: "Host", spec: "MachineSpec", *, throwaway: bool) -> bool:
    """Write down what is known of a template from which such a machine begins; False if something was."""
    if read(folder) is not None:
        return False
    with contextlib.suppress(OSError):
        made_at = datetime.fromtimestamp(Template(folder).state.stat().st_mtime, UTC)
        _write(folder, _facts(host, spec, made_at, None, throwaway=throwaway))
    return True


def note_copy(folder: Path, copy_ms: int) -> None:
    """Write down what a copy took to begin, if none took less: what others took longer, the host was busy with."""
    facts = read(folder)
    if facts is not None and (facts.copy_ms is None or copy_ms < facts.copy_ms):
        _write(folder, replace(facts, copy_ms=copy_ms))


def _facts(
    host: "Host", spec: "MachineSpec", made_at: datetime, boot_ms: int | None, *, throwaway: bool
) -> TemplateFacts:
    digest = store.digest_in(spec.image)
    named = [each.name for each in store.references(host.images) if each.digest == digest]
    return TemplateFacts(
        environment=named[0] if named else None,
        digest=digest,
        vmm=host.driver.name,
        vcpu_count=spec.vcpu_count,
        mem_mib=spec.mem_mib,
        made_at=made_at.isoformat(),
        boot_ms=boot_ms,
        throwaway=throwaway,
    )


def _makes_sense(facts: TemplateFacts) -> bool:
    """Whether that can be shown: somebody may have written anything there."""
    words = (facts.environment or "", facts.digest or "", facts.vmm, facts.made_at)
    figures = (facts.vcpu_count, facts.mem_mib, facts.boot_ms or 0, facts.copy_ms or 0)
    return all(each.isprintable() and len(each) <= _LONGEST for each in words) and all(
        0 <= each < _LARGEST for each in figures
    )


def _write(folder: Path, facts: TemplateFacts) -> None:
    with contextlib.suppress(OSError):  # no room, or the template is gone
        store.write_json(folder / _FILE, facts, lasting=False)
