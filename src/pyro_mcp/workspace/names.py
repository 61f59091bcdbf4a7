"""What workspaces are called: ids, names and labels, and which workspace a word means."""

import difflib
import re
import secrets
from collections.abc import Container, Mapping, Sequence

from pyro_mcp.errors import InvalidRequest, NotFound
from pyro_mcp.workspace.record import DELETED, WorkspaceRecord

_ID_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another
_BEGINNING = "w-"  # of every id
_ID = re.compile(f"{_BEGINNING}[{_ID_LETTERS}]{{4}}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MOST_LABELS = 32
_LABEL_BYTES = 256


def new_id(taken: Container[str]) -> str:
    """An id that no workspace has."""
    while True:
        made = _BEGINNING + "".join(secrets.choice(_ID_LETTERS) for _ in range(4))
        if made not in taken:
            return made


def check_name(name: str) -> None:
    """Refuse what cannot be a workspace's name, or could be taken for an id."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "bad_name",
            f"{name[:80]!r} cannot be a workspace's name",
            "use 1 to 63 letters, digits, dots, dashes and underscores, a letter or digit first",
        )
    if _ID.fullmatch(name):
        raise InvalidRequest("bad_name", f"{name!r} looks like a workspace's id", "choose another name")


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that are too many, too long, or have keys that could not be names."""
    if len(labels) > _MOST_LABELS:
        raise InvalidRequest("bad_label", f"{len(labels)} labels are too many", f"use at most {_MOST_LABELS}")
    for key, value in labels.items():
        if not _NAME.fullmatch(key):
            raise InvalidRequest(
                "bad_label",
                f"{key[:80]!r} cannot be a label's key",
                "use 1 to 63 letters, digits, dots, dashes and underscores, a letter or digit first",
            )
        if len(value.encode(errors="surrogatepass")) > _LABEL_BYTES:
            raise InvalidRequest(
                "bad_label", f"the value of the label {key} is too long", f"use at most {_LABEL_BYTES} bytes"
            )
        if not value.isprintable():
            raise InvalidRequest("bad_label", f"the value of the label {key} holds control characters")


def find(records: Sequence[WorkspaceRecord], reference: str) -> WorkspaceRecord:
    """The workspace that has this id, or this name, or alone an id that begins so, deleted ones last.

    Raises `NotFound` (`unknown_workspace`) with the nearest name, and `InvalidRequest` where several ids begin so.
    """
    present = [record for record in records if record.state != DELETED]
    deleted = [record for record in records if record.state == DELETED]
    for some in (present, deleted[::-1]):
        for record in some:
            if reference == record.workspace_id:
                return record
    for some in (present, deleted[::-1]):
        found = next((record for record in some if reference == record.name), None) or _by_prefix(some, reference)
        if found is not None:
            return found
    raise _unknown(present, reference)


def _by_prefix(records: Sequence[WorkspaceRecord], prefix: str) -> WorkspaceRecord | None:
    # What all ids begin with names none, or `delete w-$W` with an empty W would take the only one there is.
    tells = len(prefix) > len(_BEGINNING)
    found = [record for record in records if record.workspace_id.startswith(prefix)] if tells else []
    if len(found) > 1:
        ids = ", ".join(record.workspace_id for record in found[:4])
        raise InvalidRequest(
            "ambiguous_workspace", f"{prefix!r} may mean several workspaces: {ids}", "give more of the id, or the name"
        )
    return found[0] if found else None


def _unknown(records: Sequence[WorkspaceRecord], reference: str) -> NotFound:
    words = [word for record in records for word in (record.workspace_id, record.name) if word is not None]
    near = difflib.get_close_matches(reference[:64], words, n=1)
    hint = f"did you mean {near[0]}? `pyro workspace list` shows all" if near else "`pyro workspace list` shows all"
    return NotFound("unknown_workspace", f"there is no workspace {reference[:64]!r}", hint)
