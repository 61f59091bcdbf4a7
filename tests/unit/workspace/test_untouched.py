"""Whether a workspace has been used since its last reset, told by when its commands started; the guest is fake."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyro_mcp.models import Progress
from pyro_mcp.workspace import lifecycle
from pyro_mcp.workspace.record import KeptDisk, WorkspaceRecord
from pyro_mcp.workspace_models import CreateWorkspace, DiffReport, ExecInfo, ResetWorkspace
from tests.support.fake_kept import fake_engine

RECORD = WorkspaceRecord("w-1", "debian:12", "digest", 1, 512, "off", "2026-01-01", "qemu", "disk-2.ext4")
KEPT_AT = "2026-01-02T03:04:05.500+00:00"


@pytest.mark.parametrize(
    ("kept_at", "started_at", "untouched"),
    [
        (KEPT_AT, "2026-01-02T03:04:05.499+00:00", True),
        (KEPT_AT, "2026-01-02T03:04:05.501+00:00", False),
        pytest.param(KEPT_AT, KEPT_AT, False, id="in doubt"),
        pytest.param(KEPT_AT, "2026-01-02T04:04:05.499+01:00", True, id="another zone"),
        pytest.param("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:04.999+00:00", True, id="before a whole second"),
        pytest.param("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05.001+00:00", False, id="after a whole second"),
        pytest.param(KEPT_AT, "2026-01-02T03:04:05+00:00", True, id="at a whole second"),
    ],
)
async def test_a_command_of_the_resets_own_second(
    monkeypatch: pytest.MonkeyPatch, kept_at: str, started_at: str, untouched: bool
) -> None:
    in_use = False

    @asynccontextmanager
    async def used() -> AsyncIterator[None]:
        nonlocal in_use
        in_use = True
        yield
        in_use = False

    async def nothing(*_of: object) -> DiffReport:
        assert in_use
        return DiffReport((), b"", False, 0, 0)

    monkeypatch.setattr(lifecycle, "diff", nothing)
    command = ExecInfo("x-1", RECORD.workspace_id, ("true",), "exited", started_at)
    live = SimpleNamespace(guest=None, used=used)
    core: Any = SimpleNamespace(
        machines=SimpleNamespace(get=lambda _id: live),
        history=SimpleNamespace(execs=lambda _id: (command,)),
    )
    record = replace(RECORD, kept=KeptDisk("disk-1.ext4", kept_at))
    assert await lifecycle._is_untouched(core, record) is untouched


async def test_the_time_of_a_reset_is_written_down_to_the_millisecond(tmp_path: Path) -> None:
    """So that it can be told whether a command came before it; within one second whole ones do not tell."""

    async def nobody(_progress: Progress) -> None:
        pass

    async with fake_engine(tmp_path) as engine, engine.open() as workspaces:
        w = (await workspaces.create(CreateWorkspace("debian:12"), nobody)).workspace_id
        await workspaces.reset(w, ResetWorkspace())
        kept = (await workspaces._core.record(w)).kept
        assert kept is not None
        assert re.search(r":\d\d\.\d{3}\+00:00$", kept.kept_at)
