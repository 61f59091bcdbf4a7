"""What ends a VMM with the daemon, however that ends: for one that outlives the daemon only from some moment on.

A process waits for the end of a pipe that only the daemon holds open, and then kills the VMM. It is a shell, because it
lives for as long as the VMM waits and has next to nothing to do.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pyro_mcp.process import Detached, Process, spawn
from pyro_mcp.to_the_end import to_the_end

# Nobody writes a word. The start time is field 22 of proc_pid_stat(5), here behind two words of our own and without the
# first two fields: the pid may be another process's by then.
_WAIT_AND_KILL = (
    'read -r word; read -r stat <"/proc/$1/stat" && set -- "$1" "$2" ${stat##*) } && '
    '[ "${22}" = "$2" ] && kill -KILL "-$1" "$1"'
)
_ENVIRONMENT = {"PATH": os.defpath}


class Leash:
    """Holds one VMM until `let_go`."""

    def __init__(self, vmm: Detached) -> None:
        """Blocks for some milliseconds. Raises `OSError` where no process can be started."""
        read, self._held = os.pipe()
        try:
            self._keeper: Process | None = spawn(
                ["/bin/sh", "-c", _WAIT_AND_KILL, "leash", str(vmm.pid), str(vmm.start_time)],
                env=_ENVIRONMENT,
                stdin=read,
                dies_with_us=False,
            )
        except BaseException:
            os.close(self._held)
            raise
        finally:
            os.close(read)

    @property
    def holds(self) -> bool:
        """Whether the VMM would end with us: not if it was let go, or somebody has killed what waits for our end."""
        return self._keeper is not None and self._keeper.exit_code is None

    async def lost(self) -> None:
        """Wait until it does not hold the VMM any more."""
        if self._keeper is not None:
            await self._keeper.wait()

    async def let_go(self) -> None:
        """From now on it outlives us. Once is enough."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.stop(0)
            os.close(self._held)


@asynccontextmanager
async def leashed() -> AsyncIterator[Callable[[Detached], None]]:
    """Yields what puts a VMM on a leash (see `Leash`), in whatever thread; all are let go when the block ends."""
    leashes: list[Leash] = []
    try:
        yield lambda vmm: leashes.append(Leash(vmm))
    finally:
        for leash in leashes:
            await to_the_end(leash.let_go())
