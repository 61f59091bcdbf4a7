"""Exports that arrive on the host: from good guests, hostile ones, and ones that stop in the middle."""

import errno
import fcntl
import io
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from pyro_mcp.errors import Conflict, HostUnfit, InvalidRequest, NotFound, PyroError
from pyro_mcp.transfer import landing as landing_module
from pyro_mcp.transfer import tree_writer
from pyro_mcp.transfer.landing import Landing
from pyro_mcp.transfer.names import BadName, stays_inside
from pyro_mcp.transfer.tar_reader import BadTar
from tests.support.other_user import as_user
from tests.support.trees import Sketch, draw_tree, sample_tree, seen, sketches, tar_bytes

Members = tuple[str, str, bytes | str]
TOP: Members = ("./", "DIRTYPE", "")


def land(output: Path, data: bytes, *, include_git: bool = False) -> Landing:
    landing = Landing(output, include_git=include_git)
    try:
        landing.receive(io.BytesIO(data))
        landing.settle()
    finally:
        landing.close()
    return landing


def packed(folder: Path, *flags: str) -> bytes:
    return subprocess.run(["tar", *flags, "-cf", "-", "-C", folder, "."], check=True, capture_output=True).stdout


@pytest.mark.parametrize("existing", [False, True])
def test_a_folder_arrives_as_it_was(tmp_path: Path, existing: bool) -> None:
    tree = sample_tree(tmp_path / "tree")
    (tree / "src/second").hardlink_to(tree / "src/tool")
    (tmp_path / "out").mkdir()
    if existing:
        (tmp_path / "out/copy").mkdir()
    landing = land(tmp_path / "out/copy", packed(tree, "--format=posix"))
    wanted = seen(tree, modes=0o755)
    del wanted["out"]  # leads out
    assert seen(tmp_path / "out/copy") == wanted
    assert landing.skipped.listed() == ("out",)
    assert list(landing.skipped.kinds) == ["links that lead out of what is exported"]
    assert (tmp_path / "out/copy/src/second").samefile(tmp_path / "out/copy/src/tool")
    assert landing.tally.files == len([kind for kind, *_ in wanted.values() if kind != "directory"])
    assert os.listdir(tmp_path / "out") == ["copy"]


@settings(max_examples=25, deadline=None)
@given(sketches)
def test_any_folder_arrives_but_for_links_that_lead_out(sketch: Sketch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        draw_tree(Path(folder, "tree"), sketch)
        landing = land(Path(folder, "copy"), packed(Path(folder, "tree"), "--format=posix"), include_git=True)
        before, after = seen(Path(folder, "tree"), modes=0o755), seen(Path(folder, "copy"))
    out = {
        path
        for path, (kind, *_, target) in before.items()
        if kind == "symlink"
        and not stays_inside(tuple(map(os.fsencode, path.split("/"))), os.fsencode(target), strict=True)
    }
    assert landing.skipped.count == len(out)
    assert after == {path: what for path, what in before.items() if path not in out}


@pytest.mark.parametrize("name", [".git", ".GIT", "sub/.git"])
def test_repositories_stay_behind_with_what_is_linked_to_them(tmp_path: Path, name: str) -> None:
    members: list[Members] = [
        TOP,
        (f"./{name}", "DIRTYPE", ""),
        (f"./{name}/hooks", "DIRTYPE", ""),
        (f"./{name}/hooks/pre-commit", "REGTYPE", b"evil"),
        ("./innocent", "LNKTYPE", f"./{name}/hooks/pre-commit"),
        ("./.gitignore", "REGTYPE", b"*.o"),
    ]
    landing = land(tmp_path / "x", tar_bytes(*members))
    assert landing.skipped.listed() == (name, "innocent")
    assert list(landing.skipped.kinds) == ["git repositories"]
    assert [str(path.relative_to(tmp_path / "x")) for path in (tmp_path / "x").rglob("*")] == [".gitignore"]


def test_a_single_file_and_an_empty_folder_arrive(tmp_path: Path) -> None:
    landing = land(tmp_path / "file", tar_bytes(("name.txt", "REGTYPE", b"text")))
    assert (tmp_path / "file").read_bytes() == b"text"
    assert (landing.tally.files, landing.tally.bytes) == (1, 4)
    land(tmp_path / "empty", tar_bytes())
    land(tmp_path / "empty2", tar_bytes(TOP))
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("empty", "empty2")] == [0o755, 0o755]
    assert sorted(os.listdir(tmp_path)) == ["empty", "empty2", "file"]


