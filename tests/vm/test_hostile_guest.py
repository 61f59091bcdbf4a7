"""A guest whose agent has been replaced by one that breaks the protocol: it costs its own machine and nothing else."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.runtime import cpio
from pyro_mcp.runtime.bundle import find_bundle
from tests.support.newc import replace_member
from tests.support.waiting import wait_until
from tests.vm import proof
from tests.vm.pyro_command import PyroCommand, descendants

_INIT = Path("build/cargo/x86_64-unknown-linux-gnu/release/pyro-hostile-init")
_INITRAMFS = "initramfs.cpio"
_AGENTS = "agents.cpio"  # the initramfs as it was; no manifest names it
_WITH_TEMPLATES = "pings"  # one is enough to see that a hostile guest becomes no template
_MEMORY_KIB = 64 * 1024  # more than a daemon with a few streams can need


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that may be changed."""
    folder = tmp_path_factory.mktemp("hostile") / "bundle"
    shutil.copytree(find_bundle(Settings.from_environment()).folder, folder)
    shutil.copy(folder / _INITRAMFS, folder / _AGENTS)
    return folder


@pytest.fixture
def hostile(bundle: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PyroCommand]:
    """`pyro` with a runtime bundle whose /init is hostile in the way that the parameter names."""
    initramfs = bundle / _INITRAMFS
    changed = replace_member((bundle / _AGENTS).read_bytes(), "init", _INIT.read_bytes())
    initramfs.write_bytes(changed + cpio.archive([cpio.file("hostile", request.param.encode())]))
    vouch_for(bundle, _INITRAMFS)
    settings = {"PYRO_RUNTIME_BUNDLE_DIR": str(bundle)}
    if request.param != _WITH_TEMPLATES:
        settings["PYRO_TEMPLATES"] = "off"
    command = PyroCommand(tmp_path / "home", settings)
    proof.take_over(command)
    yield command
    command.client.stop()


def vouch_for(bundle: Path, name: str) -> None:
    """Put a changed file's digest and size into the manifest: this bundle is hostile, not damaged."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    content = (bundle / name).read_bytes()
    (row,) = (row for row in manifest["files"] if row["path"] == name)
    row["sha256"], row["size"] = hashlib.sha256(content).hexdigest(), len(content)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "hostile",
    ["noise", "pings", "uninvited", "huge", "overrun", "oversized", "babble"],
    indirect=True,
)
def test_rubbish_ends_the_machine_with_a_clear_error(hostile: PyroCommand) -> None:
    daemon = hostile.daemon_pid()
    ended = hostile("run", "debian:12", "--timeout-seconds", "2", "--", "true")
    assert ended.stdout == b""
    # A host too slow to read enough of the noise in time hangs up, and with that this guest's init ends.
    told = any(f"[{code}]" in ended.stderr for code in ("guest_protocol", "guest_gone"))
    assert (ended.exit_code, told) in ((2, True), (124, False)), ended.stderr
    wait_until(lambda: not descendants(daemon))
    assert peak_kib(daemon) < peak_kib_at_rest(hostile) + _MEMORY_KIB


@pytest.mark.parametrize("hostile", ["unstoppable", "deaf"], indirect=True)
def test_a_guest_that_does_not_keep_the_time_limit_is_stopped(hostile: PyroCommand) -> None:
    daemon = hostile.daemon_pid()
    ended = hostile("run", "debian:12", "--timeout-seconds", "1", "--", "true")
    assert ended.exit_code == 124
    wait_until(lambda: not descendants(daemon))


def peak_kib(pid: int) -> int:
    """The most memory that a process has used so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def peak_kib_at_rest(pyro: PyroCommand) -> int:
    """What a daemon uses that has done nothing."""
    pyro.client.stop()
    return peak_kib(pyro.daemon_pid())
