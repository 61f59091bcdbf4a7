"""Templates: which are there, and what they save on this host."""

import asyncio
from collections.abc import Sequence

from pyro_mcp.config import Settings
from pyro_mcp.doctor.report import Row, passed, size, warning
from pyro_mcp.models import TemplateInfo
from pyro_mcp.workspace import template_trouble
from pyro_mcp.workspace.template_trouble import Trouble
from pyro_mcp.workspace.templates import FOLDER, Templates

NAME = "templates"
_MEND = "pyro env prune (removes all templates; the next machines try again to make theirs)"


async def examine(settings: Settings) -> Row:
    if settings.templates == "off":
        return passed(NAME, "off, as PYRO_TEMPLATES says: every machine boots")
    return await asyncio.to_thread(_examine, settings)


def _examine(settings: Settings) -> Row:
    templates = Templates(settings.cache_dir / FOLDER)
    return row_for(templates.infos(), template_trouble.noted(templates.folder))


def row_for(templates: Sequence[TemplateInfo], trouble: Trouble | None) -> Row:
    """The row for these templates, the one used last first, and what went wrong with them and was not mended since."""
    found = _found(templates)
    if trouble is None:
        return passed(NAME, found, templates)
    why = "\n".join(f"  | {line}" for line in trouble.why.splitlines())
    return warning(NAME, f"{found}\n{trouble.what}, last at {trouble.at}, because:\n{why}", _MEND, templates)


def _found(templates: Sequence[TemplateInfo]) -> str:
    if not templates:
        return "there are none yet: the first machine of each kind makes one"
    there = "1 is" if len(templates) == 1 else f"{len(templates)} are"
    takes = f"{there} there, in {size(sum(template.size_bytes for template in templates))}"
    known = [template.facts for template in templates if template.facts is not None]
    if not known:
        return f"{takes}; what they save is not known"
    used_last = next((facts for facts in known if facts.copy_ms is not None), known[0])
    return f"{takes}; of {used_last.machine}: {used_last.saving}"
