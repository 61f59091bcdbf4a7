"""Machines under Firecracker that outlive whoever started them; no guest boots here."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from pyro_mcp.process import Detached, wait_for_end
from pyro_mcp.process_watch import Watched
from pyro_mcp.vmm import channel
from pyro_mcp.vmm.channel import to_agent, while_alive
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.machine import MachineSpec
from tests.support.descriptors import none_left
from tests.support.fake_firecracker import BOOTS, FOR_EVER, talk
from tests.support.fake_firecracker import unconfined_driver as driver


async def test_a_kept_machine_is_reached_again_and_again(
    spec: MachineSpec, tmp_path: Path, folder: Path, kept: list[Detached]
) -> None:
    log = channel.BoundedLog()
    starting = driver(tmp_path, f"print(json.dumps(sys.argv[1:])); {BOOTS}")
    with channel.listening(folder / starting.listens_at) as listener:
        process = await asyncio.to_thread(starting.start_kept, spec, folder, listener, log.fd, kept.append)
        assert kept == [process]
        open_channel = starting.channel(spec, folder, listener)
        assert await talk(open_channel) == b"olleh\n"
        assert not (folder / "v.sock_5001").exists()
        assert await talk(open_channel) == b"olleh\n", "nobody knocks a second time"
    # As the next daemon does, which has no listener.
    assert await talk(to_agent("firecracker", folder)) == b"olleh\n"
    argv = json.loads(log.text().splitlines()[0])
    assert argv[argv.index("--api-sock") + 1] == "api.sock"
    assert "--no-api" not in argv
    assert "it boots" in log.text()
    log.close()
    found = Watched.find(process)
    assert found is not None
    found.kill()
    async with asyncio.timeout(30):
        await found.wait()
        with pytest.raises(ConnectionRefusedError):
            await while_alive(to_agent("firecracker", folder), found.wait)()
        with pytest.raises(ConnectionRefusedError):
            await to_agent("firecracker", folder)()
    found.close()


async def test_a_kept_machine_that_dies_before_its_guest_is_up_is_seen_at_once(
    spec: MachineSpec, tmp_path: Path, folder: Path, kept: list[Detached]
) -> None:
    starting = driver(tmp_path, f"signal.signal(signal.SIGTERM, lambda *_: os._exit(3)){FOR_EVER}")
    with channel.listening(folder / starting.listens_at) as listener:
        process = await asyncio.to_thread(starting.start_kept, spec, folder, listener, 2, kept.append)
        found = Watched.find(process)
        assert found is not None
        opening = asyncio.ensure_future(while_alive(starting.channel(spec, folder, listener), found.wait)())
        await asyncio.sleep(0.05)
        assert not opening.done()
        os.kill(process.pid, signal.SIGTERM)
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionRefusedError):
                await opening
        found.close()


async def test_a_kept_machine_that_could_not_be_written_down_does_not_start(
    spec: MachineSpec, tmp_path: Path, folder: Path
) -> None:
    seen: list[Detached] = []

    def fail(process: Detached) -> None:
        seen.append(process)
        raise KeyError("no room")

    starting = driver(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w'); {BOOTS}")
    with none_left():
        with channel.listening(folder / starting.listens_at) as listener, pytest.raises(KeyError, match="no room"):
            await asyncio.to_thread(starting.start_kept, spec, folder, listener, 2, fail)
        assert wait_for_end(seen[0].pid, 30)
        assert not (tmp_path / "ran").exists()


async def test_whoever_stops_waiting_for_a_kept_guest_can_wait_again(
    spec: MachineSpec, tmp_path: Path, folder: Path, kept: list[Detached]
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    starting = driver(tmp_path, f"open({str(go)!r}).read(); {BOOTS}")
    with channel.listening(folder / starting.listens_at) as listener:
        await asyncio.to_thread(starting.start_kept, spec, folder, listener, 2, kept.append)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await starting.channel(spec, folder, listener)()
        await asyncio.to_thread(go.write_text, "go")
        assert await talk(starting.channel(spec, folder, listener)) == b"olleh\n"


def test_the_listener_is_a_socket_of_the_vmms_folder(tmp_path: Path) -> None:
    with channel.listening(tmp_path / FirecrackerDriver(tmp_path, tmp_path).listens_at) as listener:
        assert listener.family == socket.AF_UNIX
        assert [path.name for path in tmp_path.iterdir()] == ["v.sock_5001"]
