"""What models are told of failures."""

import os
from pathlib import Path

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.errors import InvalidRequest
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


def test_paths_that_the_caller_gave_are() -> None:
    error = InvalidRequest("x", "/srv/project/a b and /workspace/c are no files; 1/2 and a/b are no paths")
    assert failure_text(error, '{"seed_path": "/srv/project/a b"}') == f"x: {error.message}."


def test_paths_below_the_working_directory_are_told_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = InvalidRequest("x", f"no permission to read {os.getcwd()}/key")
    assert failure_text(error, '{"seed_path": "."}') == "x: no permission to read ./key."


def test_settings_that_cannot_be_read_are_no_further_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_VMM", "nonsense")
    assert failure_text(InvalidRequest("x", "wrong"), "") == "x: wrong."
