"""Parameters and results of tools as dataclasses: their JSON schemas, and arguments checked against them.

A field's type is `str`, `int`, `bool`, `tuple[...]`, `dict[str, str]`, a dataclass, or one of these `| None`; `str |
tuple[str, ...]` is allowed too. `Annotated` adds what a model should know (a string) and, for numbers, what is
allowed (a `range`).

Schemas are kept as small as they can be, because chat hosts carry them in every conversation: they do not tell what is
in objects within them, nor what numbers are allowed (the error for one that is not does).
"""

import dataclasses
import difflib
import types
import typing
from typing import Any, TypeVar

from pyro_mcp.errors import InvalidRequest

T = TypeVar("T")

_JSON_TYPES: dict[Any, str] = {str: "string", int: "integer", bool: "boolean", float: "number"}


def input_schema(kind: type) -> dict[str, Any]:
    """The JSON schema of a tool's parameters."""
    required = [field.name for field in dataclasses.fields(kind) if _required(field)]
    return output_schema(kind) | ({"required": required} if required else {})


def output_schema(kind: type) -> dict[str, Any]:
    """The JSON schema of a tool's result: what can be in it. Nobody needs to know what always is."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {"type": "object", "properties": {name: _schema(hint) for name, hint in hints.items()}}


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _schema(hint: Any) -> dict[str, Any]:
    hint, words, _ = _unwrapped(hint)
    return _bare_schema(hint) | ({"description": words} if words else {})


def _unwrapped(hint: Any) -> tuple[Any, str, range | None]:
    """A type without `Annotated` and `None`, what is said about it, and the numbers that are allowed."""
    words, allowed = "", None
    if typing.get_origin(hint) is typing.Annotated:
        hint, *extras = typing.get_args(hint)
        words = next((extra for extra in extras if isinstance(extra, str)), "")
        allowed = next((extra for extra in extras if isinstance(extra, range)), None)
    options = _options(hint)
    return (options[0] if len(options) == 1 else hint), words, allowed


def _options(hint: Any) -> list[Any]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [option for option in typing.get_args(hint) if option is not type(None)]
    return [hint]


def _bare_schema(hint: Any) -> dict[str, Any]:
    options = _options(hint)
    if len(options) > 1:
        return {"anyOf": [_bare_schema(option) for option in options]}
    origin = typing.get_origin(hint)
    if origin is tuple:
        return {"type": "array", "items": _bare_schema(typing.get_args(hint)[0])}
    if origin is dict or dataclasses.is_dataclass(hint):
        return {"type": "object"}
    return {"type": _JSON_TYPES[hint]}


def parse(tool: str, kind: type[T], arguments: dict[str, Any]) -> T:
    """Build a tool's parameters from what a model sent, or raise `InvalidRequest` that names what is wrong with it.

    `null` counts as left out. Numbers and lists written as text are taken for what they mean: models do that.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    for name in arguments:
        if name not in hints:
            raise _unknown(tool, str(name), list(hints))
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if arguments.get(field.name) is not None:
            values[field.name] = _value(tool, field.name, hints[field.name], arguments[field.name])
        elif _required(field):
            raise InvalidRequest(
                "bad_argument", f"{tool} needs the argument `{field.name}`", _saying(hints[field.name])
            )
    return kind(**values)


def _unknown(tool: str, name: str, known: list[str]) -> InvalidRequest:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"it takes: {', '.join(known) or 'none'}"
    return InvalidRequest("bad_argument", f"{tool} has no argument `{name[:60]}`", hint)


def _saying(hint: Any) -> str | None:
    return _unwrapped(hint)[1] or None


def _value(tool: str, name: str, hint: Any, value: Any) -> Any:
    bare, words, allowed = _unwrapped(hint)
    for option in _options(bare):
        taken = _taken(option, value)
        if taken is not None and (allowed is None or taken in allowed):
            return taken
    bounds = "" if allowed is None else f" from {allowed.start} to {allowed.stop - 1}"
    wanted = " or ".join(_named(option) for option in _options(bare)) + bounds
    raise InvalidRequest("bad_argument", f"{tool}: `{name}` must be {wanted}", words or None)


def _taken(option: Any, value: Any) -> Any:
    """The value as that type, or None."""
    origin = typing.get_origin(option)
    if option is int:
        return _whole_number(value)
    if option is bool:
        return {"true": True, "false": False}.get(value) if isinstance(value, str) else _exactly(bool, value)
    if origin is tuple:
        return tuple(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else None
    if origin is dict:
        flat = isinstance(value, dict) and all(isinstance(item, str) for pair in value.items() for item in pair)
        return value if flat else None
    return _exactly(option, value)


def _exactly(kind: type, value: Any) -> Any:
    return value if isinstance(value, kind) else None


def _whole_number(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _named(option: Any) -> str:
    origin = typing.get_origin(option)
    names = {str: "text", int: "a whole number", bool: "true or false"}
    return {tuple: "a list of texts", dict: "an object of texts"}.get(origin) or names[option]


def plain(value: Any) -> dict[str, Any]:
    """A result as JSON data, without what is not known."""
    return {
        field.name: _plain_value(getattr(value, field.name))
        for field in dataclasses.fields(value)
        if getattr(value, field.name) is not None
    }


def _plain_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    return plain(value) if dataclasses.is_dataclass(value) else value
