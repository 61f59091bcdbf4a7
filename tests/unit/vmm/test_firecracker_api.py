"""Firecracker's API, with something else at its socket that answers right or wrong."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.vmm import firecracker_api
from pyro_mcp.vmm.firecracker_api import FirecrackerApi, InstanceInfo, SnapshotPaths
from tests.support.descriptors import none_left
from tests.support.fake_api import DONE, INFO, FakeApi, answer, served


async def test_a_vmm_says_who_it_is(tmp_path: Path) -> None:
    fake = FakeApi(answer(json.dumps(INFO).encode()))
    async with served(tmp_path, fake) as api:
        assert await api.info() == InstanceInfo("anonymous-instance", "Running", "1.12.1", "Firecracker")
    assert fake.asked == [("GET / HTTP/1.1", None)]


PATHS = SnapshotPaths("snapshot.state", "snapshot.memory")


@pytest.mark.parametrize(
    ("ask", "asked"),
    [
        (FirecrackerApi.pause, ("PATCH /vm HTTP/1.1", {"state": "Paused"})),
        (FirecrackerApi.resume, ("PATCH /vm HTTP/1.1", {"state": "Resumed"})),
        (lambda api: api.set_balloon(64), ("PATCH /balloon HTTP/1.1", {"amount_mib": 64})),
        (
            lambda api: api.create_snapshot(PATHS),
            (
                "PUT /snapshot/create HTTP/1.1",
                {
                    "snapshot_type": "Full",
                    "snapshot_path": "snapshot.state",
                    "mem_file_path": "snapshot.memory",
                },
            ),
        ),
        (
            lambda api: api.load_snapshot(PATHS),
            (
                "PUT /snapshot/load HTTP/1.1",
                {
                    "snapshot_path": "snapshot.state",
                    "mem_backend": {"backend_type": "File", "backend_path": "snapshot.memory"},
                    "resume_vm": True,
                },
            ),
        ),
    ],
)
async def test_what_it_is_asked_to_do_it_is_asked_as_its_document_says(
    tmp_path: Path, ask: Any, asked: tuple[str, object]
) -> None:
    fake = FakeApi(DONE)
    async with served(tmp_path, fake) as api:
        await ask(api)
    assert fake.asked == [asked]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b'{"fault_message": "The microVM is not paused."}', "The microVM is not paused."),
        (b'{"fault_message": ["odd"]}', "odd"),
        (b'{"other": 1}', "other"),
        (b"[]", "[]"),
        (b"\xff\x1b[2J", "[2J"),
        (b"[" * 60_000, "[[["),
    ],
)
async def test_a_refusal_comes_with_the_vmms_own_words(tmp_path: Path, said: bytes, words: str) -> None:
    async with served(tmp_path, FakeApi(answer(said, "400 Bad Request"))) as api:
        with pytest.raises(GuestFailed) as caught:
            await api.pause()
    assert caught.value.code == "vmm_refused"
    assert words in caught.value.message
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1500


@pytest.mark.parametrize(
    "said",
    [
        b"rubbish\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\x00" * 1000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
        answer(b"not JSON"),
        answer(b"[]"),
        answer(b"{}"),
        answer(b"[" * 60_000),
        answer(json.dumps({**INFO, "state": "Ru\x1bnning"}).encode()),
        answer(json.dumps({**INFO, "state": 7}).encode()),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"",
    ],
)
async def test_rubbish_is_an_error_and_nothing_else(tmp_path: Path, said: bytes) -> None:
    async with served(tmp_path, FakeApi(said, hangs_up=True)) as api:
        with pytest.raises(GuestFailed) as caught:
            await api.info()
    assert caught.value.code in ("vmm_rubbish", "vmm_gone")


async def test_a_vmm_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FirecrackerApi._ask, "__defaults__", (None, 0.05))
    async with served(tmp_path, FakeApi(b"HTTP/1.1 200")) as api:
        with pytest.raises(GuestFailed) as caught:
            await api.pause()
    assert caught.value.code == "vmm_gone"


@pytest.mark.parametrize("there", [True, False])
async def test_where_no_vmm_answers_it_is_gone(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "api.sock").touch()
    with pytest.raises(GuestFailed) as caught:
        await FirecrackerApi(tmp_path).info()
    assert caught.value.code == "vmm_gone"


async def test_one_that_was_started_a_moment_ago_is_waited_for(tmp_path: Path) -> None:
    waiting = asyncio.create_task(FirecrackerApi(tmp_path).wait_until_there())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    with socket.socket(socket.AF_UNIX) as vmm:
        vmm.bind(str(tmp_path / "api.sock"))
        await asyncio.sleep(0.05)
        assert not waiting.done(), "its name is there, but nobody listens yet"
        vmm.listen()
        async with asyncio.timeout(30):
            await waiting
        looked, _ = vmm.accept()
        with looked:
            looked.settimeout(30)
            assert looked.recv(1) == b"", "whoever only looked stays connected"


@contextmanager
def not_there(folder: Path, what: str) -> Iterator[None]:
    """A folder in which no VMM offers its API, whatever else has its name."""
    path, elsewhere = folder / "api.sock", folder / "elsewhere"
    with ExitStack() as stack:
        vmm = stack.enter_context(socket.socket(socket.AF_UNIX))
        match what:
            case "nobody listens":
                vmm.bind(str(path))
            case "it is busy for ever":
                vmm.bind(str(path))
                vmm.listen(0)
                stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
            case "file":
                path.touch()
            case "link to another":
                vmm.bind(str(elsewhere))
                vmm.listen()
                path.symlink_to(elsewhere)
        yield


@pytest.mark.parametrize("what", ["nothing", "nobody listens", "it is busy for ever", "file", "link to another"])
async def test_one_that_never_listens_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(firecracker_api, "_THERE_SECONDS", 0.05)
    monkeypatch.setattr(FirecrackerApi._ask, "__defaults__", (None, 0.05))
    with not_there(tmp_path, what), none_left():
        for ask in (FirecrackerApi.wait_until_there, FirecrackerApi.info):
            with pytest.raises(GuestFailed) as caught:
                await ask(FirecrackerApi(tmp_path))
            assert caught.value.code == "vmm_gone"
