"""Many workspaces as clients see them. Most rest most of the time, so each is described anew only where it changed."""

from collections.abc import Sequence

from pyro_mcp.workspace.core import Core, Facts, described
from pyro_mcp.workspace.record import WorkspaceRecord
from pyro_mcp.workspace_models import WorkspaceInfo


class Listing:
    """Remembers the last listing. May be used by threads: one more description is all that they cost each other."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[WorkspaceRecord, Facts, WorkspaceInfo]] = {}

    def of(self, core: Core, records: Sequence[WorkspaceRecord]) -> tuple[WorkspaceInfo, ...]:
        """These workspaces; one that is as it was last time is the same object as then."""
        counts = core.history.counts()
        last, now = self._last, {}
        for record in records:
            facts = core.facts(record, counts)
            known = last.get(record.workspace_id)
            if known is None or known[0] is not record or known[1] != facts:
                known = (record, facts, described(record, facts))
            now[record.workspace_id] = known
        self._last = now
        return tuple(info for _, _, info in now.values())
