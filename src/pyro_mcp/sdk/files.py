"""Files of workspaces: in, out, and what changed."""

import os

from pyro_mcp import sdk, workspace_models
from pyro_mcp.errors import InvalidRequest
from pyro_mcp.sdk.addresses import output_path, source_path, workspace_path
from pyro_mcp.sdk.calls import Calls
from pyro_mcp.workspace_models import WORKSPACE_FOLDER


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
        on_progress: "sdk.OnProgress | None" = None,
    ) -> "sdk.SyncReport":
        """Copy the content of a folder of the host into a folder of the workspace.

        Of a git checkout what git sees is copied, unless `all`. Interrupted, it leaves of each file the old or the new
        one, never half of it.
        """
        request = workspace_models.SyncPush(source_path(source), dest, all)
        return self._long(sdk.SyncReport, workspace_path(workspace, "/sync"), request, on_progress)

    def list_workspace_files(
        self, workspace: str, path: str = WORKSPACE_FOLDER, *, recursive: bool = False, limit: int = 10_000
    ) -> "sdk.FileListing":
        """What is in a folder, sorted by path; `limit` (1 to 100000) bounds how much is listed."""
        request = workspace_models.ListFiles(path, recursive, limit)
        return self._post(sdk.FileListing, workspace_path(workspace, "/files/list"), request)

    def read_workspace_file(
        self, workspace: str, path: str, *, max_bytes: int = 1 << 20, offset: int = 0
    ) -> "sdk.FileContent":
        """A file's content from `offset`, at most `max_bytes` (1 to 8 MiB). Raises `NotFound`."""
        request = workspace_models.ReadFile(path, max_bytes, offset)
        return self._post(sdk.FileContent, workspace_path(workspace, "/files/read"), request)

    def write_workspace_file(self, workspace: str, path: str, data: bytes | str) -> "sdk.WrittenFile":
        """Write a file (at most 8 MiB) in one step; missing folders are made, text is written as UTF-8."""
        content = _utf8(data) if isinstance(data, str) else bytes(data)
        request = workspace_models.WriteFile(path, content)
        return self._post(sdk.WrittenFile, workspace_path(workspace, "/files/write"), request)

    def apply_workspace_patch(self, workspace: str, patch: str) -> "sdk.PatchReport":
        """Apply a unified diff, all of it or nothing. Raises `InvalidRequest` or `Conflict` that say which hunk."""
        _utf8(patch)
        request = workspace_models.ApplyPatch(patch)
        return self._post(sdk.PatchReport, workspace_path(workspace, "/patch"), request)

    def diff_workspace(self, workspace: str, *, max_bytes: int = 4 << 20) -> "sdk.DiffReport":
        """What differs from the baseline taken at creation; `max_bytes` bounds the text."""
        request = workspace_models.DiffRequest(max_bytes)
        return self._post(sdk.DiffReport, workspace_path(workspace, "/diff"), request)

    def export_workspace(
        self,
        workspace: str,
        path: str,
        output: str | os.PathLike[str],
        *,
        include_git: bool = False,
        on_progress: "sdk.OnProgress | None" = None,
    ) -> "sdk.ExportReport":
        """Copy a file or folder out to `output` on the host, which must not exist or be an empty folder.

        What is called `.git` stays behind unless `include_git`: its hooks and settings may be the guest's, and git on
        the host would run what they name.
        """
        request = workspace_models.ExportPath(path, output_path(output), include_git)
        return self._long(sdk.ExportReport, workspace_path(workspace, "/export"), request, on_progress)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "not_utf8", "the text holds what UTF-8 cannot encode", "leave out half surrogate pairs, or write bytes"
        ) from None
