"""How a VMM that is not root gets at the device, whoever it belongs to."""

import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyro_mcp.vmm import kvm_device
from pyro_mcp.vmm.kvm_device import DEVICE, KvmAccess, access_for
from tests.support.descriptors import none_left

USER = 1_900_000_007
GROUP = 104
ANYTHING = os.makedev(1, 3)  # of /dev/null: a device that every host has and everybody may open


@dataclass(frozen=True)
class FakeDevice:
    """A device of this mode and group."""

    mode: int
    group: int

    def stat(self) -> os.stat_result:
        found = list(Path("/dev/null").stat())
        found[stat.ST_MODE], found[stat.ST_GID] = stat.S_IFCHR | self.mode, self.group
        return os.stat_result(found, {"st_rdev": ANYTHING})


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int, int]]:
    """The nodes that were made, as path, mode and device; files stand for them."""
    made: list[tuple[Path, int, int]] = []

    def mknod(path: Path, mode: int, device: int) -> None:
        made.append((path, mode, device))
        path.write_bytes(b"")

    monkeypatch.setattr(os, "mknod", mknod)
    monkeypatch.setattr(os, "chown", lambda *_: None)
    return made


def _device(monkeypatch: pytest.MonkeyPatch, mode: int, group: int) -> None:
    monkeypatch.setattr(kvm_device, "DEVICE", FakeDevice(mode, group))


def test_who_stays_who_we_are_opens_what_we_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_device, "DEVICE", tmp_path / "there is none")
    assert access_for(None, tmp_path) == KvmAccess(DEVICE, DEVICE, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("group", [0, GROUP])
def test_a_device_for_everybody_is_used_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: list[tuple[Path, int, int]], group: int
) -> None:
    _device(monkeypatch, 0o666, group)
    assert access_for(USER, tmp_path) == KvmAccess()
    assert nodes == []


def test_a_device_for_a_group_is_used_as_one_of_that_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: list[tuple[Path, int, int]]
) -> None:
    _device(monkeypatch, 0o660, GROUP)
    assert access_for(USER, tmp_path) == KvmAccess(group=GROUP)
    assert nodes == []


@pytest.mark.parametrize(
    ("mode", "group"),
    [
        (0o600, 0),
        (0o600, GROUP),
        (0o660, 0),  # no VMM is ever in the group of root
        (0o640, GROUP),
        (0o620, GROUP),
        (0o664, 0),
        (0o662, 0),
    ],
)
def test_any_other_device_gets_a_node_of_the_vmms_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: list[tuple[Path, int, int]], mode: int, group: int
) -> None:
    """Unless anybody, or somebody of a group, may both read and write it."""
    _device(monkeypatch, mode, group)
    with none_left():
        assert access_for(USER, tmp_path) == KvmAccess(tmp_path / "kvm", DEVICE, None)
        assert nodes == [(tmp_path / "kvm", stat.S_IFCHR | 0o600, ANYTHING)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes nodes")
@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_such_a_node_is_the_same_device_and_for_that_vmm_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    _device(monkeypatch, 0o600, 0)
    before = os.umask(umask)
    try:
        node = access_for(USER, tmp_path).node
    finally:
        os.umask(before)
    found = node.lstat()
    assert stat.S_ISCHR(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert (found.st_rdev, found.st_uid, found.st_gid) == (ANYTHING, USER, USER)


def test_without_a_device_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm_device, "DEVICE", tmp_path / "kvm")
    with pytest.raises(FileNotFoundError):
        access_for(USER, tmp_path)


def test_where_nodes_are_forbidden_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As to root in most containers."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    _device(monkeypatch, 0o600, 0)
    monkeypatch.setattr(os, "mknod", refuse)
    with pytest.raises(PermissionError):
        access_for(USER, tmp_path)


@pytest.mark.usefixtures("nodes")
def test_a_node_is_opened_as_a_vmm_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[Path, int]] = []

    def refuse(path: Path, flags: int) -> int:
        opened.append((path, flags & os.O_ACCMODE))
        raise PermissionError(13, "Permission denied")

    _device(monkeypatch, 0o600, 0)
    with monkeypatch.context() as refusing:
        refusing.setattr(os, "open", refuse)
        with pytest.raises(PermissionError):
            access_for(USER, tmp_path)
    assert opened == [(tmp_path / "kvm", os.O_RDWR)]


_WITHOUT_DEVICES = """
import os, stat, sys
from pathlib import Path
from types import SimpleNamespace
from pyro_mcp.vmm import kvm_device

here = Path(sys.argv[1])
os.mknod(here / "proof", stat.S_IFCHR | 0o600, os.makedev(1, 3))
found = SimpleNamespace(st_mode=stat.S_IFCHR | 0o600, st_gid=0, st_rdev=os.makedev(1, 3))
kvm_device.DEVICE = SimpleNamespace(stat=lambda: found)
try:
    kvm_device.access_for(1_900_000_007, here)
except PermissionError as error:
    print("refused", error.filename)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes nodes")
def test_where_devices_cannot_be_opened_it_is_said(tmp_path: Path) -> None:
    """A file system may be mounted so, and takes nodes nevertheless."""
    script = 'mount -t tmpfs -o nodev none "$1" || exit 77; exec "$2" -c "$3" "$1"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(tmp_path), sys.executable, _WITHOUT_DEVICES]
    outcome = subprocess.run(argv, capture_output=True, text=True, check=False)
    if outcome.returncode == 77 or outcome.stderr.startswith("unshare: "):
        pytest.skip(f"nothing can be mounted here: {outcome.stderr}")
    assert (outcome.stdout, outcome.stderr) == (f"refused {tmp_path}/kvm\n", "")
