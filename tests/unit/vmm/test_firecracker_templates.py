"""Templates under Firecracker, and machines that begin as the copy of one; no guest boots here."""

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp import sparse
from pyro_mcp.errors import GuestFailed
from pyro_mcp.process import Detached
from pyro_mcp.vmm import channel, firecracker_sandbox
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.kvm_device import KvmAccess
from pyro_mcp.vmm.machine import MachineSpec, OpenChannel
from pyro_mcp.vmm.template import Template
from tests.support.fake_firecracker import BOOTS, FOR_EVER, GOES_ON, IS_WRITTEN_DOWN, talk, unconfined_driver
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("run_dir")


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Where the VMM notes what it is asked."""
    return tmp_path / "asked"


@pytest.fixture
def template(folder: Path) -> Template:
    made = Template(folder)
    made.memory.write_text("the memory")
    made.state.write_text("the state")
    return made


async def until_ready(open_channel: OpenChannel) -> None:
    """A guest that answers is."""
    assert await talk(open_channel) == b"olleh\n"


def written_down(tmp_path: Path, asked: Path, script: str = "") -> FirecrackerDriver:
    """A driver whose guests come up and are written down; the script changes how."""
    return unconfined_driver(tmp_path, f"{IS_WRITTEN_DOWN}{script}\nanswers({str(asked)!r})")


def noted(asked: Path) -> list[Any]:
    """What it was asked."""
    return [json.loads(line) for line in asked.read_text().splitlines()]


async def test_a_guest_is_paused_and_what_it_has_written_is_written_down(
    spec: MachineSpec, tmp_path: Path, folder: Path, asked: Path
) -> None:
    await written_down(tmp_path, asked).make_template(spec, folder, until_ready)
    pause, snapshot = noted(asked)
    assert pause[2:] == ["PATCH /vm HTTP/1.1", {"state": "Paused"}]
    assert snapshot[2] == "PUT /snapshot/create HTTP/1.1"
    assert snapshot[3]["snapshot_type"] == "Diff"
    argv, config = snapshot[:2]
    assert "--no-api" not in argv
    assert config["machine-config"]["track_dirty_pages"] is True


async def test_a_template_is_two_files_of_ours(spec: MachineSpec, tmp_path: Path, folder: Path, asked: Path) -> None:
    await written_down(tmp_path, asked).make_template(spec, folder, until_ready)
    made = Template(folder)
    assert sorted(os.listdir(folder)) == ["memory", "state"]
    assert made.state.read_text() == "the state"
    about = made.memory.stat()
    assert (about.st_size, about.st_nlink, about.st_uid) == (768 << 20, 1, os.geteuid())
    assert about.st_blocks * 512 < 1 << 20, "the memory that was not written to is a hole"
    with made.memory.open("rb") as memory:
        assert os.pread(memory.fileno(), 6, 1 << 20) == b"mine\0\0"


INSTEAD = {
    "link": "os.symlink('/etc/passwd', {0})",
    "dangling link": "os.symlink('/there/is/none', {0})",
    "fifo": "os.mkfifo({0})",
    "folder": "os.mkdir({0})",
    "nothing": "pass",
}


@pytest.mark.parametrize("which", ["state", "memory"])
@pytest.mark.parametrize("make", INSTEAD.values(), ids=INSTEAD)
async def test_what_a_vmm_puts_in_a_files_place_is_not_copied(
    spec: MachineSpec, tmp_path: Path, folder: Path, which: str, make: str
) -> None:
    """Its guest may have taken it over, and a link would be followed by us, who may read more than it."""
    script = (
        "really_write = write\ndef write(state, memory):\n"
        f"    really_write(state, memory); os.unlink({which}); {make.format(which)}"
    )
    async with asyncio.timeout(30):
        with pytest.raises(OSError, match=f"/{which}'"):
            await written_down(tmp_path, tmp_path / "asked", script).make_template(spec, folder, until_ready)
    assert not (folder / "memory").exists()
    assert not [name for name in os.listdir(folder) if (folder / name).is_symlink()]


@pytest.mark.parametrize(
    "script",
    [FOR_EVER.replace("while True", "os._exit(3)\nwhile True"), f"knock(); os._exit(3){FOR_EVER}", BOOTS],
    ids=["it ends at once", "it ends when its guest is up", "it has no API"],
)
async def test_a_vmm_that_fails_leaves_nothing(spec: MachineSpec, tmp_path: Path, folder: Path, script: str) -> None:
    async with asyncio.timeout(30):
        with pytest.raises((OSError, GuestFailed)):
            await unconfined_driver(tmp_path, script).make_template(spec, folder, until_ready)
    assert os.listdir(folder) == []


async def test_a_vmm_that_will_not_is_told_with_its_own_words(spec: MachineSpec, tmp_path: Path, folder: Path) -> None:
    refusal = b'HTTP/1.1 400 \r\nContent-Length: 28\r\n\r\n{"fault_message": "not now"}'
    script = (
        'api = listening("api.sock"); threading.Thread(target=serve, daemon=True).start(); knock()\n'
        f"asked(api)[2].sendall({refusal!r}){FOR_EVER}"
    )
    with pytest.raises(GuestFailed, match="not now"):
        await unconfined_driver(tmp_path, script).make_template(spec, folder, until_ready)
    assert os.listdir(folder) == []


@pytest.mark.parametrize("moment", ["the guest boots", "it is written down"])
async def test_cancelling_leaves_nothing(
    spec: MachineSpec, tmp_path: Path, folder: Path, asked: Path, moment: str
) -> None:
    notes = f"open({str(asked)!r}, 'w').write('x')"
    if moment == "the guest boots":
        driver = unconfined_driver(tmp_path, notes + FOR_EVER)
    else:
        driver = written_down(tmp_path, asked, f"def write(*_):\n    {notes}\n    time.sleep(1000)")
    making = asyncio.create_task(driver.make_template(spec, folder, until_ready))
    await until(lambda: asked.exists() and "x" in asked.read_text())
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert os.listdir(folder) == []


async def test_a_full_disk_is_told(
    spec: MachineSpec, tmp_path: Path, folder: Path, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_source: int, _target: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(sparse, "copy", fail)
    with pytest.raises(OSError, match="No space left"):
        await written_down(tmp_path, asked).make_template(spec, folder, until_ready)


# Machines that begin as the copy of one


async def test_a_copy_begins_when_its_channel_is_opened_first_and_only_then(
    spec: MachineSpec, tmp_path: Path, run_dir: Path, template: Template
) -> None:
    """The VMM in Firecracker's place answers one request, and is told no second one."""
    async with unconfined_driver(tmp_path, GOES_ON).boot(replace(spec, template=template)) as machine:
        (own,) = os.listdir(run_dir)
        assert not (run_dir / own / "v.sock").exists(), "it has begun before somebody wanted it"
        for _ in range(3):
            assert await talk(machine.open_channel) == b"olleh\n"
        argv, what, body, _, state = json.loads(machine.console())
    assert machine.reopens
    assert argv == ["--api-sock", "api.sock", "--level", "Info"]
    assert what == "PUT /snapshot/load HTTP/1.1"
    assert body["mem_backend"] == {"backend_type": "File", "backend_path": str(template.memory)}
    assert body["resume_vm"] is True
    assert state == "the state"


