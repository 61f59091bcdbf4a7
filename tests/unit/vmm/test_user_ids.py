"""Users that only VMMs are."""

import os
import secrets
from collections.abc import Iterator

import pytest

from pyro_mcp.vmm import user_ids


def test_they_are_of_a_range_that_nobody_gives_away() -> None:
    """Of systemd's "Users, Groups, UIDs and GIDs on systemd Systems"."""
    assert user_ids.FIRST >= 1879048192
    assert user_ids.FIRST + user_ids.COUNT - 1 <= 2147483647


@pytest.mark.parametrize(
    ("user", "ours"),
    [
        (0, False),
        (1000, False),
        (65534, False),
        (user_ids.FIRST - 1, False),
        (user_ids.FIRST, True),
        (user_ids.FIRST + user_ids.COUNT - 1, True),
        (user_ids.FIRST + user_ids.COUNT, False),
    ],
)
def test_one_of_them_is_known_by_its_number(user: int, ours: bool) -> None:
    assert user_ids.is_ours(user) == ours


def test_one_that_is_drawn_is_of_them() -> None:
    drawn = [user_ids.unused() for _ in range(5)]
    assert all(user_ids.is_ours(user) for user in drawn)
    assert len(set(drawn)) == 5


def test_one_that_some_process_has_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has one, if the range begins with its own."""
    draws = _drawing(monkeypatch, 0, 0, 4242)
    monkeypatch.setattr(user_ids, "FIRST", os.geteuid())
    assert user_ids.unused() == os.geteuid() + 4242
    assert list(draws) == []


def test_processes_that_end_while_they_are_looked_at_are_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        name = "4242"

        def stat(self) -> None:
            raise FileNotFoundError

    class Proc:
        def iterdir(self) -> Iterator[Ended]:
            yield Ended()

    monkeypatch.setattr(user_ids, "Path", lambda _path: Proc())
    assert user_ids.is_ours(user_ids.unused())


def test_only_roots_vmms_become_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert user_ids.for_vmm() is None
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert user_ids.is_ours(user_ids.for_vmm() or 0)


def _drawing(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> Iterator[int]:
    draws = iter(numbers)
    monkeypatch.setattr(secrets, "randbelow", lambda _below: next(draws))
    return draws
