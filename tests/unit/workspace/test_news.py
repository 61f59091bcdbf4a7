import pytest

from pyro_mcp.models import NOTICE, Progress
from pyro_mcp.workspace import news
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.record import EXPIRED, HOST_RESTARTED, MACHINE_DIED, RUNNING, STOPPED, WorkspaceRecord
from pyro_mcp.workspace_models import CreateWorkspace, RestoreWorkspace
from tests.support.nobody import nobody


@pytest.mark.parametrize(
    ("stopped_because", "why"),
    [
        (EXPIRED, "because its time limit had ended it"),
        (HOST_RESTARTED, "because this host had been restarted"),
        (MACHINE_DIED, "because it had ended by itself"),
        (None, "because it had ended by itself"),  # and nobody has written that down yet
    ],
)
def test_it_is_told_why_a_machine_had_to_be_started_again(stopped_because: str | None, why: str) -> None:
    record = WorkspaceRecord(
        "w-7k2m", "debian:12", "sha256:0", 1, 512, "off", "2026-01-02T03:04:05Z", "qemu", "disk.ext4",
        state=RUNNING if stopped_because is None else STOPPED, stopped_because=stopped_because,
    )  # fmt: skip
    assert why in news.restarted(record)
    assert "is gone" in news.restarted(record)


async def test_one_that_was_deleted_and_restored_has_lost_nothing(workspaces: Workspaces) -> None:
    told: list[Progress] = []

    async def report(step: Progress) -> None:
        told.append(step)

    w = (await workspaces.create(CreateWorkspace("debian:12"), nobody)).workspace_id
    await workspaces.delete(w)
    await workspaces.restore(w, RestoreWorkspace())
    async with workspaces.using(w, report):
        pass
    assert [step.detail for step in told] == [
        "the workspace's machine was started again, because it had been deleted and restored: no process of before runs"
        " any more; its files are there"
    ]


async def test_news_wait_for_somebody_who_can_be_told_and_are_told_once() -> None:
    told: list[Progress] = []

    async def report(step: Progress) -> None:
        told.append(step)

    waiting = ["first", "second"]
    await news.tell(waiting, None)
    await news.tell(waiting, report)
    await news.tell(waiting, report)
    assert [(step.phase, step.detail) for step in told] == [(NOTICE, "first"), (NOTICE, "second")]
