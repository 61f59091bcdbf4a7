"""The way in to a run that is under way."""

import asyncio

from pyro_mcp.errors import NotFound
from pyro_mcp.guest.client import GuestCommand


class RunControl:
    """Input and signals for a run, from whoever addresses it by id. `takes_input` is as its request said."""

    def __init__(self, *, takes_input: bool = False) -> None:
        self.takes_input = takes_input
        self._command: asyncio.Future[GuestCommand] = asyncio.get_running_loop().create_future()

    async def write_stdin(self, data: bytes) -> None:
        """Give the command input; waits for its start, and while it does not read."""
        await (await asyncio.shield(self._command)).write_stdin(data)

    async def close_stdin(self) -> None:
        """Tell the command that its input has ended."""
        await (await asyncio.shield(self._command)).close_stdin()

    async def signal(self, number: int) -> None:
        """Signal the command's process group; waits for its start."""
        await (await asyncio.shield(self._command)).signal(number)

    def attach(self, command: GuestCommand) -> None:
        """From now on there is a command."""
        self._command.set_result(command)

    def close(self) -> None:
        """From now on there is none; whoever still waits or comes later is turned away with `NotFound`."""
        if self._command.done():
            self._command = asyncio.get_running_loop().create_future()
        self._command.set_exception(NotFound("unknown_run", "there is no such run under way"))
        self._command.exception()  # usually nobody waits
