"""`AsyncPyro`: the same calls from an event loop, many at once, and cancelled where they stand."""

import asyncio
import inspect
import threading
import typing
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pyro_mcp import AsyncPyro, Pyro, sdk
from pyro_mcp.config import Settings
from pyro_mcp.daemon.streaming import Emit
from pyro_mcp.errors import CommandNotStarted, NotFound
from pyro_mcp.events import OutputChunk
from pyro_mcp.models import Progress, RunAccepted, RunFinished, RunRequest, RunStarted
from pyro_mcp.sdk import AsyncExecStream, AsyncRunStream
from pyro_mcp.workspace.control import RunControl
from pyro_mcp.workspace_models import ExecInfo, ExecRequest, ExecStarted
from tests.support.fake_workspaces import ENDED, INFO, FakeWorkspaces
from tests.support.served import served
from tests.support.waiting import until

STREAMS = {"stream_in_vm", "stream_in_workspace"}


def _methods(kind: type) -> dict[str, Any]:
    return {name: method for name, method in inspect.getmembers(kind, inspect.isroutine) if not name.startswith("_")}


def test_both_have_the_same_methods_with_the_same_parameters() -> None:
    plain, awaited = _methods(Pyro), _methods(AsyncPyro)
    assert plain.keys() == awaited.keys()
    for name, method in plain.items():
        assert inspect.signature(awaited[name]).parameters == inspect.signature(method).parameters, name
        assert inspect.iscoroutinefunction(awaited[name]) or name in STREAMS, name
        assert inspect.getdoc(awaited[name]), name


@pytest.mark.parametrize("kind", [Pyro, AsyncPyro])
def test_the_types_of_every_method_can_be_asked_for(kind: type) -> None:
    """The classes that they name are imported late, so that nothing but this would notice one that is misspelt."""
    for name, method in _methods(kind).items():
        hints = typing.get_type_hints(method)
        parameters = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
        assert hints.keys() == {*parameters, "return"}, name


def test_the_streams_have_the_same_methods() -> None:
    for plain, awaited in ((sdk.RunStream, AsyncRunStream), (sdk.ExecStream, AsyncExecStream)):
        assert _methods(plain).keys() == _methods(awaited).keys()
    with pytest.raises(AttributeError, match="nonsense"):
        sdk.nonsense  # type: ignore[attr-defined]  # noqa: B018


async def test_calls_give_what_those_of_pyro_give(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[Progress, threading.Thread]] = []
    async with served(settings, monkeypatch, workspaces=FakeWorkspaces()), AsyncPyro(settings) as pyro:
        assert await pyro.list_workspaces() == (INFO,)
        assert (await pyro.exec_workspace("demo", ["ls"])).stdout == b"out\xff"
        made = await pyro.create_workspace(
            "debian:12", on_progress=lambda progress: heard.append((progress, threading.current_thread()))
        )
        assert made.environment == "debian:12"
        with pytest.raises(NotFound) as caught:
            await pyro.workspace_status("dmeo")
        assert caught.value.hint == "did you mean demo?"
    assert heard == [(Progress("create", "boot", "debian:12"), threading.main_thread())]


async def test_many_calls_wait_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeWorkspaces()
    engine.runner.waits = True
    async with served(settings, monkeypatch, workspaces=engine), AsyncPyro(settings) as pyro:
        waiting = [asyncio.create_task(pyro.start_command("demo", ["sleep"])) for _ in range(50)]
        await until(lambda: len(engine.runner.asked) == 50)
        assert await pyro.list_workspaces() == (INFO,)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        async with asyncio.timeout(30):
            await asyncio.gather(*(command.cancelled.wait() for command in engine.runner.commands))


async def test_cancelling_a_command_that_is_waited_for_cancels_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeWorkspaces()
    engine.runner.waits = True
    async with served(settings, monkeypatch, workspaces=engine), AsyncPyro(settings) as pyro:
        for call in (pyro.start_command("demo", ["sleep"]), pyro.exec_workspace("demo", ["sleep"])):
            running = asyncio.create_task(call)
            await until(lambda: bool(engine.runner.commands))
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            async with asyncio.timeout(30):
                await engine.runner.commands.pop().cancelled.wait()


