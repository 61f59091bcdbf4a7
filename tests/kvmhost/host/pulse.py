"""Whether the test host's kernel still runs: each of its processors is to be heard every second.

An emulated processor may stop for good, and then the machine does not even notice that its time is up. That is the
emulator's fault and says nothing of the tests, so it has to be told from tests that merely hang: threads of real-time
priority write the number of the processor that they are on (see `inside/run_tests.py`).
"""

import asyncio
import socket

SILENCE_SECONDS = 60.0  # a boot takes less than ten until the first is heard


async def stopped(channel: socket.socket, processors: int, silence_seconds: float) -> int | None:
    """Wait until a processor was not heard for that long; which it is, or None when the machine has ended."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(sock=channel)
    heard = dict.fromkeys(range(processors), loop.time())
    try:
        while True:
            longest = min(heard, key=heard.__getitem__)
            async with asyncio.timeout_at(heard[longest] + silence_seconds):
                chunk = await reader.read(4096)
            if not chunk:
                return None
            heard |= dict.fromkeys(heard.keys() & set(chunk), loop.time())
    except TimeoutError:
        return longest
    finally:
        writer.close()
