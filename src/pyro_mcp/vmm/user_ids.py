"""Users for VMMs that root starts: each gets one that nobody else is.

The numbers are of a range that no distribution, container manager or systemd gives to anybody. Source: systemd's
"Users, Groups, UIDs and GIDs on systemd Systems", which lists 1879048192 to 2147483647 as unused.
"""

import os
import secrets
from pathlib import Path

FIRST = 1_900_000_000
COUNT = 1 << 24


def is_ours(user_id: int) -> bool:
    """Whether it is one of the users that only VMMs are."""
    return FIRST <= user_id < FIRST + COUNT


def unused() -> int:
    """One that no process of this host has; of so many, two daemons do not draw the same at the same moment."""
    taken = _in_use()
    while (drawn := FIRST + secrets.randbelow(COUNT)) in taken:
        pass
    return drawn


def for_vmm() -> int | None:
    """The user that a VMM is to become: one of its own where we are root; elsewhere it stays who we are (None)."""
    return unused() if os.geteuid() == 0 else None


def _in_use() -> set[int]:
    users = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                users.add(process.stat().st_uid)
            except OSError:
                continue  # it ended while we looked
    return users
