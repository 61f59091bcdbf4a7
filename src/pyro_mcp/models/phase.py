"""Where time went."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """A part of a request, from `began_us` to `ended_us`: microseconds of the host's CLOCK_BOOTTIME."""

    name: str
    began_us: int
    ended_us: int

    @property
    def ms(self) -> float:
        """How long it took, in milliseconds."""
        return (self.ended_us - self.began_us) / 1000
