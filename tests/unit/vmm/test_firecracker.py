"""How Firecracker is started, and that nothing is left of a machine however it ends; no guest boots here."""

import asyncio
import json
import os
import signal
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.process import start_time
from pyro_mcp.vmm import confine, firecracker_sandbox, user_ids
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.kvm_device import KvmAccess
from pyro_mcp.vmm.machine import Machine, MachineSpec
from tests.support.fake_firecracker import BOOTS, FOR_EVER, talk
from tests.support.fake_firecracker import unconfined_driver as driver
from tests.support.waiting import until, wait_until


def the_one_in(run_dir: Path) -> Path:
    """The folder of the only machine."""
    (folder,) = run_dir.iterdir()
    return folder


async def test_a_machine_boots_and_gives_its_channel_and_what_it_says(
    spec: MachineSpec, tmp_path: Path, run_dir: Path
) -> None:
    async with driver(tmp_path).boot(spec) as machine:
        assert machine.vmm == "firecracker"
        assert await talk(machine.open_channel) == b"olleh\n"
        assert "it boots\n" in machine.console()
        folder = the_one_in(run_dir)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not (folder / "v.sock_5001").exists(), "there is nothing to be knocked at any more"
        assert start_time(machine.process.pid) is not None
    assert start_time(machine.process.pid) is None


async def test_a_guest_that_is_slow_is_waited_for(spec: MachineSpec, tmp_path: Path, run_dir: Path) -> None:
    """Who connects before the knock would wait for an answer that never comes."""
    go = tmp_path / "go"
    os.mkfifo(go)
    async with driver(tmp_path, f"open({str(go)!r}).read(); {BOOTS}").boot(spec) as machine:
        talking = asyncio.create_task(talk(machine.open_channel))
        await asyncio.sleep(0.1)
        assert not talking.done()
        await asyncio.to_thread(go.write_text, "go")
        assert await talking == b"olleh\n"


async def test_firecracker_is_told_everything_at_once(spec: MachineSpec, tmp_path: Path, run_dir: Path) -> None:
    script = "print(json.dumps([sys.argv[1:], config, os.getcwd(), open('disk').name])); knock(); serve()"
    kept = replace(spec, seed=tmp_path / "seed", durable=True)
    async with driver(tmp_path, script).boot(kept) as machine:
        await talk(machine.open_channel)
        argv, config, folder, _ = json.loads(machine.console())
    assert argv[0] == "--no-api"
    assert argv[argv.index("--level") + 1] == "Info"
    assert len(argv) == 5
    assert Path(folder).parent == run_dir
    assert config["machine-config"] == {"vcpu_count": 3, "mem_size_mib": 768, "track_dirty_pages": False}
    assert config["boot-source"]["kernel_image_path"] == str(spec.kernel)
    assert [drive["path_on_host"] for drive in config["drives"]] == [
        str(spec.image),
        "disk",
        str(spec.modules),
        str(tmp_path / "seed"),
    ]
    assert "console=ttyS0" not in config["boot-source"]["boot_args"].split()


async def test_the_disk_is_reached_by_its_name_and_written(spec: MachineSpec, tmp_path: Path, run_dir: Path) -> None:
    script = f"disk = open(config['drives'][1]['path_on_host'], 'r+b'); disk.write(b'written'); disk.close(); {BOOTS}"
    async with driver(tmp_path, script).boot(spec) as machine:
        await talk(machine.open_channel)
    assert os.pread(spec.disk_fd, 7, 0) == b"written"


async def test_with_a_console_the_guest_prints(spec: MachineSpec, tmp_path: Path, run_dir: Path) -> None:
    plain = driver(tmp_path, "print(config['boot-source']['boot_args']); knock(); serve()")
    assert not plain.console
    async with plain.with_console().boot(spec) as machine:
        await talk(machine.open_channel)
        assert "console=ttyS0" in machine.console().split()


@pytest.mark.parametrize("code", [0, 1])
async def test_a_machine_that_dies_before_its_guest_is_up_is_seen_at_once(
    spec: MachineSpec, tmp_path: Path, run_dir: Path, code: int
) -> None:
    script = f"print('no such device', file=sys.stderr); sys.exit({code})"
    async with driver(tmp_path, script).boot(spec) as machine:
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionRefusedError):
                await machine.open_channel()
        assert await machine.process.wait() == code
        await until(lambda: "no such device" in machine.console())


async def test_a_machine_that_dies_while_its_guest_boots_is_seen(
    spec: MachineSpec, tmp_path: Path, run_dir: Path
) -> None:
    async with driver(tmp_path, f"print('up'){FOR_EVER}").boot(spec) as machine:
        opening = asyncio.ensure_future(machine.open_channel())
        await until(lambda: "up" in machine.console())
        assert not opening.done()
        os.kill(machine.process.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionRefusedError):
                await opening


async def test_a_machine_that_dies_after_the_knock_is_seen(spec: MachineSpec, tmp_path: Path, run_dir: Path) -> None:
    async with driver(tmp_path, "knock(); listener.accept(); os._exit(3)").boot(spec) as machine:
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionError):
                await machine.open_channel()
        assert await machine.process.wait() == 3


