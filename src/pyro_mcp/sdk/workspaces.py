"""Workspaces: their making, finding, ending, and coming back."""

import os
from collections.abc import Mapping, Sequence

from pyro_mcp import sdk, workspace_models
from pyro_mcp.sdk.addresses import source_path, workspace_path
from pyro_mcp.sdk.calls import Calls


class WorkspaceCalls(Calls):
    """The part of `Pyro` that manages workspaces. A workspace is named by its id, a prefix of it, or its name.

    Every call raises `NotFound` for an unknown workspace and `Conflict` for one that others hold too long.
    """

    def create_workspace(
        self,
        environment: str,
        *,
        vcpu_count: int = 1,
        mem_mib: int = 1024,
        ttl_seconds: int | None = None,
        network_policy: str = "off",
        seed_path: str | os.PathLike[str] | None = None,
        seed_all: bool = False,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        on_progress: "sdk.OnProgress | None" = None,
    ) -> "sdk.WorkspaceInfo":
        """Make a workspace and start it; `seed_path` is a folder or an archive whose content `/workspace` begins with.

        Of a git checkout what git sees goes in, unless `seed_all`. After `ttl_seconds` it is stopped, not deleted. An
        environment that is not installed is pulled first. Raises `Conflict` for a name in use, `InvalidRequest`,
        `NotFound`, `HostUnfit`, `SourceFailed`; nothing is left of a workspace that was not made.
        """
        request = workspace_models.CreateWorkspace(
            environment=environment,
            vcpu_count=vcpu_count,
            mem_mib=mem_mib,
            ttl_seconds=ttl_seconds,
            network_policy=network_policy,
            seed_path=None if seed_path is None else source_path(seed_path),
            seed_all=seed_all,
            name=name,
            labels=dict(labels or {}),
        )
        return self._long(sdk.WorkspaceInfo, "/v1/workspaces", request, on_progress)

    def list_workspaces(self, *, deleted: bool = False) -> "tuple[sdk.WorkspaceInfo, ...]":
        """All workspaces, oldest first; with `deleted` those that were deleted and can be restored instead."""
        path = "/v1/workspaces?deleted=1" if deleted else "/v1/workspaces"
        return self._get(lambda: workspace_models.WorkspaceList, path).workspaces

    def workspace_status(self, workspace: str) -> "sdk.WorkspaceInfo":
        """One workspace as it is now."""
        return self._get(lambda: sdk.WorkspaceInfo, workspace_path(workspace))

    def update_workspace(
        self,
        workspace: str,
        *,
        name: str | None = None,
        clear_name: bool = False,
        labels: Mapping[str, str] | None = None,
        clear_labels: Sequence[str] = (),
    ) -> "sdk.WorkspaceInfo":
        """Change a workspace's name and labels. Raises `Conflict` for a name in use."""
        request = workspace_models.UpdateWorkspace(name, clear_name, dict(labels or {}), tuple(clear_labels))
        return self._post(sdk.WorkspaceInfo, workspace_path(workspace, "/update"), request)

    def start_workspace(self, workspace: str) -> "sdk.WorkspaceInfo":
        """Boot a stopped workspace from its disk; its time limit begins anew. One that runs is left as it is."""
        return self._post(sdk.WorkspaceInfo, workspace_path(workspace, "/start"))

    def stop_workspace(self, workspace: str) -> "sdk.WorkspaceInfo":
        """End a workspace's machine and keep its disk. Commands that run in it end."""
        return self._post(sdk.WorkspaceInfo, workspace_path(workspace, "/stop"))

    def delete_workspace(self, workspace: str) -> "sdk.WorkspaceInfo":
        """Delete a workspace; for seven days, or until it is pruned, `restore_workspace` brings it back."""
        return self._post(sdk.WorkspaceInfo, workspace_path(workspace, "/delete"))

    def reset_workspace(self, workspace: str, snapshot: str = "baseline") -> "sdk.WorkspaceInfo":
        """Put the whole machine back to how it was made; `restore_workspace` brings the replaced disk back."""
        request = workspace_models.ResetWorkspace(snapshot)
        return self._post(sdk.WorkspaceInfo, workspace_path(workspace, "/reset"), request)

    def restore_workspace(self, workspace: str, *, name: str | None = None) -> "sdk.WorkspaceInfo":
        """Bring a deleted workspace back (stopped), or the disk that the last reset replaced.

        `name` is for a workspace whose old name is in use by now.
        """
        request = workspace_models.RestoreWorkspace(name)
        return self._post(sdk.WorkspaceInfo, workspace_path(workspace, "/restore"), request)

    def prune_workspaces(self, *, workspace: str | None = None, dry_run: bool = False) -> "sdk.PrunedWorkspaces":
        """Remove for good what was deleted or replaced by a reset, or say what that would be."""
        request = workspace_models.PruneWorkspaces(workspace, dry_run)
        return self._post(sdk.PrunedWorkspaces, "/v1/workspaces/prune", request)
