"""Which VMM runs machines on this host: Firecracker where it has been proved that KVM runs guests, QEMU elsewhere."""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyro_mcp.errors import HostUnfit
from pyro_mcp.vmm import kvm
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict
from pyro_mcp.vmm.qemu import QemuDriver

if TYPE_CHECKING:
    from pathlib import Path

    from pyro_mcp.config import Settings
    from pyro_mcp.runtime.bundle import RuntimeBundle
    from pyro_mcp.vmm.machine import Driver

_ASK_DOCTOR = "`pyro doctor` tells why and what to do"


def run_dir(settings: "Settings") -> "Path":
    """Where the VMMs of machines that are thrown away have their folders."""
    return settings.home / "vmms"


@dataclass(frozen=True)
class Choice:
    """A VMM; `notice` is a line for whoever was the first to be told that it is the slow one."""

    driver: "Driver"
    notice: str | None = None


@dataclass
class VmmChoice:
    """Chooses, for one daemon; KVM is proved once per boot of the host, however many ask at the same time."""

    settings: "Settings"
    confined: bool
    _proving: asyncio.Lock = field(default_factory=asyncio.Lock)
    _told: set[KvmState] = field(default_factory=set)
    _untold: dict[str, KvmVerdict] = field(default_factory=dict)  # by the bundle's digest; proved for who asked quietly

    async def choose(self, bundle: "RuntimeBundle", *, quiet: bool = False) -> Choice:
        """The VMM for a machine that is about to start.

        `quiet` is for those who cannot pass a notice on: they get none, and it is left for the next who can. Raises
        `HostUnfit` as `driver` does.
        """
        if self.settings.vmm == "qemu":
            return Choice(QemuDriver(confined=self.confined))
        verdict, is_news = await self._verdict(bundle, quiet=quiet)
        driver = self.driver(bundle, verdict)
        if quiet or verdict.state is KvmState.WORKS or not is_news:
            return Choice(driver)
        return Choice(driver, f"{verdict.detail}: guests run under QEMU's emulation, which is slower; {_ASK_DOCTOR}")

    def driver(self, bundle: "RuntimeBundle", verdict: KvmVerdict) -> "Driver":
        """The VMM that a verdict on KVM leads to.

        Raises `HostUnfit` where PYRO_VMM asks for Firecracker and KVM runs no guest.
        """
        if self.settings.vmm == "qemu":
            return QemuDriver(confined=self.confined)
        if verdict.state is KvmState.WORKS:
            return FirecrackerDriver(bundle.firecracker, run_dir(self.settings), confined=self.confined)
        if self.settings.vmm == "firecracker":
            raise HostUnfit("no_kvm", f"PYRO_VMM=firecracker, but {verdict.detail}", _ASK_DOCTOR)
        return QemuDriver(confined=self.confined)

    async def prove(self, bundle: "RuntimeBundle") -> KvmVerdict:
        """Find out afresh whether KVM runs guests, and remember it for as long as this host runs."""
        verdict = await self._proved(bundle)
        kvm.remember(self.settings.cache_dir, bundle.digest, verdict)
        return verdict

    async def _proved(self, bundle: "RuntimeBundle") -> KvmVerdict:
        files = (bundle.firecracker, bundle.kernel, bundle.initramfs)
        known = kvm.remembered(self.settings.cache_dir, bundle.digest)
        worked = known is not None and known.state is KvmState.WORKS
        seconds = kvm.LOADED_SECONDS if worked else kvm.PROOF_SECONDS
        return await kvm.prove(*files, run_dir(self.settings), confined=self.confined, timeout_seconds=seconds)

    async def _verdict(self, bundle: "RuntimeBundle", *, quiet: bool) -> tuple[KvmVerdict, bool]:
        """Whether KVM runs guests, and whether this host's user has not been told before."""
        async with self._proving:
            # A device that was proved may be gone, or forbidden, by now.
            state, detail = kvm.try_open()
            if state is not KvmState.WORKS:
                is_news = state not in self._told
                if not quiet:
                    self._told.add(state)
                return KvmVerdict(state, detail, 0), is_news
            known = kvm.remembered(self.settings.cache_dir, bundle.digest)
            if known is not None:
                return known, False
            verdict = self._untold.pop(bundle.digest, None) or await self._proved(bundle)
            if quiet and verdict.state is KvmState.NO_GUEST:
                # Nobody tells what is remembered; a daemon that has told nobody leaves that to the next one.
                self._untold[bundle.digest] = verdict
            else:
                kvm.remember(self.settings.cache_dir, bundle.digest, verdict)
            return verdict, True
