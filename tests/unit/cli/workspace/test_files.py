"""Files, patches and differences from the command line."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.cli.main import main
from pyro_mcp.errors import NotFound
from pyro_mcp.models import Progress
from pyro_mcp.workspace_models import (
    DiffEntry,
    DiffReport,
    ExportReport,
    FileContent,
    FileEntry,
    FileListing,
    PatchedFile,
    PatchReport,
    SyncReport,
    WrittenFile,
)
from tests.unit.cli.workspace.conftest import FakePyro

Captured = pytest.CaptureFixture[str]
Binary = pytest.CaptureFixture[bytes]
TIME = "2026-01-02T03:04:05+00:00"


def test_file_list(fake: FakePyro, capsys: Captured) -> None:
    entries = (
        FileEntry("/workspace/a\x1b\n", "file", 1536, 0o644, TIME),
        FileEntry("/workspace/b", "directory", 4096, 0o1777, TIME),
        FileEntry("/workspace/c", "symlink", 1, 0o777, TIME, target="a"),
        FileEntry("/workspace/d", "other", 0, 0o600, TIME),
    )
    fake.answers["list_workspace_files"] = FileListing("/workspace", entries, True)
    assert main(["workspace", "file", "list", "demo", "src", "--recursive"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "-rw-r--r--     1.5 KiB  2026-01-02 03:04 UTC  /workspace/a??",
        "drwxrwxrwt     4.0 KiB  2026-01-02 03:04 UTC  /workspace/b",
        "lrwxrwxrwx         1 B  2026-01-02 03:04 UTC  /workspace/c -> a",
        "?rw-------         0 B  2026-01-02 03:04 UTC  /workspace/d",
    ]
    assert err == "[file] only the first 4 are shown\n"
    assert main(["workspace", "file", "list", "demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"][2]["target"] == "a"
    assert [(given["path"], given["recursive"]) for _, given in fake.asked] == [("src", True), ("/workspace", False)]


def test_file_read(fake: FakePyro, capsysbinary: Binary) -> None:
    data = "é\n".encode()
    fake.answers["read_workspace_file"] = FileContent("/workspace/a", 0, data, 3, False)
    assert main(["workspace", "file", "read", "demo", "a", "--max-bytes", "9"]) == 0
    assert capsysbinary.readouterr() == (data, b"[file] path=/workspace/a size=3 truncated=false\n")
    assert main(["workspace", "file", "read", "demo", "a", "--content-only"]) == 0
    assert capsysbinary.readouterr() == (data, b"")
    assert main(["workspace", "file", "read", "demo", "a", "--json"]) == 0
    content = {"path": "/workspace/a", "size": 3, "truncated": False, "content": "é\n"}
    assert json.loads(capsysbinary.readouterr().out) == content
    assert [given["max_bytes"] for _, given in fake.asked] == [9, 1 << 20, 1 << 20]


def test_text_that_is_cut_off_inside_a_character(fake: FakePyro, capsysbinary: Binary) -> None:
    fake.answers["read_workspace_file"] = FileContent("/workspace/a", 0, "aé".encode()[:2], 9, True)
    assert main(["workspace", "file", "read", "demo", "a"]) == 0
    assert capsysbinary.readouterr() == (b"a", b"[file] path=/workspace/a size=9 truncated=true\n")


@pytest.mark.parametrize("data", [b"\xff", "é".encode()[:1], b"a\xc3("])
def test_a_file_that_is_no_text(fake: FakePyro, capsysbinary: Binary, data: bytes) -> None:
    fake.answers["read_workspace_file"] = FileContent("/workspace/a", 0, data, len(data), False)
    for flags in ([], ["--json"]):
        assert main(["workspace", "file", "read", "demo", "a", *flags]) == 1
        out, err = capsysbinary.readouterr()
        assert out == b""
        assert b"not_utf8" in err
    assert main(["workspace", "file", "read", "demo", "a", "--content-only"]) == 0
    assert capsysbinary.readouterr() == (data, b"")


def test_file_write(fake: FakePyro, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.answers["write_workspace_file"] = WrittenFile("/workspace/a", 3, True)
    (tmp_path / "in").write_bytes("é\r\n".encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped")))
    for flags in (["--text", "é"], ["--text", ""], ["--text-file", str(tmp_path / "in")], ["--text-file", "-"]):
        assert main(["workspace", "file", "write", "demo", "a", *flags]) == 0
        assert capsys.readouterr() == ("/workspace/a: 3 B written, new\n", "")
    assert [given["data"] for _, given in fake.asked] == ["é", "", "é\r\n", "piped"]
    assert main(["workspace", "file", "write", "demo", "a", "--text", "x", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": "/workspace/a", "size": 3, "created": True}


def test_text_that_cannot_be_had(fake: FakePyro, capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"a\xff")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate((8 << 20) + 1)
    refused = {
        "not_utf8": [["--text", "\udcff"], ["--text-file", str(tmp_path / "binary")]],
        "path_not_found": [["--text-file", str(tmp_path / "missing")]],
        "file_too_large": [["--text-file", str(tmp_path / "huge")]],
        "bad_path": [
            ["--text-file", str(tmp_path / "binary" / "x")],
            ["--text-file", "x" * 5000],
            ["--text-file", str(tmp_path)],
        ],
    }
    for code, ways in refused.items():
        for flags in ways:
            assert main(["workspace", "file", "write", "demo", "a", *flags]) == 1
            assert f"[{code}]" in capsys.readouterr().err, flags
            instead = [flag.replace("text", "patch") if flag.startswith("--") else flag for flag in flags]
            assert main(["workspace", "patch", "apply", "demo", *instead]) == 1
            assert f"[{code}]" in capsys.readouterr().err, flags
    assert fake.asked == []


def test_what_is_too_large_is_told_another_way(fake: FakePyro, capsys: Captured, tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate((8 << 20) + 1)
    assert main(["workspace", "file", "write", "demo", "a", "--text-file", str(tmp_path / "huge")]) == 1
    assert "copy that with `pyro workspace sync push`" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["demo", "--", "-dash"], ["--", "demo", "-dash"], ["demo", "--json", "--", "-dash"]])
def test_a_name_that_looks_like_a_flag_stands_behind_the_dashes(
    fake: FakePyro, capsysbinary: Binary, words: list[str]
) -> None:
    fake.answers["read_workspace_file"] = FileContent("/workspace/-dash", 0, b"x", 1, False)
    assert main(["workspace", "file", "read", *words]) == 0
    assert [(given["workspace"], given["path"]) for _, given in fake.asked] == [("demo", "-dash")]


def test_a_hint_names_the_workspace(fake: FakePyro, capsys: Captured) -> None:
    fake.answers["read_workspace_file"] = NotFound("file_not_found", "no such", "`pyro workspace file list W`")
    assert main(["workspace", "file", "read", "demo", "a"]) == 1
    assert "hint: `pyro workspace file list demo`" in capsys.readouterr().err


def test_patch_apply(fake: FakePyro, capsys: Captured, tmp_path: Path) -> None:
    files = (PatchedFile("a", "modified", 2, offset_lines=3), PatchedFile("new", "renamed", 0, "old"))
    fake.answers["apply_workspace_patch"] = PatchReport(files)
    (tmp_path / "patch").write_text("--- a\n+++ a\n")
    assert main(["workspace", "patch", "apply", "demo", "--patch-file", str(tmp_path / "patch")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "CHANGE    HUNKS  FILE",
        "modified  2      a (up to 3 lines off)",
        "renamed   0      old -> new",
    ]
    assert main(["workspace", "patch", "apply", "demo", "--patch", "text", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][1]["old_path"] == "old"
    assert [given["patch"] for _, given in fake.asked] == ["--- a\n+++ a\n", "text"]


@pytest.mark.parametrize(
    ("count", "insertions", "totals"),
    [
        (3, 10, "3 files changed, 10 insertions(+), 1 deletion(-)"),
        (1, 1, "1 file changed, 1 insertion(+), 1 deletion(-)"),
        (0, 0, "nothing changed"),
    ],
)
def test_diff(fake: FakePyro, capsysbinary: Binary, count: int, insertions: int, totals: str) -> None:
    entries = tuple(DiffEntry(f"f{number}", "modified") for number in range(count))
    fake.answers["diff_workspace"] = DiffReport(entries, b"-\xff\n+x\n", count == 3, insertions, 1)
    # A text that is not whole must not be applied unawares.
    assert main(["workspace", "diff", "demo"]) == (1 if count == 3 else 0)
    out, err = capsysbinary.readouterr()
    assert out == b"-\xff\n+x\n"
    lines = err.decode().splitlines()
    assert lines[0] == f"[diff] {totals}"
    assert ("[diff_incomplete]" in err.decode()) == (count == 3)
    assert main(["workspace", "diff", "demo", "--json"]) == 0
    report = json.loads(capsysbinary.readouterr().out)
    assert len(report["entries"]) == count
    assert report["text"] == "-\ufffd\n+x\n"


def test_sync_push(fake: FakePyro, capsys: Captured) -> None:
    def push(on_progress: Any) -> SyncReport:
        on_progress(Progress("sync", "copy", "", "2 files", done=1))
        on_progress(Progress("sync", "notice", "", "1 sockets, pipes or devices left out"))
        return SyncReport(2, 3072, "/workspace/docs")

    fake.answers["push_workspace_sync"] = push
    assert main(["workspace", "sync", "push", "demo", "link", "--dest", "docs", "--all"]) == 0
    out, err = capsys.readouterr()
    assert out == "/workspace/docs: 2 files, 3.0 KiB\n"
    assert err == "[sync] phase=copy\n[sync] 1 sockets, pipes or devices left out\n"
    assert main(["workspace", "sync", "push", "demo", ".", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": 2, "bytes": 3072, "dest": "/workspace/docs"}
    first = {"workspace": "demo", "source": "link", "dest": "docs", "all": True}
    second = {"workspace": "demo", "source": ".", "dest": "/workspace", "all": False}
    assert [given for _, given in fake.asked] == [first, second]


def test_export(fake: FakePyro, capsys: Captured) -> None:
    fake.answers["export_workspace"] = ExportReport("/out", 2, 3 << 20, (".git", "x"), ("git repositories", "links"), 2)
    assert main(["workspace", "export", "demo", "src", "--output", "link/out/"]) == 0
    told = "[export] left out: .git\n[export] left out: x\n[export] what is left out: git repositories, links\n"
    assert capsys.readouterr() == ("/out: 2 files, 3.0 MiB\n", told)
    assert main(["workspace", "export", "demo", ".", "--output", "x", "--include-git", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == [".git", "x"]
    asked = [(given["path"], given["output"], given["include_git"]) for _, given in fake.asked]
    assert asked == [("src", "link/out/", False), (".", "x", True)]
