"""Dataclasses as JSON-ready data, and back with every field checked."""

import binascii
import dataclasses
import functools
import types
import typing
from typing import TYPE_CHECKING, Any

from pyro_mcp.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Container

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
    fields, required = _fields(typing.cast("typing.Hashable", kind))
    if data.keys() != fields.keys():
        _refuse_strange_or_missing(kind, data, fields, required)
    values = {}
    for name, value in data.items():
        plain, read, where = fields[name]
        values[name] = value if type(value) in plain else read(value, where)
    return kind(**values)


def _refuse_strange_or_missing(
    kind: type, data: dict[Any, object], fields: "Container[object]", required: tuple[str, ...]
) -> None:
    unknown = sorted(str(name) for name in data if name not in fields)
    if unknown:
        raise InvalidRequest("bad_request", f"{kind.__name__} has no field {unknown[0]!r}")
    missing = [name for name in required if name not in data]
    if missing:
        raise InvalidRequest("bad_request", f"{kind.__name__} lacks the field {missing[0]!r}")


# Checks one JSON value, which stands at the place that the text names; raises `InvalidRequest`.
_Reader: typing.TypeAlias = "Callable[[object, str], Any]"


@functools.cache
def _fields(kind: Any) -> "tuple[dict[str, tuple[frozenset[object], _Reader, str]], tuple[str, ...]]":
    """How each field is read, and the fields without a default.

    Of each field: the plain types it may have, what reads a value of another type, and its name in errors. Working
    that out takes longer than checking a message.
    """
    missing = dataclasses.MISSING
    fields = dataclasses.fields(kind)
    required = tuple(each.name for each in fields if each.default is missing and each.default_factory is missing)
    hints = typing.get_type_hints(kind)
    readers = {name: (_plain(hint), _reader(hint), f"{kind.__name__}.{name}") for name, hint in hints.items()}
    return readers, required


def _plain(hint: Any) -> frozenset[object]:
    """The types of values that stand for themselves under this hint."""
    return _PLAIN.intersection(typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,))


@functools.cache
def _reader(hint: Any) -> _Reader:
    """What makes a value of this type of a JSON value: JSON lists become tuples, base64 text bytes."""
    origin = typing.get_origin(hint)
    if origin in _UNIONS:
        return _optional_reader(typing.get_args(hint))
    if origin is tuple:
        return _tuple_reader(typing.get_args(hint)[0])
    if origin is dict:
        return _dict_reader(typing.get_args(hint)[1])
    if hint is bytes:
        return _read_bytes
    if dataclasses.is_dataclass(hint):
        return lambda value, _where: decode(typing.cast("type[Any]", hint), value)
    return _plain_reader(hint)


def _optional_reader(options: tuple[Any, ...]) -> _Reader:
    read = _reader(next(option for option in options if option is not type(None)))
    if type(None) not in options:
        return read
    return lambda value, where: None if value is None else read(value, where)


def _tuple_reader(of: Any) -> _Reader:
    plain, read = _plain(of), _reader(of)

    def read_tuple(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise InvalidRequest("bad_request", f"{where} must be a list")
        return tuple([item if type(item) in plain else read(item, where) for item in value])

    return read_tuple


def _dict_reader(of: Any) -> _Reader:
    plain, read = _plain(of), _reader(of)

    def read_dict(value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise InvalidRequest("bad_request", f"{where} must be an object")
        return {
            str(key): item if type(item) in plain else read(item, f"{where}[{str(key)[:40]!r}]")
            for key, item in value.items()
        }

    return read_dict


def _plain_reader(kind: Any) -> _Reader:
    def read_plain(value: object, where: str) -> Any:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InvalidRequest("bad_request", f"{where} must be of type {kind.__name__}")
        return value

    return read_plain


def _read_bytes(value: object, where: str) -> bytes:
    try:
        return binascii.a2b_base64(value, strict_mode=True)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidRequest("bad_request", f"{where} must be base64") from None
