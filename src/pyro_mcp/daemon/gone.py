"""What a client finds where its daemon ended."""

from pyro_mcp.errors import DaemonFailed

_LOOK = (
    "workspaces and the commands in them go on: see `pyro workspace list` and `pyro workspace logs W`, then ask again "
    "for what was not done"
)


class DaemonGone(DaemonFailed):
    """The daemon ended while it was spoken to. `hint` is for requests of which more is known than of any."""

    def __init__(self, hint: str = _LOOK) -> None:
        super().__init__("daemon_gone", "pyro's daemon ended in the middle of the request", hint)
