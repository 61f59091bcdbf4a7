"""The daemon's folder is its owner's alone, however deep it lies."""

import errno
import os
import stat
from pathlib import Path

import pytest

from pyro_mcp.daemon import place as place_module
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.errors import HostUnfit, InvalidRequest
from tests.support.descriptors import none_left
from tests.support.other_user import as_user


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def place(tmp_path: Path) -> DaemonPlace:
    found = DaemonPlace(tmp_path / "state" / "pyro")
    found.prepare()
    return found


def test_the_folder_is_made_for_its_owner_alone(place: DaemonPlace) -> None:
    assert _mode(place.home) == 0o700


def test_a_folder_that_others_may_enter_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    DaemonPlace(tmp_path).prepare()
    assert _mode(tmp_path) == 0o700


def test_a_folder_that_is_closer_still_stays_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    DaemonPlace(tmp_path).prepare()
    assert _mode(tmp_path) == 0o500


def test_another_users_folder_is_refused(place: DaemonPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(InvalidRequest, match="another user") as caught:
        place.prepare()
    assert caught.value.code == "bad_setting"
    assert "PYRO_HOME" in caught.value.message


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_folder_that_cannot_be_made_names_the_variable(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostUnfit, match="PYRO_HOME") as caught:
        DaemonPlace(tmp_path / below).prepare()
    assert caught.value.code == "home_unusable"


def test_a_folder_that_cannot_be_closed_to_others_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _mode: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    tmp_path.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(HostUnfit, match="Read-only file system") as caught:
        DaemonPlace(tmp_path).prepare()
    assert caught.value.code == "home_unusable"
    assert str(tmp_path) in caught.value.message


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, **_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(HostUnfit, match=r"PYRO_HOME.* is full") as caught:
        DaemonPlace(tmp_path).prepare()
    assert caught.value.code == "no_disk_space"
    assert "free some space" in str(caught.value.hint)


def test_a_folder_that_its_owner_may_not_enter_is_named(place: DaemonPlace) -> None:
    place.listen().close()
    place.home.chmod(0)
    with as_user(place.home), pytest.raises(HostUnfit, match="Permission denied") as caught:
        place.connect()
    place.home.chmod(0o700)
    assert caught.value.code == "home_unusable"
    assert str(place.socket_path) in caught.value.message


def test_folders_where_files_belong_are_named(place: DaemonPlace) -> None:
    uses = {place.socket_path: place.listen, place.lock_path: place.open_lock, place.log_path: place.open_log}
    for path, use in uses.items():
        path.mkdir()
        with pytest.raises(HostUnfit, match="PYRO_HOME") as caught:
            use()
        assert caught.value.code == "home_unusable"
        assert str(path) in caught.value.message


def test_the_socket_is_its_owners_alone(place: DaemonPlace) -> None:
    with place.listen():
        assert _mode(place.socket_path) == 0o600


def test_connecting_reaches_whoever_listens(place: DaemonPlace) -> None:
    with place.listen() as listener, place.connect() as ours:
        theirs, _ = listener.accept()
        with theirs:
            ours.sendall(b"hello")
            assert theirs.recv(5) == b"hello"


def test_a_path_that_is_too_long_for_a_socket_address_works(tmp_path: Path) -> None:
    deep = tmp_path
    while len(str(deep)) < 300:
        deep = deep / ("x" * 50)
    place = DaemonPlace(deep)
    place.prepare()
    with place.listen() as listener, place.connect():
        listener.accept()[0].close()


def test_without_a_daemon_there_is_nothing_to_connect_to(place: DaemonPlace) -> None:
    with pytest.raises(FileNotFoundError):
        place.connect()
    place.listen().close()
    with pytest.raises(ConnectionRefusedError):
        place.connect()


def test_a_dead_socket_is_replaced(place: DaemonPlace) -> None:
    place.listen().close()
    assert place.socket_path.exists()
    with place.listen(), place.connect():
        pass


def test_a_daemon_of_another_user_is_not_spoken_to(place: DaemonPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.getuid()
    with place.listen():
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
        with pytest.raises(InvalidRequest, match="another user"):
            place.connect()


def test_connecting_and_listening_leave_no_descriptor(place: DaemonPlace) -> None:
    with none_left():
        with place.listen() as listener, place.connect():
            listener.accept()[0].close()
        with pytest.raises(ConnectionRefusedError):
            place.connect()


def test_a_socket_that_cannot_be_bound_leaves_no_descriptor(
    place: DaemonPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.socket_path.mkdir()
    monkeypatch.setattr(Path, "unlink", lambda *_arguments, **_options: None)
    with none_left(), pytest.raises(HostUnfit, match="in use"):
        place.listen()


def test_the_log_is_appended_to_by_its_owner_alone(place: DaemonPlace) -> None:
    for line in (b"one\n", b"two\n"):
        log = place.open_log()
        os.write(log, line)
        os.close(log)
    assert place.log_path.read_text() == "one\ntwo\n"
    assert _mode(place.log_path) == 0o600


def test_a_log_that_has_grown_is_set_aside(place: DaemonPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place_module, "_LOG_BYTES", 10)
    place.log_path.write_text("more than ten bytes")
    os.close(place.open_log())
    assert place.log_path.read_text() == ""
    assert (place.home / "daemon.log.1").read_text() == "more than ten bytes"


def test_a_socket_path_needs_an_existing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DaemonPlace(tmp_path / "missing").connect()
