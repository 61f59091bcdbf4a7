"""The socket of a machine that is kept, and the bounds of what its VMM prints."""

import os
import socket
from pathlib import Path

import pytest

from pyro_mcp.vmm import channel


@pytest.mark.parametrize("depth", [1, 20])
def test_a_socket_is_its_owners_alone_however_long_its_path(tmp_path: Path, depth: int) -> None:
    folder = tmp_path.joinpath(*["a-long-name"] * depth)
    folder.mkdir(parents=True)
    path = folder / "agent.sock"
    path.write_text("left by a dead one")
    before = os.listdir("/proc/self/fd")
    with channel.listening(path) as listener:
        assert path.is_socket()
        assert path.stat().st_mode & 0o777 == 0o600
        inside = os.open(folder, os.O_PATH)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"/proc/self/fd/{inside}/{path.name}")
            listener.accept()[0].close()
        os.close(inside)
    assert path.exists()
    assert os.listdir("/proc/self/fd") == before


def test_a_log_takes_so_much_and_no_more() -> None:
    log = channel.BoundedLog()
    assert log.text() == ""
    os.write(log.fd, b"first words\n")
    assert log.text() == "first words\n"
    with pytest.raises(PermissionError):
        _write_much(log.fd)
    with pytest.raises(PermissionError):
        os.pwrite(log.fd, b"x", 256 * 1024)
    with pytest.raises(PermissionError):
        os.ftruncate(log.fd, 1 << 30)
    assert len(log.text()) <= 256 * 1024
    log.close()


def _write_much(fd: int) -> None:
    for _ in range(100):
        os.write(fd, b"x" * 10_000)
