"""A chat host that is connected has a machine ready for the next workspace."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp import Pyro
from pyro_mcp.doctor import daemon as doctor
from pyro_mcp.workspace.places import Places
from tests.support.waiting import wait_until
from tests.vm.conftest import remove_workspaces
from tests.vm.own_cache import copied_cache, templates_in, trouble_with_templates
from tests.vm.pyro_command import PyroCommand, descendants, kill
from tests.vm.test_mcp_loop import Chat, chat
from tests.vm.vmms import has_open, vmms_of

_OWN = "cat /etc/machine-id /proc/sys/kernel/hostname /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that may be pruned."""
    return copied_cache(tmp_path_factory.mktemp("pool"))


@pytest.fixture
def pyro(cache: Path, tmp_path: Path) -> Iterator[PyroCommand]:
    """`pyro` with a daemon of its own, of which nothing is left at the end."""
    command = PyroCommand(tmp_path / "home", {"PYRO_CACHE_DIR": str(cache)})
    yield command
    daemon = command.daemon_pid()
    remove_workspaces(command)
    command.client.stop()
    assert not descendants(daemon)
    assert not vmms_of(command.home)
    assert not Places(command.home).ids()
    assert trouble_with_templates(command.home) == []


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    folder = tmp_path / "seed"
    (folder / "below").mkdir(parents=True)
    (folder / "text").write_text("one\n")
    (folder / "below" / "large").write_bytes(bytes(range(256)) * (16 << 10))
    return folder


def ready(pyro: PyroCommand) -> dict[str, int]:
    """The machines that are ready: the ids that their workspaces will have, and their VMMs."""
    places = Places(pyro.home)
    waiting = [each for each in places.ids() if places.no_seed_yet(each).exists()]
    log = (pyro.home / "daemon.log").read_text()
    return {each: vmm_of(pyro, each) for each in waiting if f"a machine is ready: {each} " in log}


def vmm_of(pyro: PyroCommand, workspace: str) -> int:
    """The VMM that has the disk of this workspace open."""
    (pid,) = [pid for pid in vmms_of(pyro.home) if has_open(pid, Places(pyro.home).folder(workspace))]
    return pid


async def happens(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, condition, 60.0)


async def one_ready(pyro: PyroCommand) -> tuple[str, int]:
    await happens(lambda: ready(pyro))
    (found,) = ready(pyro).items()
    return found


@asynccontextmanager
async def waiting_chat(pyro: PyroCommand, folder: Path) -> AsyncIterator[tuple[Chat, str, int]]:
    """A chat in that folder with no workspace yet, and the first machine that is ready for it, with its VMM."""
    async with chat(pyro, folder) as tools:
        assert (await tools("workspace_list"))["workspaces"] == []
        yield tools, *await one_ready(pyro)


async def made_of(pyro: PyroCommand, ready: tuple[str, int], tools: Chat, **options: str) -> dict[str, Any]:
    """What a chat hears of a workspace that it makes, which takes the machine that is `ready`."""
    made: dict[str, Any] = await tools("workspace_create", environment="debian:12", **options)
    assert (made["workspace_id"], vmm_of(pyro, made["workspace_id"])) == ready
    return made


async def test_a_workspace_of_a_chat_takes_the_machine_that_is_ready(pyro: PyroCommand, seed: Path) -> None:
    sdk = Pyro(pyro.client.settings)

    def says(workspace: str, script: str) -> list[str]:
        return sdk.exec_workspace(workspace, ["sh", "-c", script]).stdout.decode().splitlines()

    async with waiting_chat(pyro, seed) as (tools, first, first_vmm):
        assert sdk.list_workspaces() == ()
        row = await doctor.examine(pyro.client.settings)
        assert "1 machine is ready" in row.found
        assert [vars(each)["environment"] for each in row.details] == ["debian:12"]
        await made_of(pyro, (first, first_vmm), tools)
        assert says(first, "ls -A /workspace; hostname") == [first]

        second, second_vmm = await one_ready(pyro)
        assert (await made_of(pyro, (second, second_vmm), tools, seed_path="."))["seed_files"] == 2
        both = [await asyncio.to_thread(says, each, _OWN) for each in (first, second)]
        assert not set(both[0]) & set(both[1])
        look = "cat text; wc -c <below/large; md5sum <below/large"
        told = await asyncio.to_thread(says, second, look)
        assert told[:2] == ["one", str(4 << 20)]
        assert (await tools("workspace_diff", workspace=second))["files"] == []
        await asyncio.to_thread(says, second, "echo two >>text; echo kept >/root/kept")

        third, third_vmm = await one_ready(pyro)
        kill(pyro.daemon_pid())
        await happens(lambda: not Path(f"/proc/{third_vmm}").exists())
        changed = (await tools("workspace_diff", workspace=second))["files"]  # of a new daemon, which adopts
        assert [(entry["path"], entry["change"]) for entry in changed] == [("/workspace/text", "modified")]
        assert not Places(pyro.home).folder(third).exists()
        assert {vmm_of(pyro, first), vmm_of(pyro, second)} == {first_vmm, second_vmm}
        await one_ready(pyro)  # the chat host tells the new daemon, too
        await tools("workspace_reset", workspace=second)
        assert await asyncio.to_thread(says, second, f"{look}; ls /root") == told
        assert (await tools("workspace_diff", workspace=second))["files"] == []
    await happens(lambda: len(vmms_of(pyro.home)) == 2)
    await happens(lambda: Places(pyro.home).ids() == {first, second})


async def test_who_finds_none_ready_boots_one(pyro: PyroCommand, seed: Path) -> None:
    sdk = Pyro(pyro.client.settings)
    async with waiting_chat(pyro, seed) as (_, waiting, first_vmm):
        with ThreadPoolExecutor(2) as pool:
            made = [each.workspace_id for each in pool.map(lambda _: sdk.create_workspace("debian:12"), range(2))]
        assert waiting in made
        assert len({vmm_of(pyro, each) for each in made} | {first_vmm}) == 2

        frozen, vmm = await one_ready(pyro)
        os.kill(vmm, signal.SIGSTOP)
        made.append(sdk.create_workspace("debian:12").workspace_id)
        assert (made[-1], vmm_of(pyro, frozen) == vmm) == (frozen, False)
        assert sdk.exec_workspace(frozen, ["hostname"]).stdout.decode() == f"{frozen}\n"

        dead, vmm = await one_ready(pyro)
        kill(vmm)  # the sandbox around it may still be about to end
        made.append(sdk.create_workspace("debian:12", seed_path=seed).workspace_id)
        assert vmm_of(pyro, made[-1]) != vmm
        assert sdk.exec_workspace(made[-1], ["cat", "text"]).stdout == b"one\n"
        await happens(lambda: dead in made or not Places(pyro.home).folder(dead).exists())


async def test_pruning_takes_those_that_are_ready_along(pyro: PyroCommand, cache: Path, seed: Path) -> None:
    async with waiting_chat(pyro, seed) as (_, _, vmm):
        assert "template" in pyro("env", "prune").stdout.decode()
        assert vmm not in vmms_of(pyro.home)
        assert templates_in(cache / "templates") == set()
        assert Places(pyro.home).ids() == set()
        sdk = Pyro(pyro.client.settings)
        sdk.create_workspace("debian:12")
        await one_ready(pyro)  # somebody makes workspaces again
