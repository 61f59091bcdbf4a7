"""The files of a machine, outside its sandbox and inside."""

from dataclasses import replace
from pathlib import Path

from pyro_mcp.vmm.confine import INPUTS
from pyro_mcp.vmm.inputs import seen_inside
from pyro_mcp.vmm.machine import MachineSpec

SPEC = MachineSpec(Path("/b/vmlinux"), Path("/b/initramfs.cpio"), Path("/b/m.sqfs"), Path("/c/i.sqfs"), 7, 3, 768)


def test_every_file_has_one_name_inside_whatever_it_is_called() -> None:
    inside, shown = seen_inside(SPEC)
    assert (inside.kernel, inside.initramfs) == (INPUTS / "kernel", INPUTS / "initramfs")
    assert (inside.modules, inside.image, inside.seed) == (INPUTS / "modules", INPUTS / "image", None)
    assert shown == {
        INPUTS / "kernel": SPEC.kernel,
        INPUTS / "initramfs": SPEC.initramfs,
        INPUTS / "modules": SPEC.modules,
        INPUTS / "image": SPEC.image,
    }


def test_a_seed_is_one_more() -> None:
    inside, shown = seen_inside(replace(SPEC, seed=Path("/w/seed.sqfs")))
    assert inside.seed == INPUTS / "seed"
    assert shown[INPUTS / "seed"] == Path("/w/seed.sqfs")
    assert len(shown) == 5


def test_nothing_else_of_the_machine_changes() -> None:
    inside, _ = seen_inside(replace(SPEC, durable=True))
    outside = replace(SPEC, durable=True)
    files = {name: getattr(outside, name) for name in ("kernel", "initramfs", "modules", "image")}
    assert replace(inside, **files) == outside
