import getpass
import grp
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyro_mcp.doctor import kvm
from pyro_mcp.doctor.report import Status
from pyro_mcp.vmm.kvm import KvmState, KvmVerdict

INTEL, AMD, BARE = frozenset({"fpu", "vmx"}), frozenset({"fpu", "svm"}), frozenset({"fpu"})
DEVICE = Path("/dev/null")


def verdict(state: KvmState) -> KvmVerdict:
    return KvmVerdict(state, "what was seen", 321)


def test_a_guest_that_ran_is_a_pass() -> None:
    row = kvm.row_for(verdict(KvmState.WORKS), INTEL, DEVICE)
    assert row.status is Status.PASS
    assert "321 ms" in row.found


@pytest.mark.parametrize(
    ("flags", "mend"), [(INTEL, "modprobe kvm_intel"), (AMD, "modprobe kvm_amd"), (BARE, "nested virtualisation")]
)
def test_without_a_device_the_processor_says_what_to_do(flags: frozenset[str], mend: str) -> None:
    row = kvm.row_for(verdict(KvmState.ABSENT), flags, DEVICE)
    assert row.status is Status.WARN
    assert row.found == "what was seen"
    assert mend in (row.mend or "")


def test_a_kvm_that_runs_no_guest_is_told_apart() -> None:
    bare = kvm.row_for(verdict(KvmState.NO_GUEST), BARE, DEVICE)
    assert bare.status is Status.WARN
    assert bare.found == "what was seen, and the processor shows neither vmx nor svm"
    assert kvm.row_for(verdict(KvmState.NO_GUEST), AMD, DEVICE).found == "what was seen"


@pytest.mark.parametrize("flags", [INTEL, AMD, BARE])
def test_a_vmm_that_could_not_be_started_is_no_matter_of_kvms(flags: frozenset[str]) -> None:
    row = kvm.row_for(verdict(KvmState.UNTRIED), flags, DEVICE)
    assert (row.status, row.found) == (Status.WARN, "what was seen")
    assert "isolation" in (row.mend or "")


def test_flags_are_those_of_the_first_processor(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nvmx flags\t: ept\nflags\t\t: fpu svm\n\nprocessor\t: 1\nflags\t\t: fpu vmx\n")
    assert kvm.processor_flags(cpuinfo) == {"fpu", "svm"}
    cpuinfo.write_text("")
    assert kvm.processor_flags(cpuinfo) == frozenset()


@dataclass(frozen=True)
class FakeDevice:
    """A device file whose owner and mode this test cannot set, not being root."""

    st_gid: int
    st_mode: int

    def stat(self) -> "FakeDevice":
        return self

    def __str__(self) -> str:
        return "/dev/kvm"


@pytest.fixture
def ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")


def group(monkeypatch: pytest.MonkeyPatch, *members: str) -> None:
    entry = grp.struct_group(("kvm", "x", 104, list(members)))
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: entry)


@pytest.mark.usefixtures("ordinary_user")
class TestMayNotOpen:
    def test_one_joins_the_group_that_may(self, monkeypatch: pytest.MonkeyPatch) -> None:
        group(monkeypatch)
        row = kvm.row_for(verdict(KvmState.FORBIDDEN), INTEL, FakeDevice(104, 0o20660))  # type: ignore[arg-type]
        assert row.status is Status.WARN
        assert (row.mend or "").startswith("sudo usermod -aG kvm ada")

    def test_a_member_since_today_logs_in_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        group(monkeypatch, "ada")
        assert "usermod" not in kvm.mend_forbidden(FakeDevice(104, 0o20660))  # type: ignore[arg-type]
        assert "log out and in again" in kvm.mend_forbidden(FakeDevice(104, 0o20660))  # type: ignore[arg-type]

    @pytest.mark.parametrize(("gid", "mode"), [(0, 0o20660), (104, 0o20600), (104, 0o20640)])
    def test_a_device_without_a_group_is_handed_over(
        self, monkeypatch: pytest.MonkeyPatch, gid: int, mode: int
    ) -> None:
        group(monkeypatch)
        assert kvm.mend_forbidden(FakeDevice(gid, mode)) == "sudo chown ada /dev/kvm"  # type: ignore[arg-type]


def test_root_in_a_container_needs_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "--device /dev/null" in kvm.mend_forbidden(DEVICE)


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found"), OSError("no user name")])
def test_a_user_without_a_name_is_known_by_number(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def nameless() -> str:
        raise error

    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(getpass, "getuser", nameless)
    group(monkeypatch)
    mend = kvm.mend_forbidden(FakeDevice(0, 0o20660))  # type: ignore[arg-type]
    assert mend == "sudo chown 1234 /dev/kvm"
