"""The tools for files and for what changed in them."""

import json

import pytest

from pyro_mcp.workspace_models import DiffEntry, DiffReport, FileEntry, FileListing
from tests.unit.mcp.conftest import Calling, W, words
from tests.unit.mcp.fake_pyro import FakePyro, modified


async def test_file_list_is_cut_where_it_gets_long(call: Calling, fake: FakePyro) -> None:
    assert words(await call("workspace_file_list", workspace=W)) == "a.txt  8"
    fake.files = {f"file-{i:06}": b"" for i in range(5000)}
    result = await call("workspace_file_list", workspace=W, recursive=True)
    assert result.structured_content["truncated"] is True
    assert len(json.dumps(result.structured_content)) < 16_000
    assert "more; list a folder below" in words(result)
    assert fake.calls[-1][1] == {"path": "/workspace", "recursive": True, "limit": 204}


async def test_file_list_shows_where_links_lead(call: Calling, fake: FakePyro, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "t" * 4090
    links = [
        FileEntry(f"/workspace/{name}", "symlink", 4, 0o777, "", target)
        for name, target in zip("abc", ("/etc", long, long), strict=True)
    ]

    async def listed(*_: object, **__: object) -> FileListing:
        return FileListing("/workspace", tuple(links), False)

    monkeypatch.setattr(fake, "list_workspace_files", listed)
    result = await call("workspace_file_list", workspace=W)
    assert words(result).startswith("a -> /etc\nb -> ttt")
    assert words(result).endswith("[1 more; list a folder below, or use workspace_exec with find]")
    first, second = result.structured_content["entries"]
    assert first == {"path": "a", "kind": "symlink", "size": 4, "target": "/etc"}
    assert second["target"] == long


async def test_file_list_of_nothing(call: Calling, fake: FakePyro, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object, **__: object) -> FileListing:
        return FileListing("/workspace", (), False)

    monkeypatch.setattr(fake, "list_workspace_files", nothing)
    assert words(await call("workspace_file_list", workspace=W)) == "empty"


async def test_file_read_in_pages_of_whole_lines(call: Calling, fake: FakePyro) -> None:
    fake.files["long"] = b"one\ntwo\nthree\n"
    first = await call("workspace_file_read", workspace=W, path="long", max_bytes=10)
    assert first.structured_content == {"content": "one\ntwo\n", "size": 14, "next_offset": 8}
    assert words(first).endswith("[14 bytes in all: read on with offset=8]")
    rest = await call("workspace_file_read", workspace=W, path="long", offset=8)
    assert rest.structured_content == {"content": "three\n", "size": 14}
    fake.files["none"] = b""
    assert words(await call("workspace_file_read", workspace=W, path="none")) == "[empty file]"
    past = await call("workspace_file_read", workspace=W, path="long", offset=14)
    assert words(past) == "[nothing at offset=14: 14 bytes in all]"
    assert past.structured_content == {"content": "", "size": 14}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b"])
async def test_file_read_of_what_is_no_text(call: Calling, fake: FakePyro, content: bytes) -> None:
    fake.files["binary"] = content
    assert words(await call("workspace_file_read", workspace=W, path="binary"), error=True).startswith("not_utf8: ")


async def test_file_write(call: Calling, fake: FakePyro) -> None:
    assert words(await call("workspace_file_write", workspace=W, path="n", text="h\u20ac")) == (
        "created /workspace/n, 4 bytes"
    )
    assert "replaced" in words(await call("workspace_file_write", workspace=W, path="n", text=""))
    assert fake.files["n"] == b""


async def test_patch(call: Calling) -> None:
    result = await call("workspace_patch_apply", workspace=W, patch="--- a\n+++ b\n")
    assert words(result) == (
        "renamed /workspace/a.txt (was /workspace/b.txt) (up to 4 lines from where the patch said)"
    )
    assert result.structured_content == {
        "files": [{"path": "/workspace/a.txt", "change": "renamed", "old_path": "/workspace/b.txt"}]
    }


async def test_diff_in_pages(call: Calling, fake: FakePyro) -> None:
    assert words(await call("workspace_diff", workspace=W)) == "no changes since the baseline"
    fake.diff = modified("/workspace/a", b"-old line\n+new line\n+more\n")
    first = await call("workspace_diff", workspace=W, limit=12)
    assert words(first) == (
        "1 files changed, 2 insertions(+), 1 deletions(-)\nmodified /workspace/a +2 -1\n\n-old line\n\n"
        "[26 bytes in all: read on with offset=10]"
    )
    assert first.structured_content["next_offset"] == 10
    rest = await call("workspace_diff", workspace=W, offset=10)
    assert rest.structured_content["diff"] == "+new line\n+more\n"
    assert "next_offset" not in rest.structured_content
    assert rest.structured_content["truncated"] is False


async def test_diff_shows_text_first_and_its_list_once(call: Calling, fake: FakePyro) -> None:
    entries = [
        DiffEntry("/workspace/a.pyc", "added", insertions=0, deletions=0, binary=True),
        DiffEntry("/workspace/b", "added", insertions=1, deletions=0),
        DiffEntry("/workspace/c", "modified", insertions=1, deletions=1),
    ]
    section = b"diff --git a/%b b/%b\n"
    binary = section % (b"a.pyc", b"a.pyc") + b"new file mode 100644\nGIT binary patch\nliteral 3\nKcmZQzWMT#Y01f~L\n\n"
    text = section % (b"c", b"c") + b"--- a/c\n+++ b/c\n@@ -1 +1 @@\n-x\n+y\n"
    fake.diff = DiffReport(tuple(entries), binary + text, False, 2, 1)
    result = await call("workspace_diff", workspace=W)
    assert (
        result.structured_content["diff"]
        == (text + section % (b"a.pyc", b"a.pyc") + b"new file mode 100644\n[binary contents are not shown]\n").decode()
    )
    names = [file["path"] for file in result.structured_content["files"]]
    assert names == ["/workspace/c", "/workspace/b", "/workspace/a.pyc"]
    rest = await call("workspace_diff", workspace=W, offset=10)
    assert rest.structured_content["files"] == []


async def test_diff_says_what_was_renamed_and_what_is_left_out(call: Calling, fake: FakePyro) -> None:
    entries = (
        DiffEntry("/workspace/new", "renamed", old_path="/workspace/old"),
        DiffEntry("/workspace/b", "added", binary=True),
    )
    fake.diff = DiffReport(entries, b"", True, 0, 0)
    result = await call("workspace_diff", workspace=W)
    assert (
        "renamed /workspace/new (was /workspace/old) +0 -0\nadded /workspace/b (binary)\n[the diff is larger"
        in words(result)
    )
    assert result.structured_content["truncated"] is True
    counts = {"insertions": 0, "deletions": 0}
    assert result.structured_content["files"] == [
        {"path": "/workspace/new", "change": "renamed", **counts, "old_path": "/workspace/old"},
        {"path": "/workspace/b", "change": "added", **counts, "binary": True},
    ]
