"""What the SDK asks of the engine for each call, and what comes back, over the real API on a real socket."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pyro_mcp import Pyro
from pyro_mcp.config import Settings
from pyro_mcp.daemon import workspace_routes
from pyro_mcp.daemon.streaming import Emit
from pyro_mcp.errors import Conflict, InvalidRequest, NotFound
from pyro_mcp.events import OutputChunk
from pyro_mcp.models import Progress
from pyro_mcp.sdk import CommandResult
from pyro_mcp.workspace import export, files, sync
from pyro_mcp.workspace_models import (
    ApplyPatch,
    CreateWorkspace,
    DiffEntry,
    DiffReport,
    DiffRequest,
    ExecInfo,
    ExecRequest,
    ExecResult,
    ExecStarted,
    ExportPath,
    ExportReport,
    FileContent,
    FileEntry,
    FileListing,
    ListFiles,
    OutputPage,
    OutputQuery,
    PatchedFile,
    PatchReport,
    PrunedWorkspaces,
    PruneWorkspaces,
    ReadFile,
    ResetWorkspace,
    RestoreWorkspace,
    SyncPush,
    SyncReport,
    UpdateWorkspace,
    WriteFile,
    WrittenFile,
)
from tests.support.fake_workspaces import DELETED, ENDED, INFO, FakeWorkspaces
from tests.support.served import served

T = TypeVar("T")
Use = Callable[[Callable[[Pyro], T]], T]


@pytest.fixture
def engine() -> FakeWorkspaces:
    return FakeWorkspaces()


async def _said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces, use: Callable[[Pyro], T]
) -> T:
    """What `use` returns against a server with this engine."""
    async with served(settings, monkeypatch, workspaces=engine):
        with Pyro(settings) as pyro:
            return await asyncio.to_thread(use, pyro)


async def test_create(settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces) -> None:
    heard: list[Progress] = []
    monkeypatch.chdir("/usr")

    def use(pyro: Pyro) -> Any:
        made = pyro.create_workspace(
            "debian:12-build",
            vcpu_count=2,
            mem_mib=512,
            ttl_seconds=60,
            seed_path=Path("lib/../share"),
            seed_all=True,
            name="demo",
            labels={"k": "v"},
            on_progress=heard.append,
        )
        return made, pyro.create_workspace("debian:12")

    made, plain = await _said(settings, monkeypatch, engine, use)
    assert (made.environment, made.name, made.labels, made.seed) == ("debian:12-build", "demo", {"k": "v"}, INFO.seed)
    assert plain.name is None
    assert engine.asked == [
        ("create", CreateWorkspace("debian:12-build", 2, 512, 60, "off", "/usr/share", True, "demo", {"k": "v"})),
        ("create", CreateWorkspace("debian:12")),
    ]
    assert heard == [Progress("create", "boot", "debian:12-build")]


async def test_finding_and_changing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces
) -> None:
    def use(pyro: Pyro) -> Any:
        return (
            pyro.list_workspaces(),
            pyro.list_workspaces(deleted=True),
            pyro.workspace_status("demo"),
            pyro.update_workspace("demo", name="new", labels={"a": "b"}, clear_labels=["owner"]).name,
            pyro.update_workspace("demo", clear_name=True).name,
            pyro.stop_workspace("demo").state,
            pyro.start_workspace("demo").state,
            pyro.reset_workspace("demo").state,
            pyro.delete_workspace("demo").state,
            pyro.restore_workspace("old", name="again").state,
            pyro.prune_workspaces(),
            pyro.prune_workspaces(workspace="old", dry_run=True).dry_run,
        )

    assert await _said(settings, monkeypatch, engine, use) == (
        (INFO,),
        (DELETED,),
        replace(INFO, host_memory_bytes=64 << 20),
        "new",
        None,
        "stopped",
        "running",
        "running",
        "deleted",
        "stopped",
        PrunedWorkspaces(("workspace w-3k8n",), 5 << 20, False),
        True,
    )
    assert engine.asked == [
        ("status", "demo"),
        ("update", "demo", UpdateWorkspace("new", False, {"a": "b"}, ("owner",))),
        ("update", "demo", UpdateWorkspace(clear_name=True)),
        ("stop", "demo"),
        ("start", "demo"),
        ("reset", "demo", ResetWorkspace("baseline")),
        ("delete", "demo"),
        ("restore", "old", RestoreWorkspace("again")),
        ("prune", PruneWorkspaces()),
        ("prune", PruneWorkspaces("old", True)),
    ]


AWKWARD = ("", "a/b", "a/execs", "..", "a b?c#d", "%2e%2e", "é", "prune", "x" * 300, "\udcff", "a\r\nX: y", "a%2Fexecs")


async def test_whatever_a_workspace_is_called_it_is_not_taken_for_something_else(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces
) -> None:
    def use(pyro: Pyro) -> list[str]:
        codes = []
        for name in AWKWARD:
            calls: list[Callable[[], object]] = [
                lambda name=name: pyro.workspace_status(name),  # type: ignore[misc]
                lambda name=name: pyro.workspace_logs(name),  # type: ignore[misc]
                lambda name=name: pyro.start_workspace(name),  # type: ignore[misc]
                lambda name=name: pyro.exec_workspace(name, ["ls"]),  # type: ignore[misc]
                lambda name=name: pyro.diff_workspace(name),  # type: ignore[misc]
                lambda name=name: pyro.cancel_command(name, "x-1"),  # type: ignore[misc]
            ]
            for call in calls:
                with pytest.raises(NotFound) as caught:
                    call()
                codes.append(caught.value.code)
        return codes

    assert set(await _said(settings, monkeypatch, engine, use)) == {"unknown_workspace"}
    found = [asked[1] for asked in engine.asked if asked[0] == "status"]
    assert found == [name for name in AWKWARD if 0 < len(name) < 256 and name != "\udcff"] or "?" in found


@pytest.mark.parametrize("exec_id", ["", "a/b", "x" * 300, "wait", "é"])
async def test_whatever_a_command_is_called(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces, exec_id: str
) -> None:
    engine.live = False
    with pytest.raises(NotFound) as caught:
        await _said(settings, monkeypatch, engine, lambda pyro: pyro.cancel_command("demo", exec_id))
    assert caught.value.code == "unknown_command"


async def test_a_command_to_its_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces
) -> None:
    def use(pyro: Pyro) -> tuple[CommandResult, CommandResult]:
        return pyro.exec_workspace("demo", ["ls", "-l"]), pyro.exec_workspace(
            "demo", ["cat"], timeout_seconds=7, stdin=b"in\x00put" * 100_000
        )

    first, second = await _said(settings, monkeypatch, engine, use)
    assert first == CommandResult("x-1f3a9c", "exited", 3, 1234, b"out\xff", b"err")
    assert second.stdout == b"out\xff" + b"in\x00put" * 100_000
    requests = [command.request for command in engine.runner.commands]
    assert requests == [ExecRequest(("ls", "-l"), 30, False), ExecRequest(("cat",), 7, True)]
    assert engine.held == 0


async def test_a_command_is_followed_and_spoken_to(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces
) -> None:
    def use(pyro: Pyro) -> list[object]:
        with pyro.stream_in_workspace("demo", ExecRequest(("cat",), stdin=True)) as running:
            events: list[object] = []
            for event in running:
                events.append(event)
                if isinstance(event, ExecStarted):
                    assert running.exec_id == event.exec_id
                    running.signal(15)
                    running.send_input([b"first ", b"", b"second"])
            return events

    started, *output, ended = await _said(settings, monkeypatch, engine, use)
    assert started == ExecStarted("x-1f3a9c")
    assert output == [
        OutputChunk("stdout", b"out\xff"),
        OutputChunk("stderr", b"err"),
        OutputChunk("stdout", b"first second"),
    ]
    assert isinstance(ended, ExecInfo)
    assert engine.runner.commands[0].signals == [15]


async def test_commands_that_are_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces
) -> None:
    result = ExecResult(ENDED, b"head\xff", b"tail")

    def use(pyro: Pyro) -> Any:
        return (
            pyro.start_command("demo", ["make"], timeout_seconds=600, wait_seconds=3),
            pyro.wait_for_command("demo", "x-1f3a9c", wait_seconds=9),
            pyro.read_command_output("demo", "x-1f3a9c", offset=5, limit=6, grep="a.b"),
            pyro.cancel_command("demo", "x-1f3a9c").status,
            pyro.workspace_logs("demo"),
        )

    assert await _said(settings, monkeypatch, engine, use) == (
        result,
        result,
        OutputPage("x-1f3a9c", 5, b"page", 4, running=False),
        "cancelled",
        (ENDED,),
    )
    assert engine.runner.commands[0].request == ExecRequest(("make",), 600, False)
    assert engine.runner.asked == [
        ("wait", "x-1f3a9c", 3),
        ("wait", "x-1f3a9c", 9),
        ("output", "x-1f3a9c", OutputQuery(5, 6, "a.b")),
        ("cancel", "x-1f3a9c"),
    ]


@pytest.mark.parametrize("seconds", [-1, 301])
async def test_waiting_longer_than_may_be(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces, seconds: int
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await _said(
            settings, monkeypatch, engine, lambda pyro: pyro.start_command("demo", ["ls"], wait_seconds=seconds)
        )
    assert caught.value.code == "out_of_range"
    assert engine.runner.commands == []


async def test_a_stopped_workspace_says_how_to_start_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces
) -> None:
    engine.live = False

    def use(pyro: Pyro) -> list[str]:
        codes = []
        for call in (
            lambda: pyro.exec_workspace("demo", ["ls"]),
            lambda: pyro.list_workspace_files("demo"),
            lambda: pyro.wait_for_command("demo", "x-1f3a9c"),
            lambda: pyro.export_workspace("demo", ".", "/tmp/out"),
        ):
            with pytest.raises(Conflict) as caught:
                call()
            codes.append(f"{caught.value.code} {caught.value.hint}")
        assert pyro.cancel_command("demo", "x-1f3a9c") == ENDED
        assert pyro.workspace_logs("demo") == (ENDED,)
        return codes

    assert set(await _said(settings, monkeypatch, engine, use)) == {"workspace_stopped pyro workspace start demo"}


async def test_files(settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces) -> None:
    asked: list[object] = []
    listing = FileListing("/workspace", (FileEntry("/workspace/é", "file", 1, 0o644, "2026"),), False)
    content = FileContent("/workspace/a", 2, bytes(range(256)) * 40_000, 3, False)
    patched = PatchReport((PatchedFile("a", "renamed", 2, "b", 3),))
    diffed = DiffReport((DiffEntry("a", "modified", insertions=1),), b"+\xff\n", False, 1, 0)
    answers = {ListFiles: listing, ReadFile: content, ApplyPatch: patched, DiffRequest: diffed}

    async def feature(guest: object, request: Any) -> Any:
        assert guest is engine.guest
        assert engine.held == 1
        asked.append(request)
        if isinstance(request, WriteFile):
            return WrittenFile(request.path, len(request.data), True)
        return answers[type(request)]

    for module, name in ((files, "list_files"), (files, "read_file"), (files, "write_file")):
        monkeypatch.setattr(module, name, feature)
    monkeypatch.setattr(workspace_routes, "apply_patch", feature)
    monkeypatch.setattr(workspace_routes, "diff", feature)
    large = os.urandom(8 << 20)

    def use(pyro: Pyro) -> Any:
        return (
            pyro.list_workspace_files("demo", "src", recursive=True),
            pyro.read_workspace_file("demo", "a", max_bytes=9, offset=2),
            pyro.write_workspace_file("demo", "a", "é"),
            pyro.write_workspace_file("demo", "b", large),
            pyro.apply_workspace_patch("demo", "--- a\n"),
            pyro.diff_workspace("demo"),
        )

    written = (WrittenFile("a", 2, True), WrittenFile("b", 8 << 20, True))
    assert await _said(settings, monkeypatch, engine, use) == (listing, content, *written, patched, diffed)
    assert asked == [
        ListFiles("src", True),
        ReadFile("a", 9, 2),
        WriteFile("a", "é".encode()),
        WriteFile("b", large),
        ApplyPatch("--- a\n"),
        DiffRequest(),
    ]


async def test_what_utf8_cannot_say_is_refused_before_it_is_sent(settings: Settings) -> None:
    pyro = Pyro(settings)
    for call in (
        lambda: pyro.write_workspace_file("demo", "a", "\udcff"),
        lambda: pyro.apply_workspace_patch("demo", "\udcff"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            call()
        assert caught.value.code == "not_utf8"
    assert not settings.home.exists()


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_what_is_no_path_is_refused_before_it_is_sent(settings: Settings, path: str) -> None:
    pyro = Pyro(settings)
    for call in (
        lambda: pyro.create_workspace("debian:12", seed_path=path),
        lambda: pyro.push_workspace_sync("demo", path),
        lambda: pyro.export_workspace("demo", "a", path),
    ):
        with pytest.raises(InvalidRequest) as caught:
            call()
        assert caught.value.code == "bad_path"
        assert caught.value.hint
    assert not settings.home.exists()


async def test_copying_in_and_out(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, engine: FakeWorkspaces, tmp_path: Path
) -> None:
    asked: list[object] = []
    heard: list[Progress] = []
    pushed, exported = SyncReport(2, 3, "/workspace/x"), ExportReport("/o", 4, 5, ("socket",))

    async def feature(guest: object, request: Any, report: Emit) -> Any:
        assert guest is engine.guest
        asked.append(request)
        await report(Progress("sync", "copy", "", done=1))
        return pushed if isinstance(request, SyncPush) else exported

    monkeypatch.setattr(sync, "push", feature)
    monkeypatch.setattr(export, "export", feature)
    monkeypatch.chdir(tmp_path)

    def use(pyro: Pyro) -> Any:
        return (
            pyro.push_workspace_sync("demo", ".", dest="x", all=True, on_progress=heard.append),
            pyro.export_workspace("demo", "a", Path("out"), include_git=True, on_progress=heard.append),
        )

    assert await _said(settings, monkeypatch, engine, use) == (pushed, exported)
    assert asked == [SyncPush(str(tmp_path), "x", True), ExportPath("a", str(tmp_path / "out"), True)]
    assert len(heard) == 2
