"""Runs as the API offers them: what is refused, and how input and signals find their command."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest
from starlette.types import ASGIApp

from pyro_mcp.config import Settings
from pyro_mcp.daemon.app import Daemon, create_app
from pyro_mcp.errors import GuestFailed
from pyro_mcp.events import event_from_json
from pyro_mcp.guest.frames import FrameDecoder, Message
from pyro_mcp.models import RunAccepted
from pyro_mcp.workspace.control import RunControl
from pyro_mcp.workspace.host import default_boot_slots, verified_host
from pyro_mcp.workspace.vmm_choice import VmmChoice
from tests.support.waiting import until
from tests.unit.daemon.asking import ask
from tests.unit.daemon.scripted_run import RUN, begun, holding, script


class Command:
    """Takes input and signals as a guest's command would."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.signals: list[int] = []
        self.ended = asyncio.Event()

    async def write_stdin(self, data: bytes) -> None:
        assert len(data) <= 1 << 20
        self.taken.append(data)

    async def close_stdin(self) -> None:
        self.ended.set()

    async def signal(self, number: int) -> None:
        self.signals.append(number)


def scripted_command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Have every run be of this command, which ends with its input."""
    command = Command()

    async def run(control: RunControl) -> None:
        control.attach(command)  # type: ignore[arg-type]
        await command.ended.wait()

    script(monkeypatch, run)
    return command


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"command": []}, "no_command"),
        ({"command": [""]}, "no_command"),
        ({"command": ["a\0b"]}, "bad_command"),
        ({"network": True}, "network_unsupported"),
        ({"vcpu_count": 0}, "out_of_range"),
        ({"mem_mib": 1}, "out_of_range"),
        ({"timeout_seconds": 0}, "out_of_range"),
        ({"ttl_seconds": 0}, "out_of_range"),
        ({"environment": "debian:13"}, "unknown_environment"),
    ],
)
async def test_a_run_that_cannot_be_is_refused_with_a_code(
    daemon: Daemon, changes: dict[str, object], code: str
) -> None:
    """At once: finding out how machines run here may take a proof of seconds."""
    find_host = AsyncMock()
    app = create_app(replace(daemon, find_host=find_host))
    error = (await ask(app, "POST", "/v1/runs", {**RUN, **changes})).raised()
    assert getattr(error, "code", None) == code
    assert daemon.runs == {}
    find_host.assert_not_awaited()


async def test_without_a_runtime_bundle_a_run_says_so(daemon: Daemon, settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    elsewhere = Settings(settings.home, settings.cache_dir, settings.home, "auto")
    choice = VmmChoice(elsewhere, confined=True)
    find_host = partial(verified_host, elsewhere, daemon.images, default_boot_slots(), choice)
    app = create_app(replace(daemon, find_host=find_host))
    error = (await ask(app, "POST", "/v1/runs", RUN)).raised()
    assert getattr(error, "code", None) == "no_runtime_bundle"


@pytest.mark.parametrize("way", ["stdin", "signal"])
async def test_a_run_that_nobody_knows(app: ASGIApp, way: str) -> None:
    answer = await ask(app, "POST", f"/v1/runs/nobody/{way}", {"signal": 15})
    assert (answer.status, answer.code) == (404, "unknown_run")


async def test_input_and_signals_reach_the_command_of_the_run_that_they_are_addressed_to(
    app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = scripted_command(monkeypatch)
    running, run_id = await begun(app, daemon)
    assert (await ask(app, "POST", f"/v1/runs/{run_id}/signal", {"signal": 15})).status == 200
    big = bytes(range(256)) * 8192  # two frames' worth
    assert (await ask(app, "POST", f"/v1/runs/{run_id}/stdin", parts=[b"first", b"", big])).status == 200
    answer = await running
    assert command.signals == [15]
    assert b"".join(command.taken) == b"first" + big
    assert b"" not in command.taken  # that would be the end
    first = next(FrameDecoder().feed(answer.body))
    assert isinstance(first, Message)
    assert event_from_json(first.content) == RunAccepted(run_id)
    assert daemon.runs == {}


@pytest.mark.parametrize("parts", [[b"input"], None])
async def test_a_run_without_input_takes_none(
    app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, parts: list[bytes] | None
) -> None:
    end = holding(monkeypatch)
    running, run_id = await begun(app, daemon, stdin=False)
    answer = await asyncio.wait_for(ask(app, "POST", f"/v1/runs/{run_id}/stdin", parts=parts), 30)
    assert (answer.status, answer.code) == (400, "no_input")
    end.set()
    await running


@pytest.mark.parametrize("number", [0, 65, -1, 2**40])
async def test_a_number_that_is_no_signal(
    app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    end = holding(monkeypatch)
    running, run_id = await begun(app, daemon)
    answer = await ask(app, "POST", f"/v1/runs/{run_id}/signal", {"signal": number})
    assert (answer.status, answer.code) == (400, "bad_signal")
    end.set()
    await running


@pytest.mark.parametrize("way", ["stdin", "signal"])
@pytest.mark.parametrize("fails", [True, False])
async def test_whoever_waits_for_a_command_that_never_starts_is_turned_away(
    app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch, way: str, fails: bool
) -> None:
    end = asyncio.Event()

    async def run(_control: RunControl) -> None:
        await end.wait()
        if fails:
            raise GuestFailed("guest_silent", "it did not boot")

    script(monkeypatch, run)
    running, run_id = await begun(app, daemon)
    waiting = asyncio.create_task(ask(app, "POST", f"/v1/runs/{run_id}/{way}", {"signal": 15}))
    await until(lambda: daemon.activity.active == 2)
    end.set()
    answer = await asyncio.wait_for(waiting, 30)
    assert (answer.status, answer.code) == (404, "unknown_run")
    await running
    assert daemon.activity.active == 0


async def test_a_client_that_goes_away_in_the_middle_of_its_input_ends_the_input(
    app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = scripted_command(monkeypatch)
    running, run_id = await begun(app, daemon)
    events: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    async def send(_message: Any) -> None:
        pass

    path = f"/v1/runs/{run_id}/stdin"
    await app({"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}, receive, send)
    await running
    assert command.taken == [b"half"]


async def test_an_error_of_the_guest_is_ours(app: ASGIApp, daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise GuestFailed("guest_gone", "it went away")

    command = Command()
    monkeypatch.setattr(command, "signal", fail)
    end = asyncio.Event()

    async def run(control: RunControl) -> None:
        control.attach(command)  # type: ignore[arg-type]
        await end.wait()

    script(monkeypatch, run)
    running, run_id = await begun(app, daemon)
    answer = await ask(app, "POST", f"/v1/runs/{run_id}/signal", {"signal": 15})
    assert (answer.status, answer.code) == (500, "guest_gone")
    end.set()
    await running
