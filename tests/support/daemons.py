"""Finding and ending the daemons that tests started."""

import os
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.process import wait_for_end


def daemon_pid(settings: Settings) -> int:
    """The process id of the daemon, which is started if there is none."""
    pid = DaemonClient(settings).ask("GET", "/v1/hello")["pid"]
    assert isinstance(pid, int)
    return pid


def end_daemon(settings: Settings) -> None:
    """Have the daemon of these settings end in order, if one runs, and wait until its process is gone."""
    pids = daemons_of(settings.home)
    DaemonClient(settings).stop()
    for pid in pids:
        assert wait_for_end(pid, 10), f"daemon {pid} does not end"


def daemons_of(home: Path) -> list[int]:
    """The daemons of exactly this PYRO_HOME, however many."""
    return [pid for pid, of in _daemons() if of == home]


def daemons_under(folder: Path) -> list[int]:
    """The daemons of every PYRO_HOME in a folder."""
    return [pid for pid, of in _daemons() if of.is_relative_to(folder)]


def _daemons() -> list[tuple[int, Path]]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (home := _home_of(entry)) is not None:
            found.append((int(entry.name), home))
    return found


def _home_of(entry: Path) -> Path | None:
    try:
        arguments = (entry / "cmdline").read_bytes().split(b"\0")
        variables = (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return None  # gone meanwhile, or another user's
    if b"pyro_mcp.daemon.launch" not in arguments:
        return None
    homes = [word.partition(b"=")[2] for word in variables if word.startswith(b"PYRO_HOME=")]
    return Path(os.fsdecode(homes[0])) if homes else None
