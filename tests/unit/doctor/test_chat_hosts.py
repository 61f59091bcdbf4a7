from pathlib import Path

import pytest

from pyro_mcp.doctor import chat_hosts
from pyro_mcp.doctor.report import Status


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


async def test_none_is_no_fault(programs: Path) -> None:
    row = await chat_hosts.examine()
    assert row.status is Status.PASS
    assert row.found.startswith("none found")


async def test_all_that_are_there_are_told_with_their_versions(programs: Path) -> None:
    install(programs, "claude", "echo '2.1.7 (Claude Code)'")
    install(programs, "opencode", "echo 1.18.0-beta+3")
    row = await chat_hosts.examine()
    assert (row.status, row.found) == (Status.PASS, "found Claude Code 2.1.7 and OpenCode 1.18.0-beta+3")


async def test_one_without_a_version_is_told_all_the_same(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_hosts, "_VERSION_SECONDS", 0.2)
    install(programs, "claude", "exec /bin/sleep 1000")
    install(programs, "codex", "echo what; exit 3")
    (programs / "opencode").write_text("not a program")
    (programs / "opencode").chmod(0o755)
    row = await chat_hosts.examine()
    assert row.status is Status.PASS
    assert "Claude Code (it does not tell its version within 0.2 s)" in row.found
    assert "Codex (of unknown version)" in row.found
    assert "OpenCode (it cannot be started: Exec format error)" in row.found