def test_special_bits_writing_by_others_and_what_is_no_file_are_dropped(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "d").mkdir()
    (tree / "s").touch()
    (tree / "s").chmod(0o6711)
    (tree / "d").chmod(0o1555)
    (tree / "open").touch()
    (tree / "open").chmod(0o666)
    (tree / "wide").mkdir()
    (tree / "wide").chmod(0o777)
    os.mkfifo(tree / "fifo")
    tree.chmod(0o500)
    landing = land(tmp_path / "copy", packed(tree))
    tree.chmod(0o700)
    modes = {path: mode for path, (_, mode, _, _) in seen(tmp_path / "copy").items()}
    assert modes == {"d": 0o755, "s": 0o711, "open": 0o644, "wide": 0o755}
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700
    assert landing.skipped.listed() == ("fifo",)
    assert list(landing.skipped.kinds) == ["devices, pipes or sockets"]


def test_owners_are_mapped(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").touch()
    (tmp_path / "tree/l").symlink_to("f")
    us, group = os.geteuid(), os.getegid()
    land(tmp_path / "roots", packed(tmp_path / "tree", "--owner=0", "--group=0"))
    land(tmp_path / "others", packed(tmp_path / "tree", "--owner=1234", "--group=1235"))
    for name, wanted in (("roots", (us, group)), ("others", (1234, 1235) if us == 0 else (us, group))):
        for path in (tmp_path / name, tmp_path / name / "f", tmp_path / name / "l"):
            assert (path.lstat().st_uid, path.lstat().st_gid) == wanted


def test_owners_that_a_container_may_not_give_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no")

    monkeypatch.setattr(tree_writer, "_keeps_owner", lambda _member: True)
    monkeypatch.setattr(os, "fchown", refused)
    monkeypatch.setattr(os, "chown", refused)
    land(tmp_path / "out", tar_bytes(("./f", "REGTYPE", b"x"), ("./l", "SYMTYPE", "f")))
    assert (tmp_path / "out/f").stat().st_uid == os.geteuid()


F: Members = ("./f", "REGTYPE", b"x")
HOSTILE: list[tuple[list[Members], type[Exception], str]] = [
    ([("/tmp/x", "REGTYPE", b"x")], BadTar, "neither"),
    ([TOP, ("/tmp/x", "REGTYPE", b"x")], BadName, "absolute"),
    ([("./../x", "REGTYPE", b"x")], BadName, r"\.\."),
    ([("./d/../../x", "REGTYPE", b"x")], BadName, r"\.\."),
    ([F, F], BadName, "second entry"),
    ([("./l", "SYMTYPE", "d"), ("./d", "DIRTYPE", ""), ("./l/f", "REGTYPE", b"x")], BadName, "below something"),
    ([("./l", "SYMTYPE", "d"), ("./l", "DIRTYPE", "")], BadName, "below something"),
    ([F, ("./f/g", "REGTYPE", b"x")], BadName, "below something"),
    ([F, ("./f", "SYMTYPE", "x")], BadName, "second entry"),
    ([("./h", "LNKTYPE", "/etc/passwd")], BadName, "absolute"),
    ([("./h", "LNKTYPE", "../../x")], BadName, r"\.\."),
    ([("./h", "LNKTYPE", "./f")], BadName, "did not come before"),
    ([("./h", "LNKTYPE", "./d/f")], BadName, "did not come before"),
    ([("./h", "LNKTYPE", "./")], BadName, "nothing"),
    ([("./l", "SYMTYPE", "f"), ("./h", "LNKTYPE", "./l")], BadName, "no file"),
    ([F, ("./f", "LNKTYPE", "./f")], BadName, "second entry"),
    ([("./", "REGTYPE", b"x")], BadName, "without a name"),
    ([("f", "REGTYPE", b"x"), ("g", "REGTYPE", b"x")], BadTar, "after a single file"),
    ([("f", "SYMTYPE", "g")], BadTar, "neither"),
    ([("..", "REGTYPE", b"x")], BadName, r"\.\."),
]


@pytest.mark.parametrize(("members", "error", "why"), HOSTILE)
def test_hostile_streams_leave_nothing(
    tmp_path: Path, members: list[Members], error: type[Exception], why: str
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(error, match=why):
        land(tmp_path / "out/x", tar_bytes(*members))
    assert os.listdir(tmp_path / "out") == []
    assert os.listdir(tmp_path) == ["out"]


def test_streams_that_end_early_or_late_leave_nothing(tmp_path: Path) -> None:
    whole = tar_bytes(TOP, ("./d", "DIRTYPE", ""), ("./d/f", "REGTYPE", b"x" * 600))
    end = whole.index(bytes(1024))
    for data in (*(whole[:cut] for cut in range(0, end + 1, 512)), whole + b"more", whole + bytes(2 << 20)):
        with pytest.raises(BadTar):
            land(tmp_path / "x", data)
        assert os.listdir(tmp_path) == []


def test_a_link_that_leads_out_through_another_link_is_not_made(tmp_path: Path) -> None:
    members: list[Members] = [("./a/b", "DIRTYPE", ""), ("./l", "SYMTYPE", "a/b"), ("./m", "SYMTYPE", "l/../../..")]
    assert land(tmp_path / "x", tar_bytes(TOP, *members)).skipped.listed() == ("m",)


def test_the_list_of_what_was_skipped_is_bounded(tmp_path: Path) -> None:
    many = [(f"./{number}", "FIFOTYPE", "") for number in range(1500)]
    listed = land(tmp_path / "x", tar_bytes(TOP, *many)).skipped.listed()
    assert (len(listed), listed[-1]) == (1001, "and 500 more")


@pytest.mark.parametrize("what", ["file", "full", "link", "dangling"])
def test_what_is_there_is_not_touched(tmp_path: Path, what: str) -> None:
    place = tmp_path / "x"
    match what:
        case "file":
            place.write_text("mine")
        case "full":
            (place / "sub").mkdir(parents=True)
        case "link":
            place.symlink_to(".")
        case "dangling":
            place.symlink_to("nothing")
    before = seen(tmp_path)
    with pytest.raises(Conflict) as refused:
        Landing(place)
    assert refused.value.code == "output_exists"
    assert seen(tmp_path) == before


@pytest.mark.parametrize("data", [tar_bytes(TOP, F), tar_bytes(("f", "REGTYPE", b"x"))])
@pytest.mark.parametrize("renameat2", [True, False])
@pytest.mark.parametrize("what", ["file", "full"])
def test_what_came_there_meanwhile_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, renameat2: bool, what: str
) -> None:
    if not renameat2:
        monkeypatch.setattr(landing_module, "_NOREPLACE", 1 << 20)  # which no file system knows
    landing = Landing(tmp_path / "x")
    landing.receive(io.BytesIO(data))
    if what == "file":
        (tmp_path / "x").write_text("mine")
    else:
        (tmp_path / "x/mine").mkdir(parents=True)
    with pytest.raises(Conflict):
        landing.settle()
    landing.close()
    assert os.listdir(tmp_path) == ["x"]
    assert what != "file" or (tmp_path / "x").read_text() == "mine"


@pytest.mark.parametrize("data", [tar_bytes(TOP, F), tar_bytes(("f", "REGTYPE", b"x"))])
def test_file_systems_without_exclusive_renames_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(landing_module, "_NOREPLACE", 1 << 20)
    land(tmp_path / "x", data)
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(InvalidRequest) as refused:
        land(tmp_path / "x", tar_bytes(("f", "REGTYPE", b"x")))
    assert refused.value.code == "output_is_directory"
    assert list(tmp_path.rglob("*")) == [tmp_path / "x"]


def test_a_folder_filled_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    landing = Landing(tmp_path / "x")
    landing.receive(io.BytesIO(tar_bytes(TOP, F)))
    (tmp_path / "x/mine").touch()
    with pytest.raises(Conflict):
        landing.settle()
    landing.close()
    assert sorted(map(str, tmp_path.rglob("*"))) == [f"{tmp_path}/x", f"{tmp_path}/x/mine"]


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("missing/x", NotFound, "path_not_found"),
        ("link/x", InvalidRequest, "path_is_link"),
        ("file/x", InvalidRequest, "not_a_directory"),
        ("..", InvalidRequest, "bad_path"),
    ],
)
def test_places_that_are_none_are_refused(tmp_path: Path, path: str, kind: type[PyroError], code: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(".")
    with pytest.raises(kind) as refused:
        Landing(tmp_path / path)
    assert refused.value.code == code


def test_a_place_in_a_folder_that_its_user_may_not_enter_is_no_place_that_is_taken() -> None:
    with tempfile.TemporaryDirectory() as folder:  # the folders above pytest's own are root's alone
        closed = Path(folder, "closed")
        (closed / "folder").mkdir(parents=True)
        closed.chmod(0)
        with as_user(Path(folder)):
            for name in ("new", "folder"):
                with pytest.raises(InvalidRequest, match=r"no permission to write .*/closed/") as refused:
                    Landing(closed / name)
                assert refused.value.code == "not_writable"
        closed.chmod(0o700)


def test_a_name_that_no_file_can_have_is_no_place_that_is_taken(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="File name too long") as refused:
        Landing(tmp_path / ("x" * 256))
    assert refused.value.code == "write_failed"


def test_a_parent_that_is_swapped_for_a_link_redirects_nothing(tmp_path: Path) -> None:
    (tmp_path / "parent").mkdir()
    (tmp_path / "elsewhere").mkdir()
    landing = Landing(tmp_path / "parent/x")
    (tmp_path / "parent").rename(tmp_path / "moved")
    (tmp_path / "parent").symlink_to("elsewhere")
    landing.receive(io.BytesIO(tar_bytes(TOP, F)))
    landing.settle()
    landing.close()
    assert os.listdir(tmp_path / "elsewhere") == []
    assert (tmp_path / "moved/x/f").read_bytes() == b"x"


def test_a_disk_that_is_full_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landing = Landing(tmp_path / "x")
    landing.tally.max_bytes = 10
    with pytest.raises(HostUnfit, match="too much") as refused:
        landing.receive(io.BytesIO(tar_bytes(TOP, ("./f", "REGTYPE", b"x" * 11))))
    assert refused.value.code == "no_disk_space"
    landing.close()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(HostUnfit) as refused:
        land(tmp_path / "x", tar_bytes(TOP, F))
    assert refused.value.code == "no_disk_space"
    assert os.listdir(tmp_path) == []


def test_too_many_files_are_no_full_disk(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "x")
    landing.tally.max_entries = 1
    with pytest.raises(InvalidRequest, match="more than 1 files and folders") as refused:
        landing.receive(io.BytesIO(tar_bytes(TOP, F, ("./g", "REGTYPE", b"x"))))
    assert refused.value.code == "export_too_large"
    assert "one by one" in str(refused.value.hint)
    landing.close()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_export_left_is_removed_by_the_next_to_the_same_place(tmp_path: Path) -> None:
    for name in (".x.pyro-0123abcd", ".x.pyro-00000000", ".y.pyro-0123abcd", ".x.pyro-mine", ".x.pyro-0123abcd9"):
        (tmp_path / name / "sub").mkdir(parents=True)
    (tmp_path / ".x.pyro-ffffffff").touch()
    held = os.open(tmp_path / ".x.pyro-00000000", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    land(tmp_path / "x", tar_bytes(TOP, F))
    os.close(held)
    assert set(os.listdir(tmp_path)) - {".x.pyro-ffffffff"} == {
        "x",
        ".x.pyro-00000000",
        ".y.pyro-0123abcd",
        ".x.pyro-mine",
        ".x.pyro-0123abcd9",
    }


def test_long_names_have_room_for_their_hidden_one(tmp_path: Path) -> None:
    name = "é" * 127
    land(tmp_path / name, tar_bytes(TOP, F))
    assert os.listdir(tmp_path) == [name]
