"""NOTICE: the licences of what a bundle holds, and where the sources of it are."""

import textwrap
from collections.abc import Iterable, Mapping

from pyro_mcp.runtime.crates import Crate
from pyro_mcp.runtime.manifest import Component

_WIDTH = 100
_RULE = "=" * _WIDTH
_HEAD = """\
pyro runtime bundle: third-party notices

This folder holds programs of several projects, side by side and each under its own licence. They are
listed with their versions and the place of their source code; the licences follow in full.
"""
_AGENT = """\
The agent is a static program: it also holds parts of the Rust standard library (MIT OR Apache-2.0,
the Rust Project Developers) and of the GNU C Library (LGPL-2.1-or-later, Free Software Foundation).
The agent's whole source and its build are in the pyro-mcp source repository (guest-agent/,
`make agent`), so it can be linked again with another C library. It is linked with these crates:
"""


def notice(
    components: Iterable[Component],
    crates: tuple[Crate, ...],
    kernel_copyright: str,
    licences: Mapping[str, str],
) -> str:
    """The text: `kernel_copyright` is the kernel package's own notice, `licences` maps a licence's name to its text."""
    listed = sorted(components, key=lambda component: component.name)
    parts = [_HEAD, *(_component(component) for component in listed), _AGENT]
    parts.append("".join(f"    {crate.name} {crate.version}: {crate.licence}\n" for crate in crates))
    parts.append(_section("Linux kernel: copyright notice of the Debian package", kernel_copyright))
    parts += [_section(f"{crate.name} {crate.version}: {crate.licence}", crate.text) for crate in crates if crate.text]
    parts += [_section(f"Licence: {name}", text) for name, text in sorted(licences.items())]
    return "\n".join(parts)


def _component(component: Component) -> str:
    head = f"{component.name} {component.version}\n"
    lines = f"Licence: {component.licence}", f"Source: {component.source}"
    return head + "".join(
        textwrap.fill(line, _WIDTH, initial_indent="    ", subsequent_indent="        ") + "\n" for line in lines
    )


def _section(title: str, text: str) -> str:
    return f"{_RULE}\n{title}\n{_RULE}\n\n{text.strip()}\n"
