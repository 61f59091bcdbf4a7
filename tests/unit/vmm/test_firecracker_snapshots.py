"""Machines that are written down and go on as others, with something else in Firecracker's place; no guest boots."""

import asyncio
import json
import os
import re
import socket
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.process import Detached
from pyro_mcp.vmm import channel, confine, firecracker_api, firecracker_sandbox, user_ids
from pyro_mcp.vmm.channel import to_agent
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.kvm_device import KvmAccess
from pyro_mcp.vmm.machine import MachineSpec
from pyro_mcp.vmm.template import Template
from tests.support.descriptors import none_left
from tests.support.fake_api import DONE, FakeApi, answer, served
from tests.support.fake_firecracker import GOES_ON, talk, unconfined_driver
from tests.support.waiting import until

REFUSED = answer(b'{"fault_message": "not now"}', "400 Bad Request")


@pytest.fixture
def snapshot(tmp_path: Path) -> Template:
    """Two files, moved away from where a VMM has put them."""
    files = Template(tmp_path / "one")
    files.folder.mkdir()
    files.state.write_text("the state")
    files.memory.write_text("the memory")
    return files


@pytest.fixture(params=[True, False], ids=["confined", "unconfined"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> FirecrackerDriver:
    """One whose VMM is already there."""
    return FirecrackerDriver(tmp_path / "none", tmp_path / "run", confined=request.param)


def load(state: str, memory: str) -> tuple[str, object]:
    """The request that makes a VMM go on with a snapshot."""
    body = {
        "snapshot_path": state,
        "mem_backend": {"backend_type": "File", "backend_path": memory},
        "resume_vm": True,
    }
    return "PUT /snapshot/load HTTP/1.1", body


async def test_a_machine_is_paused_and_resumed(driver: FirecrackerDriver, folder: Path) -> None:
    for act, state in ((driver.pause, "Paused"), (driver.resume, "Resumed")):
        fake = FakeApi(DONE)
        async with served(folder, fake):
            await act(folder)
        assert fake.asked == [("PATCH /vm HTTP/1.1", {"state": state})]
        (folder / "api.sock").unlink()


async def test_a_snapshot_is_two_new_files_of_the_vmms_folder(driver: FirecrackerDriver, folder: Path) -> None:
    fake = FakeApi(DONE)
    async with served(folder, fake):
        made = await driver.snapshot(folder)
    assert made == Template(folder)
    what, body = fake.asked[0]
    assert what == "PUT /snapshot/create HTTP/1.1"
    paths = (body["snapshot_path"], body["mem_file_path"])
    # The VMM works in that folder, whatever its name is inside.
    assert [folder / path for path in paths] == [made.state, made.memory]
    assert not any(Path(path).is_absolute() for path in paths)
    assert body["snapshot_type"] == "Full"
    assert len(fake.asked) == 1


@pytest.mark.parametrize("confined", [True, False])
async def test_a_snapshot_is_loaded_by_the_names_that_the_vmm_sees(
    tmp_path: Path, folder: Path, snapshot: Template, confined: bool
) -> None:
    fake = FakeApi(DONE)
    async with served(folder, fake):
        await FirecrackerDriver(tmp_path / "none", tmp_path / "run", confined=confined).restore(folder, snapshot)
    inside = ("/inputs/snapshot.state", "/inputs/snapshot.memory")
    assert fake.asked == [load(*(inside if confined else (str(snapshot.state), str(snapshot.memory))))]


async def test_a_vmm_that_is_still_starting_is_waited_for(
    driver: FirecrackerDriver, folder: Path, snapshot: Template
) -> None:
    restoring = asyncio.create_task(driver.restore(folder, snapshot))
    await asyncio.sleep(0.05)
    fake = FakeApi(DONE)
    with socket.socket(socket.AF_UNIX) as vmm:
        vmm.bind(str(folder / "api.sock"))
        await asyncio.sleep(0.05)
        assert not restoring.done()
        async with asyncio.timeout(30), await asyncio.start_unix_server(fake, sock=vmm):
            await restoring
    assert [what for what, _ in fake.asked] == ["PUT /snapshot/load HTTP/1.1"]


Act = Callable[[FirecrackerDriver, Path, Template], Awaitable[object]]
EVERYTHING: list[Act] = [
    lambda driver, folder, _: driver.pause(folder),
    lambda driver, folder, _: driver.resume(folder),
    lambda driver, folder, _: driver.snapshot(folder),
    lambda driver, folder, snapshot: driver.restore(folder, snapshot),
]
ALL_OF_IT = pytest.mark.parametrize("act", EVERYTHING, ids=["pause", "resume", "snapshot", "restore"])


@ALL_OF_IT
async def test_a_refusal_comes_with_the_vmms_own_words(
    driver: FirecrackerDriver, folder: Path, snapshot: Template, act: Act
) -> None:
    async with served(folder, FakeApi(REFUSED)):
        with pytest.raises(GuestFailed) as caught:
            await act(driver, folder, snapshot)
    assert caught.value.code == "vmm_refused"
    assert "not now" in caught.value.message


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A VMM that is not there is not waited for."""
    monkeypatch.setattr(firecracker_api, "_THERE_SECONDS", 0.05)


@ALL_OF_IT
@pytest.mark.usefixtures("impatient")
async def test_a_machine_that_is_gone_is_told(
    driver: FirecrackerDriver, folder: Path, snapshot: Template, act: Act
) -> None:
    with pytest.raises(GuestFailed) as caught:
        await act(driver, folder, snapshot)
    assert caught.value.code == "vmm_gone"


@ALL_OF_IT
@pytest.mark.usefixtures("impatient")
async def test_a_link_leads_to_no_other_vmm(
    driver: FirecrackerDriver, folder: Path, snapshot: Template, act: Act
) -> None:
    """Whoever took this VMM over may have put it there."""
    another = FakeApi(DONE)
    elsewhere = folder.with_name("another")
    elsewhere.mkdir()
    (folder / "api.sock").symlink_to(elsewhere / "api.sock")
    async with await asyncio.start_unix_server(another, elsewhere / "api.sock"):
        with pytest.raises(GuestFailed) as caught:
            await act(driver, folder, snapshot)
    assert caught.value.code == "vmm_gone"
    assert another.asked == []


# Starting a VMM that is to go on


async def test_a_machine_goes_on_from_a_snapshot(
    spec: MachineSpec, tmp_path: Path, folder: Path, snapshot: Template, kept: list[Detached]
) -> None:
    log = channel.BoundedLog()
    driver = unconfined_driver(tmp_path, GOES_ON)
    process = await asyncio.to_thread(driver.start_restored, spec, folder, snapshot, log.fd, kept.append)
    assert kept == [process]
    assert not (folder / "v.sock").exists(), "it has begun before it was told to"
    await driver.restore(folder, snapshot)
    assert await talk(to_agent("firecracker", folder)) == b"olleh\n"
    argv, *asked, works_in, state = json.loads(log.text())
    log.close()
    assert argv == ["--api-sock", "api.sock", "--level", "Info"]
    assert tuple(asked) == load(str(snapshot.state), str(snapshot.memory))
    assert (Path(works_in), state) == (folder, "the state")
    assert os.readlink(folder / "disk") == f"/proc/self/fd/{spec.disk_fd}"


async def test_a_confined_one_sees_the_snapshot_among_its_inputs(
    spec: MachineSpec, folder: Path, snapshot: Template, kept: list[Detached], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a script in Firecracker's place that needs nothing but what every host has."""
    monkeypatch.setattr(firecracker_sandbox, "access_for", lambda *_: KvmAccess(Path("/dev/null"), Path("/dev/kvm")))
    program = folder.with_name("firecracker")
    program.write_text(
        '#!/bin/sh\necho "$*"; id -u; pwd; ls /inputs; cat /inputs/snapshot.state; echo; cat /inputs/snapshot.memory\n'
        f"echo; (echo no >/inputs/snapshot.state) 2>/dev/null || echo read-only; test -e {snapshot.state} || echo hid\n"
        "printf written 1<>disk; echo done; exec sleep 1000\n"
    )
    program.chmod(0o755)
    log = channel.BoundedLog()
    driver = FirecrackerDriver(program, folder.with_name("run"))
    await asyncio.to_thread(driver.start_restored, spec, folder, snapshot, log.fd, kept.append)
    async with asyncio.timeout(30):
        await until(lambda: "done\n" in log.text())
    argv, user, works_in, *inputs, state, memory, may_write, hidden, _ = log.text().splitlines()
    log.close()
    assert argv == "--api-sock api.sock --level Info"
    assert user_ids.is_ours(int(user)) if os.geteuid() == 0 else int(user) == os.geteuid()
    assert works_in == str(confine.FOLDER)
    machine = ["firecracker", "image", "initramfs", "kernel", "modules"]
    assert inputs == [*machine, "snapshot.memory", "snapshot.state"]
    assert (state, memory, may_write, hidden) == ("the state", "the memory", "read-only", "hid")
    assert os.pread(spec.disk_fd, 7, 0) == b"written"


@pytest.mark.parametrize("which", ["state", "memory"])
@pytest.mark.parametrize("what", ["nothing", "link", "dangling link", "folder", "fifo", "socket", "device"])
def test_what_is_no_file_is_not_shown_to_a_vmm(
    spec: MachineSpec, folder: Path, snapshot: Template, which: str, what: str
) -> None:
    """Above all no link: the VMM that wrote the snapshot may have been its guest's, and the next would follow it."""
    path: Path = getattr(snapshot, which)
    path.unlink()
    match what:
        case "link":
            path.symlink_to("/etc/passwd")
        case "dangling link":
            path.symlink_to("/there/is/none")
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case "device":
            os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(0, 0))  # which anybody may make
    _is_not_started(spec, folder, snapshot, str(path))


def _is_not_started(spec: MachineSpec, folder: Path, snapshot: Template, because_of: str) -> None:
    def before_start(_process: Detached) -> None:
        raise AssertionError("it is about to start")

    with none_left():
        for confined in (True, False):
            driver = replace(unconfined_driver(folder.parent, GOES_ON), confined=confined)
            with pytest.raises(OSError, match=re.escape(because_of)):
                driver.start_restored(spec, folder, snapshot, 2, before_start)
            assert list(folder.iterdir()) == []
    assert os.fstat(spec.disk_fd).st_uid == os.geteuid(), "the disk was handed over"
