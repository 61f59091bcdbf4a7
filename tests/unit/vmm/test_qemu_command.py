"""QEMU's command line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.vmm.machine import MachineSpec
from pyro_mcp.vmm.qemu_command import GuestMemory, Wiring, command_line, kernel_arguments
from pyro_mcp.vmm.qemu_orders import restore_orders


def _after(words: list[str], flag: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == flag]


def test_the_machine_is_what_was_asked_for(spec: MachineSpec) -> None:
    words = command_line("/usr/bin/qemu", spec, Wiring(77), tsc_khz=2_000_000, console=False)
    assert words[0] == "/usr/bin/qemu"
    assert _after(words, "-smp") == ["3"]
    assert _after(words, "-m") == ["768M"]
    assert _after(words, "-kernel") == [str(spec.kernel)]
    assert _after(words, "-initrd") == [str(spec.initramfs)]
    assert _after(words, "-accel") == ["tcg,thread=multi"]


def test_the_machine_has_nothing_that_was_not_asked_for(spec: MachineSpec) -> None:
    """No network card, no monitor, no display, no user's configuration; a guest that resets is gone."""
    words = command_line("qemu", spec, Wiring(77), tsc_khz=None, console=False)
    for flag in ("-nodefaults", "-no-user-config", "-no-reboot"):
        assert flag in words
    for flag in ("-net", "-netdev", "-nic", "-monitor", "-qmp", "-serial", "-vnc", "-daemonize", "-pidfile"):
        assert flag not in words
    assert _after(words, "-display") == ["none"]
    assert not any("net" in device for device in _after(words, "-device"))
    (sandbox,) = _after(words, "-sandbox")
    assert sandbox.startswith("on")
    for rule in ("elevateprivileges=deny", "spawn=deny", "resourcecontrol=deny", "obsolete=deny"):
        assert rule in sandbox


def test_only_the_guests_own_disk_and_channel_are_descriptors_and_can_be_written(spec: MachineSpec) -> None:
    words = command_line("qemu", spec, Wiring(77), tsc_khz=None, console=False)
    image, disk, modules = _after(words, "-blockdev")
    assert f"file.filename={spec.image}" in image
    assert f"file.filename=/dev/fdset/{spec.disk_fd}" in disk
    assert f"file.filename={spec.modules}" in modules
    assert ["read-only=on" in node for node in (image, disk, modules)] == [True, False, True]
    assert _after(words, "-add-fd") == [f"fd={spec.disk_fd},set={spec.disk_fd}"]
    assert "socket,id=agent,fd=77" in _after(words, "-chardev")
    # The agent finds its devices by this order.
    drives = [device for device in _after(words, "-device") if device.startswith("virtio-blk")]
    assert [drive.partition("drive=")[2].partition(",")[0] for drive in drives] == ["image", "disk", "modules"]


def test_a_workspaces_machine_has_its_seed_and_flushes_its_disk(spec: MachineSpec) -> None:
    kept = replace(spec, seed=Path("/w/seed"), durable=True)
    words = command_line("qemu", kept, Wiring(77, listens=True), tsc_khz=None, console=False)
    drives = [device for device in _after(words, "-device") if device.startswith("virtio-blk")]
    assert [drive.partition("drive=")[2].partition(",")[0] for drive in drives] == ["image", "disk", "modules", "seed"]
    *_, seed = _after(words, "-blockdev")
    assert "file.filename=/w/seed" in seed
    assert "read-only=on" in seed
    assert not any("no-flush" in node for node in _after(words, "-blockdev"))
    assert "socket,id=agent,fd=77,server=on,wait=off" in _after(words, "-chardev")
    (append,) = _after(words, "-append")
    assert "pyro.seed=/dev/vdd" in append.split()


def test_a_disk_that_the_host_cannot_write_is_an_error_in_the_guest_and_no_halt(spec: MachineSpec) -> None:
    words = command_line("qemu", spec, Wiring(77), tsc_khz=None, console=False)
    drives = [device for device in _after(words, "-device") if device.startswith("virtio-blk")]
    assert all(drive.endswith(",werror=report,rerror=report") for drive in drives)


