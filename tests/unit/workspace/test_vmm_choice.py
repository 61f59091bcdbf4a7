"""Which VMM is used here, and how often that is found out."""

import asyncio
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.errors import HostUnfit
from pyro_mcp.vmm import kvm
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict
from pyro_mcp.vmm.qemu import QemuDriver
from pyro_mcp.workspace.vmm_choice import Choice, VmmChoice, run_dir

if TYPE_CHECKING:
    from pyro_mcp.runtime.bundle import RuntimeBundle

BUNDLE = cast(
    "RuntimeBundle",
    SimpleNamespace(firecracker=Path("/b/firecracker"), kernel=Path("/b/k"), initramfs=Path("/b/i"), digest="one"),
)
ANOTHER = cast("RuntimeBundle", SimpleNamespace(**{**vars(BUNDLE), "digest": "another"}))
WORKS = KvmVerdict(KvmState.WORKS, "a guest ran", 300)
NO_GUEST = KvmVerdict(KvmState.NO_GUEST, "KVM opens but runs no guest", 8000)
OPENS = (KvmState.WORKS, "/dev/kvm opens")
GONE = (KvmState.ABSENT, "there is no /dev/kvm")
UNTRIED = KvmVerdict(KvmState.UNTRIED, "KVM opens, but Firecracker could not be started", 20)
FORBIDDEN = (KvmState.FORBIDDEN, "/dev/kvm may not be opened")


@dataclass
class FakeKvm:
    """KVM as a test wants it: what its device's file tells, and what comes of a proof."""

    device: tuple[KvmState, str] = OPENS
    verdict: KvmVerdict = WORKS
    proofs: list[tuple[object, ...]] = field(default_factory=list)
    patience: list[float] = field(default_factory=list)
    go: asyncio.Event | None = None

    async def prove(self, *files: Path, confined: bool, timeout_seconds: float) -> KvmVerdict:
        self.proofs.append((*files, confined))
        self.patience.append(timeout_seconds)
        if self.go is not None:
            await self.go.wait()
        return self.verdict


@pytest.fixture
def fake_kvm(monkeypatch: pytest.MonkeyPatch) -> FakeKvm:
    fake = FakeKvm()
    monkeypatch.setattr(kvm, "prove", fake.prove)
    monkeypatch.setattr(kvm, "try_open", lambda: fake.device)
    return fake


def of(settings: Settings, vmm: str) -> Settings:
    return replace(settings, vmm=vmm)


@pytest.mark.parametrize("vmm", ["auto", "firecracker"])
@pytest.mark.parametrize("confined", [True, False])
async def test_where_kvm_runs_guests_firecracker_does(
    settings: Settings, fake_kvm: FakeKvm, vmm: str, confined: bool
) -> None:
    choice = await VmmChoice(of(settings, vmm), confined).choose(BUNDLE)
    firecracker = FirecrackerDriver(BUNDLE.firecracker, settings.home / "vmms", confined=confined)
    assert choice == Choice(firecracker, None)
    files = (BUNDLE.firecracker, BUNDLE.kernel, BUNDLE.initramfs)
    assert fake_kvm.proofs == [(*files, run_dir(settings), confined)]


@pytest.mark.parametrize("confined", [True, False])
@pytest.mark.parametrize("device", [OPENS, GONE, FORBIDDEN])
async def test_elsewhere_qemu_does(
    settings: Settings, fake_kvm: FakeKvm, confined: bool, device: tuple[KvmState, str]
) -> None:
    fake_kvm.device, fake_kvm.verdict = device, NO_GUEST
    choice = await VmmChoice(of(settings, "auto"), confined).choose(BUNDLE)
    assert choice.driver == QemuDriver(confined=confined)
    assert len(fake_kvm.proofs) == (device is OPENS), "what does not open is not tried"


@pytest.mark.parametrize(
    ("device", "verdict", "why"),
    [
        (OPENS, NO_GUEST, NO_GUEST.detail),
        (OPENS, UNTRIED, UNTRIED.detail),
        (GONE, NO_GUEST, GONE[1]),
        (FORBIDDEN, NO_GUEST, FORBIDDEN[1]),
    ],
)
async def test_whoever_wants_firecracker_alone_is_told_why_not(
    settings: Settings, fake_kvm: FakeKvm, device: tuple[KvmState, str], verdict: KvmVerdict, why: str
) -> None:
    fake_kvm.device, fake_kvm.verdict = device, verdict
    choice = VmmChoice(of(settings, "firecracker"), confined=True)
    for _ in range(2):
        with pytest.raises(HostUnfit) as caught:
            await choice.choose(BUNDLE)
        assert caught.value.code == "no_kvm"
        assert "PYRO_VMM" in caught.value.message
        assert why in caught.value.message
        assert "pyro doctor" in (caught.value.hint or "")


