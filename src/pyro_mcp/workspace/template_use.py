"""Which of the templates in the cache the machines of this host begin from, and why the others are not used."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from pyro_mcp.errors import PyroError
from pyro_mcp.images.store import IMAGE_FILE
from pyro_mcp.models import TemplateInfo
from pyro_mcp.workspace.boot import NO_DISK, machine_spec
from pyro_mcp.workspace.host import FindHost, Host
from pyro_mcp.workspace.template_stages import PREPARED, WAITING
from pyro_mcp.workspace.templates import key_of

OFF = "PYRO_TEMPLATES is off"
OTHER = "made with another runtime, or for another VMM, host or cache"


async def marked(templates: Sequence[TemplateInfo], find_host: FindHost, *, off: bool) -> tuple[TemplateInfo, ...]:
    """The same with a word on those that are not used; nothing is said where this host can run no machines."""
    if off:
        return tuple(_unused(template, OFF) for template in templates)
    if not templates:
        return ()
    try:
        host = await find_host(quiet=True)
        return await asyncio.to_thread(_marked, templates, host)
    except (PyroError, OSError):
        return tuple(templates)


def _marked(templates: Sequence[TemplateInfo], host: Host) -> tuple[TemplateInfo, ...]:
    return tuple(template if _is_used(template, host) else _unused(template, OTHER) for template in templates)


def _is_used(template: TemplateInfo, host: Host) -> bool:
    """Whether the machine that the template is of would begin from it; one of which nothing is known may be used."""
    facts = template.facts
    if facts is None or facts.digest is None:
        return True
    image = host.images.image_folder(facts.digest) / IMAGE_FILE
    spec = machine_spec(host, image, NO_DISK, vcpu_count=facts.vcpu_count, mem_mib=facts.mem_mib)
    return key_of(host, spec, PREPARED if facts.throwaway else WAITING) == template.name


def _unused(template: TemplateInfo, why: str) -> TemplateInfo:
    return replace(template, unused=why, saved_ms=None)
