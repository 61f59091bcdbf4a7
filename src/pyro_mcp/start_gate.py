"""A gate between a sandbox and the program in it: the program starts only while somebody is there to end it.

A sandbox is made of several processes, and each of them dies with its parent, but only from the moment on that it has
asked the kernel for that (PR_SET_PDEATHSIG). Where the outermost is killed before that moment, the rest lives on and
becomes the program, which nobody knows of. So the program is put behind a gate, which it passes when all processes
around it are bound to each other and somebody says so; where nobody is there to say it, the gate's process ends.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from types import TracebackType

_SAY_SECONDS = 20.0  # that a sandbox may take to get ready, which takes it some milliseconds
_WORD = b"\n"
# For a shell whose standard input is a socket: it says that it is there, waits for the word to go on, and the end of
# file is "no".
GATE = "echo >&0 && read -r word && exec </dev/null"


def behind(argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` once the gate opens that is its standard input; it is a shell until then."""
    return ["/bin/sh", "-c", f'{GATE} && exec "$@"', "gate", *argv]


class StartGate:
    """One gate: `inner` is the standard input of the sandbox. Closing it, opened or not, is the end of its use."""

    def __init__(self) -> None:
        self._outer, self.inner = socket.socketpair()

    def __enter__(self) -> "StartGate":
        return self

    def __exit__(
        self, exception_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let nobody pass any more."""
        self._outer.close()
        self.inner.close()

    def pass_blocking(self, is_alive: Callable[[], bool]) -> bool:
        """Let the program start when it is there; False if it never was. `is_alive` tells of the outermost process.

        Blocks until the sandbox is ready or has ended, 20 seconds at most.
        """
        self.inner.close()
        self._outer.settimeout(_SAY_SECONDS)
        try:
            said = self._outer.recv(len(_WORD))
        except (TimeoutError, ConnectionError):
            return False
        return self._answer(said, is_alive)

    async def pass_through(self, is_alive: Callable[[], bool]) -> bool:
        """As `pass_blocking`, on the event loop."""
        self.inner.close()
        self._outer.setblocking(False)
        try:
            async with asyncio.timeout(_SAY_SECONDS):
                said = await asyncio.get_running_loop().sock_recv(self._outer, len(_WORD))
        except (TimeoutError, ConnectionError):
            return False
        return self._answer(said, is_alive)

    def _answer(self, said: bytes, is_alive: Callable[[], bool]) -> bool:
        # Whoever lives after the gate has spoken lived when the gate's process was bound to it.
        if said != _WORD or not is_alive():
            return False
        try:
            self._outer.send(_WORD)
        except (BrokenPipeError, ConnectionError):
            return False
        return True
