"""What Firecracker is told of a machine."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from pyro_mcp.vmm.firecracker_config import configuration, configuration_file, kernel_arguments
from pyro_mcp.vmm.machine import MachineSpec
from tests.support.descriptors import none_left

SPEC = MachineSpec(Path("/b/kernel"), Path("/b/initramfs"), Path("/b/modules"), Path("/b/image"), 77, 3, 768)
KEPT = replace(SPEC, seed=Path("/w/seed"), durable=True)


def told(spec: MachineSpec, *, console: bool = False) -> Mapping[str, Any]:
    """As Firecracker reads it."""
    return cast("Mapping[str, Any]", json.loads(json.dumps(configuration(spec, console=console))))


def test_the_machine_is_what_was_asked_for() -> None:
    config = told(SPEC)
    assert config["machine-config"] == {"vcpu_count": 3, "mem_size_mib": 768, "track_dirty_pages": False}
    assert config["boot-source"]["kernel_image_path"] == "/b/kernel"
    assert config["boot-source"]["initrd_path"] == "/b/initramfs"
    assert config["boot-source"]["boot_args"] == kernel_arguments(SPEC, console=False)
    assert config["vsock"] == {"guest_cid": 3, "uds_path": "v.sock"}


def test_the_machine_has_nothing_that_was_not_asked_for() -> None:
    """No network, no metadata service, no log or metrics file."""
    assert set(told(KEPT)) == {"boot-source", "drives", "machine-config", "vsock", "entropy", "balloon"}
    assert told(KEPT)["entropy"] == {}


def test_the_balloon_is_empty_and_its_guest_is_never_short_of_memory_for_it() -> None:
    # With an interval of 0 seconds the guest is not woken for statistics, which nobody could trust.
    assert told(KEPT)["balloon"] == {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 0}


def test_the_guest_finds_its_disks_by_their_order() -> None:
    drives = told(SPEC)["drives"]
    assert [drive["drive_id"] for drive in drives] == ["image", "disk", "modules"]
    assert [drive["path_on_host"] for drive in drives] == ["/b/image", "disk", "/b/modules"]
    drives = told(KEPT)["drives"]
    assert [drive["drive_id"] for drive in drives] == ["image", "disk", "modules", "seed"]
    assert drives[-1]["path_on_host"] == "/w/seed"


def test_only_the_guests_own_disk_can_be_written() -> None:
    drives = told(KEPT)["drives"]
    assert [drive["is_read_only"] for drive in drives] == [True, False, True, True]
    assert not any(drive["is_root_device"] for drive in drives), "Firecracker would add a root= of its own"


@pytest.mark.parametrize(("spec", "cache_type"), [(SPEC, "Unsafe"), (KEPT, "Writeback")])
def test_what_a_guest_flushes_is_flushed_only_where_it_is_kept(spec: MachineSpec, cache_type: str) -> None:
    image, disk, *others = told(spec)["drives"]
    assert disk["cache_type"] == cache_type
    assert {drive["cache_type"] for drive in (image, *others)} == {"Unsafe"}


def test_the_kernel_is_told_what_the_agent_needs() -> None:
    words = kernel_arguments(SPEC, console=False).split()
    assert not any(word.startswith(("pyro.workspace", "pyro.seed")) for word in words)
    for word in (
        "reboot=k",
        "panic=-1",
        "pci=off",
        "pyro.channel=vsock",
        "pyro.image=/dev/vda",
        "pyro.disk=/dev/vdb",
        "pyro.modules=/dev/vdc",
    ):
        assert words.count(word) == 1
    assert not any(word.startswith(("root=", "init=")) for word in words)


def test_a_workspaces_kernel_is_told_of_it_and_of_its_seed() -> None:
    assert "pyro.seed=/dev/vdd" in kernel_arguments(KEPT, console=False).split()
    seedless = kernel_arguments(replace(KEPT, seed=None), console=False).split()
    assert not any(word.startswith("pyro.seed") for word in seedless)


@pytest.mark.parametrize("console", [True, False])
def test_the_console_is_there_only_when_wanted(console: bool) -> None:
    words = told(SPEC, console=console)["boot-source"]["boot_args"].split()
    assert ("console=ttyS0" in words) == console
    assert ("quiet" in words) != console
    assert ("8250.nr_uarts=0" in words) != console


def test_it_is_handed_over_in_a_file_without_a_name() -> None:
    with none_left(), configuration_file(configuration(SPEC, console=False)) as fd:
        assert not os.get_inheritable(fd)
        for _ in range(2):  # whoever opens it reads it from its beginning
            assert json.loads(Path(f"/proc/self/fd/{fd}").read_bytes()) == told(SPEC)


def test_a_file_that_nobody_wants_any_more_is_closed() -> None:
    with none_left(), pytest.raises(KeyError), configuration_file({}):
        raise KeyError
