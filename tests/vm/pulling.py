"""A program that pulls an environment, for tests that need another user or another view of the disks.

    pulling.py CACHE NAME [cancel|kill PHASE]

The pull can be cancelled when it gets to a phase, or this program kill itself there. Prints one JSON object: how it
ended, and what is left.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from pyro_mcp.errors import PyroError
from pyro_mcp.images import debian
from pyro_mcp.images.pull import pull
from pyro_mcp.images.store import Store
from pyro_mcp.models import Progress


async def main(cache: str, name: str, action: str = "", phase: str = "") -> dict[str, object]:
    """Pull and tell."""
    store = Store(Path(cache))
    arrived = asyncio.Event()

    def report(progress: Progress) -> None:
        if progress.phase == phase:
            arrived.set()
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)

    task = asyncio.create_task(pull(store, name, debian.source(), report))
    if action == "cancel":
        await asyncio.wait([task, asyncio.create_task(arrived.wait())], return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
    told: dict[str, object] = {"code": None, "digest": None}
    try:
        told["digest"] = (await task).digest
    except PyroError as error:
        told.update(code=error.code, message=error.message)
    except asyncio.CancelledError:
        told["code"] = "cancelled"
    return {**told, "staging": os.listdir(store.staging), "images": os.listdir(store.images)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
