"""Where time went."""

from dataclasses import dataclass

from pyro_mcp.models.event import Event


@dataclass(frozen=True)
class Phase(Event):
    """A part of a request that has ended: from `began_us` to `ended_us`, microseconds of the host's CLOCK_BOOTTIME.

    It begins where the last one ended.
    """

    name: str
    began_us: int
    ended_us: int

    @property
    def ms(self) -> float:
        """How long it took, in milliseconds."""
        return (self.ended_us - self.began_us) / 1000
