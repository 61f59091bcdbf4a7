"""Environments built for real: real packages through the host's mirrors, by root and by an ordinary user."""

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyro_mcp import apt, process
from pyro_mcp.errors import SourceFailed
from pyro_mcp.images import debian
from pyro_mcp.images import store as stores
from pyro_mcp.images.prune import prune
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import Store
from pyro_mcp.models import EnvironmentInfo, Progress
from tests.vm.trouble_mirror import Trouble, TroubleMirror, all_well, trouble_mirror

pytestmark = [pytest.mark.slow, pytest.mark.whole_host]

BASE = "debian:12-base"
REPOSITORY = Path(__file__).parents[2]
# An id that belongs to nobody here; what it may be called is only known inside the test's own namespace.
OTHER_USER, OTHER_ID = "pyro-test-user", 54321


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def processes_naming(folder: Path) -> list[int]:
    """Processes whose command line has to do with a folder, wherever they hang in the process tree."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if str(folder).encode() in line and entry.name != str(os.getpid()):
            found.append(int(entry.name))
    return found


@functools.cache
def host_sources() -> apt.DebianSources:
    return asyncio.run(apt.debian_sources("bookworm"))


@pytest.fixture(scope="module")
def mirror() -> Iterator[TroubleMirror]:
    with trouble_mirror(host_sources()) as running:
        yield running


@pytest.fixture
def calm_mirror(mirror: TroubleMirror) -> Iterator[TroubleMirror]:
    """The mirror, with no trouble left in it afterwards."""
    yield mirror
    mirror.trouble, mirror.cut = all_well, ""


class Built:
    """An environment built through the host's mirrors, once for the tests that look at it."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.progress: list[Progress] = []
        self.mounts_before = mounts()
        self.info: EnvironmentInfo = asyncio.run(pull(self.store, BASE, debian.source(), self.progress.append))

    @property
    def image(self) -> Path:
        return self.store.image_folder(str(self.info.digest)) / stores.IMAGE_FILE

    def listing(self) -> dict[str, tuple[str, str]]:
        """Path to (mode, owner)."""
        output = subprocess.run(["unsquashfs", "-lln", self.image], check=True, capture_output=True, text=True).stdout
        rows = [line.split() for line in output.splitlines() if "squashfs-root" in line]
        return {row[5].removeprefix("squashfs-root"): (row[0], row[1]) for row in rows}

    def read(self, path: str) -> str:
        argv = ["unsquashfs", "-cat", str(self.image), path]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("cache"))


def test_a_build_leaves_an_image_and_nothing_else(built: Built) -> None:
    assert os.listdir(built.store.staging) == []
    assert len(os.listdir(built.store.images)) == 1
    assert mounts() == built.mounts_before
    assert processes_naming(built.store.cache_dir) == []


def test_the_packages_are_known_by_version(built: Built) -> None:
    packages = dict(line.split(" ") for line in built.info.contents)
    assert packages["libc6"].startswith("2.36-")
    assert {"apt", "bash", "coreutils", "dpkg"} <= set(packages)
    assert not [name for name in packages if name.startswith("linux-image")]
    assert all(uri.split()[-2] in str(built.info.source) for uri in host_sources().entries)


def test_the_tree_is_debians_with_its_owners(built: Built) -> None:
    listing = built.listing()
    assert listing["/usr/bin/bash"] == ("-rwxr-xr-x", "0/0")
    assert listing["/usr/bin/su"][0] == "-rwsr-xr-x"
    assert listing["/etc/shadow"] == ("-rw-r-----", "0/42")
    assert listing["/etc/hosts"] == ("-rw-r--r--", "0/0")
    assert {"/dev", "/proc", "/sys", "/tmp", "/root", "/run"} < set(listing)
    assert not [path for path in listing if path.startswith(("/dev/", "/proc/", "/sys/", "/tmp/"))]


def test_nothing_of_the_host_or_of_the_build_is_inside(built: Built) -> None:
    listing = built.listing()
    unwanted = ("/etc/hostname", "/etc/resolv.conf", "/usr/share/man", "/usr/sbin/policy-rc.d")
    assert not set(unwanted) & set(listing)
    assert not [path for path in listing if "99mmdebstrap" in path or path.endswith(".deb")]
    lists = [path for path in listing if path.startswith("/var/lib/apt/lists/")]
    assert sorted(lists) == ["/var/lib/apt/lists/lock", "/var/lib/apt/lists/partial"]
    assert "/etc/machine-id" not in listing or built.read("etc/machine-id") in ("", "uninitialized\n")


