"""Templates under QEMU, and machines that begin as the copy of one, with something else in QEMU's place."""

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp import sparse
from pyro_mcp.errors import GuestFailed, HostUnfit
from pyro_mcp.process import Detached, start_time
from pyro_mcp.vmm import channel, sealed, tsc
from pyro_mcp.vmm.machine import MachineSpec, OpenChannel
from pyro_mcp.vmm.qemu import PROGRAM, QemuDriver
from pyro_mcp.vmm.template import Template
from tests.support.descriptors import none_left
from tests.support.fake_qemu import STATE, fake_qemu
from tests.support.waiting import until

DRIVER = QemuDriver(confined=False)
READY = "agent = qemu.chardev('agent'); agent.sendall(str(os.getpid()).encode())\n"
# A guest that comes up, whose memory was written to.
COMES_UP = f"os.pwrite(qemu.memory(), b'mine', 65536); {READY}"
SAVES = f"{COMES_UP}qemu.Monitor(qemu.chardev('monitor')).serve()"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No descriptor."""
    tsc.host_khz()
    sealed.copies.forget()
    with none_left():
        yield
        sealed.copies.forget()


@pytest.fixture
def template(folder: Path) -> Template:
    made = Template(folder)
    made.memory.touch()
    os.truncate(made.memory, 768 << 20)
    made.state.write_bytes(STATE)
    return made


class Ready:
    """Waits for a guest to come up."""

    pid = 0

    async def __call__(self, open_channel: OpenChannel) -> None:
        opened = await open_channel()
        opened.setblocking(False)
        async with asyncio.timeout(30):
            said = await asyncio.get_running_loop().sock_recv(opened, 100)
        if not said:
            raise GuestFailed("guest_gone", "it has ended")
        self.pid = int(said)


async def test_a_template_is_two_files_that_the_vmm_has_written(
    spec: MachineSpec, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu(tmp_path, SAVES, monkeypatch)
    ready = Ready()
    await DRIVER.make_template(spec, folder, ready)
    made = Template(folder)
    assert sorted(os.listdir(folder)) == ["memory", "state"]
    assert made.state.read_bytes() == STATE
    about = made.memory.stat()
    assert about.st_size == 768 << 20
    assert about.st_blocks * 512 < 1 << 20, "the memory that was not written to is a hole"
    with made.memory.open("rb") as memory:
        assert os.pread(memory.fileno(), 6, 65536) == b"mine\0\0"
    assert start_time(ready.pid) is None


REFUSES = "{'migrate': [{'class': 'GenericError', 'desc': 'not now'}]}"
FAILING = {
    "it ends at once": "sys.exit('no such device')",
    "it ends when its guest is up": f"{COMES_UP}sys.exit('no such device')",
    "it talks rubbish": f"{COMES_UP}qemu.chardev('monitor').sendall(b'rubbish')",
    "it refuses": f"{COMES_UP}qemu.Monitor(qemu.chardev('monitor'), {REFUSES}).serve()",
}


@pytest.mark.parametrize("script", FAILING.values(), ids=FAILING)
async def test_a_vmm_that_fails_leaves_nothing(
    spec: MachineSpec, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    fake_qemu(tmp_path, script, monkeypatch)
    ready = Ready()
    with pytest.raises(GuestFailed, match=r"it has ended|could not write down a template"):
        await DRIVER.make_template(spec, folder, ready)
    assert os.listdir(folder) == []
    assert ready.pid == 0 or start_time(ready.pid) is None


async def test_a_guest_that_does_not_come_up_leaves_nothing(
    spec: MachineSpec, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    fake_qemu(tmp_path, f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(1000)", monkeypatch)

    async def give_up(_open_channel: OpenChannel) -> None:
        await until(lambda: pid_file.exists() and pid_file.read_text() != "")
        raise GuestFailed("guest_silent", "it says nothing")

    with pytest.raises(GuestFailed, match="it says nothing"):
        await DRIVER.make_template(spec, folder, give_up)
    assert os.listdir(folder) == []
    assert start_time(int(pid_file.read_text())) is None


async def test_without_qemu_there_is_no_template(
    spec: MachineSpec, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostUnfit):
        await DRIVER.make_template(spec, folder, Ready())
    assert os.listdir(folder) == []


@pytest.mark.parametrize("moment", ["the guest boots", "the state is written"])
async def test_cancelling_leaves_nothing(
    spec: MachineSpec, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    reached = tmp_path / "reached"
    wait = f"open({str(reached)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    fake_qemu(tmp_path, wait if moment == "the guest boots" else COMES_UP + wait, monkeypatch)
    making = asyncio.create_task(DRIVER.make_template(spec, folder, Ready()))
    await until(lambda: reached.exists() and reached.read_text() != "")
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert os.listdir(folder) == []
    assert start_time(int(reached.read_text())) is None


async def test_cancelling_waits_for_what_is_being_copied(
    spec: MachineSpec, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(_source: int, _target: int) -> None:
        begun.set()
        go_on.wait(30)
        ended.set()

    fake_qemu(tmp_path, SAVES, monkeypatch)
    monkeypatch.setattr(sparse, "copy", slow)
    making = asyncio.create_task(DRIVER.make_template(spec, folder, Ready()))
    await until(begun.is_set)
    making.cancel()
    asyncio.get_running_loop().call_later(0.1, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await making
    was_waited_for = ended.is_set()
    await until(ended.is_set)
    assert was_waited_for


async def test_a_full_disk_is_told(
    spec: MachineSpec, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_source: int, _target: int) -> None:
        raise OSError("No space left on device")

    fake_qemu(tmp_path, SAVES, monkeypatch)
    monkeypatch.setattr(sparse, "copy", fail)
    ready = Ready()
    with pytest.raises(OSError, match="No space left"):
        await DRIVER.make_template(spec, folder, ready)
    assert start_time(ready.pid) is None


# Machines that begin as the copy of one

_TELLS = """\
import json, socket
monitor, agent = qemu.chardev("monitor"), qemu.chardev("agent")
orders = monitor.recv(65536).decode().splitlines()
state = int(json.loads(orders[-1])["arguments"]["uri"].removeprefix("fd:"))
def over():
    try:
        return monitor.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
