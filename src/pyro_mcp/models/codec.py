"""Dataclasses as JSON-ready data, and back with every field checked."""

import binascii
import dataclasses
import functools
import types
import typing
from typing import Any

from pyro_mcp.errors import InvalidRequest

_T = typing.TypeVar("_T")
# What JSON has, too. Most values are of these types, and a look at a value's own type is quick.
_PLAIN = frozenset((str, int, bool, type(None)))
_UNIONS = (types.UnionType, typing.Union)


def encode(value: object) -> dict[str, Any]:
    """A dataclass as JSON-ready data; bytes travel as base64."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"not a dataclass instance: {value!r}")
    return {name: item if type(item) in _PLAIN else _encoded(item) for name, item in vars(value).items()}


def _encoded(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        return binascii.b2a_base64(value, newline=False).decode()
    if isinstance(value, tuple):
        return tuple(_encoded(item) for item in value)
    return encode(value) if dataclasses.is_dataclass(value) else value


def decode(kind: type[_T], data: object) -> _T:
    """Build a dataclass from JSON data, or raise `InvalidRequest` that names the field that is wrong."""
    if not isinstance(data, dict):
        raise InvalidRequest("bad_request", f"expected an object for {kind.__name__}")
    hints, plain, required = _fields(typing.cast("typing.Hashable", kind))
    unknown = data.keys() - hints.keys()
    if unknown:
        raise InvalidRequest("bad_request", f"{kind.__name__} has no field {sorted(map(str, unknown))[0]!r}")
    missing = [name for name in required if name not in data]
    if missing:
        raise InvalidRequest("bad_request", f"{kind.__name__} lacks the field {missing[0]!r}")
    return kind(
        **{
            name: value if type(value) in plain[name] else _coerce(value, hints[name], f"{kind.__name__}.{name}")
            for name, value in data.items()
        }
    )


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], dict[str, frozenset[object]], tuple[str, ...]]:
    """The fields' types, the plain ones among these, and the fields without a default.

    Working that out takes longer than checking a message.
    """
    missing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    required = tuple(each.name for each in fields if each.default is missing and each.default_factory is missing)
    hints = typing.get_type_hints(kind)
    return hints, {name: _PLAIN.intersection(_options(hint)) for name, hint in hints.items()}, required


def _options(hint: Any) -> tuple[Any, ...]:
    """The types that a value may have."""
    return typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)


def _coerce(value: object, hint: Any, where: str) -> Any:
    """Check one JSON value against a field's type; JSON lists become tuples, base64 text bytes."""
    return value if type(value) is hint else _coerce_to(value, hint, where)


def _coerce_to(value: object, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in _UNIONS:
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
        return binascii.a2b_base64(value, strict_mode=True)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidRequest("bad_request", f"{where} must be base64") from None
