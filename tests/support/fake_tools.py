"""The agent's tools, as simply as Python can, on a folder of the host: for tests of what the host makes of them.

They follow symbolic links and trust their input, which the real ones do not: tests of safety need the real agent.
"""

import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class _Kept(Protocol):
    end: dict[str, Any] | None

    @property
    def output(self) -> bytes:
        """Everything that the command wrote."""


class ToolFailed(Exception):
    """A tool that ends with 1."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def json(self) -> bytes:
        """What it says on stderr."""
        return json.dumps({"code": self.code, "message": str(self)}).encode()


def _line(**content: Any) -> bytes:
    return json.dumps(content).encode() + b"\n"


class FakeTools:
    """Tools by name. What `answers` has for a name is answered in place of the tool's own output."""

    def __init__(self, folder: Path, kept: Mapping[str, _Kept]) -> None:
        self.answers: dict[str, bytes | ToolFailed] = {
            "patch": b'{"files":[]}',
        }
        self.inputs: list[tuple[dict[str, Any], bytes]] = []
        self._folder = folder
        self._kept = kept

    def run(self, tool: dict[str, Any], stdin: bytes) -> bytes:
        """Run one; its output. Raises `ToolFailed`."""
        self.inputs.append((tool, stdin))
        answer = self.answers.get(tool["name"])
        if isinstance(answer, ToolFailed):
            raise answer
        if answer is not None:
            return answer
        try:
            output = getattr(self, f"_{tool['name']}")(tool, stdin)
        except FileNotFoundError:
            raise ToolFailed("not_found", f"{tool['path']}: no such file or directory") from None
        except IsADirectoryError:
            raise ToolFailed("is_a_directory", f"{tool['path']} is a folder") from None
        except NotADirectoryError:
            raise ToolFailed("not_a_directory", f"{tool['path']} is no folder") from None
        assert isinstance(output, bytes)
        return output

    def _diff(self, _tool: dict[str, Any], _stdin: bytes) -> bytes:
        """Of a baseline that was empty, without text."""
        unchanging = {"kind": "file", "old_path": None, "old_mode": None, "new_mode": 0o100644, "binary": True}
        counts = {"insertions": 0, "deletions": 0, "text_bytes": 0}
        paths = sorted(str(path.relative_to(self._folder)) for path in self._folder.rglob("*") if path.is_file())
        added = [_line(path=path, change="added", **unchanging, **counts) for path in paths]
        return b"".join(added) + _line(end=True, truncated=False)

    def _host(self, path: str) -> Path:
        if path != "/workspace" and not path.startswith("/workspace/"):
            raise ToolFailed("outside", f"{path} is not in /workspace")
        return self._folder / path.removeprefix("/workspace").lstrip("/")

    def _list(self, tool: dict[str, Any], _stdin: bytes) -> bytes:
        folder = self._host(tool["path"])
        if not folder.is_dir():
            raise NotADirectoryError if folder.exists() else FileNotFoundError
        found = sorted(folder.rglob("*") if tool["recursive"] else folder.iterdir())
        lines = [self._entry(path) for path in found[: tool["limit"]]]
        return b"".join(lines) + (_line(truncated=True) if len(found) > tool["limit"] else b"")

    def _entry(self, path: Path) -> bytes:
        found = path.lstat()
        kinds = {"symlink": path.is_symlink(), "directory": path.is_dir(), "file": path.is_file()}
        return _line(
            path=f"/workspace/{path.relative_to(self._folder)}",
            kind=next((kind for kind, yes in kinds.items() if yes), "other"),
            size=found.st_size,
            mode=found.st_mode & 0o7777,
            mtime_ns=found.st_mtime_ns,
            target=str(path.readlink()) if path.is_symlink() else None,
        )

    def _read(self, tool: dict[str, Any], _stdin: bytes) -> bytes:
        path = self._host(tool["path"])
        data = path.read_bytes()
        found = path.stat()
        head = _line(size=len(data), mode=found.st_mode & 0o7777, mtime_ns=found.st_mtime_ns)
        return head + data[tool["offset"] : tool["offset"] + tool["limit"]]

    def _write(self, tool: dict[str, Any], stdin: bytes) -> bytes:
        path = self._host(tool["path"])
        created = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stdin)
        return _line(size=len(stdin), created=created)

    def _unpack(self, tool: dict[str, Any], stdin: bytes) -> bytes:
        folder = self._host(tool["path"])
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with tarfile.open(fileobj=io.BytesIO(stdin)) as tar:
                members = tar.getmembers()
                tar.extractall(folder)  # noqa: S202 (made by the test's own host side)
        except tarfile.TarError as error:
            raise ToolFailed("bad_archive", str(error)) from None
        files = [member for member in members if not member.isdir()]
        return _line(files=len(files), bytes=sum(member.size for member in files if member.isfile()))

    def _pack(self, tool: dict[str, Any], _stdin: bytes) -> bytes:
        path = self._host(tool["path"])
        path.lstat()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(path, "." if path.is_dir() else path.name)
        return packed.getvalue()

    def _output(self, tool: dict[str, Any], _stdin: bytes) -> bytes:
        command = self._kept.get(tool["id"])
        if command is None:
            raise ToolFailed("unknown_command", f"there is no output of {tool['id']}")
        whole, offset, limit = command.output, tool["offset"], tool["limit"]
        running = command.end is None
        if tool["grep"] is None:
            data = whole[offset : offset + limit]
            end = offset + len(data)
        else:
            data, end = self._matching(whole, offset, limit, tool["grep"])
        following = end if end < len(whole) else None
        return _line(offset=offset, next_offset=following, total_bytes=len(whole), running=running) + data

    def _matching(self, whole: bytes, offset: int, limit: int, pattern: str) -> tuple[bytes, int]:
        try:
            wanted = re.compile(pattern.encode())
        except re.error as error:
            raise ToolFailed("bad_pattern", str(error)) from None
        found, end = b"", offset
        for line in whole[offset:].splitlines(keepends=True):
            if wanted.search(line):
                if len(found) + len(line) > limit:
                    break
                found += line
            end += len(line)
        return found, end