def refused(act, *args):
    try:
        act(*args)
    except OSError as error:
        return error.strerror
again = os.open(f"/proc/self/fd/{qemu.memory()}", os.O_RDWR)
told = {
    "argv": sys.argv[1:],
    "orders": [json.loads(order)["execute"] for order in orders],
    "state": os.read(state, 1000).decode(),
    "memory": os.fstat(qemu.memory()).st_size,
    "writing": [refused(os.pwrite, fd, b"mine", 0) for fd in (again, qemu.memory())],
    "over": over(),
}
mine = {0, 1, 2, monitor.fileno(), agent.fileno()}
for fd in {int(name) for name in os.listdir("/proc/self/fd")} - mine:
    try:
        os.close(fd)
    except OSError:
        pass
told["over when its own end is closed"] = over()
print(json.dumps(told), flush=True)
time.sleep(1000)
"""


Start = Callable[[MachineSpec], Awaitable[str]]


@pytest.fixture(params=["thrown away", "kept"])
def start(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    kept: list[Detached],
    monkeypatch: pytest.MonkeyPatch,
    nothing_left: None,
) -> Start:
    """Starts a machine, and returns what it prints."""
    fake_qemu(tmp_path, _TELLS, monkeypatch)

    async def thrown_away(spec: MachineSpec) -> str:
        async with DRIVER.boot(spec) as machine:
            await until(lambda: "\n" in machine.console())
            return machine.console()

    async def to_be_kept(spec: MachineSpec) -> str:
        log = channel.BoundedLog()
        own = tmp_path / "own"
        own.mkdir()
        with channel.listening(own / "agent.sock") as listener:
            await asyncio.to_thread(DRIVER.start_kept, spec, own, listener, log.fd, kept.append)
        await until(lambda: "\n" in log.text())
        said = log.text()
        log.close()
        return said

    return thrown_away if request.param == "thrown away" else to_be_kept


async def test_a_copy_is_given_its_state_its_memory_and_its_orders(
    spec: MachineSpec, template: Template, start: Start
) -> None:
    told = json.loads(await start(replace(spec, template=template)))
    assert "-kernel" not in told["argv"]
    assert told["argv"][told["argv"].index("-incoming") + 1] == "defer"
    assert any(word.endswith(",share=off") for word in told["argv"])
    assert told["orders"] == ["qmp_capabilities", "migrate-set-capabilities", "migrate-incoming"]
    assert told["state"] == STATE.decode()
    assert told["memory"] == 768 << 20


async def test_a_copy_cannot_change_what_the_next_one_begins_from(
    spec: MachineSpec, template: Template, start: Start
) -> None:
    told = json.loads(await start(replace(spec, template=template)))
    assert told["writing"] == ["Operation not permitted"] * 2
    with template.memory.open("rb") as memory:
        assert memory.read(4) == bytes(4)


async def test_nobody_but_the_vmm_holds_the_end_that_its_orders_come_from(
    spec: MachineSpec, template: Template, start: Start
) -> None:
    """It has to stay open, and whoever had it could give orders."""
    told = json.loads(await start(replace(spec, template=template)))
    assert not told["over"]
    assert told["over when its own end is closed"]


async def test_every_copy_reads_the_state_from_its_beginning(
    spec: MachineSpec, tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu(tmp_path, _TELLS, monkeypatch)
    for _ in range(2):
        async with DRIVER.boot(replace(spec, template=template)) as machine:
            await until(lambda: "\n" in machine.console())
            assert json.loads(machine.console())["state"] == STATE.decode()


async def test_a_machine_that_boots_has_no_monitor(
    spec: MachineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_qemu(tmp_path, "print(sys.argv, flush=True); time.sleep(1000)", monkeypatch)
    async with DRIVER.boot(spec) as machine:
        await until(lambda: "\n" in machine.console())
        said = machine.console()
    assert "-kernel" in said
    assert "monitor" not in said
    assert "-incoming" not in said


@pytest.mark.parametrize("missing", ["memory", "state"])
async def test_a_template_of_which_a_file_is_missing_starts_nothing_and_leaves_nothing(
    spec: MachineSpec, tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    fake_qemu(tmp_path, "", monkeypatch)
    (template.folder / missing).unlink()
    with pytest.raises(FileNotFoundError):
        async with DRIVER.boot(replace(spec, template=template)):
            raise AssertionError("there is nothing to begin from")


# What a template depends on


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program."""
    fake_qemu(tmp_path, "", monkeypatch)
    return tmp_path / PROGRAM


