"""Names of entries in archives that nobody vouches for, and whether links among them stay inside."""

from pyro_mcp.transfer.limits import MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES


class BadName(Exception):
    """A name that cannot stand in a tree of ours; the text says why."""


def components(name: bytes) -> tuple[bytes, ...]:
    """The parts of a relative name; none of them for the top folder itself. Raises `BadName`."""
    if name.startswith(b"/"):
        raise BadName("an absolute path")
    if len(name) > MAX_PATH_BYTES:
        raise BadName("a path longer than 4096 bytes")
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise BadName("a path with .. in it")
    if b"\0" in name or any(len(part) > MAX_NAME_BYTES for part in parts):
        raise BadName("a name that no file can have")
    if len(parts) > MAX_DEPTH:
        raise BadName(f"more than {MAX_DEPTH} folders below each other")
    return parts


def stays_inside(link: tuple[bytes, ...], target: bytes, *, strict: bool) -> bool:
    """Whether a symbolic link at `link` leads to a place in its tree, as far as its text tells.

    Other links on the way may change what a `..` means, so a `strict` one does not go up once it has gone down.
    """
    if not target or target.startswith(b"/") or b"\0" in target:
        return False
    depth = len(link) - 1
    went_down = False
    for part in target.split(b"/"):
        if part == b"..":
            depth -= 1
            if depth < 0 or (strict and went_down):
                return False
        elif part not in (b"", b"."):
            depth += 1
            went_down = True
    return True
