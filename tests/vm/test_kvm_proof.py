"""The proof of KVM where KVM does run guests: in a guest of ours whose emulated processor has AMD's virtualisation.

So Firecracker boots the bundle's kernel and agent there, for real, on a machine that itself may have no KVM.
"""

import asyncio
import io
import json
import tarfile
from pathlib import Path

import pytest

import pyro_mcp
from pyro_mcp.config import Settings
from pyro_mcp.guest.client import GuestClient, GuestCommand
from pyro_mcp.guest.frames import Output
from pyro_mcp.guest.messages import Exec, Exited
from pyro_mcp.images import store
from pyro_mcp.images.store import Store
from pyro_mcp.runtime.bundle import RuntimeBundle, find_bundle
from pyro_mcp.vmm import confine, qemu
from pyro_mcp.vmm.qemu import QemuDriver
from pyro_mcp.workspace.boot import boot_guest
from pyro_mcp.workspace.host import Host, default_boot_slots
from tests.vm import kvm_in_guest
from tests.vm.pyro_command import PyroCommand

SOURCE = Path(pyro_mcp.__file__).parent.parent
SCRIPT = Path(kvm_in_guest.__file__).read_text()
PART_BYTES = 1 << 20


def payload(bundle: RuntimeBundle) -> bytes:
    """The package and the bundle's files that a proof needs, as a tar archive."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        archive.add(
            SOURCE / "pyro_mcp", "src/pyro_mcp", filter=lambda member: member if member_wanted(member) else None
        )
        for file in (bundle.firecracker, bundle.kernel, bundle.initramfs):
            archive.add(file, f"bundle/{file.relative_to(bundle.folder)}")
    return whole.getvalue()


def member_wanted(member: tarfile.TarInfo) -> bool:
    return "__pycache__" not in member.name and "runtime_bundle" not in member.name


async def run_python(guest: GuestClient, script: str, stdin: bytes) -> tuple[int | None, str]:
    output = bytearray()
    async with guest.exec(Exec(argv=("python3", "-c", script), stdin=True, timeout_ms=180_000)) as command:
        events = command.events()
        await anext(events)
        feeding = asyncio.create_task(feed(command, stdin))
        async for event in events:
            if isinstance(event, Output):
                output += event.data
            elif isinstance(event, Exited):
                feeding.cancel()  # a command that failed has left its input unread
                return event.exit_code, output.decode()
    raise AssertionError("the command did not end")


async def feed(command: GuestCommand, data: bytes) -> None:
    for start in range(0, len(data), PART_BYTES):
        await command.write_stdin(data[start : start + PART_BYTES])
    await command.close_stdin()


async def test_a_guest_that_runs_on_kvm_is_recognised(pyro: PyroCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.from_environment(pyro.environment)
    monkeypatch.setattr(qemu, "_CPU", "EPYC,+svm,+npt,-xsaves")
    bundle, confined = find_bundle(settings), await confine.why_unconfinable() is None
    host = Host(Store(settings.cache_dir), bundle, QemuDriver(confined=confined), default_boot_slots())
    with await store.open_verified(host.images, "debian:12") as image:
        async with boot_guest(host, image.path, vcpu_count=2, mem_mib=2048) as guest:
            exit_code, output = await run_python(guest.client, SCRIPT, payload(bundle))
    assert exit_code == 0, output
    verdict = json.loads(output.splitlines()[-1])
    assert verdict["state"] == "works", verdict
