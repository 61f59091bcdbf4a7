"""Commands in workspaces, their history and their output."""

from dataclasses import dataclass

from pyro_mcp.models.event import Event
from pyro_mcp.workspace_models.constants import SHOWN_OUTPUT_BYTES


@dataclass(frozen=True)
class ExecRequest:
    """A command in `/workspace`.

    `timeout_seconds` (1 to 86400) limits the command. `stdin` says that input will be sent.
    """

    command: tuple[str, ...]
    timeout_seconds: int = 30
    stdin: bool = False


@dataclass(frozen=True)
class WaitedExecRequest:
    """A command in `/workspace`, waited for no longer than `wait_seconds` (0 to 300); it goes on after that."""

    command: tuple[str, ...]
    timeout_seconds: int = 30
    wait_seconds: int = 45


@dataclass(frozen=True)
class ExecStarted(Event):
    """A command runs in its workspace under this id."""

    exec_id: str


@dataclass(frozen=True)
class ExecInfo(Event):
    """A command of a workspace's history; of a very long one, `command` is the beginning.

    `status` is one of running, exited, timed_out, cancelled, lost (the machine went away under it), failed (it could
    not be started). `exit_code` is the command's own, 128+N after signal N, 124 after a time-out, None while it runs or
    where nobody knows. `output_bytes` counts stdout and stderr together.
    """

    exec_id: str
    workspace_id: str
    command: tuple[str, ...]
    status: str
    started_at: str
    exit_code: int | None = None
    duration_ms: int | None = None
    output_bytes: int | None = None


@dataclass(frozen=True)
class ExecResult(Event):
    """A command that was waited for: how it stands, and the beginning and the end of its output.

    Both together are at most `SHOWN_OUTPUT_BYTES`; where `tail` is empty, `head` is all of it. stdout and stderr stand
    in the order in which they were written.
    """

    info: ExecInfo
    head: bytes
    tail: bytes = b""


@dataclass(frozen=True)
class OutputQuery:
    """A page of a command's output: `limit` bytes from `offset`.

    `grep` is a regular expression (of Rust's regex-lite); only lines that match it count and are shown.
    """

    offset: int = 0
    limit: int = SHOWN_OUTPUT_BYTES
    grep: str | None = None


@dataclass(frozen=True)
class OutputPage:
    """Part of a command's output; `next_offset` is where to read on, None at the present end."""

    exec_id: str
    offset: int
    data: bytes
    total_bytes: int
    running: bool
    next_offset: int | None = None


@dataclass(frozen=True)
class CommandHistory:
    """The commands of a workspace, oldest first."""

    execs: tuple[ExecInfo, ...]


@dataclass(frozen=True)
class CommandWait:
    """How long to wait for a command's end (0 to 300 s)."""

    wait_seconds: int = 45
