"""Shared and exclusive holds: who waits for whom, and for how long."""

import asyncio

import pytest

from pyro_mcp.errors import Conflict
from pyro_mcp.workspace.holds import Holds


class Users:
    """Tasks that hold a workspace until they are told to let go."""

    def __init__(self, holds: Holds) -> None:
        self.holds = holds
        self.inside: list[str] = []
        self.most_inside = 0

    def begin(self, name: str, workspace: str = "w") -> "tuple[asyncio.Task[None], asyncio.Event]":
        """`name` begins with `s` for a shared hold, with `x` for an exclusive one."""
        let_go = asyncio.Event()

        async def use() -> None:
            take = self.holds.shared if name.startswith("s") else self.holds.exclusive
            async with take(workspace):
                self.inside.append(name)
                await let_go.wait()
                self.inside.remove(name)

        return asyncio.create_task(use()), let_go


async def rest() -> None:
    """Let all tasks come to where they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_shared_holds_are_held_together_and_exclusive_ones_alone() -> None:
    users = Users(Holds())
    s1, end_s1 = users.begin("s1")
    s2, end_s2 = users.begin("s2")
    x1, end_x1 = users.begin("x1")
    x2, end_x2 = users.begin("x2")
    await rest()
    assert users.inside == ["s1", "s2"]
    end_s1.set()
    await rest()
    assert users.inside == ["s2"]
    end_s2.set()
    await rest()
    assert users.inside == ["x1"]
    end_x1.set()
    await rest()
    assert users.inside == ["x2"]
    end_x2.set()
    await asyncio.gather(s1, s2, x1, x2)
    assert users.holds._holds == {}


async def test_who_comes_later_does_not_overtake_who_waits_to_be_alone() -> None:
    users = Users(Holds())
    s1, end_s1 = users.begin("s1")
    await rest()
    x1, end_x1 = users.begin("x1")
    s2, end_s2 = users.begin("s2")
    s3, end_s3 = users.begin("s3")
    await rest()
    assert users.inside == ["s1"]
    end_s1.set()
    await rest()
    assert users.inside == ["x1"]
    end_x1.set()
    await rest()
    assert users.inside == ["s2", "s3"]
    end_s2.set()
    end_s3.set()
    await asyncio.gather(s1, s2, s3, x1)


async def test_workspaces_do_not_hold_each_other_up() -> None:
    users = Users(Holds())
    x1, end_x1 = users.begin("x1")
    x2, end_x2 = users.begin("x2", "other")
    await rest()
    assert users.inside == ["x1", "x2"]
    end_x1.set()
    end_x2.set()
    await asyncio.gather(x1, x2)


async def test_being_alone_is_refused_when_others_stay() -> None:
    users = Users(Holds(patience_seconds=0.05))
    s1, end_s1 = users.begin("s1")
    await rest()
    x1, _ = users.begin("x1")
    s2, end_s2 = users.begin("s2")
    with pytest.raises(Conflict) as caught:
        await x1
    assert caught.value.code == "workspace_busy"
    await rest()
    assert users.inside == ["s1", "s2"]  # who waited behind it goes on
    end_s1.set()
    end_s2.set()
    await asyncio.gather(s1, s2)
    assert users.holds._holds == {}


async def test_waiting_for_another_that_is_alone_is_no_reason_to_be_refused() -> None:
    users = Users(Holds(patience_seconds=0.01))
    x1, end_x1 = users.begin("x1")
    x2, end_x2 = users.begin("x2")
    done, _ = await asyncio.wait((x2,), timeout=0.05)
    assert not done
    end_x1.set()
    end_x2.set()
    await asyncio.gather(x1, x2)


@pytest.mark.parametrize("waiter", ["x", "s"])
async def test_who_gives_up_waiting_is_forgotten(waiter: str) -> None:
    users = Users(Holds())
    x1, end_x1 = users.begin("x1")
    await rest()
    leaving, _ = users.begin(waiter)
    s1, end_s1 = users.begin("s1")
    await rest()
    leaving.cancel()
    await rest()
    end_x1.set()
    await rest()
    assert users.inside == ["s1"]
    end_s1.set()
    await asyncio.gather(x1, s1)
    assert users.holds._holds == {}


async def test_a_hold_that_is_granted_as_its_waiter_is_cancelled_is_given_back() -> None:
    users = Users(Holds())
    held = users.holds.exclusive("w")
    await held.__aenter__()
    x2, _ = users.begin("x2")
    s1, end_s1 = users.begin("s1")
    await rest()
    await held.__aexit__(None, None, None)
    x2.cancel()  # it has been granted its hold now, and has not had its turn
    await rest()
    assert users.inside == ["s1"]
    end_s1.set()
    await s1
    assert users.holds._holds == {}
