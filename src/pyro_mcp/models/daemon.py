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


@dataclass(frozen=True)
class ReadyMachine:
    """A machine that waits to become the next workspace's; `host_memory_bytes` is what it takes of the host's memory,
    None where the host does not tell."""

    environment: str
    vmm: str
    vcpu_count: int
    mem_mib: int
    host_memory_bytes: int | None


@dataclass(frozen=True)
class ReadyMachines:
    """Those that are ready now."""

    machines: tuple[ReadyMachine, ...]
