"""Applying patches: what goes to the guest, and what is made of its report."""

import json
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.workspace.patch import apply_patch
from pyro_mcp.workspace_models import ApplyPatch, PatchedFile, PatchReport
from tests.support.fake_tools import ToolFailed
from tests.support.live_guest import live_guest

PATCH = "--- a/ä\n+++ b/ä\n@@ -1 +1 @@\n-old\n+new\n"
FILE: dict[str, Any] = {"path": "ä", "change": "modified", "hunks": 1, "old_path": None, "offset_lines": -3}


async def _apply(tmp_path: Path, answer: bytes | ToolFailed) -> PatchReport:
    async with live_guest(tmp_path) as (guest, client):
        guest.tools.answers["patch"] = answer
        report = await apply_patch(client, ApplyPatch(PATCH))
    assert guest.tools.inputs == [({"name": "patch"}, PATCH.encode())]
    return report


async def test_what_was_changed_is_reported(tmp_path: Path) -> None:
    answer = json.dumps({"files": [FILE, {**FILE, "change": "renamed", "old_path": "b"}]}).encode()
    assert await _apply(tmp_path, answer) == PatchReport(
        (PatchedFile("ä", "modified", 1, None, -3), PatchedFile("ä", "renamed", 1, "b", -3))
    )


async def test_a_patch_that_does_not_apply_says_why(tmp_path: Path) -> None:
    reason = "ä: hunk 1 of 1 does not apply\nexpected:\n  old\nfound:\n  other"
    with pytest.raises(InvalidRequest) as caught:
        await _apply(tmp_path, ToolFailed("patch_failed", reason))
    assert (caught.value.code, caught.value.message) == ("patch_failed", reason)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b'{"files": {}}',
        b'{"files": [{}]}',
        json.dumps({"files": [{**FILE, "change": "painted"}]}).encode(),
        json.dumps({"files": [{**FILE, "hunks": -1}]}).encode(),
        json.dumps({"files": [{**FILE, "offset_lines": 1 << 40}]}).encode(),
        json.dumps({"files": [{**FILE, "more": 1}]}).encode(),
    ],
    ids=repr,
)
async def test_a_report_without_sense_is_a_violation(tmp_path: Path, answer: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        await _apply(tmp_path, answer)


@pytest.mark.parametrize(
    ("patch", "code"),
    [("", "bad_patch"), (" \n", "bad_patch"), ("\ud800", "bad_patch"), ("x" * ((8 << 20) + 1), "patch_too_large")],
    ids=["empty", "blank", "no text", "large"],
)
async def test_what_is_no_patch_is_not_sent(tmp_path: Path, patch: str, code: str) -> None:
    async with live_guest(tmp_path) as (guest, client):
        with pytest.raises(InvalidRequest) as caught:
            await apply_patch(client, ApplyPatch(patch))
    assert (caught.value.code, guest.requests) == (code, [])
