"""What travels between clients and the daemon: plain frozen dataclasses, typed once for all of them."""

import base64
import dataclasses
import functools
import types
import typing
from dataclasses import dataclass
from typing import Any

from pyro_mcp.errors import InvalidRequest

T = typing.TypeVar("T")

VCPU_RANGE = range(1, 33)
MEM_MIB_RANGE = range(128, 65537)
TIMEOUT_SECONDS_RANGE = range(1, 86401)


@dataclass(frozen=True)
class RunRequest:
    """One command in a throwaway VM.

    `mem_mib` is guest memory in MiB; `timeout_seconds` limits the command (not the pull or the boot before it) and
    `ttl_seconds` the life of the whole VM, boot included (None: no limit of its own).
    """

    environment: str
    command: tuple[str, ...]
    vcpu_count: int = 1
    mem_mib: int = 1024
    timeout_seconds: int = 30
    ttl_seconds: int | None = None
    network: bool = False
    stdin: bool = False


@dataclass(frozen=True)
class RunAccepted:
    """The first event of a run: what later signals and input are addressed to."""

    run_id: str


@dataclass(frozen=True)
class RunStarted:
    """The command runs in its guest."""

    vmm: str
    boot_ms: int


@dataclass(frozen=True)
class RunFinished:
    """How the run ended. `exit_code` is the guest's own, 128+N after signal N, 124 after a time-out.

    `duration_ms` is the time from request to end, as the daemon saw it.
    """

    environment: str
    vmm: str
    exit_code: int
    timed_out: bool
    duration_ms: int


@dataclass(frozen=True)
class Progress:
    """One step of long work. `done` and `total` count in `unit`; `total` is None where nobody can know it."""

    operation: str
    phase: str
    environment: str
    detail: str = ""
    done: int | None = None
    total: int | None = None
    unit: str = ""


@dataclass(frozen=True)
class EnvironmentInfo:
    """An environment of the catalog and what is installed of it. `size_bytes` is what it takes on disk."""

    name: str
    description: str
    installed: bool
    packages: tuple[str, ...]
    digest: str | None = None
    size_bytes: int | None = None
    source: str | None = None
    installed_at: str | None = None
    contents: tuple[str, ...] = ()


@dataclass(frozen=True)
class PruneReport:
    """What `env prune` removed, or would remove, and the bytes that it freed or would free."""

    removed: tuple[str, ...]
    freed_bytes: int
    dry_run: bool


@dataclass(frozen=True)
class SignalRequest:
    """A signal (1 to 64) for a run's command."""

    signal: int


@dataclass(frozen=True)
class PullRequest:
    """Install an environment; `source` is another place to take it from than the default."""

    source: str | None = None


@dataclass(frozen=True)
class PruneRequest:
    """Remove what nothing uses, or only say what that would be."""

    dry_run: bool = False


@dataclass(frozen=True)
class DaemonHello:
    """Who answers at the socket; `settings` is `Settings.describe()`."""

    version: str
    settings: str
    pid: int
    active: int


def encode(value: object) -> dict[str, Any]:
    """A dataclass as JSON-ready data; bytes travel as base64."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"not a dataclass instance: {value!r}")
    return {name: _encoded(content) for name, content in vars(value).items()}


def _encoded(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple):
        return tuple(_encoded(item) for item in value)
    return encode(value) if dataclasses.is_dataclass(value) else value


def decode(kind: type[T], data: object) -> T:
    """Build a dataclass from JSON data, or raise `InvalidRequest` that names the field that is wrong."""
    if not isinstance(data, dict):
        raise InvalidRequest("bad_request", f"expected an object for {kind.__name__}")
    hints, required = _fields(typing.cast("typing.Hashable", kind))
    unknown = data.keys() - hints.keys()
    if unknown:
        raise InvalidRequest("bad_request", f"{kind.__name__} has no field {sorted(map(str, unknown))[0]!r}")
    missing = [name for name in required if name not in data]
    if missing:
        raise InvalidRequest("bad_request", f"{kind.__name__} lacks the field {missing[0]!r}")
    return kind(**{name: _coerce(value, hints[name], f"{kind.__name__}.{name}") for name, value in data.items()})


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields' types and which of them have no default; working that out takes longer than checking a message."""
    missing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    required = tuple(each.name for each in fields if each.default is missing and each.default_factory is missing)
    return typing.get_type_hints(kind), required


def _coerce(value: object, hint: Any, where: str) -> Any:
    """Check one JSON value against a field's type; JSON lists become tuples, base64 text bytes."""
    # Most fields are plain, and this is quick.
    return value if type(value) is hint else _coerce_to(value, hint, where)


def _coerce_to(value: object, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _coerce(value, next(o for o in options if o is not type(None)), where)
    if origin is tuple:
        return _coerce_tuple(value, typing.get_args(hint)[0], where)
    if origin is dict:
        return _coerce_dict(value, typing.get_args(hint)[1], where)
    if hint is bytes:
        return _coerce_bytes(value, where)
    return _coerce_plain(value, hint, where)


def _coerce_plain(value: object, hint: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast("type[Any]", hint), value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise InvalidRequest("bad_request", f"{where} must be of type {hint.__name__}")
    return value


def _coerce_tuple(value: object, of: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidRequest("bad_request", f"{where} must be a list")
    return tuple(_coerce(item, of, where) for item in value)


def _coerce_dict(value: object, of: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest("bad_request", f"{where} must be an object")
    return {str(key): _coerce(item, of, f"{where}[{str(key)[:40]!r}]") for key, item in value.items()}


def _coerce_bytes(value: object, where: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidRequest("bad_request", f"{where} must be base64") from None
