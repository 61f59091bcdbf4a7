import fcntl
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyro_mcp.runtime import build
from pyro_mcp.runtime.bundle import open_bundle

from . import fakes
from .fake_host import FakeHost, package


@dataclass(frozen=True)
class Bench:
    """Everything that a build takes, without a network; `make` builds and returns the exit code."""

    root: Path
    host: FakeHost

    def make(self, *flags: str, output: str = "one/bundles/linux", **replaced: str) -> int:
        return build.main([*self.words(output=output, **replaced), *flags])

    def words(self, output: str = "one/bundles/linux", **replaced: str) -> list[str]:
        given = {
            "--agent": "agent",
            "--agent-source": "agent-source",
            "--sources": "sources",
            "--output": output,
            "--firecracker": "firecracker",
            "--jailer": "jailer",
            **{f"--{name}": path for name, path in replaced.items()},
        }
        return [word for flag, path in given.items() if path for word in (flag, str(self.root / path))]

    def files(self, output: str = "one/bundles/linux") -> dict[str, tuple[bytes, int]]:
        folder = self.root / output
        return {
            path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mode)
            for path in folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    fakes.speaker(folder / "firecracker", "Firecracker v1.99.0")
    fakes.speaker(folder / "jailer", "Jailer v1.99.0")
    return folder


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Path) -> Bench:
    for name in ("firecracker", "jailer"):
        shutil.copy(programs / name, tmp_path / name)
    (tmp_path / "agent").write_bytes(fakes.static_program(b"agent"))
    crate = tmp_path / "agent-source"
    (crate / "src").mkdir(parents=True)
    (crate / "src" / "main.rs").write_text("fn main() {}\n")
    (crate / "Cargo.toml").write_text('[package]\nname = "agent"\nversion = "7.1.0"\n')
    (crate / "Cargo.lock").write_text('version = 3\n\n[[package]]\nname = "agent"\nversion = "7.1.0"\n')
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "kernel.json").write_text(
        '{"suite": "bookworm", "package": "linux-image-fake", "source_package": "linux",'
        ' "licences": ["GPL-2"], "boot_modules": ["b"]}'
    )
    return Bench(tmp_path, FakeHost(tmp_path / "host", monkeypatch))


def test_a_bundle_is_built_and_whole(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.make() == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"[runtime] phase={phase}" for phase in ("fetch-kernel", "unpack-kernel", "pack-modules", "assemble")
    ]
    bundle = open_bundle(bench.root / "one/bundles/linux", bench.root / "memory")
    bundle.verify()
    assert {component.name: component.version for component in bundle.components} == {
        "linux": "6.1.9-1",
        "linux-modules": "6.1.9-1",
        "pyro-agent": "7.1.0",
        "firecracker": "v1.99.0",
        "jailer": "v1.99.0",
    }
    assert sorted(bench.files()) == [
        "NOTICE", "bin/firecracker", "bin/jailer", "initramfs.cpio", "manifest.json", "modules.sqfs", "vmlinux"
    ]  # fmt: skip
    assert os.access(bundle.firecracker, os.X_OK)


def test_neither_places_nor_mirrors_nor_times_show(bench: Bench) -> None:
    assert bench.make() == 0
    for content, _ in bench.files().values():
        assert str(bench.root).encode() not in content
        assert b"mirror.invalid" not in content


def test_two_builds_are_alike_to_the_bit(bench: Bench) -> None:
    assert bench.make() == 0
    usual = os.umask(0o077)
    try:
        assert bench.make(output="two/bundles/linux") == 0
    finally:
        os.umask(usual)
    assert len(bench.host.fetches) == 2
    assert bench.files() == bench.files("two/bundles/linux")


