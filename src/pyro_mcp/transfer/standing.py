"""What stands at which path of an archive, in memory that grows with its names and not with the length of its paths."""

from pyro_mcp.transfer.limits import Tally
from pyro_mcp.transfer.names import BadName

_TOP = 0
_FOLDERS = ("directory", "implied")


class Standing:
    """The entries so far, each known by its folder's number and its own name; numbers go up from the top's.

    Folders without an entry of their own are `implied`; they are counted in `tally` as well, and so are all names.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._numbers: dict[bytes, int] = {}
        self._kinds = ["directory"]  # by number

    def place(self, parts: tuple[bytes, ...], kind: str) -> bool:
        """Note what stands where; True for a folder that was there before. Raises `BadName` if it cannot stand there.

        `parts` is not empty. Raises what `tally` does.
        """
        folder = _TOP
        for name in parts[:-1]:
            folder = self._implied(folder, name)
        number = self._numbers.get(_key(folder, parts[-1]))
        if number is None:
            self._new(folder, parts[-1], kind)
            return False
        before = self._kinds[number]
        if (before, kind) == ("implied", "directory"):
            self._kinds[number] = kind
            return False
        if (before, kind) != ("directory", "directory"):
            raise BadName("a second entry of this name")
        return True

    def is_file(self, parts: tuple[bytes, ...]) -> bool:
        """Whether there is a file (of this or another name before) at a path."""
        number = _TOP
        for name in parts:
            below = self._numbers.get(_key(number, name))
            if below is None:
                return False
            number = below
        return self._kinds[number] in ("file", "hardlink")

    def _implied(self, folder: int, name: bytes) -> int:
        number = self._numbers.get(_key(folder, name))
        if number is None:
            self._tally.add(folder=True)
            return self._new(folder, name, "implied")
        if self._kinds[number] not in _FOLDERS:
            raise BadName("an entry below something that is no folder")
        return number

    def _new(self, folder: int, name: bytes, kind: str) -> int:
        self._tally.keep(len(name))
        number = len(self._kinds)
        self._kinds.append(kind)
        self._numbers[_key(folder, name)] = number
        return number


def _key(folder: int, name: bytes) -> bytes:
    """One small object instead of three; names have no slash in them."""
    return b"%d/%s" % (folder, name)
