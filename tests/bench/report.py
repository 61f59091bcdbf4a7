"""Ratios of paired measurements, and the table that shows them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """`ours` against `bare`, in seconds or any other unit, one pair a round.

    `bound` is the most that is promised; None: for information.
    """

    name: str
    ours: tuple[float, ...]
    bare: tuple[float, ...]
    bound: float | None
    unit: str = "s"

    @property
    def value(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(a / b for a, b in zip(self.ours, self.bare, strict=True))

    @property
    def holds(self) -> bool:
        return self.bound is None or self.value <= self.bound

    @property
    def verdict(self) -> str:
        if self.bound is None:
            return "    --"
        return f"{self.bound:6.2f} {'holds' if self.holds else 'EXCEEDED'}"


def print_table(ratios: Sequence[Ratio]) -> None:
    """One row a ratio: medians, the ratio with its spread, the bound, the verdict."""
    print(f"{'benchmark':47} {'rounds':>6} {'pyro':>10} {'bare':>10} {'ratio':>6} {'min':>6} {'max':>6} {'bound':>6}")
    for ratio in ratios:
        pairs = [a / b for a, b in zip(ratio.ours, ratio.bare, strict=True)]
        print(
            f"{ratio.name:47} {len(pairs):6} {_figure(ratio.ours, ratio.unit):>10} "
            f"{_figure(ratio.bare, ratio.unit):>10} {ratio.value:6.2f} {min(pairs):6.2f} {max(pairs):6.2f} "
            f"{ratio.verdict}"
        )


def _figure(values: Sequence[float], unit: str) -> str:
    median = statistics.median(values)
    if unit == "s":
        return f"{median * 1000:.1f} ms"
    return f"{median:.1f} {unit}"
