"""The files that a machine reads, as its VMM sees them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pyro_mcp.vmm.confine import INPUTS
from pyro_mcp.vmm.machine import MachineSpec

_NAMES = ("kernel", "initramfs", "modules", "image", "seed")


def seen_inside(spec: MachineSpec) -> tuple[MachineSpec, Mapping[Path, Path]]:
    """The machine as it is seen from inside its sandbox, and what is shown there: names inside to files of the host."""
    names = [name for name in _NAMES if getattr(spec, name) is not None]
    inside = {name: INPUTS / name for name in names}
    return replace(spec, **inside), {inside[name]: getattr(spec, name) for name in names}  # type: ignore[arg-type]
