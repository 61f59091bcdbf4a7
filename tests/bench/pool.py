"""Making a workspace while a machine is ready for it, against making one that has to begin its own."""

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.mcp import presence
from pyro_mcp.sdk import AsyncPyro
from pyro_mcp.workspace.places import Places
from tests.bench.report import Ratio
from tests.support.daemons import daemon_pid, end_daemon

_ROUNDS = 9
_READY_SECONDS = 60.0
_SETTLED_SECONDS = 0.5  # that the machine which has just begun gets to come to rest


async def create_when_one_is_ready(settings: Settings) -> Ratio:
    """Each round makes two empty workspaces: the first takes the machine that is ready, the second finds none."""
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as home:
        own = replace(settings, home=Path(home), pool=1)
        daemon_pid(own)
        with _chat_host(own):
            async with AsyncPyro(own) as pyro:
                for _ in range(_ROUNDS):
                    await asyncio.to_thread(_wait_until_one_is_ready, own)
                    ours.append(await _seconds_to_make_one(pyro))
                    bare.append(await _seconds_to_make_one(pyro))
                    for made in await pyro.list_workspaces():
                        await pyro.delete_workspace(made.workspace_id)
                    await pyro.prune_workspaces()
            end_daemon(own)
    return Ratio("workspace create, machine ready / none ready", tuple(ours), tuple(bare), 0.5)


async def _seconds_to_make_one(pyro: AsyncPyro) -> float:
    began = time.perf_counter()
    await pyro.create_workspace("debian:12")
    return time.perf_counter() - began


def _wait_until_one_is_ready(settings: Settings) -> None:
    places, log = Places(settings.home), settings.home / "daemon.log"
    deadline = time.monotonic() + _READY_SECONDS
    while not any(f"is ready: {each} " in log.read_text() for each in places.unclaimed()):
        if time.monotonic() > deadline:
            raise TimeoutError("no machine is ready")
        time.sleep(0.05)
    time.sleep(_SETTLED_SECONDS)


@contextmanager
def _chat_host(settings: Settings) -> Iterator[None]:
    """What a chat host's server is for the daemon; it leaves when the daemon ends."""
    over = threading.Event()
    thread = threading.Thread(target=presence._tell_daemons, args=(settings, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
