"""Patches for reading, made of git's own."""

import subprocess
from pathlib import Path

from pyro_mcp.mcp.patch_view import for_reading


def _patch(folder: Path) -> bytes:
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run([*git, "init", "-q"], check=True)
    (folder / "a.bin").write_bytes(bytes(range(256)))
    (folder / "text").write_text("one\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    (folder / "a.bin").write_bytes(bytes(range(255)))
    (folder / "b.bin").write_bytes(b"\0" * 5000)
    (folder / "text").write_text("diff --git a/x b/x\nGIT binary patch\n")
    subprocess.run([*git, "add", "."], check=True)
    done = subprocess.run([*git, "diff", "--cached", "--binary"], check=True, stdout=subprocess.PIPE)
    return done.stdout


def test_text_comes_first_and_binary_contents_stay_out(tmp_path: Path) -> None:
    patch = _patch(tmp_path)
    assert patch.count(b"\nliteral ") + patch.count(b"\ndelta ") >= 3
    lines = for_reading(patch).decode().splitlines()
    assert [line for line in lines if line.startswith("diff --git ")] == [
        "diff --git a/text b/text",
        "diff --git a/a.bin b/a.bin",
        "diff --git a/b.bin b/b.bin",
    ]
    assert lines.count("[binary contents are not shown]") == 2
    assert not any(line.startswith(("literal ", "delta ")) for line in lines)
    assert {"-one", "+diff --git a/x b/x", "+GIT binary patch"} <= set(lines)


def test_what_has_no_binary_files_stays_as_it_is() -> None:
    patch = b"diff --git a/t b/t\n--- a/t\n+++ b/t\n@@ -1 +1 @@\n-one\n+two\n"
    assert for_reading(patch) == patch
    assert for_reading(b"") == b""
