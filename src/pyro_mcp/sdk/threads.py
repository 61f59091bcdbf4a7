"""Threads for calls that block, waited for from an event loop."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pyro_mcp.daemon.abort import Abort
from pyro_mcp.daemon.client import DaemonClient

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


async def in_a_thread(daemon: DaemonClient, call: Callable[[DaemonClient], T]) -> T:
    """Make a call in a thread of its own; being cancelled breaks its connection, so that the daemon cancels it, too.

    The event loop's own executor has few threads, and calls that wait for minutes would use them up.
    """
    abort = Abort()
    worker = Worker()
    try:
        return await worker.do(lambda: call(daemon.abortable(abort)))
    except asyncio.CancelledError:
        abort.abort()
        raise
    finally:
        worker.end()


class Worker:
    """Does one job after another in a daemon thread, so that a job that hangs does not keep the process alive."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=_work, args=(self._jobs,), daemon=True).start()

    async def do(self, job: Callable[[], T]) -> T:
        """What the job returns or raises. Being cancelled does not end the job; its result is dropped."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.put((job, done, loop))
        return await done

    def end(self) -> None:
        """No more jobs: the thread ends after those that it has."""
        self._jobs.put(None)


def _work(jobs: "queue.SimpleQueue[_Job | None]") -> None:
    while (wanted := jobs.get()) is not None:
        _do(*wanted)
        del wanted  # nothing of a job is kept while the next one is waited for


def _do(job: Callable[[], Any], done: "asyncio.Future[Any]", loop: asyncio.AbstractEventLoop) -> None:
    result: Any = None
    failure: BaseException | None = None
    try:
        result = job()
    except BaseException as error:
        failure = error
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
        loop.call_soon_threadsafe(_settle, done, result, failure)


def _settle(done: "asyncio.Future[Any]", result: object, failure: BaseException | None) -> None:
    if done.done():
        return  # cancelled meanwhile
    if failure is not None:
        done.set_exception(failure)
    else:
        done.set_result(result)