@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize("change", [{"vcpu_count": 4}, {"mem_mib": 769}, {"seed": Path("/w/seed")}])
def test_another_machine_is_of_another_shape(spec: MachineSpec, change: dict[str, object]) -> None:
    assert DRIVER.shape(replace(spec, **change)) != DRIVER.shape(spec)  # type: ignore[arg-type]


@pytest.mark.usefixtures("qemu")
@pytest.mark.parametrize("name", ["kernel", "initramfs", "modules", "image", "disk_fd", "seed"])
def test_where_its_files_are_does_not_matter(spec: MachineSpec, name: str) -> None:
    seeded = replace(spec, seed=Path("/w/seed"))
    other: object = 1000 if name == "disk_fd" else Path("/elsewhere")
    assert DRIVER.shape(replace(seeded, **{name: other})) == DRIVER.shape(seeded)  # type: ignore[arg-type]


@pytest.mark.usefixtures("qemu")
def test_what_it_begins_from_and_whether_it_is_confined_do_not_matter(spec: MachineSpec, template: Template) -> None:
    assert DRIVER.shape(replace(spec, template=template)) == DRIVER.shape(spec)
    assert QemuDriver(confined=True).shape(spec) == DRIVER.shape(spec)
    assert DRIVER.with_console().shape(spec) == DRIVER.shape(spec)


def test_another_program_is_of_another_shape_wherever_links_lead(spec: MachineSpec, qemu: Path) -> None:
    before = DRIVER.shape(spec)
    os.utime(qemu, (1, 1))
    newer = DRIVER.shape(spec)
    assert newer != before
    real = qemu.rename(qemu.with_name("real"))
    qemu.symlink_to(real)
    os.utime(qemu, (2, 2), follow_symlinks=False)
    linked = DRIVER.shape(spec)
    os.utime(real, (3, 3))
    assert DRIVER.shape(spec) != linked


def test_without_qemu_nothing_has_a_shape(spec: MachineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostUnfit):
        DRIVER.shape(spec)
