"""Every error survives the road from the daemon to a client."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pyro_mcp
from pyro_mcp import errors
from pyro_mcp.errors import (
    CommandNotStarted,
    DaemonFailed,
    GuestFailed,
    HostUnfit,
    InternalError,
    Interrupted,
    NotFound,
    PyroError,
    WireError,
    from_wire,
)


def _all_below(kind: type[PyroError]) -> Iterator[type[PyroError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _all_below(child)


def _import_everything() -> None:
    for module in pkgutil.walk_packages(pyro_mcp.__path__, "pyro_mcp."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


_import_everything()


def _name(kind: type) -> str:
    return kind.__name__


ALL: list[type[PyroError]] = sorted({PyroError, *_all_below(PyroError)}, key=_name)


@pytest.mark.parametrize("kind", ALL, ids=_name)
def test_every_error_arrives_as_what_its_catchers_expect(kind: type[PyroError]) -> None:
    """A class of `errors` arrives as itself; one that a lower module refines, as the class that it refines."""
    error = kind.__new__(kind)
    PyroError.__init__(error, "some_code", "what happened", "what to do")
    arrived = from_wire(error.to_wire())
    wanted = next(base for base in kind.__mro__ if base.__module__ == errors.__name__)
    assert type(arrived) is wanted
    assert (arrived.code, arrived.message, arrived.hint) == ("some_code", "what happened", "what to do")
    assert arrived.exit_code == error.exit_code


def test_the_tree_at_the_top_of_the_module_names_every_class_in_it() -> None:
    drawn = errors.__doc__ or ""
    for kind in ALL:
        if kind.__module__ == errors.__name__:
            assert kind.__name__ in drawn


@given(st.text(), st.text(), st.text(), st.none() | st.text(), st.integers(0, 255))
def test_an_unknown_kind_of_error_keeps_its_words(
    kind: str, code: str, message: str, hint: str | None, exit_code: int
) -> None:
    arrived = from_wire(WireError(f"Unheard{kind}", code, message, hint, exit_code))
    assert type(arrived) is PyroError
    assert (arrived.code, arrived.message, arrived.hint, arrived.exit_code) == (code, message, hint, exit_code)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (NotFound("c", "m"), 1),
        (HostUnfit("c", "m"), 1),
        (Interrupted("c", "m"), 130),
        (Interrupted("c", "m", exit_code=143), 143),
        (InternalError("c", "m"), 2),
        (GuestFailed("c", "m"), 2),
        (DaemonFailed("c", "m"), 2),
        (CommandNotStarted("c", "m", exit_code=127), 127),
        (CommandNotStarted("c", "m", exit_code=126), 126),
    ],
)
def test_exit_codes_tell_whose_problem_it_is(error: PyroError, exit_code: int) -> None:
    assert error.exit_code == exit_code
    assert from_wire(error.to_wire()).exit_code == exit_code


def test_an_exit_code_of_one_error_is_not_that_of_its_class() -> None:
    CommandNotStarted("c", "m", exit_code=127)
    assert CommandNotStarted("c", "m").exit_code == 1


def test_an_error_reads_as_its_message() -> None:
    assert str(NotFound("unknown_environment", "there is no environment named 'x'")) == (
        "there is no environment named 'x'"
    )
