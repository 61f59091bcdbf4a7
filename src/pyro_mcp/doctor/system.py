"""The platform: is this a machine that guests are built for?"""

import platform

from pyro_mcp.doctor.report import Row, failed, passed

NAME = "platform"
_SUPPORTED = ("Linux", "x86_64")


async def examine() -> Row:
    return row_for(platform.system(), platform.machine(), platform.release(), platform.python_version())


def row_for(system: str, machine: str, release: str, python: str) -> Row:
    """The row for what uname(2) says. The package metadata already sees to it that Python is new enough."""
    found = f"{system} {release} on {machine}, Python {python}"
    if (system, machine) != _SUPPORTED:
        return failed(NAME, found, f"use a machine that runs {' on '.join(_SUPPORTED)}")
    return passed(NAME, found)
