"""Applying a unified diff to a workspace, all or nothing."""

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.guest import tools
from pyro_mcp.guest.client import GuestClient
from pyro_mcp.guest.violation import ProtocolViolation
from pyro_mcp.workspace.json_lines import bounded, decoded, json_object
from pyro_mcp.workspace_models import ApplyPatch, PatchReport

_PATCH_BYTES = 8 << 20
_REPORT_BYTES = 16 << 20
_CHANGES = ("added", "modified", "deleted", "renamed")
_LINES = range(1 << 32)


async def apply_patch(guest: GuestClient, request: ApplyPatch) -> PatchReport:
    """Apply a patch. Raises `InvalidRequest` (`bad_patch`, `patch_failed` with hunk and reason), `GuestFailed`."""
    report = decoded(PatchReport, json_object(await _applied(guest, _encoded(request.patch))))
    for file in report.files:
        if file.change not in _CHANGES:
            raise ProtocolViolation(f"the unknown change {file.change[:40]!r}")
        bounded(file.hunks, _LINES)
        bounded(abs(file.offset_lines), _LINES)
    return report


async def _applied(guest: GuestClient, patch: bytes) -> bytes:
    return await tools.run(guest, tools.PatchTool(), stdin=patch, most=_REPORT_BYTES)


def _encoded(patch: str) -> bytes:
    if not patch.strip():
        raise InvalidRequest("bad_patch", "the patch is empty")
    try:
        data = patch.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("bad_patch", "the patch is not Unicode text") from None
    if len(data) > _PATCH_BYTES:
        raise InvalidRequest("patch_too_large", f"the patch is larger than {_PATCH_BYTES >> 20} MiB")
    return data