def test_a_second_build_does_nothing(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.make() == 0
    stamp = (bench.root / "one/bundles/linux").stat()
    capsys.readouterr()
    assert bench.make() == 0
    assert capsys.readouterr().err == ""
    assert (bench.root / "one/bundles/linux").stat() == stamp
    assert len(bench.host.fetches) == 1


@pytest.mark.parametrize(
    ("path", "content"),
    [
        pytest.param("agent", fakes.static_program(b"newer agent"), id="agent"),
        pytest.param("one/bundles/linux/modules.sqfs", b"corrupt", id="damaged bundle"),
        pytest.param("one/bundles/linux/manifest.json", b"{}", id="damaged manifest"),
        pytest.param("one/runtime_cache/bundle.json", b"rubbish", id="damaged record"),
    ],
)
def test_what_changed_is_assembled_again_without_a_mirror(
    bench: Bench, capsys: pytest.CaptureFixture[str], path: str, content: bytes
) -> None:
    assert bench.make() == 0
    (bench.root / path).write_bytes(content)
    capsys.readouterr()
    assert bench.make() == 0
    assert capsys.readouterr().err == "[runtime] phase=assemble\n"
    open_bundle(bench.root / "one/bundles/linux", bench.root / "memory").verify()
    assert len(bench.host.fetches) == 1
    assert bench.make() == 0
    assert capsys.readouterr().err == ""


def test_refresh_asks_the_mirror_again(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.make() == 0
    before = bench.files()
    capsys.readouterr()
    assert bench.make("--refresh") == 0
    assert "phase=assemble" not in capsys.readouterr().err
    assert bench.files() == before
    bench.host.offer(package(extra={"./lib/modules/6.1.0-9-fake/kernel/d.ko": b"module d"}))
    assert bench.make("--refresh") == 0
    assert bench.files() != before
    assert len(bench.host.fetches) == 3


def test_a_mirror_that_fails_leaves_the_bundle_as_it_was(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.make() == 0
    before = bench.files()
    bench.host.mirror_fails()
    capsys.readouterr()
    assert bench.make("--refresh") == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("[runtime] error: mmdebstrap ended with code 25: E: Unable to fetch")
    assert bench.files() == before
    assert bench.make() == 0


@pytest.mark.parametrize(
    ("replaced", "why"),
    [
        ({"agent": "nowhere"}, "nowhere cannot be read: No such file or directory (build it: make agent)"),
        ({"agent": "sources/kernel.json"}, "the agent is no static x86-64 Linux program"),
        ({"agent-source": "sources"}, "sources is not the agent's source"),
        ({"firecracker": "agent", "jailer": ""}, "give both --firecracker and --jailer"),
        ({"firecracker": "jailer"}, "does not say that it is firecracker"),
        ({"sources": "host"}, "kernel.json is not usable"),
        ({"cache": "agent"}, "File exists"),
    ],
)
def test_bad_input_is_one_line_and_builds_nothing(
    bench: Bench, capsys: pytest.CaptureFixture[str], replaced: dict[str, str], why: str
) -> None:
    assert bench.make(**replaced) in (1, 2)
    *phases, last = capsys.readouterr().err.splitlines()
    assert all(line.startswith("[runtime] phase=") for line in phases)
    assert last.startswith("[runtime] error: ")
    assert why in last
    assert not (bench.root / "one/bundles/linux").exists()


def test_a_build_waits_for_another_in_the_same_cache(bench: Bench) -> None:
    (bench.root / "one/runtime_cache").mkdir(parents=True)
    with (bench.root / "one/runtime_cache/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            [sys.executable, "-m", "pyro_mcp.runtime.build", *bench.words()], stderr=subprocess.PIPE, text=True
        ) as other:
            assert other.stderr is not None
            assert other.stderr.readline() == "[runtime] phase=wait-for-other-build\n"
            assert bench.host.fetches == []
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert other.stderr.readline() == "[runtime] phase=fetch-kernel\n"
            other.communicate()
    assert other.returncode == 0
    assert bench.make() == 0
    assert len(bench.host.fetches) == 1


def test_an_interrupt_leaves_nothing_half_done(bench: Bench) -> None:
    bench.host.program("mmdebstrap", f"echo > {bench.root}/started; exec sleep 100")
    os.mkfifo(bench.root / "started")
    with subprocess.Popen(
        [sys.executable, "-m", "pyro_mcp.runtime.build", *bench.words()], stderr=subprocess.PIPE, text=True
    ) as other:
        (bench.root / "started").read_text()
        other.send_signal(signal.SIGINT)
        _, err = other.communicate()
    assert other.returncode == 130
    assert err.splitlines()[-1] == "[runtime] error: stopped; what was there before is untouched"
    assert [path.name for path in (bench.root / "one").rglob("*")] == ["runtime_cache", "lock"]
