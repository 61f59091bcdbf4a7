"""What the user of a workspace should know about it, told once, to the first who can be told."""

from pyro_mcp.models import NOTICE, Progress
from pyro_mcp.workspace.environments import Report
from pyro_mcp.workspace.record import EXPIRED, HOST_RESTARTED, STOPPED, WorkspaceRecord

_WHY = {EXPIRED: "its time limit had ended it", HOST_RESTARTED: "this host had been restarted"}


def restarted(record: WorkspaceRecord) -> str:
    """That its machine was booted for somebody who wanted to use it; `record` is how it stood before."""
    if record.state == STOPPED and record.stopped_because is None:  # so only what was deleted and restored stands
        return (
            "the workspace's machine was started again, because it had been deleted and restored: no process of before"
            " runs any more; its files are there"
        )
    why = _WHY.get(record.stopped_because or "", "it had ended by itself")
    return (
        f"the workspace's machine was started again, because {why}: no process of before runs any more, and what had"
        " not been written to its disk yet is gone"
    )


async def tell(news: list[str], report: Report | None) -> None:
    """Tell it, if there is anybody who can be told."""
    while news and report is not None:
        await report(Progress("workspace", NOTICE, "", news.pop(0)))
