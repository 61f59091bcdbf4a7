"""What models are told of failures."""

import os
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.errors import CommandNotStarted, GuestFailed, InvalidRequest, PyroError
from pyro_mcp.mcp.failure import failure_text


def test_code_sentence_hint() -> None:
    error = InvalidRequest("name_in_use", "the name 'a' is in use", "choose another")
    assert failure_text(error, "") == "name_in_use: the name 'a' is in use. Hint: choose another."


@pytest.mark.parametrize("said", ["all wrong.", "is it there?", "and so on..."])
def test_a_sentence_ends_once(said: str) -> None:
    assert failure_text(InvalidRequest("c", said, said), "") == f"c: {said} Hint: {said}"


def test_a_message_of_many_lines_keeps_them() -> None:
    error = InvalidRequest("patch_failed", "hunk 1:\n  expected a\n", "read the file")
    assert failure_text(error, "") == "patch_failed: hunk 1:\n  expected a\n Hint: read the file."


def test_what_nobody_foresaw_is_told_to_the_user_alone(capfd: pytest.CaptureFixture[str]) -> None:
    said = failure_text(ValueError("/home/me/.secret is broken"), "")
    assert said.startswith("internal: ")
    assert "secret" not in said
    assert "ValueError: /home/me/.secret is broken" in capfd.readouterr().err


def test_paths_of_the_host_are_not_told(settings: Settings) -> None:
    error = InvalidRequest("x", f"see {settings.home}/daemon.log and {settings.cache_dir}/e, not /home/me/.ssh/id")
    assert failure_text(error, "") == "x: see $PYRO_HOME/daemon.log and $PYRO_CACHE_DIR/e, not (a path of the host)."


@pytest.mark.parametrize("folder", ["/home/me", "/root/clients/acme", "/tmp/acme", "/var/acme", "/opt/acme", "/srv/a"])
def test_nor_those_in_folders_that_guests_have_too(folder: str) -> None:
    error = InvalidRequest("git_failed", f"git cannot read the checkout {folder}: it is another's")
    hidden = "git_failed: git cannot read the checkout (a path of the host): it is another's."
    assert failure_text(error, '{"seed_path": "."}') == hidden
    assert folder not in failure_text(GuestFailed("x", f"bwrap: no {folder}/vmlinux"), '{"workspace": "w-ab12"}')


def test_what_every_host_has_is_told() -> None:
    error = InvalidRequest("no_kvm", "see /dev/kvm, /etc/apt, /usr/bin/qemu and /proc/1; /workspace is the guest's")
    assert failure_text(error, "") == f"no_kvm: {error.message}."


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("patch_failed", "hunk 1 of a.ini: expected 'log = /var/log/a', found 'home = /root'"),
        InvalidRequest("bad_patch", "line 1: '/opt/x /home/user/y' begins no hunk"),
        CommandNotStarted("command_not_found", "/root/.cargo/bin/cargo: no such file", exit_code=127),
    ],
    ids=lambda error: str(error.code),
)
def test_paths_in_what_the_guest_shows_are_told(error: PyroError) -> None:
    assert failure_text(error, "") == f"{error.code}: {error.message}."


def test_paths_below_those_that_the_caller_gave_are_told() -> None:
    error = InvalidRequest("x", "no permission to read /root/a b/deep/key")
    assert failure_text(error, '{"seed_path": "/root/a b"}') == f"x: {error.message}."
    error = InvalidRequest("x", "no permission to read /root/a/key")
    for given in ('{"seed_path": "/"}', '{"command": "ls /root"}', '{"seed_path": "/roo"}'):
        assert failure_text(error, given) == "x: no permission to read (a path of the host)."


def test_paths_that_the_caller_gave_are() -> None:
    error = InvalidRequest("x", "/srv/project/a b and /workspace/c are no files; 1/2 and a/b are no paths")
    assert failure_text(error, '{"seed_path": "/srv/project/a b"}') == f"x: {error.message}."


def test_paths_below_the_working_directory_are_told_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = InvalidRequest("x", f"no permission to read {os.getcwd()}/key")
    assert failure_text(error, '{"seed_path": "."}') == "x: no permission to read ./key."


def test_a_folder_whose_name_only_begins_as_the_working_directorys_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    error = InvalidRequest("x", f"see {tmp_path}/another, {tmp_path}/a.git and {tmp_path}/a.")
    assert failure_text(error, "") == "x: see (a path of the host), (a path of the host) and .."


def test_a_working_directory_at_workspace_is_not_confused_with_the_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: "/workspace")
    error = InvalidRequest("file_not_found", "there is no /workspace/a.txt")
    assert failure_text(error, "") == "file_not_found: there is no /workspace/a.txt."


def test_settings_that_cannot_be_read_are_no_further_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_VMM", "nonsense")
    assert failure_text(InvalidRequest("x", "wrong"), "") == "x: wrong."
