"""The daemon itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DaemonHello:
    """Who answers at the socket; `settings` is `Settings.describe()`."""

    version: str
    settings: str
    pid: int
    active: int


@dataclass(frozen=True)
class ChatHost:
    """Who says that a chat host is connected: its `version` and `settings` as those of a `DaemonHello`, and how many
    machines it wants to have ready (`pool`)."""

    version: str
    settings: str
    pool: int
