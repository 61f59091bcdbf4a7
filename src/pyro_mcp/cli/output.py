"""Results as people and programs read them."""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from pyro_mcp.cli.streams import tell

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def print_json(value: object) -> None:
    """A dataclass, a list of them, or plain data as JSON.

    Bytes are shown as text, with replacement characters for what is not UTF-8.
    """
    import json  # tables do without

    print(json.dumps(as_json(value), indent=2))


def as_json(value: object) -> Any:
    """The same as plain data."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they have to be; the last one is not filled up."""
    lines = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    widths[-1] = 0
    text = "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    print(text)


def print_bytes(data: bytes) -> None:
    """Bytes as they are, to stdout."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def size(count: int | None) -> str:
    """Bytes in the unit that leaves a readable number."""
    if count is None:
        return "-"
    number = float(count)
    unit = 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number /= 1024
        unit += 1
    return f"{count} B" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"


def counted(count: int, noun: str) -> str:
    """A number with its noun, such as `1 file` or `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def moment(time: str | None) -> str:
    """A time of the API (ISO 8601 in UTC) to the minute."""
    return "-" if time is None else f"{time[:16].replace('T', ' ')} UTC"


def summary(name: str, **values: object) -> None:
    """A line such as `[exec] exec_id=x-1 exit_code=0` on stderr."""
    tell(f"[{name}] {' '.join(f'{key}={value}' for key, value in values.items())}\n")
