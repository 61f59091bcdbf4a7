"""The runtime bundle: kernel, agent, modules and VMM, every file as its manifest says."""

from pyro_mcp.doctor.report import Row, failed_with, listed, passed
from pyro_mcp.doctor.shared import Shared
from pyro_mcp.errors import HostUnfit

NAME = "runtime"
SECONDS = 14.0  # a slow disk, or a processor that is emulated, reads and hashes some ten MiB in a second


async def examine(shared: Shared) -> Row:
    try:
        bundle = await shared.bundle.get()
    except HostUnfit as error:
        return failed_with(NAME, error)
    versions = listed(f"{component.name} {component.version}" for component in bundle.components)
    return passed(NAME, f"all {len(bundle.manifest.files)} files in {bundle.folder} are intact: {versions}")
