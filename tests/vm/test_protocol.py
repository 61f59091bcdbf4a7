"""The guest protocol, said by hand to the agent of a real machine over its VMM's channel: what breaks a session, what
costs no more than a stream, and that a new session can always begin. Source: protocol/README.md.
"""

import asyncio
import os
from collections.abc import Iterator

import pytest

from pyro_mcp.guest.client import OpenChannel
from pyro_mcp.guest.preamble import GENERATION, NONCE_BYTES
from pyro_mcp.vmm import channel
from pyro_mcp.workspace.places import Places
from tests.support.fake_agent import INITIAL_WINDOW, MESSAGE, STDIN, STDOUT, frame, message, packet
from tests.support.raw_host import RawHost, raw_channel, raw_session
from tests.support.wire import DATA, SYN, mux_frame
from tests.vm.engine_home import SMALL, Home, nobody
from tests.vm.pyro_command import CHOSEN_VMM, PyroCommand

_STREAMS = 256
_TOO_LARGE = (1 << 20) + 1
_IDLE_SECONDS = 0.1
_PING = message(type="ping")


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenChannel]:
    """The agent of a workspace's machine that no daemon talks to; afterwards one can do so again."""
    home = Home(PyroCommand(tmp_path_factory.mktemp("protocol")).client.settings)

    async def made() -> str:
        async with home.daemon() as workspaces:
            return (await workspaces.create(SMALL, nobody)).workspace_id

    workspace = asyncio.run(made())
    process = home.vmm(workspace)
    yield channel.to_agent(CHOSEN_VMM, Places(home.path).vmm_folder(workspace))

    async def found_again() -> None:
        async with home.daemon() as workspaces, workspaces.using(workspace) as live:
            await live.guest.ping()

    try:
        asyncio.run(found_again())
        assert home.vmm(workspace) == process  # the same machine all the time
    finally:
        asyncio.run(home.clear())


def command(script: str, **changes: object) -> dict[str, object]:
    """What asks for a shell command."""
    plain = {"argv": ["sh", "-c", script], "env": {}, "cwd": "/", "stdin": False, "timeout_ms": 60_000, "keep": None}
    return {"type": "exec", **plain, **changes}


async def pings(host: RawHost, stream: int) -> None:
    assert await host.ask(stream, type="ping") == {"type": "pong"}


async def test_a_session_begins_after_stale_bytes_and_has_its_own_nonce(agent: OpenChannel) -> None:
    nonce, another = os.urandom(NONCE_BYTES), os.urandom(NONCE_BYTES)
    hello = {"generation": GENERATION}
    async with raw_session(agent) as host:
        await pings(host, 1)
    async with raw_channel(agent) as host:
        cut_off = packet(b"H", another, hello)[:20]
        host.send(cut_off, b"\x00\x00\x00\x01stale", packet(b"H", another, hello), packet(b"H", nonce, hello))
        reply = await host.packet(b"R", nonce)
        assert reply["generation"] == GENERATION
        assert len(reply["boot_id"]) == 36
        host.send(packet(b"S", another, {}), packet(b"S", nonce, {}))
        await host.packet(b"A", nonce)
        await pings(host, 1)


async def test_every_host_is_heard_at_its_first_word_however_the_last_one_left(agent: OpenChannel) -> None:
    for _ in range(20):
        async with raw_channel(agent) as host:
            await host.greet(os.urandom(NONCE_BYTES))
            await asyncio.sleep(_IDLE_SECONDS)  # what tells a guest that hosts come and go is slower after a rest
        await asyncio.sleep(_IDLE_SECONDS)


async def test_a_host_of_another_generation_is_told_ours_and_gets_no_session(agent: OpenChannel) -> None:
    nonce = os.urandom(NONCE_BYTES)
    async with raw_session(agent) as host:
        other = {"generation": GENERATION + 1}
        host.send(packet(b"H", nonce, other), packet(b"S", nonce, {}), packet(b"H", nonce, other))
        for _ in range(2):
            assert (await host.packet(b"R", nonce))["generation"] == GENERATION
        await host.greet(os.urandom(NONCE_BYTES))
        await pings(host, 1)


