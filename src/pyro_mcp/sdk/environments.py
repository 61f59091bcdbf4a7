"""Environments: the catalog and what is installed of it."""

from pyro_mcp import models
from pyro_mcp.models import EnvironmentInfo, PruneReport, PruneRequest, PullRequest
from pyro_mcp.sdk.addresses import environment_path
from pyro_mcp.sdk.calls import Calls, OnProgress


class EnvironmentCalls(Calls):
    """The part of `Pyro` that manages environments."""

    def list_environments(self) -> tuple[EnvironmentInfo, ...]:
        """The catalog, and what is installed of it."""
        listed = self._daemon.ask("GET", "/v1/environments")
        return tuple(models.decode(EnvironmentInfo, info) for info in listed)

    def inspect_environment(self, environment: str) -> EnvironmentInfo:
        """One environment, with the packages in it. Raises `NotFound`."""
        return self._get(EnvironmentInfo, environment_path(environment))

    def pull_environment(
        self, environment: str, *, source: str | None = None, on_progress: OnProgress | None = None
    ) -> EnvironmentInfo:
        """Install an environment or renew it; `source` is another mirror. Raises `NotFound`, `SourceFailed`."""
        path = f"{environment_path(environment)}/pull"
        return self._long(EnvironmentInfo, path, PullRequest(source), on_progress)

    def prune_environments(self, *, dry_run: bool = False) -> PruneReport:
        """Remove what nothing uses, or say what that would be."""
        return self._post(PruneReport, "/v1/environments/prune", PruneRequest(dry_run))