async def test_where_a_guest_has_run_before_a_busy_host_is_waited_for(settings: Settings, fake_kvm: FakeKvm) -> None:
    choice = VmmChoice(of(settings, "auto"), confined=True)
    for verdict in (WORKS, NO_GUEST, NO_GUEST):
        fake_kvm.verdict = verdict
        await choice.prove(BUNDLE)
    assert fake_kvm.patience == [kvm.PROOF_SECONDS, kvm.LOADED_SECONDS, kvm.PROOF_SECONDS]


@pytest.mark.parametrize("confined", [True, False])
async def test_whoever_wants_qemu_gets_it_without_a_proof_and_a_word(
    settings: Settings, fake_kvm: FakeKvm, confined: bool
) -> None:
    choice = VmmChoice(of(settings, "qemu"), confined)
    assert await choice.choose(BUNDLE) == Choice(QemuDriver(confined=confined), None)
    assert choice.driver(BUNDLE, WORKS) == QemuDriver(confined=confined)
    assert fake_kvm.proofs == []


async def test_that_it_is_the_slow_one_is_said_once(settings: Settings, fake_kvm: FakeKvm) -> None:
    fake_kvm.verdict = NO_GUEST
    choice = VmmChoice(settings, confined=True)
    first, second = await choice.choose(BUNDLE), await choice.choose(BUNDLE)
    assert NO_GUEST.detail in (first.notice or "")
    assert "QEMU" in (first.notice or "")
    assert "pyro doctor" in (first.notice or "")
    assert second.notice is None
    assert (await VmmChoice(settings, confined=True).choose(BUNDLE)).notice is None, "nor by the next daemon"


@pytest.mark.parametrize("device", [GONE, FORBIDDEN])
async def test_that_the_device_does_not_open_is_said_once_by_each_daemon(
    settings: Settings, fake_kvm: FakeKvm, device: tuple[KvmState, str]
) -> None:
    fake_kvm.device = device
    for _daemon in range(2):
        choice = VmmChoice(settings, confined=True)
        choices = await asyncio.gather(*(choice.choose(BUNDLE) for _ in range(3)))
        (notice,) = [each.notice for each in choices if each.notice is not None]
        assert device[1] in notice
        assert "QEMU" in notice
        assert "pyro doctor" in notice
        assert (await choice.choose(BUNDLE)).notice is None
    assert fake_kvm.proofs == []


@pytest.mark.parametrize("device", [OPENS, GONE, FORBIDDEN])
async def test_who_asks_quietly_leaves_the_news_to_the_next(
    settings: Settings, fake_kvm: FakeKvm, device: tuple[KvmState, str]
) -> None:
    fake_kvm.device, fake_kvm.verdict = device, NO_GUEST
    choice = VmmChoice(settings, confined=True)
    for _ in range(2):
        assert await choice.choose(BUNDLE, quiet=True) == Choice(QemuDriver(confined=True), None)
    told = [await choice.choose(BUNDLE) for _ in range(2)]
    assert [each.notice is not None for each in told] == [True, False]
    assert (await choice.choose(BUNDLE, quiet=True)).notice is None
    assert len(fake_kvm.proofs) == (device is OPENS), "what was proved for one who asked quietly holds for all"


async def test_a_daemon_that_told_nobody_leaves_that_to_the_next(settings: Settings, fake_kvm: FakeKvm) -> None:
    fake_kvm.verdict = NO_GUEST
    assert (await VmmChoice(settings, confined=True).choose(BUNDLE, quiet=True)).notice is None
    assert (await VmmChoice(settings, confined=True).choose(BUNDLE)).notice is not None
    assert (await VmmChoice(settings, confined=True).choose(BUNDLE)).notice is None


async def test_another_reason_why_it_does_not_open_is_said_too(settings: Settings, fake_kvm: FakeKvm) -> None:
    choice = VmmChoice(settings, confined=True)
    told = []
    for device in (OPENS, GONE, FORBIDDEN, GONE, FORBIDDEN, OPENS):
        fake_kvm.device = device
        told.append((await choice.choose(BUNDLE)).notice is not None)
    assert told == [False, True, True, False, False, False]


async def test_a_vmm_that_could_not_be_started_is_tried_again_next_time(settings: Settings, fake_kvm: FakeKvm) -> None:
    """That says nothing of KVM, so it is not what is remembered."""
    fake_kvm.verdict = UNTRIED
    choice = VmmChoice(settings, confined=True)
    first = await choice.choose(BUNDLE)
    assert first.driver == QemuDriver(confined=True)
    assert UNTRIED.detail in (first.notice or "")
    assert kvm.remembered(settings.cache_dir, BUNDLE.digest) is None
    assert (await choice.choose(BUNDLE)).driver.name == "qemu"
    fake_kvm.verdict = WORKS
    assert (await choice.choose(BUNDLE)).driver.name == "firecracker"
    assert len(fake_kvm.proofs) == 3
    fake_kvm.verdict = UNTRIED
    assert (await choice.choose(BUNDLE)).driver.name == "firecracker", "the proof holds"
    assert await choice.prove(BUNDLE) == UNTRIED
    assert kvm.remembered(settings.cache_dir, BUNDLE.digest) == WORKS


