"""Whether the test host's kernel still runs: each of its processors is to be heard every second.

An emulated processor may stop for good, and then the machine does not even notice that its time is up. That is the
emulator's fault and says nothing of the tests, so it has to be told from tests that merely hang: threads of real-time
priority write the number of the processor that they are on (see `inside/run_tests.py`).
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable

SILENCE_SECONDS = 60.0  # a boot takes less than ten until the first is heard
PAUSE_SECONDS = 3.0  # six beats


async def stopped(
    channel: socket.socket,
    processors: int,
    silence_seconds: float,
    wake: Callable[[int], Awaitable[None]],
    pause_seconds: float = PAUSE_SECONDS,
) -> int | None:
    """Wait until a processor was not heard for that long; which it is, or None when the machine has ended.

    Once all have been heard, `wake` is called with the one that is silent, again and again with a pause before it.
    """
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(sock=channel)
    began = loop.time()
    heard, woken = dict.fromkeys(range(processors), began), began
    try:
        while True:
            longest = min(heard, key=heard.__getitem__)
            until = heard[longest] + silence_seconds
            pause = max(heard[longest], woken) + pause_seconds if heard[longest] > began else until
            try:
                async with asyncio.timeout_at(min(pause, until)):
                    chunk = await reader.read(4096)
            except TimeoutError:
                if pause >= until:
                    return longest
                await wake(longest)
                woken = loop.time()
                continue
            if not chunk:
                return None
            heard |= dict.fromkeys(heard.keys() & set(chunk), loop.time())
    finally:
        writer.close()
