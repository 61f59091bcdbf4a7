"""Templates: which are there, and what they save on this host."""

import asyncio
from collections.abc import Sequence
from functools import partial

from pyro_mcp.config import Settings
from pyro_mcp.doctor import kvm
from pyro_mcp.doctor.report import Row, passed, size, warning
from pyro_mcp.errors import HostUnfit
from pyro_mcp.images.store import Store
from pyro_mcp.models import TemplateInfo
from pyro_mcp.runtime.bundle import find_bundle
from pyro_mcp.vmm import confine
from pyro_mcp.workspace import template_trouble, template_use
from pyro_mcp.workspace.host import Host, default_boot_slots, verified_host
from pyro_mcp.workspace.template_trouble import Trouble
from pyro_mcp.workspace.templates import FOLDER, Templates
from pyro_mcp.workspace.vmm_choice import VmmChoice

NAME = "templates"
SECONDS = kvm.SECONDS  # which are used depends on the VMM
_MEND = "pyro env prune (removes all templates; the next machines try again to make theirs)"
_MEND_UNKNOWN = "pyro env prune (removes all templates; where machines still begin from one, the next mends it as well)"


async def examine(settings: Settings) -> Row:
    there = await asyncio.to_thread(Templates(settings.cache_dir / FOLDER).infos)
    off = settings.templates == "off"
    marked = await template_use.marked(there, partial(_host, settings), off=off)
    if off:
        return passed(NAME, f"off, as PYRO_TEMPLATES says: every machine boots{_left(marked)}", marked)
    return row_for(marked, await asyncio.to_thread(_trouble, settings))


async def _host(settings: Settings, *, quiet: bool = False) -> Host:
    """This host as machines find it: with what is remembered of KVM, which another row proves afresh."""
    choice = VmmChoice(settings, confined=await confine.why_unconfinable() is None)
    return await verified_host(settings, Store(settings.cache_dir), default_boot_slots(), choice, quiet=quiet)


def _trouble(settings: Settings) -> Trouble | None:
    """What is wrong with the templates of the runtime bundle in use; of others nobody tries to make any now."""
    trouble = template_trouble.noted(settings.cache_dir / FOLDER)
    try:
        bundle = find_bundle(settings).digest
    except HostUnfit:
        return None  # that is the trouble, and another row tells it
    return trouble if trouble is not None and trouble.bundle == bundle else None


def row_for(templates: Sequence[TemplateInfo], trouble: Trouble | None) -> Row:
    """The row for these templates, the one used last first, and what went wrong with them and was not mended since."""
    found = _found(templates)
    if trouble is None:
        known = all(template.facts is not None for template in templates)
        return passed(NAME, found, templates) if known else warning(NAME, found, _MEND_UNKNOWN, templates)
    why = "\n".join(f"  | {line}" for line in trouble.why.splitlines())
    return warning(NAME, f"{found}\n{trouble.what}, last at {trouble.at}, because:\n{why}", _MEND, templates)


def _found(templates: Sequence[TemplateInfo]) -> str:
    if not templates:
        return "there are none yet: the first machine of each kind makes one"
    return f"{_there(templates)}{_unused(templates)}{_saving(templates)}{_unknown(templates)}"


def _saving(templates: Sequence[TemplateInfo]) -> str:
    known = [each.facts for each in templates if each.unused is None and each.facts is not None]
    if not known:
        return ""
    used_last = next((facts for facts in known if facts.copy_ms is not None), known[0])
    return f"; of {used_last.machine}: {used_last.saving}"


def _unknown(templates: Sequence[TemplateInfo]) -> str:
    count = sum(template.facts is None for template in templates)
    return f"; nothing is known of {count}, whose facts.json is missing or damaged" if count else ""


def _there(templates: Sequence[TemplateInfo]) -> str:
    there = "1 is" if len(templates) == 1 else f"{len(templates)} are"
    return f"{there} there, in {size(sum(template.size_bytes for template in templates))}"


def _unused(templates: Sequence[TemplateInfo]) -> str:
    unused = [template.unused for template in templates if template.unused is not None]
    return f"; {len(unused)} unused ({unused[0]})" if unused else ""


def _left(templates: Sequence[TemplateInfo]) -> str:
    return f"; {_there(templates)}" if templates else ""