async def test_many_who_choose_at_once_wait_for_one_proof(settings: Settings, fake_kvm: FakeKvm) -> None:
    fake_kvm.verdict, fake_kvm.go = NO_GUEST, asyncio.Event()
    choice = VmmChoice(settings, confined=True)
    choosing = [asyncio.create_task(choice.choose(BUNDLE)) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in choosing)
    fake_kvm.go.set()
    choices = await asyncio.gather(*choosing)
    assert len(fake_kvm.proofs) == 1
    assert [each.driver for each in choices] == [QemuDriver(confined=True)] * 5
    assert [each.notice is not None for each in choices].count(True) == 1


async def test_one_who_stops_waiting_leaves_the_proof_to_the_next(settings: Settings, fake_kvm: FakeKvm) -> None:
    fake_kvm.go = asyncio.Event()
    choice = VmmChoice(settings, confined=True)
    first = asyncio.create_task(choice.choose(BUNDLE))
    second = asyncio.create_task(choice.choose(BUNDLE))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait((first,))
    fake_kvm.go.set()
    assert (await second).driver.name == "firecracker"
    assert len(fake_kvm.proofs) == 2


async def test_a_proof_that_fails_is_made_again(
    settings: Settings, fake_kvm: FakeKvm, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> KvmVerdict:
        raise KeyError("ours")

    choice = VmmChoice(settings, confined=True)
    monkeypatch.setattr(kvm, "prove", fail)
    with pytest.raises(KeyError):
        await choice.choose(BUNDLE)
    monkeypatch.setattr(kvm, "prove", fake_kvm.prove)
    assert (await choice.choose(BUNDLE)).driver.name == "firecracker"


@pytest.mark.parametrize("device", [GONE, FORBIDDEN])
async def test_a_device_that_was_proved_and_does_not_open_any_more(
    settings: Settings, fake_kvm: FakeKvm, device: tuple[KvmState, str]
) -> None:
    choice = VmmChoice(settings, confined=True)
    assert (await choice.choose(BUNDLE)).driver.name == "firecracker"
    fake_kvm.device = device
    assert (await choice.choose(BUNDLE)).driver.name == "qemu"
    fake_kvm.device = OPENS
    assert (await choice.choose(BUNDLE)).driver.name == "firecracker"
    assert len(fake_kvm.proofs) == 1, "the proof holds, for when it can be opened again"


@pytest.mark.parametrize("verdict", [WORKS, NO_GUEST])
async def test_a_verdict_is_remembered_by_the_next_daemon(
    settings: Settings, fake_kvm: FakeKvm, verdict: KvmVerdict
) -> None:
    fake_kvm.verdict = verdict
    first = await VmmChoice(settings, confined=True).choose(BUNDLE)
    elsewhere = replace(settings, home=settings.home.with_name("another"))
    for again in (settings, elsewhere):
        second = await VmmChoice(again, confined=True).choose(BUNDLE)
        assert second.driver.name == first.driver.name
    assert len(fake_kvm.proofs) == 1
    assert kvm.remembered(settings.cache_dir, BUNDLE.digest) == verdict


async def test_another_bundle_is_proved_anew(settings: Settings, fake_kvm: FakeKvm) -> None:
    choice = VmmChoice(settings, confined=True)
    await choice.choose(BUNDLE)
    fake_kvm.verdict = NO_GUEST
    assert (await choice.choose(ANOTHER)).driver.name == "qemu"
    assert len(fake_kvm.proofs) == 2


async def test_a_host_that_was_started_again_is_proved_anew(settings: Settings, fake_kvm: FakeKvm) -> None:
    await VmmChoice(settings, confined=True).choose(BUNDLE)
    memory = settings.cache_dir / "kvm.json"
    memory.write_text(json.dumps({**json.loads(memory.read_text()), "boot_id": "an-earlier-one"}))
    fake_kvm.verdict = NO_GUEST
    assert (await VmmChoice(settings, confined=True).choose(BUNDLE)).driver.name == "qemu"
    assert len(fake_kvm.proofs) == 2


async def test_a_proof_asked_for_is_made_whatever_is_remembered(settings: Settings, fake_kvm: FakeKvm) -> None:
    """As the doctor does; what it finds is what others choose by."""
    choice = VmmChoice(settings, confined=True)
    fake_kvm.verdict = NO_GUEST
    await choice.choose(BUNDLE)
    fake_kvm.verdict = WORKS
    assert await choice.prove(BUNDLE) == WORKS
    assert (await choice.choose(BUNDLE)).driver.name == "firecracker"
    assert len(fake_kvm.proofs) == 2


async def test_a_cache_that_cannot_be_written_costs_time_alone(settings: Settings, fake_kvm: FakeKvm) -> None:
    settings.cache_dir.write_text("in the way")
    choice = VmmChoice(settings, confined=True)
    for number in range(2):
        assert (await choice.choose(BUNDLE)).driver.name == "firecracker"
        assert len(fake_kvm.proofs) == number + 1
