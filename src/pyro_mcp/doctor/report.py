"""What a check found, and the verdict over all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from pyro_mcp.errors import GuestFailed, PyroError

_MIB = 1 << 20
REPORT_IT = "report it as a fault of pyro, with the output of: pyro doctor --json"


class Status(StrEnum):
    """FAIL: no guest can run, or no workspace be used, until this is mended. WARN: they can, but something is missing
    or weaker."""

    PASS = "PASS"  # noqa: S105
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Row:
    """One line of the report: what was found, as a sentence, and what mends it (never for a PASS, always else).

    `details` are the figures behind the sentence, for programs: dataclasses.
    """

    name: str
    status: Status
    found: str
    mend: str | None = None
    details: tuple[object, ...] = ()

    def __post_init__(self) -> None:
        if (self.mend is None) is not (self.status is Status.PASS):
            raise ValueError(f"{self.name}: {self.status} and mend={self.mend!r} do not go together")


@dataclass(frozen=True)
class Report:
    """The whole examination; `duration_ms` is what it took."""

    rows: tuple[Row, ...]
    duration_ms: int

    @property
    def ok(self) -> bool:
        """Whether guests can run here and workspaces be used."""
        return all(row.status is not Status.FAIL for row in self.rows)

    def to_json(self) -> dict[str, object]:
        return {"ok": self.ok, "rows": [asdict(row) for row in self.rows], "duration_ms": self.duration_ms}


def passed(name: str, found: str, details: Sequence[object] = ()) -> Row:
    return Row(name, Status.PASS, found, details=tuple(details))


def warning(name: str, found: str, mend: str, details: Sequence[object] = ()) -> Row:
    return Row(name, Status.WARN, found, mend, tuple(details))


def failed(name: str, found: str, mend: str) -> Row:
    return Row(name, Status.FAIL, found, mend)


def failed_with(name: str, error: PyroError) -> Row:
    """The row for an error that stood in the way of a guest; the hint of one that failed is to run the doctor."""
    mend = None if isinstance(error, GuestFailed) else error.hint
    return failed(name, error.message, mend or REPORT_IT)


def listed(words: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def size(count: int) -> str:
    """Bytes in words."""
    mib = count / _MIB
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"
