"""Schemas of dataclasses, and arguments of models against them."""

from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.mcp.schema import input_schema, output_schema, parse, plain


@dataclass(frozen=True)
class Inner:
    path: str
    size: int | None = None


@dataclass(frozen=True)
class Parameters:
    workspace: str
    command: Annotated[str | tuple[str, ...] | None, "shell line, or list of words"] = None
    seconds: Annotated[int, "how long", range(1, 61)] = 30
    deep: bool = False
    labels: dict[str, str] | None = None
    inner: tuple[Inner, ...] = ()


def test_the_schema_of_parameters() -> None:
    assert input_schema(Parameters) == {
        "type": "object",
        "properties": {
            "workspace": {"type": "string"},
            "command": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
                "description": "shell line, or list of words",
            },
            "seconds": {"type": "integer", "description": "how long"},
            "deep": {"type": "boolean"},
            "labels": {"type": "object"},
            "inner": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["workspace"],
    }


def test_the_schema_of_a_result_requires_nothing() -> None:
    assert output_schema(Inner) == {
        "type": "object",
        "properties": {"path": {"type": "string"}, "size": {"type": "integer"}},
    }


def test_arguments_as_they_should_be() -> None:
    given = {"workspace": "w", "command": ["ls", "-l"], "seconds": 60, "deep": True, "labels": {"a": "b"}}
    assert parse("t", Parameters, given) == Parameters("w", ("ls", "-l"), 60, True, {"a": "b"})


def test_what_models_write_instead() -> None:
    given = {"workspace": "w", "command": "ls", "seconds": "45", "deep": "true", "labels": None}
    assert parse("t", Parameters, given) == Parameters("w", "ls", 45, True)
    assert parse("t", Parameters, {"workspace": "w", "seconds": 45.0}).seconds == 45


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "t needs the argument `workspace`"),
        ({"workspace": None}, "t needs the argument `workspace`"),
        ({"workspace": 3}, "t: `workspace` must be text"),
        ({"workspace": "w", "command": [1]}, "t: `command` must be text or a list of texts"),
        ({"workspace": "w", "seconds": 0}, "t: `seconds` must be a whole number from 1 to 60"),
        ({"workspace": "w", "seconds": True}, "t: `seconds` must be a whole number from 1 to 60"),
        ({"workspace": "w", "seconds": 1.5}, "t: `seconds` must be a whole number from 1 to 60"),
        ({"workspace": "w", "seconds": "9" * 30}, "t: `seconds` must be a whole number from 1 to 60"),
        ({"workspace": "w", "deep": "maybe"}, "t: `deep` must be true or false"),
        ({"workspace": "w", "labels": {"a": 1}}, "t: `labels` must be an object of texts"),
        ({"workspace": "w", "labels": ["a"]}, "t: `labels` must be an object of texts"),
        ({"workspace": "w", "second": 5}, "t has no argument `second`"),
    ],
)
def test_arguments_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse("t", Parameters, given)
    assert (caught.value.code, caught.value.message) == ("bad_argument", said)


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse("t", Parameters, {"workspace": "w", "comand": "ls"})
    assert caught.value.hint == "did you mean `command`?"
    with pytest.raises(InvalidRequest) as caught:
        parse("t", Inner, {"path": "p", "zzz": 1})
    assert caught.value.hint == "it takes: path, size"


def test_results_leave_out_what_is_not_known() -> None:
    assert plain(Parameters("w", inner=(Inner("a"), Inner("b", 0)))) == {
        "workspace": "w",
        "seconds": 30,
        "deep": False,
        "inner": [{"path": "a"}, {"path": "b", "size": 0}],
    }