def test_apt_inside_knows_the_same_signed_archives(built: Built) -> None:
    lines = [line for line in built.read("etc/apt/sources.list").splitlines() if line]
    assert lines == list(host_sources().entries)
    assert str(apt.KEYRING) in built.listing()


def test_progress_tells_of_every_phase_and_counts_to_the_end(built: Built) -> None:
    phases = list(dict.fromkeys(step.phase for step in built.progress))
    assert phases == ["resolve", "download", "install", "squash", "verify", "done"]
    for phase in ("download", "install"):
        last = [step for step in built.progress if step.phase == phase][-1]
        assert last.done == last.total == len(built.info.contents)


def as_ordinary_user(home: Path, *arguments: str) -> dict[str, object]:
    """Run `pulling.py` as a user with a private home, who is known to this host only for as long as that takes.

    Root becomes such a user in a mount namespace of its own, in which the user's name and ids are added to /etc.
    """
    pulling = ["tests/vm/pulling.py", *arguments]
    if os.geteuid() != 0:
        return told([sys.executable, *pulling], PYTHONPATH=str(REPOSITORY / "src"), HOME=str(home))
    etc = home.parent / "etc"
    etc.mkdir(exist_ok=True)
    for name, line in (
        ("passwd", f"{OTHER_USER}:x:{OTHER_ID}:{OTHER_ID}::/mnt/home:/bin/sh"),
        ("group", f"{OTHER_USER}:x:{OTHER_ID}:"),
        ("subuid", f"{OTHER_USER}:200000:65536"),
        ("subgid", f"{OTHER_USER}:200000:65536"),
    ):
        host = Path("/etc", name)
        (etc / name).write_text(f"{host.read_text() if host.exists() else ''}{line}\n")
    os.chown(home, OTHER_ID, OTHER_ID)
    # The user may be unable to pass the folders above these, so they are shown where anybody can.
    script = """
        set -eu
        for name in passwd group subuid subgid; do
            mount --bind "$1/$name" /etc/$name
        done
        mount -t tmpfs -o mode=755 tmpfs /mnt
        mkdir /mnt/home /mnt/python /mnt/repository
        mount --bind "$2" /mnt/home; mount --bind "$3" /mnt/python; mount --bind "$4" /mnt/repository
        shift 4
        cd /mnt/repository
        umask 077
        exec setpriv --reuid=$USER_ID --regid=$USER_ID --clear-groups --inh-caps=-all --bounding-set=+all "$@"
    """
    python = f"/mnt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    return told(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(etc), str(home), sys.base_prefix, str(REPOSITORY),
         python, *pulling],
        PYTHONPATH="/mnt/repository/src", HOME="/mnt/home", USER_ID=str(OTHER_ID),
        PYTHONDONTWRITEBYTECODE="1", LD_LIBRARY_PATH="/mnt/python/lib",
    )  # fmt: skip


