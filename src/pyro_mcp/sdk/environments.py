"""Environments: the catalog and what is installed of it."""

from pyro_mcp import models, sdk
from pyro_mcp.sdk.addresses import environment_path
from pyro_mcp.sdk.calls import Calls


class EnvironmentCalls(Calls):
    """The part of `Pyro` that manages environments."""

    def list_environments(self) -> "tuple[sdk.EnvironmentInfo, ...]":
        """The catalog, and what is installed of it."""
        listed = self._daemon.ask("GET", "/v1/environments")
        return tuple(models.decode(sdk.EnvironmentInfo, info) for info in listed)

    def inspect_environment(self, environment: str) -> "sdk.EnvironmentInfo":
        """One environment, with the packages in it and the templates of its machines. Raises `NotFound`."""
        return self._get(lambda: sdk.EnvironmentInfo, environment_path(environment))

    def pull_environment(
        self, environment: str, *, source: str | None = None, on_progress: "sdk.OnProgress | None" = None
    ) -> "sdk.EnvironmentInfo":
        """Install an environment or renew it; `source` is another mirror. Raises `NotFound`, `SourceFailed`."""
        path = f"{environment_path(environment)}/pull"
        request = models.PullRequest(source)
        return self._long(sdk.EnvironmentInfo, path, request, on_progress)

    def prune_environments(self, *, dry_run: bool = False) -> "sdk.PruneReport":
        """Remove what nothing uses, or say what that would be."""
        request = models.PruneRequest(dry_run)
        return self._post(sdk.PruneReport, "/v1/environments/prune", request)
