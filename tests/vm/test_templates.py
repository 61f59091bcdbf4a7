"""Machines that begin as copies of one template: they share nothing that should be their own, and where there is no
template that can be used they boot."""

import asyncio
import fcntl
import hashlib
import mmap
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from pyro_mcp import Pyro
from pyro_mcp.doctor import templates as doctor
from pyro_mcp.doctor.report import Status
from tests.support.waiting import wait_until
from tests.vm.conftest import remove_workspaces
from tests.vm.own_cache import copied_cache, copy_template, templates_in, trouble_with_templates
from tests.vm.pyro_command import CHOSEN_VMM, VMM, PyroCommand, descendants, kill, named

_MEM_MIB = 256
_RUN = ("run", "debian:12", "--mem-mib", str(_MEM_MIB), "--timeout-seconds", "60", "--", "sh", "-c")
_OLD_SECONDS = 6.0
_CLOCK_SECONDS = 2.0  # that a guest's clock may differ from the host's
_AT_ONCE = 16
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


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied_cache(tmp_path_factory.mktemp("templates"))


@pytest.fixture(scope="module")
def both(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The templates in the cache, made by a daemon that has ended since: of what is thrown away, and of workspaces."""
    command = PyroCommand(tmp_path_factory.mktemp("home"), {"PYRO_CACHE_DIR": str(cache)})
    says(command, "true")
    (throwaway,) = templates_in(cache / "templates")
    created(Pyro(command.client.settings))
    remove_workspaces(command)
    command.client.stop()
    (workspaces,) = templates_in(cache / "templates") - {throwaway}
    return throwaway, workspaces


@pytest.fixture(scope="module")
def template(both: tuple[Path, Path]) -> Path:
    """What machines begin from that are thrown away: it has a disk."""
    return both[0]


@pytest.fixture
def copying(both: tuple[Path, Path], cache: Path, tmp_path: Path) -> Iterator[PyroCommand]:
    """`pyro` all of whose machines begin as copies of `both`."""
    command = PyroCommand(tmp_path / "home", {"PYRO_CACHE_DIR": str(cache)})
    yield command
    remove_workspaces(command)
    command.client.stop()
    assert trouble_with_templates(command.home) == []
    assert templates_in(cache / "templates") == set(both)


@pytest.fixture
def lone(both: tuple[Path, Path], cache: Path, tmp_path: Path) -> Iterator[PyroCommand]:
    """`pyro` that finds `both`, which may be harmed: they are as they were when this ends."""
    for template in both:
        copy_template(template, tmp_path / template.name)
    command = PyroCommand(tmp_path / "home", {"PYRO_CACHE_DIR": str(cache)})
    yield command
    remove_workspaces(command)
    command.client.stop()
    shutil.rmtree(cache / "templates", ignore_errors=True)
    for template in both:
        copy_template(tmp_path / template.name, template)


def says(pyro: PyroCommand, script: str) -> list[str]:
    """The lines that a script prints in a new machine."""
    ended = pyro(*_RUN, script)
    assert ended.exit_code == 0, ended.stderr
    return ended.stdout.decode().splitlines()


def says_in(sdk: Pyro, workspace: str, script: str) -> list[str]:
    ended = sdk.exec_workspace(workspace, ["sh", "-c", script])
    assert ended.exit_code == 0, ended.stderr
    return ended.stdout.decode().splitlines()


def created(sdk: Pyro, **options: str | Path) -> str:
    return sdk.create_workspace("debian:12", mem_mib=_MEM_MIB, **options).workspace_id  # type: ignore[arg-type]


def test_what_a_template_saves_is_shown(copying: PyroCommand, template: Path) -> None:
    says(copying, "true")
    sdk = Pyro(copying.client.settings)
    environment = sdk.inspect_environment("debian:12")
    shown, workspaces = environment.templates
    facts = shown.facts
    assert facts is not None
    assert (facts.environment, facts.digest) == ("debian:12", environment.digest)
    assert (facts.vmm, facts.vcpu_count, facts.mem_mib) == (CHOSEN_VMM, 1, _MEM_MIB)
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
    memory = f"mount -o remount,size=100% /dev/shm && yes | head -c {_MEM_MIB * 5 // 8 << 20} >/dev/shm/much"
    says(copying, f"echo mine >/root/mine; sync; {disk}; {memory}; echo fine")
    assert digests_of(template) == before
    assert says(copying, "ls -A /dev/shm /root | grep mine; echo fine >/root/kept; sync; cat /root/kept") == ["fine"]


@pytest.mark.skipif(CHOSEN_VMM != "qemu", reason="tests/kvmhost/test_jail.py shows it of Firecracker's sandbox")
def test_nothing_that_qemu_holds_lets_it_write_to_a_template(copying: PyroCommand, template: Path) -> None:
    """A VMM can reopen what it was given, and so can we, who may do no less."""
    before = digests_of(template)
    with copying.start(*_RUN, "echo ready; exec sleep 600") as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            (vmm,) = named(descendants(copying.daemon_pid()), VMM)
            held = {fd: os.readlink(fd) for fd in Path(f"/proc/{vmm}/fd").iterdir()}
            assert not [target for target in held.values() if str(template.parent) in target]
            copies = [fd for fd, target in held.items() if target.startswith("/memfd:")]
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


def without(name: str) -> Callable[[Path], None]:
    return lambda template: (template / name).unlink()


def resized(name: str, *sizes: Callable[[int], int]) -> Callable[[Path], None]:
    """Cut or lengthen a file to sizes that are told by what it has."""

    def damage(template: Path) -> None:
        file = template / name
        size = file.stat().st_size
        file.chmod(0o644)
        for new_size in sizes:
            os.truncate(file, new_size(size))

    return damage


def filled_with_rubbish(name: str) -> Callable[[Path], None]:
    def damage(template: Path) -> None:
        file = template / name
        size = file.stat().st_size
        file.unlink()
        file.write_bytes(os.urandom(size))

    return damage


DAMAGE = [
    pytest.param(without("memory"), id="no memory"),
    pytest.param(without("state"), id="no state"),
    pytest.param(resized("memory", lambda size: size // 2), id="half of the memory"),
    pytest.param(resized("memory", lambda size: size - 1), id="memory that is not whole pages"),
    pytest.param(resized("memory", lambda _: 0), id="empty memory"),
    pytest.param(resized("memory", lambda _: 0, lambda size: size), id="memory of zeroes"),
    pytest.param(filled_with_rubbish("memory"), id="memory of rubbish"),
    pytest.param(resized("state", lambda size: size // 2), id="half of the state"),
    pytest.param(resized("state", lambda _: 0), id="empty state"),
    pytest.param(filled_with_rubbish("state"), id="state of rubbish"),
    pytest.param(without("disk"), id="no disk"),
    pytest.param(resized("disk", lambda size: size // 2), id="half of the disk"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_template_is_thrown_away_and_the_machine_boots(
    lone: PyroCommand, template: Path, damage: Callable[[Path], None]
) -> None:
    damage(template)
    assert says(lone, "echo fine") == ["fine"]
    assert len(trouble_with_templates(lone.home)) == 1
    assert not template.exists()


def test_memory_that_is_longer_than_the_guests_does_no_harm(lone: PyroCommand, template: Path) -> None:
    resized("memory", lambda size: 2 * size)(template)
    assert says(lone, "echo fine") == ["fine"]


@pytest.mark.parametrize("damage", [without("memory"), filled_with_rubbish("state")], ids=["missing", "rubbish"])
def test_a_workspace_boots_where_the_template_is_damaged(
    lone: PyroCommand, both: tuple[Path, Path], damage: Callable[[Path], None], tmp_path: Path
) -> None:
    _, template = both
    damage(template)
    seed = tmp_path / "seed"
    seed.mkdir()
    (seed / "text").write_text("one\n")
    sdk = Pyro(lone.client.settings)
    workspace = created(sdk, seed_path=seed)
    assert says_in(sdk, workspace, "cat text; cat /proc/sys/kernel/hostname") == ["one", workspace]
    assert len(trouble_with_templates(lone.home)) == 1
    assert not template.exists()


def test_the_next_machine_makes_a_template_in_place_of_the_damaged_one(lone: PyroCommand, template: Path) -> None:
    without("state")(template)
    assert says(lone, "echo fine") == ["fine"]
    assert not template.exists()
    assert says(lone, "echo fine") == ["fine"]
    assert template.exists()
    assert len(trouble_with_templates(lone.home)) == 1
    assert asyncio.run(doctor.examine(lone.client.settings)).status is Status.PASS


def test_machines_boot_where_no_template_can_be_kept(lone: PyroCommand, template: Path) -> None:
    shutil.rmtree(template.parent)
    (template.parent / "lock").mkdir(parents=True)  # where a file should be
    for _ in range(2):
        assert says(lone, "echo fine") == ["fine"]
    assert len(trouble_with_templates(lone.home)) == 1
    row = asyncio.run(doctor.examine(lone.client.settings))
    assert row.status is Status.WARN
    assert "no template could be made" in row.found


def test_a_daemon_that_is_killed_while_it_makes_a_template_leaves_none(lone: PyroCommand, template: Path) -> None:
    shutil.rmtree(template)
    others = templates_in(template.parent)
    daemon = lone.daemon_pid()
    with lone.start(*_RUN, "true") as process:
        wait_until(lambda: templates_in(template.parent) > others and named(descendants(daemon), VMM))
        below = descendants(daemon)
        kill(daemon)
        process.communicate()
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in below))
    assert not template.exists()
    assert says(lone, "echo fine") == ["fine"]
    assert set(template.parent.iterdir()) == {template.parent / "lock", template, *others}
    assert list((lone.home / "vmms").glob("*")) == []
    assert trouble_with_templates(lone.home) == []


def test_many_machines_at_once_make_one_template_and_begin_from_it(
    lone: PyroCommand, template: Path, tmp_path: Path
) -> None:
    shutil.rmtree(template)
    others = templates_in(template.parent)
    pair = (lone, PyroCommand(tmp_path / "another", lone.extra))
    for each in pair:
        each.daemon_pid()

    def boot_id(number: int) -> bytes:
        sdk = Pyro(pair[number % 2].client.settings)
        return sdk.run_in_vm("debian:12", ["cat", "/proc/sys/kernel/random/boot_id"], mem_mib=_MEM_MIB).stdout

    try:
        for _ in range(2):
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                assert len(set(pool.map(boot_id, range(_AT_ONCE)))) == _AT_ONCE
            assert templates_in(template.parent) == {template, *others}
    finally:
        pair[1].client.stop()
    assert [trouble_with_templates(each.home) for each in pair] == [[], []]  # to make a second one would have failed
