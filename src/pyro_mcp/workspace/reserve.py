"""Room on the disk of PYRO_HOME for what has to be written down even where the disk is full: PYRO_HOME/reserve.

A file that takes real room and holds nothing. It is given up when the end or the removal of a workspace cannot be
written down, and made again once there is room: else whoever has filled the disk could not even free some of it.
"""

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)
FILE_NAME = "reserve"
# As long as the log of a database becomes until SQLite begins it anew, so that this is enough for any number of changes
# in a row; and a guest that goes on to fill the disk does not take all of it within the moment that a change needs.
RESERVED_BYTES = 4 << 20


class Reserve:
    """The reserve of one PYRO_HOME."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = home / FILE_NAME

    def keep(self) -> None:
        """Make it, unless it is there, or there is so little room that it would take the last; never raises."""
        try:
            if self._path.exists() and self._path.stat().st_size == RESERVED_BYTES:
                return
            space = os.statvfs(self._home)
            if space.f_bavail * space.f_frsize >= 2 * RESERVED_BYTES:
                self._make()
        except OSError as error:
            log.warning("no room can be reserved in %s: %s", self._home, error.strerror)
            self.give_up()

    def give_up(self) -> bool:
        """Remove it, so that its room can be used; False if there is none."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def _make(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, RESERVED_BYTES)
        finally:
            os.close(fd)