async def test_cancelling_a_wait_does_not_cancel_the_command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeWorkspaces()
    engine.runner.waits = True
    async with served(settings, monkeypatch, workspaces=engine), AsyncPyro(settings) as pyro:
        waiting = asyncio.create_task(pyro.wait_for_command("demo", ENDED.exec_id))
        async with asyncio.timeout(30):
            await engine.runner.waiting.wait()
            waiting.cancel()
            await engine.runner.left.wait()
    assert engine.runner.asked == [("wait", ENDED.exec_id, 45)]


async def test_cancelling_a_creation_takes_it_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeWorkspaces()
    begun, taken_back = asyncio.Event(), asyncio.Event()

    async def create() -> None:
        begun.set()
        try:
            await asyncio.Future()
        finally:
            taken_back.set()

    engine.creating = create
    async with served(settings, monkeypatch, workspaces=engine), AsyncPyro(settings) as pyro:
        creating = asyncio.create_task(pyro.create_workspace("debian:12"))
        async with asyncio.timeout(30):
            await begun.wait()
            creating.cancel()
            await taken_back.wait()


async def test_a_command_is_followed_and_spoken_to(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeWorkspaces()
    request = ExecRequest(("cat",), stdin=True)

    async def parts() -> AsyncIterator[bytes]:
        yield b"first "
        yield b"second"

    events: list[object] = []
    async with (
        served(settings, monkeypatch, workspaces=engine),
        AsyncPyro(settings) as pyro,
        pyro.stream_in_workspace("demo", request) as running,
    ):
        async for event in running:
            events.append(event)
            if isinstance(event, ExecStarted):
                assert running.exec_id == event.exec_id
                await running.signal(15)
                await running.send_input(parts())
        assert [event async for event in running] == []
    assert events[0] == ExecStarted(ENDED.exec_id)
    assert events[-2] == OutputChunk("stdout", b"first second")
    assert isinstance(events[-1], ExecInfo)
    assert engine.runner.commands[0].signals == [15]


@pytest.mark.parametrize("way", ["break", "close", "cancel", "cancelled while it waits"])
async def test_leaving_a_stream_ends_the_command(settings: Settings, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    engine = FakeWorkspaces()
    engine.runner.waits = True
    async with served(settings, monkeypatch, workspaces=engine), AsyncPyro(settings) as pyro:
        running = await pyro.stream_in_workspace("demo", ExecRequest(("sleep",)))
        events = [await anext(running) for _ in range(3)]
        assert len(events) == 3
        if way == "break":
            async with running:
                pass
        elif way == "close":
            await running.close()
        elif way == "cancel":
            running.cancel()
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(running)
        async with asyncio.timeout(30):
            await engine.runner.commands[0].cancelled.wait()
        await running.close()


async def test_a_run_is_followed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = RunFinished("debian:12", "qemu", 0, False, 5)

    async def run(_request: RunRequest, _control: RunControl, emit: Emit) -> None:
        await emit(RunStarted("qemu", 1))
        await emit(finished)

    async with served(settings, monkeypatch, run), AsyncPyro(settings) as pyro:
        async with pyro.stream_in_vm(RunRequest("debian:12", ("true",))) as running:
            accepted, *events = [event async for event in running]
        assert isinstance(accepted, RunAccepted)
        assert events == [RunStarted("qemu", 1), finished]


async def test_an_error_of_a_stream_is_raised_where_it_is_followed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_request: RunRequest, _control: RunControl, _emit: Emit) -> None:
        raise CommandNotStarted("command_not_found", "no such file", exit_code=127)

    async with served(settings, monkeypatch, run), AsyncPyro(settings) as pyro:
        async with pyro.stream_in_vm(RunRequest("debian:12", ("nope",))) as running:
            assert isinstance(await anext(running), RunAccepted)
            with pytest.raises(CommandNotStarted):
                await anext(running)
            with pytest.raises(StopAsyncIteration):
                await anext(running)
        with pytest.raises(NotFound):
            async with pyro.stream_in_workspace("nobody", ExecRequest(("ls",))) as following:
                await anext(following)
