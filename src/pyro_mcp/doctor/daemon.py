"""The daemon that every other command talks to: is it the right one, or does it start?"""

import asyncio
import contextlib
import http.client
import json
import re
import time
from collections.abc import Sequence
from typing import TypeVar

from pyro_mcp import models
from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.daemon.place import DaemonPlace
from pyro_mcp.doctor.report import Row, failed_with, listed, passed, size, warning
from pyro_mcp.errors import Conflict, DaemonFailed, InvalidRequest, PyroError
from pyro_mcp.models import DaemonHello, ReadyMachine, ReadyMachines
from pyro_mcp.version import __version__

NAME = "daemon"
SECONDS = 13.0
_ANSWER_SECONDS = 5.0
_SETTING = re.compile(r"""(\w+)=('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")  # as `Settings.describe` writes them
T = TypeVar("T")


async def examine(settings: Settings) -> Row:
    # In a thread that goes on when this is cancelled: a daemon that it started must be stopped again all the same.
    return await asyncio.to_thread(_examine, settings)


def _examine(settings: Settings) -> Row:
    try:
        running = ask_running(settings, "/v1/hello", DaemonHello)
        if running is None:
            return _start_and_stop(settings)
        return row_for(running, settings, _ready(settings))
    except PyroError as error:
        return failed_with(NAME, error)


def _ready(settings: Settings) -> Sequence[ReadyMachine]:
    """The machines that are ready; another daemon may not know the question."""
    try:
        answer = ask_running(settings, "/v1/ready", ReadyMachines)
    except DaemonFailed:
        return ()
    return () if answer is None else answer.machines


def row_for(running: DaemonHello, settings: Settings, ready: Sequence[ReadyMachine] = ()) -> Row:
    """The row for a daemon that runs already. It is left as it is: others may be about to use it."""
    found = f"pyro {running.version} runs as process {running.pid} with {running.active} requests under way"
    waiting = f"\n{_in_words(ready)}" if ready else ""
    if (running.version, running.settings) == (__version__, settings.describe()):
        return passed(NAME, f"{found}{waiting}", ready)
    other = f"{found}, but {_difference(running, settings)}{waiting}"
    if running.active:
        return warning(NAME, other, "wait until its requests have ended; the next command then replaces it", ready)
    return warning(NAME, other, "pyro env list (any command that uses the daemon replaces it)", ready)


def _difference(running: DaemonHello, settings: Settings) -> str:
    """What a daemon that is not ours has otherwise, setting by setting if it can be told."""
    ours, its = dict(_SETTING.findall(settings.describe())), dict(_SETTING.findall(running.settings))
    version = "" if running.version == __version__ else f"this is pyro {__version__}"
    if running.settings == settings.describe():
        return version
    unlike = [
        f"{name}={its.get(name, 'nothing')} where this command has {ours.get(name, 'nothing')}"
        for name in {**ours, **its}
        if ours.get(name) != its.get(name)
    ]
    its_settings = f"it has {', '.join(unlike) or running.settings}"
    return "; ".join(part for part in (version, its_settings) if part)


def _in_words(ready: Sequence[ReadyMachine]) -> str:
    """How many are ready, what they take, and how to have none."""
    there = "1 machine is" if len(ready) == 1 else f"{len(ready)} machines are"
    of = listed(sorted({machine.environment for machine in ready}))
    known = [machine.host_memory_bytes for machine in ready if machine.host_memory_bytes is not None]
    takes = f", in {size(sum(known))} of memory" if len(known) == len(ready) else ""
    return (
        f"{there} ready for the next workspace of a chat ({of}){takes}; PYRO_POOL=0 for `pyro mcp serve` turns that off"
    )


def ask_running(settings: Settings, path: str, kind: type[T]) -> T | None:
    """What the daemon in this home answers, or None if none runs; unlike `DaemonClient` this starts and replaces none.

    Raises `DaemonFailed` for one that does not answer, or with rubbish, and `InvalidRequest` for another user's.
    """
    place = DaemonPlace(settings.home)
    try:
        connected = place.connect()
    except OSError:
        return None
    connected.settimeout(_ANSWER_SECONDS)
    connection = http.client.HTTPConnection("pyro")
    connection.sock = connected
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            return models.decode(kind, json.loads(connection.getresponse().read()))
        except (OSError, http.client.HTTPException, ValueError, InvalidRequest) as error:
            what = f"a daemon runs in {settings.home}, but does not answer as it should: {error}"
            raise DaemonFailed("daemon_protocol", what) from error


def _start_and_stop(settings: Settings) -> Row:
    client = DaemonClient(settings)
    began = time.monotonic()
    try:
        client.ask("GET", "/v1/hello")
        took = round((time.monotonic() - began) * 1000)
    finally:
        # Somebody else's request may have come meanwhile; then the daemon is theirs, and ends when it has been idle.
        with contextlib.suppress(Conflict):
            client.stop()
    return passed(NAME, f"none runs now; one started, answered after {took} ms, and was stopped again")