@pytest.mark.parametrize("stubborn", [True, False])
async def test_a_machine_is_gone_at_the_end_with_everything_it_started(
    spec: MachineSpec, tmp_path: Path, run_dir: Path, stubborn: bool
) -> None:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    script = f"{ignore}open('left', 'w'); os.mkdir('below'); open('below/left', 'w'); print('up'){FOR_EVER}"
    async with driver(tmp_path, script).boot(spec) as machine:
        await until(lambda: "up" in machine.console())
        assert {"below", "disk", "left", "v.sock"} <= set(os.listdir(the_one_in(run_dir)))
    assert start_time(machine.process.pid) is None


async def test_a_failure_in_the_block_takes_the_machine_away(spec: MachineSpec, tmp_path: Path, run_dir: Path) -> None:
    seen: list[Machine] = []

    async def fail() -> None:
        async with driver(tmp_path).boot(spec) as machine:
            seen.append(machine)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()
    assert start_time(seen[0].process.pid) is None


@pytest.mark.parametrize("moment", ["starting", "waiting for the guest", "up"])
async def test_cancelling_takes_the_machine_away(spec: MachineSpec, tmp_path: Path, run_dir: Path, moment: str) -> None:
    pid_file, reached = tmp_path / "pid", asyncio.Event()
    knocks = "knock(); serve()" if moment == "up" else FOR_EVER

    async def run() -> None:
        async with driver(tmp_path, f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n{knocks}").boot(
            spec
        ) as machine:
            if moment == "up":
                await talk(machine.open_channel)
            reached.set()
            with await machine.open_channel():
                await asyncio.Future()

    running = asyncio.create_task(run())
    if moment == "starting":
        await until(lambda: run_dir.exists() and list(run_dir.iterdir()) != [])
    else:
        await reached.wait()
        await asyncio.to_thread(wait_until, lambda: pid_file.exists() and pid_file.read_text())
    running.cancel()
    await asyncio.wait((running,))
    assert running.cancelled()
    if pid_file.exists() and pid_file.read_text():
        assert start_time(int(pid_file.read_text())) is None


async def test_a_program_that_cannot_be_started_leaves_nothing(
    spec: MachineSpec, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confine, "BWRAP", "/no/such/bwrap")
    monkeypatch.setattr(firecracker_sandbox, "access_for", lambda *_: KvmAccess())
    with pytest.raises(FileNotFoundError):
        async with replace(driver(tmp_path), confined=True).boot(spec):
            raise AssertionError("there is nothing to boot")


async def test_where_no_device_can_be_had_nothing_is_left(
    spec: MachineSpec, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no nodes here")

    monkeypatch.setattr(firecracker_sandbox, "access_for", refuse)
    with pytest.raises(PermissionError):
        async with replace(driver(tmp_path), confined=True).boot(spec):
            raise AssertionError("there is nothing to boot")


async def test_a_missing_program_is_a_machine_that_ended(spec: MachineSpec, tmp_path: Path, run_dir: Path) -> None:
    async with FirecrackerDriver(tmp_path / "none", tmp_path / "run", confined=False).boot(spec) as machine:
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionRefusedError):
                await machine.open_channel()
        await until(lambda: "not found" in machine.console())


async def test_nothing_of_the_users_environment_reaches_the_vmm(
    spec: MachineSpec, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "do not tell")
    script = (
        "import resource\n"
        "limits = [resource.getrlimit(number)[1] for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE)]\n"
        f"print(sorted(os.environ), limits, sorted(os.listdir('/proc/self/fd'))); {BOOTS}"
    )
    async with driver(tmp_path, script).boot(spec) as machine:
        await talk(machine.open_channel)
        said = machine.console()
    assert "SECRET" not in said
    assert "[256, 0]" in said


async def test_a_confined_machine_is_another_user_who_sees_its_inputs_alone(
    spec: MachineSpec, tmp_path: Path, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a script in Firecracker's place that needs nothing but what every host has."""
    monkeypatch.setattr(firecracker_sandbox, "access_for", lambda *_: KvmAccess(Path("/dev/null"), Path("/dev/kvm")))
    program = tmp_path / "firecracker"
    program.write_text(
        '#!/bin/sh\nfor word; do config=$word; case "$before" in --config-file) break;; esac; before=$word; done\n'
        'id -u; pwd; ls /inputs; cat /inputs/kernel; echo; test -c /dev/kvm && echo kvm; cat "$config"; echo\n'
        f"printf written 1<>disk; echo mine >file; test -e {spec.kernel} || echo hidden; echo done; exec sleep 1000\n"
    )
    program.chmod(0o755)
    async with FirecrackerDriver(program, tmp_path / "run").boot(spec) as machine:
        async with asyncio.timeout(30):
            await until(lambda: "done\n" in machine.console())
        user, folder, *inputs, kernel, kvm, config, hidden, _ = machine.console().splitlines()
        outside = the_one_in(run_dir)
        assert (outside / "file").read_text() == "mine\n"
        owners = {path.lstat().st_uid for path in (outside, *outside.iterdir())} | {os.fstat(spec.disk_fd).st_uid}
    assert owners == {int(user)}
    assert user_ids.is_ours(int(user)) if os.geteuid() == 0 else int(user) == os.geteuid()
    assert folder == str(confine.FOLDER)
    assert inputs == ["firecracker", "image", "initramfs", "kernel", "modules"]
    assert (kernel, kvm, hidden) == ("vmlinux", "kvm", "hidden")
    assert json.loads(config)["boot-source"]["kernel_image_path"] == "/inputs/kernel"
    assert os.pread(spec.disk_fd, 7, 0) == b"written"
    assert stat.S_IMODE(os.fstat(spec.disk_fd).st_mode) == 0o600
