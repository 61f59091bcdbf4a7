"""What git sees of real checkouts, and that nothing in them is run or leads elsewhere."""

import os
import shutil
from pathlib import Path

import pytest

from pyro_mcp.errors import HostUnfit, InvalidRequest
from pyro_mcp.transfer import tree
from pyro_mcp.transfer.selection import select
from tests.support.trees import git, repository

EXPECTED = {".gitignore", "src", "src/kept.py", "src/new.py"}


async def chosen(
    folder: Path, *, everything: bool = False, with_repository: bool = False
) -> tuple[set[str], tuple[str, ...]]:
    async with select(folder, everything=everything, repository=with_repository) as selection:
        found = [found.path for part in selection.parts for found in tree.walk(part)]
        assert len(found) == len(set(found)), "something would come twice"
        return set(found), selection.notices


async def copied(folder: Path, into: Path) -> tuple[str, ...]:
    """Copy a selection with its repository, to look at it with git."""
    async with select(folder, everything=False, repository=True) as selection:
        for part in selection.parts:
            for found in tree.walk(part):
                target = into / found.path
                if found.is_folder:
                    target.mkdir(parents=True, exist_ok=True)
                elif found.is_file:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(part.on_host(found), target)
        return selection.notices


async def test_a_checkout_is_taken_as_git_sees_it(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo")
    assert await chosen(folder) == (EXPECTED, ())
    found, notices = await chosen(folder, with_repository=True)
    assert {path for path in found if not path.startswith(".git/")} == {*EXPECTED, ".git"}
    assert {".git/HEAD", ".git/index", ".git/objects"} < found
    assert notices == ()


async def test_git_works_on_the_copy(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo")
    await copied(folder, tmp_path / "copy")
    assert git(tmp_path / "copy", "status", "--porcelain") == " D deleted\n?? src/new.py\n"


async def test_everything_means_everything(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo")
    (folder / ".git/index.lock").touch()
    found, _ = await chosen(folder, everything=True)
    assert {*EXPECTED, "build", "build/out", "trace.log", ".git/index.lock"} < found
    found, _ = await chosen(folder, with_repository=True)
    assert ".git/index.lock" not in found


async def test_a_plain_folder_is_taken_whole(tmp_path: Path) -> None:
    (tmp_path / "plain/sub").mkdir(parents=True)
    (tmp_path / "plain/sub/x.log").touch()
    assert await chosen(tmp_path / "plain") == ({"sub", "sub/x.log"}, ())


async def test_a_folder_inside_a_checkout_comes_without_the_repository(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo")
    found, notices = await chosen(folder / "src", with_repository=True)
    assert found == {"kept.py", "new.py"}
    assert "without the repository" in notices[0]


async def test_an_ignored_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo")
    found, notices = await chosen(folder / "build")
    assert found == {"out"}
    assert "git ignores" in notices[0]


async def test_submodules_and_nested_repositories_are_seen_through_their_own_git(tmp_path: Path) -> None:
    repository(tmp_path / "library")
    folder = repository(tmp_path / "repo")
    git(folder, "-c", "protocol.file.allow=always", "submodule", "add", "-q", f"{tmp_path}/library", "lib/sub")
    git(folder, "commit", "-q", "-m", "with a submodule")
    (folder / "lib/sub/x.log").touch()
    (folder / "lib/sub/new").touch()
    repository(folder / "nested")
    shutil.move(folder / "nested/.git", tmp_path / "away")
    (folder / "nested/.git").mkdir()  # no repository any more: git lists what is in there
    repository(folder / "other")
    found, _ = await chosen(folder)
    assert {"lib", "lib/sub", "lib/sub/src/kept.py", "lib/sub/new", "lib/sub/deleted"} < found
    assert {"other/src/kept.py", "nested/src/kept.py"} < found
    assert not {"lib/sub/x.log", "other/trace.log", "other/.git", "lib/sub/.git", "nested/trace.log"} & found
    await copied(folder, tmp_path / "copy")
    assert git(tmp_path / "copy/lib/sub", "status", "--porcelain") == "?? new\n"


async def test_a_submodule_that_lost_its_repository_is_taken_as_it_is(tmp_path: Path) -> None:
    repository(tmp_path / "library")
    folder = repository(tmp_path / "repo")
    git(folder, "-c", "protocol.file.allow=always", "submodule", "add", "-q", f"{tmp_path}/library", "sub")
    shutil.rmtree(folder / ".git/modules")
    found, notices = await chosen(folder)
    assert "sub/src/kept.py" in found
    assert "taken as it is" in notices[0]
    git(folder, "submodule", "deinit", "-f", "sub")
    assert "sub" in (await chosen(folder))[0]


async def test_git_works_in_a_linked_worktree(tmp_path: Path) -> None:
    main = repository(tmp_path / "main")
    git(main, "worktree", "add", "-q", "-b", "side", tmp_path.joinpath("side").as_posix())
    (tmp_path / "side/extra").touch()
    assert await copied(tmp_path / "side", tmp_path / "copy") == ()
    shutil.rmtree(main)
    assert git(tmp_path / "copy", "status", "--porcelain", "--branch") == "## side\n?? extra\n"
    assert "first" in git(tmp_path / "copy", "log", "--oneline")


@pytest.mark.parametrize("kind", ["stranger", "no way back", "bare", "link"])
async def test_a_git_file_leads_nowhere_it_should_not(tmp_path: Path, kind: str) -> None:
    main = repository(tmp_path / "main")
    side = tmp_path / "side"
    git(main, "worktree", "add", "-q", str(side))
    match kind:
        case "stranger":
            git(tmp_path, "clone", "-q", "--separate-git-dir", "apart", "main", "cloned")
            side = tmp_path / "cloned"
        case "no way back":
            (main / ".git/worktrees/side/gitdir").write_text("/elsewhere/.git\n")
        case "bare":
            git(main, "config", "core.bare", "true")
        case "link":
            (side / ".git").unlink()
            (side / ".git").symlink_to(main / ".git")
    found, notices = await chosen(side, with_repository=True)
    assert "src/kept.py" in found
    assert not [path for path in found if path.startswith(".git/")]
    assert "left out" in notices[0]


async def test_borrowed_history_is_told_of(tmp_path: Path) -> None:
    repository(tmp_path / "repo")
    git(tmp_path, "clone", "-q", "--shared", "repo", "borrower")
    _, notices = await chosen(tmp_path / "borrower", with_repository=True)
    assert "another repository" in notices[0]


async def test_names_are_bytes_to_git_and_to_us(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo")
    names = {"? x", "tab\there", "line\nbreak", os.fsdecode(b"\xff"), "H 160000 a 0\tname", "-q", " "}
    for name in names:
        (folder / name).touch()
    git(folder, "add", "--", " ", "H 160000 a 0\tname", ":(literal)? x")
    assert (await chosen(folder))[0] == EXPECTED | names


async def test_an_index_that_leads_out_is_of_no_use(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/f").touch()
    folder = repository(tmp_path / "repo")
    blob = git(folder, "hash-object", "-w", "src/kept.py").strip()
    for name in ("link/f", "src/../x"):
        entry = f"100644 {blob} 0\t{name.replace('/../', '/zz/')}"
        git(folder, "update-index", "--add", "--cacheinfo", entry.replace(" 0\t", ",").replace("100644 ", "100644,"))
    index = (folder / ".git/index").read_bytes()
    assert b"src/zz/x" in index
    (folder / ".git/index").write_bytes(resigned(index.replace(b"src/zz/x", b"src/../x")))
    (folder / "link").symlink_to("../secret")
    found, _ = await chosen(folder)
    assert found == {*EXPECTED, "link"}


def resigned(index: bytes) -> bytes:
    import hashlib

    return index[:-20] + hashlib.sha1(index[:-20], usedforsecurity=False).digest()


async def test_nothing_that_a_repository_configures_is_run(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo")
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "filter.x.clean", "diff.external"):
        git(folder, "config", name, str(trap))
    for name in ("post-index-change", "post-checkout", "fsmonitor-watchman"):
        shutil.copy(trap, folder / ".git/hooks" / name)
    git(folder, "config", "remote.origin.url", f"ext::{trap}")
    git(folder, "config", "remote.origin.promisor", "true")
    git(folder, "config", "core.worktree", "/etc")
    (folder / ".gitattributes").write_text("* filter=x\n")
    os.utime(folder / "src/kept.py")
    assert (await chosen(folder))[0] == {*EXPECTED, ".gitattributes"}
    assert not (tmp_path / "sprung").exists()


async def test_variables_of_the_daemon_do_not_lead_git_astray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository(tmp_path / "repo")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, "/nowhere")
    assert (await chosen(folder))[0] == EXPECTED


async def test_a_broken_repository_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "repo/.git").mkdir(parents=True)
    with pytest.raises(InvalidRequest, match="not a git repository") as refused:
        await chosen(tmp_path / "repo")
    assert refused.value.code == "git_failed"
    assert "--seed-all" in (refused.value.hint or "")


async def test_a_host_without_git_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository(tmp_path / "repo")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostUnfit) as refused:
        await chosen(folder)
    assert refused.value.code == "missing_program"
    assert (await chosen(folder, everything=True))[0] > EXPECTED


async def test_a_repository_of_somebody_else_above_is_not_believed(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo")
    stranger = os.geteuid() + 4242
    below = folder / "build"
    if os.geteuid() == 0:
        os.chown(folder / ".git", stranger, -1)
        assert (await chosen(below))[1] == ()
    assert (await chosen(folder))[0] == EXPECTED