@pytest.mark.parametrize("console", [True, False])
def test_the_console_is_there_only_when_wanted(spec: MachineSpec, console: bool) -> None:
    words = command_line("qemu", spec, Wiring(77), tsc_khz=None, console=console)
    assert ("-serial" in words) == console
    (append,) = _after(words, "-append")
    assert ("console=ttyS0" in append.split()) == console
    assert ("quiet" in append.split()) != console


def test_the_kernel_is_told_what_the_agent_needs(spec: MachineSpec) -> None:
    words = kernel_arguments(spec, None, console=False).split()
    assert not any(word.startswith(("pyro.workspace", "pyro.seed")) for word in words)
    for word in (
        "reboot=t",
        "panic=-1",
        "pyro.channel=virtio-serial",
        "pyro.image=/dev/vda",
        "pyro.disk=/dev/vdb",
        "pyro.modules=/dev/vdc",
    ):
        assert word in words


def test_the_counters_rate_is_told_where_it_is_known(spec: MachineSpec) -> None:
    known = kernel_arguments(spec, 2_500_000, console=False).split()
    assert {"tsc=reliable", "tsc_early_khz=2500000", "lpj=10000000"} <= set(known)
    assert not any(word.startswith(("tsc", "lpj")) for word in kernel_arguments(spec, None, console=False).split())


# A machine that is a template or begins as the copy of one


def test_a_machine_that_boots_has_no_monitor_and_no_memory_of_anothers(spec: MachineSpec) -> None:
    wiring = Wiring(77)
    words = command_line("qemu", spec, wiring, tsc_khz=None, console=True)
    assert wiring.fds() == (77,)
    assert "-mon" not in words
    assert "-incoming" not in words
    assert not any("memory" in word or "monitor" in word for word in words)
    assert [chardev.split(",")[1] for chardev in _after(words, "-chardev")] == ["id=console", "id=agent"]


def test_a_machine_that_is_restored_boots_nothing_and_waits_for_orders(spec: MachineSpec) -> None:
    wiring = Wiring(77, memory=GuestMemory(78), monitor_fd=79, restored=True, others=(80, 81))
    words = command_line("qemu", spec, wiring, tsc_khz=2_000_000, console=False)
    for flag in ("-kernel", "-initrd", "-append"):
        assert flag not in words
    assert str(spec.kernel) not in " ".join(words)
    assert _after(words, "-incoming") == ["defer"]
    assert "socket,id=monitor,fd=79" in _after(words, "-chardev")
    assert _after(words, "-mon") == ["chardev=monitor,mode=control"]
    assert wiring.fds() == (77, 78, 79, 80, 81)


@pytest.mark.parametrize(("shared", "share"), [(False, "off"), (True, "on")])
def test_the_memory_is_a_files_which_what_the_guest_writes_reaches_only_where_it_should(
    spec: MachineSpec, shared: bool, share: str
) -> None:
    wiring = Wiring(77, memory=GuestMemory(78, shared=shared))
    words = command_line("qemu", spec, wiring, tsc_khz=None, console=False)
    backend = f"memory-backend-file,id=memory,size=768M,mem-path=/proc/self/fd/78,share={share}"
    assert backend in _after(words, "-object")
    assert "memory-backend=memory" in _after(words, "-machine")


def test_a_copys_devices_are_those_of_its_template(spec: MachineSpec) -> None:
    """QEMU restores a machine's state only into a machine of the same devices in the same order."""
    template = Wiring(7, memory=GuestMemory(8, shared=True), monitor_fd=9)
    copy = Wiring(17, listens=True, memory=GuestMemory(18), monitor_fd=19, restored=True, others=(20, 21))
    its_template, its_copy = (
        command_line("qemu", spec, wiring, tsc_khz=None, console=False) for wiring in (template, copy)
    )
    for flag in ("-M", "-cpu", "-smp", "-m", "-device"):
        assert _after(its_copy, flag) == _after(its_template, flag)


def test_the_orders_are_what_the_monitor_wants() -> None:
    """QMP takes one command after the other, and none before its capabilities were agreed on."""
    orders = [json.loads(line) for line in restore_orders(42).splitlines()]
    assert [order["execute"] for order in orders] == [
        "qmp_capabilities",
        "migrate-set-capabilities",
        "migrate-incoming",
    ]
    assert orders[1]["arguments"] == {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}
    assert orders[2]["arguments"] == {"uri": "fd:42"}
    assert restore_orders(42).endswith(b"\n")
