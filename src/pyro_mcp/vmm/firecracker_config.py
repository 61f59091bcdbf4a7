"""What Firecracker is told of a machine. Source of the format: Firecracker's API specification, v1.12.1."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyro_mcp.vmm import vsock
from pyro_mcp.vmm.machine import MachineSpec

DISK = "disk"
# What every guest's kernel is told, that of the proof of KVM (see `kvm`), too.
#
# i8042 and PCI are not there, and looking for them takes time; `reboot=k` makes a guest's reset end Firecracker.
#
# KVM's clock is set forward by a snapshot's age when it is restored (Firecracker does so with KVM_CLOCK_REALTIME), the
# time stamp counter goes on where it was. So the latter is the guest's clock, or all that waits in the guest would find
# itself weeks late; and who looks for processors that hang, by KVM's clock nevertheless, must not find one.
KERNEL_ARGUMENTS = (
    "reboot=k panic=-1 pci=off tsc=reliable clocksource=tsc nowatchdog",
    "cryptomgr.notests initcall_blacklist=init_kprobe_trace",
    "i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd",
)
_AGENT_ARGUMENTS = "pyro.channel=vsock pyro.image=/dev/vda pyro.disk=/dev/vdb pyro.modules=/dev/vdc"


def configuration(spec: MachineSpec, *, console: bool, tracked: bool = False) -> Mapping[str, object]:
    """What Firecracker is to be told of a machine whose files have the names that they have inside its sandbox; the
    name of its disk is a link in its VMM's folder. `tracked` keeps track of which memory was written to."""
    # The guest knows its disks by this order.
    drives = [
        _drive("image", str(spec.image), read_only=True),
        _drive("disk", DISK, read_only=False, durable=spec.durable),
        _drive("modules", str(spec.modules), read_only=True),
    ]
    if spec.seed is not None:
        drives.append(_drive("seed", str(spec.seed), read_only=True))
    return {
        "boot-source": {
            "kernel_image_path": str(spec.kernel),
            "initrd_path": str(spec.initramfs),
            "boot_args": kernel_arguments(spec, console=console),
        },
        "drives": drives,
        "machine-config": {
            "vcpu_count": spec.vcpu_count,
            "mem_size_mib": spec.mem_mib,
            "track_dirty_pages": tracked,
        },
        "vsock": {"guest_cid": vsock.GUEST_CID, "uds_path": vsock.SOCKET},
        "entropy": {},
        # It is filled and emptied again when the guest rests, so that what is free in there is free out here.
        "balloon": {"amount_mib": 0, "deflate_on_oom": True, "stats_polling_interval_s": 0},
    }


def kernel_arguments(spec: MachineSpec, *, console: bool) -> str:
    """The guest kernel's command line."""
    words = [*KERNEL_ARGUMENTS, _AGENT_ARGUMENTS, "console=ttyS0 loglevel=6" if console else "quiet 8250.nr_uarts=0"]
    if spec.seed is not None:
        words.append("pyro.seed=/dev/vdd")
    return " ".join(words)


def _drive(name: str, file: str, *, read_only: bool, durable: bool = False) -> Mapping[str, object]:
    return {
        "drive_id": name,
        "path_on_host": file,
        "is_root_device": False,
        "is_read_only": read_only,
        # What a guest flushes reaches the host's disk only with the former; a machine that is thrown away need not.
        "cache_type": "Writeback" if durable else "Unsafe",
    }


@contextmanager
def configuration_file(content: Mapping[str, object]) -> Iterator[int]:
    """A file without a name that holds it, as a descriptor; Firecracker wants one file with all in it."""
    fd = os.memfd_create("firecracker.json", os.MFD_CLOEXEC)
    try:
        os.write(fd, json.dumps(content).encode())
        yield fd
    finally:
        os.close(fd)