def told(argv: list[str], **env: str) -> dict[str, object]:
    """What `pulling.py` printed."""
    done = subprocess.run(argv, check=False, env={**os.environ, **env}, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.fixture
def user_home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return home


def cache_of(home: Path) -> str:
    return "/mnt/home/cache" if os.geteuid() == 0 else str(home / "cache")


def test_an_ordinary_user_gets_the_same_image_to_the_byte(built: Built, user_home: Path) -> None:
    pulled = as_ordinary_user(user_home, cache_of(user_home), BASE)
    assert pulled == {
        "code": None,
        "digest": built.info.digest,
        "staging": [],
        "images": os.listdir(built.store.images),
    }
    owners = {path.lstat().st_uid for path in (user_home / "cache").rglob("*")}
    assert owners == {OTHER_ID if os.geteuid() == 0 else os.getuid()}


def test_an_ordinary_user_who_cancels_has_nothing_left(user_home: Path) -> None:
    before = mounts()
    pulled = as_ordinary_user(user_home, cache_of(user_home), BASE, "cancel", "install")
    assert pulled == {"code": "cancelled", "digest": None, "staging": [], "images": []}
    assert mounts() == before
    assert processes_naming(Path(cache_of(user_home))) == []


@pytest.mark.parametrize("phase", ["resolve", "download"])
async def test_a_cancelled_pull_leaves_no_mount_process_or_file(
    store: Store, calm_mirror: TroubleMirror, phase: str
) -> None:
    before, arrived = mounts(), asyncio.Event()

    def report(progress: Progress) -> None:
        if progress.phase == phase:
            arrived.set()

    task = asyncio.create_task(pull(store, BASE, debian.source(calm_mirror.url), report))
    async with asyncio.timeout(300):
        await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [*os.listdir(store.staging), *os.listdir(store.images), *os.listdir(store.environments)] == []
    assert mounts() == before
    assert processes_naming(store.cache_dir) == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    prepared = Store(tmp_path / "cache")
    prepared.prepare()
    return prepared


async def test_a_killed_pull_takes_its_processes_along_and_prune_takes_the_rest(store: Store) -> None:
    before = mounts()
    assert killed_in("download", store.cache_dir) == -signal.SIGKILL
    assert all(process.wait_for_end(pid, timeout_seconds=20) for pid in processes_naming(store.cache_dir))
    assert mounts() == before
    assert len(os.listdir(store.staging)) == 1
    report = await prune(store)
    assert [removed.split()[0] for removed in report.removed] == ["unfinished"]
    assert report.freed_bytes > 1_000_000
    assert os.listdir(store.staging) == []


def killed_in(phase: str, cache: Path) -> int:
    argv = [sys.executable, "tests/vm/pulling.py", str(cache), BASE, "kill", phase]
    return subprocess.run(argv, check=False, cwd=REPOSITORY, capture_output=True).returncode


def missing(part: str) -> Trouble:
    return lambda path, content: None if part in path else content


def altered(part: str, change: Callable[[bytes], bytes]) -> Trouble:
    return lambda path, content: change(content) if part in path else content


def backwards(content: bytes) -> bytes:
    return content[::-1]


def forged(content: bytes) -> bytes:
    return content.replace(b"Date: ", b"Date:  ")


@dataclass(frozen=True)
class Case:
    """What the mirror does wrong, and what the error says then."""

    name: str
    code: str
    words: tuple[str, ...]
    trouble: Trouble = all_well
    cut: str = ""


CASES = (
    Case("a package is missing", "source_failed", ("coreutils_", "404"), missing("/coreutils_")),
    Case("a package breaks off", "source_failed", ("coreutils_",), cut="/coreutils_"),
    Case(
        "a package is altered", "source_failed", ("coreutils_", "Hash Sum mismatch"), altered("/coreutils_", backwards)
    ),
    Case(
        "the index is forged",
        "source_untrusted",
        ("signature", "bookworm InRelease", "BADSIG"),
        altered("dists/bookworm/InRelease", forged),
    ),
    Case("the suite is missing", "source_failed", ("bookworm/InRelease", "404"), missing("dists/bookworm/")),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_mirror_in_trouble_is_an_error_and_the_old_image_stays(
    built: Built, calm_mirror: TroubleMirror, case: Case
) -> None:
    calm_mirror.trouble, calm_mirror.cut = case.trouble, case.cut
    with pytest.raises(SourceFailed) as caught:
        await pull(built.store, BASE, debian.source(calm_mirror.url), lambda progress: None)
    assert caught.value.code == case.code
    assert [word for word in case.words if word not in caught.value.message] == [], caught.value.message
    assert caught.value.hint
    assert os.listdir(built.store.staging) == []
    with await stores.open_verified(built.store, BASE) as image:
        assert image.digest == built.info.digest
    assert (await prune(built.store)).removed == ()


def test_a_disk_that_fills_up_during_the_build_is_told_apart(tmp_path: Path) -> None:
    as_root = [] if os.geteuid() == 0 else ["--map-root-user", "--map-auto"]
    script = """
        mount -t tmpfs -o size=80m tmpfs "$1"
        shift
        exec "$@"
    """
    program = (
        "import dataclasses, runpy, sys; from pyro_mcp.images import catalog; "
        "catalog.CATALOG = tuple(dataclasses.replace(row, build_bytes=1) for row in catalog.CATALOG); "
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    pulled = told(
        ["unshare", "--mount", *as_root, "sh", "-ec", script, "sh", str(tmp_path), sys.executable, "-c", program,
         "tests/vm/pulling.py", str(tmp_path), BASE],
        PYTHONPATH=str(REPOSITORY / "src"),
    )  # fmt: skip
    assert (pulled["code"], pulled["staging"], pulled["images"]) == ("no_disk_space", [], [])
