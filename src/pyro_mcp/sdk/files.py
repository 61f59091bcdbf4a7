"""Files of workspaces: in, out, and what changed."""

import os

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.sdk.addresses import output_path, source_path, workspace_path
from pyro_mcp.sdk.calls import Calls, OnProgress
from pyro_mcp.workspace_models import (
    WORKSPACE_FOLDER,
    ApplyPatch,
    DiffReport,
    DiffRequest,
    ExportPath,
    ExportReport,
    FileContent,
    FileListing,
    ListFiles,
    PatchReport,
    ReadFile,
    SyncPush,
    SyncReport,
    WriteFile,
    WrittenFile,
)


class FileCalls(Calls):
    """The part of `Pyro` that moves and compares files.

    Paths in a workspace are absolute below `/workspace`, or relative to it; others raise `InvalidRequest`.
    """

    def push_workspace_sync(
        self,
        workspace: str,
        source: str | os.PathLike[str],
        *,
        dest: str = WORKSPACE_FOLDER,
        all: bool = False,
        on_progress: OnProgress | None = None,
    ) -> SyncReport:
        """Copy the content of a folder of the host into a folder of the workspace.

        Of a git checkout what git sees is copied, unless `all`. Interrupted, it leaves of each file the old or the new
        one, never half of it.
        """
        request = SyncPush(source_path(source), dest, all)
        return self._long(SyncReport, workspace_path(workspace, "/sync"), request, on_progress)

    def list_workspace_files(
        self, workspace: str, path: str = WORKSPACE_FOLDER, *, recursive: bool = False, limit: int = 10_000
    ) -> FileListing:
        """What is in a folder, sorted by path; `limit` (1 to 100000) bounds how much is listed."""
        return self._post(FileListing, workspace_path(workspace, "/files/list"), ListFiles(path, recursive, limit))

    def read_workspace_file(
        self, workspace: str, path: str, *, max_bytes: int = 1 << 20, offset: int = 0
    ) -> FileContent:
        """A file's content from `offset`, at most `max_bytes` (1 to 8 MiB). Raises `NotFound`."""
        return self._post(FileContent, workspace_path(workspace, "/files/read"), ReadFile(path, max_bytes, offset))

    def write_workspace_file(self, workspace: str, path: str, data: bytes | str) -> WrittenFile:
        """Write a file (at most 8 MiB) in one step; missing folders are made, text is written as UTF-8."""
        content = _utf8(data) if isinstance(data, str) else bytes(data)
        return self._post(WrittenFile, workspace_path(workspace, "/files/write"), WriteFile(path, content))

    def apply_workspace_patch(self, workspace: str, patch: str) -> PatchReport:
        """Apply a unified diff, all of it or nothing. Raises `InvalidRequest` or `Conflict` that say which hunk."""
        _utf8(patch)
        return self._post(PatchReport, workspace_path(workspace, "/patch"), ApplyPatch(patch))

    def diff_workspace(self, workspace: str, *, max_bytes: int = 4 << 20) -> DiffReport:
        """What differs from the baseline taken at creation; `max_bytes` bounds the text."""
        return self._post(DiffReport, workspace_path(workspace, "/diff"), DiffRequest(max_bytes))

    def export_workspace(
        self,
        workspace: str,
        path: str,
        output: str | os.PathLike[str],
        *,
        include_git: bool = False,
        on_progress: OnProgress | None = None,
    ) -> ExportReport:
        """Copy a file or folder out to `output` on the host, which must not exist or be an empty folder.

        What is called `.git` stays behind unless `include_git`: its hooks and settings may be the guest's, and git on
        the host would run what they name.
        """
        request = ExportPath(path, output_path(output), include_git)
        return self._long(ExportReport, workspace_path(workspace, "/export"), request, on_progress)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "not_utf8", "the text holds what UTF-8 cannot encode", "leave out half surrogate pairs, or write bytes"
        ) from None
