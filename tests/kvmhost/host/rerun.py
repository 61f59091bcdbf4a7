"""Once more in a new machine, where the first one's kernel stood still."""

from collections.abc import Awaitable, Callable

from tests.kvmhost.host.machine import Ending

_MACHINES = 2


async def unless_frozen(run: Callable[[], Awaitable[Ending]], on_freeze: Callable[[int], None]) -> Ending:
    """How the first machine ended that did not freeze, or that the last one froze, too.

    `on_freeze` is told of each that did, by its number.
    """
    ending = Ending.FROZEN
    for number in range(1, _MACHINES + 1):
        ending = await run()
        if ending is not Ending.FROZEN:
            break
        on_freeze(number)
    return ending
