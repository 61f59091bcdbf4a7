"""Machines that begin as copies of one template share nothing that should be their own, and change nothing of it."""

import asyncio
import fcntl
import hashlib
import mmap
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pyro_mcp import Pyro
from pyro_mcp.doctor import templates as doctor
from pyro_mcp.doctor.report import Status
from tests.support.descriptors import opened
from tests.support.waiting import wait_until
from tests.vm.copies import MEM_MIB, RUN, created, says, says_in
from tests.vm.pyro_command import CHOSEN_VMM, VMM, PyroCommand, descendants, named

_OLD_SECONDS = 6.0
_CLOCK_SECONDS = 2.0  # that a guest's clock may differ from the host's
# What the kernel gives each process at random, of which the C library makes its stack canary: see getauxval(3).
_AT_RANDOM = """
open my $file, "<:raw", "/proc/self/auxv" or die; local $/; my %told = unpack "Q*", <$file>;
open my $memory, "<:raw", "/proc/self/mem" or die; seek $memory, $told{25}, 0; read $memory, my $random, 16;
print unpack("H*", $random), "\\n$told{25}\\n"
"""
# One line each of what no two machines may have in common.
_OWN = f"""
cat /etc/machine-id /proc/sys/kernel/hostname /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid
od -An -v -N16 -tx1 /dev/urandom
sed -n '/stack/s/-.*//p' /proc/self/maps
perl -e '{_AT_RANDOM}'
"""
_OWN_LINES = 8
_FILES = ("memory", "state", "disk")
_NAMES = "cat /etc/machine-id /proc/sys/kernel/hostname"


def test_what_a_template_saves_is_shown(copying: PyroCommand, template: Path) -> None:
    says(copying, "true")
    sdk = Pyro(copying.client.settings)
    environment = sdk.inspect_environment("debian:12")
    shown, workspaces = environment.templates
    facts = shown.facts
    assert facts is not None
    assert (facts.environment, facts.digest) == ("debian:12", environment.digest)
    assert (facts.vmm, facts.vcpu_count, facts.mem_mib) == (CHOSEN_VMM, 1, MEM_MIB)
    assert workspaces.facts is not None
    assert (facts.throwaway, workspaces.facts.throwaway) == (True, False)
    assert facts.copy_ms is not None
    assert facts.boot_ms is not None
    assert min(facts.boot_ms, facts.copy_ms) > 0
    assert shown.saved_ms == facts.boot_ms - facts.copy_ms
    files = [template / name for name in _FILES]
    on_disk = sum(file.stat().st_blocks * 512 for file in files)
    assert on_disk <= shown.size_bytes < sum(file.stat().st_size for file in files), "mostly holes"
    row = asyncio.run(doctor.examine(copying.client.settings))
    assert (row.status, row.details) == (Status.PASS, (shown, workspaces))


def digests_of(template: Path) -> dict[str, str]:
    return {name: digest_of(template / name) for name in _FILES}


