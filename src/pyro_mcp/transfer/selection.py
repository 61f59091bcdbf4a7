"""What of a host folder goes into a workspace: all of it, or what git sees of it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.transfer import checkout, git_listing
from pyro_mcp.transfer.checkout import Checkout
from pyro_mcp.transfer.host_paths import open_folder
from pyro_mcp.transfer.limits import shown
from pyro_mcp.transfer.tree import Chosen, Part

_NESTED_DEPTH = 8  # submodules of submodules


@dataclass(frozen=True)
class Selection:
    """The parts of a transfer (open until the selection is left), and what its user should know about them."""

    parts: tuple[Part, ...]
    notices: tuple[str, ...]


@asynccontextmanager
async def select(folder: Path, *, everything: bool, repository: bool) -> AsyncIterator[Selection]:
    """Choose what goes in; with `repository` also what git needs to work on it.

    Raises `NotFound`, `InvalidRequest` and `HostUnfit` as `open_folder` and `git_listing` do.
    """
    with ExitStack() as opened:
        yield await _Selecting(folder, opened).select(everything=everything, repository=repository)


class _Selecting:
    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self._folder = folder
        self._opened = opened
        self._notices: list[str] = []

    async def select(self, *, everything: bool, repository: bool) -> Selection:
        top = await self._part(self._folder)
        found = None if everything else await asyncio.to_thread(checkout.find, self._folder)
        if found is None:
            return Selection((top,), ())
        chosen = await self._listed(found.git, found.top, self._folder, _NESTED_DEPTH, repository=repository)
        if found.top != self._folder:
            return self._below(top, chosen, found)
        chosen.pop(".git", None)
        parts = [Part(top.fd, top.path, chosen)]
        if repository:
            parts += await self._repository(found, top)
        return Selection(tuple(parts), tuple(self._notices))

    def _below(self, top: Part, chosen: Chosen, found: Checkout) -> Selection:
        """A folder inside a checkout."""
        if not chosen:
            self._notices.append("git ignores this folder, so all of it was taken as it is")
            return Selection((top,), tuple(self._notices))
        self._notices.append(f"a folder inside the checkout {shown(str(found.top))}: its files without the repository")
        return Selection((Part(top.fd, top.path, chosen),), tuple(self._notices))

    async def _part(
        self, folder: Path, chosen: Chosen | None = None, prefix: str = "", skip: frozenset[str] = frozenset()
    ) -> Part:
        fd = await asyncio.to_thread(open_folder, folder)
        self._opened.callback(os.close, fd)
        return Part(fd, str(folder), chosen, prefix, skip)

    async def _listed(self, git: Path, top: Path, folder: Path, depth: int, *, repository: bool) -> Chosen:
        """What git sees, and in repositories inside (submodules, say) what git sees there."""
        chosen, inside = await git_listing.listing(git, top, folder)
        for name in inside:
            nested = await self._nested(folder / name, depth - 1, repository=repository)
            _put(chosen, name, nested)
        return chosen

    async def _nested(self, folder: Path, depth: int, *, repository: bool) -> Chosen | None:
        if not await asyncio.to_thread(checkout.is_top, folder):
            return {}
        try:
            if depth == 0:
                raise InvalidRequest("git_failed", "too many repositories inside each other")
            chosen = await self._listed(folder / ".git", folder, folder, depth, repository=repository)
        except InvalidRequest as error:
            if error.code != "git_failed":
                raise
            self._notices.append(f"{shown(folder.name)} is no repository that git can read: taken as it is")
            return None
        chosen.pop(".git", None)
        return {**chosen, ".git": None} if repository else chosen

    async def _repository(self, found: Checkout, top: Part) -> list[Part]:
        """What becomes `.git` in the workspace."""
        if found.is_folder:
            if await asyncio.to_thread(checkout.borrows_objects, found.git):
                self._notices.append("part of the history is in another repository and is left out")
            # A lock that git holds on the host at this moment would stop git in the workspace for good.
            return [Part(top.fd, top.path, {".git": None}, skip=frozenset({".git/index.lock"}))]
        linked = await asyncio.to_thread(checkout.linked_worktree, found)
        if linked is None:
            self._notices.append(".git leads to a repository elsewhere and is left out: git does not work inside")
            return []
        own: Chosen = {**linked.own_files}
        return [
            await self._part(linked.own, own, ".git/"),
            await self._part(linked.shared, None, ".git/", linked.left_out),
        ]


def _put(chosen: Chosen, path: str, below: Chosen | None) -> None:
    """Say what to take of a folder that is listed as a whole."""
    *folders, name = path.split("/")
    for folder in folders:
        chosen = chosen[folder] or {}
    chosen[name] = below
