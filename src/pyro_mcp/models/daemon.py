"""The daemon itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DaemonHello:
    """Who answers at the socket; `settings` is `Settings.describe()`."""

    version: str
    settings: str
    pid: int
    active: int