async def test_a_kept_copy_is_begun_once_too(
    spec: MachineSpec, tmp_path: Path, template: Template, kept: list[Detached]
) -> None:
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    driver, copy = unconfined_driver(tmp_path, GOES_ON), replace(spec, template=template)
    log = channel.BoundedLog()
    with channel.listening(own / driver.listens_at) as listener:
        await asyncio.to_thread(driver.start_kept, copy, own, listener, log.fd, kept.append)
        open_channel = driver.channel(copy, own, listener)
        for _ in range(2):
            assert await talk(open_channel) == b"olleh\n"
    # As the next daemon does, which knows of no template.
    assert await talk(channel.to_agent("firecracker", own)) == b"olleh\n"
    assert len(log.text().splitlines()) == 1
    log.close()


async def test_a_copy_that_could_not_begin_is_tried_again(
    spec: MachineSpec, tmp_path: Path, template: Template
) -> None:
    refuse = (
        'api = listening(sys.argv[sys.argv.index("--api-sock") + 1])\n'
        "asked(api)[2].sendall(b'HTTP/1.1 400 \\r\\nContent-Length: 2\\r\\n\\r\\n{}')\n"
        'what, body, host = asked(api); print(what); listener = listening("v.sock")\n'
        "host.sendall(b'HTTP/1.1 204 \\r\\n\\r\\n'); serve()"
    )
    async with unconfined_driver(tmp_path, refuse).boot(replace(spec, template=template)) as machine:
        with pytest.raises(GuestFailed) as caught:
            await machine.open_channel()
        assert caught.value.code == "vmm_refused"
        assert await talk(machine.open_channel) == b"olleh\n"
        assert machine.console() == "PUT /snapshot/load HTTP/1.1\n"


async def test_a_confined_copy_sees_its_template_among_its_inputs(
    spec: MachineSpec, tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a script in Firecracker's place that needs nothing but what every host has."""
    monkeypatch.setattr(firecracker_sandbox, "access_for", lambda *_: KvmAccess(Path("/dev/null"), Path("/dev/kvm")))
    for file in (template.memory, template.state):
        file.chmod(0o444)
    program = tmp_path / "firecracker"
    program.write_text(
        "#!/bin/sh\ncat /inputs/snapshot.state; echo; cat /inputs/snapshot.memory; echo\n"
        "(echo no >/inputs/snapshot.memory) 2>/dev/null || echo read-only; ls /inputs | wc -l; exec sleep 1000\n"
    )
    program.chmod(0o755)
    async with FirecrackerDriver(program, tmp_path / "run").boot(replace(spec, template=template)) as machine:
        async with asyncio.timeout(30):
            await until(lambda: machine.console().count("\n") == 4)
        said = machine.console().splitlines()
    assert said == ["the state", "the memory", "read-only", "7"]


# What a template depends on


@pytest.mark.parametrize("change", [{"vcpu_count": 4}, {"mem_mib": 769}, {"seed": Path("/w/seed")}])
def test_another_machine_is_of_another_shape(spec: MachineSpec, tmp_path: Path, change: dict[str, Any]) -> None:
    driver = unconfined_driver(tmp_path)
    assert driver.shape(replace(spec, **change)) != driver.shape(spec)


@pytest.mark.parametrize("name", ["kernel", "initramfs", "modules", "image", "disk_fd", "seed"])
def test_where_its_files_are_does_not_matter(spec: MachineSpec, tmp_path: Path, name: str) -> None:
    driver, seeded = unconfined_driver(tmp_path), replace(spec, seed=Path("/w/seed"))
    other: Any = 1000 if name == "disk_fd" else Path("/elsewhere")
    assert driver.shape(replace(seeded, **{name: other})) == driver.shape(seeded)