def digest_of(path: Path) -> str:
    """Of what is in a file, holes left out: it may be long."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for place in data_of(file.fileno()):
            page = os.pread(file.fileno(), mmap.PAGESIZE, place)
            if page.count(0) < len(page):
                digest.update(b"%d %s" % (place, page))
    return digest.hexdigest()


def data_of(fd: int) -> Iterator[int]:
    """Where its pages are, without holes."""
    end, size = 0, os.fstat(fd).st_size
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:  # only a hole is left
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield from range(start, end, mmap.PAGESIZE)


def test_machines_have_nothing_in_common(copying: PyroCommand) -> None:
    sdk = Pyro(copying.client.settings)
    machines = [says(copying, _OWN) for _ in range(2)]
    machines += [says_in(sdk, created(sdk), _OWN) for _ in range(2)]
    assert [len(lines) for lines in machines] == [_OWN_LINES] * 4
    for values in zip(*machines, strict=True):
        assert len(set(values)) == 4, values


def test_a_machine_has_no_name_but_its_own(copying: PyroCommand) -> None:
    name, hosts, *known = says(copying, "hostname; grep -c 127.0.1.1 /etc/hosts; cat /etc/machine-id /etc/hosts")
    assert hosts == "1"
    assert f"127.0.1.1\t{name}" in known
    assert "0" * 32 not in known


def test_what_one_writes_no_other_sees(copying: PyroCommand) -> None:
    sdk = Pyro(copying.client.settings)
    one, two = created(sdk), created(sdk)
    says_in(sdk, one, "echo mine | tee /root/mine /workspace/mine /dev/shm/mine; sync")
    look = "ls -A /root /workspace /dev/shm | grep mine || echo nothing"
    assert says_in(sdk, two, look) == ["nothing"]
    assert says(copying, look) == ["nothing"]
    assert says_in(sdk, one, "cat /root/mine /workspace/mine /dev/shm/mine") == ["mine"] * 3


def test_the_clock_is_right_however_old_the_template_is(copying: PyroCommand, template: Path) -> None:
    wait_until(lambda: time.time() - (template / "memory").stat().st_mtime > _OLD_SECONDS)
    sdk = Pyro(copying.client.settings)
    workspace = created(sdk)
    look = "date +%s.%N"
    for ask in (partial(says, copying, look), partial(says_in, sdk, workspace, look)):
        before = time.time()
        (seen,) = ask()
        assert before - _CLOCK_SECONDS < float(seen) < time.time() + _CLOCK_SECONDS


def test_a_workspace_is_the_same_machine_whenever_it_starts(copying: PyroCommand) -> None:
    sdk = Pyro(copying.client.settings)
    one, two = created(sdk), created(sdk)
    names = says_in(sdk, one, _NAMES)
    assert names[1] == one
    boot_id = says_in(sdk, one, "cat /proc/sys/kernel/random/boot_id")
    sdk.stop_workspace(one)
    sdk.start_workspace(one)
    assert says_in(sdk, one, _NAMES) == names
    assert says_in(sdk, one, "cat /proc/sys/kernel/random/boot_id") != boot_id
    assert not set(names) & set(says_in(sdk, two, _NAMES))


def test_a_workspace_with_a_seed_begins_from_a_template_without_one(copying: PyroCommand, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.mkdir()
    (seed / "text").write_text("one\n")
    (seed / "large").write_bytes(os.urandom(8 << 20))
    sdk = Pyro(copying.client.settings)
    workspace = created(sdk, seed_path=seed)
    large = hashlib.sha256((seed / "large").read_bytes()).hexdigest()
    assert says_in(sdk, workspace, "sha256sum <large; cat text") == [f"{large}  -", "one"]
    says_in(sdk, workspace, "echo two >>text; echo kept >/root/outside; sync")
    sdk.stop_workspace(workspace)
    sdk.start_workspace(workspace)
    assert says_in(sdk, workspace, "cat text /root/outside") == ["one", "two", "kept"]
    assert [(entry.path, entry.change) for entry in sdk.diff_workspace(workspace).entries] == [
        ("/workspace/text", "modified")
    ]
    sdk.export_workspace(workspace, "text", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "one\ntwo\n"
    sdk.reset_workspace(workspace)
    assert says_in(sdk, workspace, "cat text; ls /root") == ["one"]
    assert sdk.diff_workspace(workspace).entries == ()


def test_a_workspaces_disk_takes_flushes(copying: PyroCommand) -> None:
    sdk = Pyro(copying.client.settings)
    assert says_in(sdk, created(sdk), "cat /sys/block/vdb/queue/write_cache") == ["write back"]


def test_a_guest_that_overwrites_its_memory_and_its_disk_changes_no_template(
    copying: PyroCommand, template: Path
) -> None:
    before = digests_of(template)
    disk = "dd if=/dev/zero of=/dev/vdb bs=1M count=16 conv=fsync status=none"
    memory = f"mount -o remount,size=100% /dev/shm && yes | head -c {MEM_MIB * 5 // 8 << 20} >/dev/shm/much"
    says(copying, f"echo mine >/root/mine; sync; {disk}; {memory}; echo fine")
    assert digests_of(template) == before
    assert says(copying, "ls -A /dev/shm /root | grep mine; echo fine >/root/kept; sync; cat /root/kept") == ["fine"]


@pytest.mark.skipif(CHOSEN_VMM != "qemu", reason="tests/kvmhost/test_jail.py shows it of Firecracker's sandbox")
def test_nothing_that_qemu_holds_lets_it_write_to_a_template(copying: PyroCommand, template: Path) -> None:
    """A VMM can reopen what it was given, and so can we, who may do no less."""
    before = digests_of(template)
    with copying.start(*RUN, "echo ready; exec sleep 600") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            (vmm,) = named(descendants(copying.daemon_pid()), VMM)
            held = opened(vmm)
            assert not [target for target in held.values() if str(template.parent) in target]
            copies = [Path(f"/proc/{vmm}/fd/{fd}") for fd, target in held.items() if target.startswith("/memfd:")]
            assert before["memory"] in map(digest_of, copies)  # the other one is closed by now
            for copy in copies:
                refuses_changes(copy)
            assert {digest_of(copy) for copy in copies} <= set(before.values())
        finally:
            process.kill()
    assert digests_of(template) == before


def refuses_changes(file: Path) -> None:
    fd = os.open(file, os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        for size in (0, 1 << 40):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
        with pytest.raises(PermissionError):
            mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0)
    finally:
        os.close(fd)