BREAKS = [
    pytest.param([mux_frame(DATA, SYN, 3, 5, b"\x03" + _TOO_LARGE.to_bytes(4, "big"))], id="a frame too large"),
    pytest.param([mux_frame(DATA, SYN, 3, 6, frame(4, b"x"))], id="an unknown tag"),
    pytest.param([mux_frame(DATA, SYN, 3, 1 << 30)], id="more than the window"),
    pytest.param([b"twelve bytes and more"], id="not yamux"),
    pytest.param([mux_frame(DATA, SYN, 3, 1000, _PING)], id="half a frame"),
    pytest.param([mux_frame(DATA, SYN, 3, 1000)[:7]], id="half a header"),
]


@pytest.mark.parametrize("rubbish", BREAKS)
async def test_what_breaks_a_session_ends_its_commands_and_the_next_one_begins(
    agent: OpenChannel, rubbish: list[bytes]
) -> None:
    async with raw_session(agent) as host:
        pid = (await host.ask(1, **command("sleep 1000 & sleep 1000")))["pid"]
        host.send(*rubbish)
    async with raw_session(agent) as host:
        gone = f"while pgrep -g {pid} >/dev/null; do sleep 0.02; done; echo gone"
        assert (await host.ask(1, **command(gone)))["type"] == "started"
        assert await host.frame(1) == (STDOUT, b"gone\n")


async def test_a_request_that_makes_no_sense_costs_its_stream_alone(agent: OpenChannel) -> None:
    requests = [
        message(type="dance"),
        message(type="ping", more=True),
        frame(MESSAGE, b"{"),
        frame(MESSAGE, b"[" * 100_000),
        frame(STDIN, b"nobody asked"),
        message(**command("true", cwd="relative")),
    ]
    async with raw_session(agent) as host:
        for number, request in enumerate(requests):
            host.open(2 * number + 1, request)
        for number in range(len(requests)):
            told = await host.message(2 * number + 1)
            assert (told["type"], told["code"]) == ("error", "bad_request"), told
            await host.end_of(2 * number + 1)
        await pings(host, 101)


async def test_a_stream_that_nobody_reads_holds_up_no_other(agent: OpenChannel) -> None:
    async with raw_session(agent) as host:
        flood, echo, deaf = 1, 3, 5
        await host.ask(flood, **command("yes | tr -d '\\n'"))
        await host.ask(echo, **command("cat", stdin=True))
        await host.ask(deaf, **command("exec sleep 1000", stdin=True))
        host.data(deaf, frame(STDIN, bytes(INITIAL_WINDOW - 100_000)))  # more than its pipe takes
        for number in range(20):
            text = f"line {number}\n".encode()
            host.data(echo, frame(STDIN, text))
            assert await host.frame(echo) == (STDOUT, text)
            await pings(host, 101 + 2 * number)
        host.data(echo, frame(STDIN, b""))
        assert (await host.message(echo))["exit_code"] == 0
        flooded = 0
        while flooded < 2 * INITIAL_WINDOW:  # it went as far as its window and goes on with each that it is given
            assert host.waiting(flood) <= INITIAL_WINDOW
            tag, output = await host.frame(flood)
            assert (tag, set(output)) == (STDOUT, set(b"y"))
            flooded += len(output)
            host.widen(flood, len(output))
        for stream in (flood, deaf):
            host.drop(stream)
        await pings(host, 1001)


async def test_one_stream_too_many_is_reset_and_the_others_answer(agent: OpenChannel) -> None:
    async with raw_session(agent) as host:
        for number in range(_STREAMS + 1):
            host.open(2 * number + 1)
        await host.end_of(2 * _STREAMS + 1)
        assert host.reset == {2 * _STREAMS + 1}
        for number in range(_STREAMS):
            host.data(2 * number + 1, _PING)
        for number in range(_STREAMS):
            assert await host.message(2 * number + 1) == {"type": "pong"}
