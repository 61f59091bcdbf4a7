"""The messages of the guest protocol, typed (protocol/schema.json is what both sides are checked against)."""

from dataclasses import dataclass, field

from pyro_mcp import models
from pyro_mcp.errors import InvalidRequest
from pyro_mcp.guest.violation import ProtocolViolation


@dataclass(frozen=True)
class Exec:
    """Run a command. `env` is laid over the agent's default environment; `cwd` is absolute.

    `timeout_ms` counts from the command's start; None means no limit.
    """

    argv: tuple[str, ...]
    cwd: str = "/"
    env: dict[str, str] = field(default_factory=dict)
    stdin: bool = False
    timeout_ms: int | None = None


@dataclass(frozen=True)
class Signal:
    """Send a signal (1 to 64) to the process group of a command of this session; `pid` is that of its `Started`.

    A request of its own, on a stream of its own: input that the command does not read must not hold it up.
    """

    pid: int
    signal: int


@dataclass(frozen=True)
class Ping:
    """Ask for a `Pong`."""


@dataclass(frozen=True)
class Poweroff:
    """End every process, put the disks in order and switch the machine off."""


@dataclass(frozen=True)
class Started:
    """The command runs; `pid` is its process id in the guest."""

    pid: int


@dataclass(frozen=True)
class Exited:
    """The command ended: with an exit code, or by a signal. Exactly one of the two is set."""

    exit_code: int | None
    signal: int | None
    timed_out: bool


@dataclass(frozen=True)
class Failed:
    """The agent could not do what was asked."""

    code: str
    message: str


@dataclass(frozen=True)
class Pong:
    """The answer to a `Ping`."""


@dataclass(frozen=True)
class Ok:
    """Done, with nothing to tell."""


HostMessage = Exec | Signal | Ping | Poweroff
AgentMessage = Started | Exited | Failed | Pong | Ok

_HOST_TYPES: dict[type, str] = {Exec: "exec", Signal: "signal", Ping: "ping", Poweroff: "poweroff"}
_AGENT_TYPES: dict[str, type[AgentMessage]] = {
    "started": Started,
    "exited": Exited,
    "error": Failed,
    "pong": Pong,
    "ok": Ok,
}
_FAILURES = {"bad_request", "not_found", "not_executable", "bad_cwd", "no_such_command", "internal"}


def to_json(message: HostMessage) -> dict[str, object]:
    """A message as the JSON object that goes to the agent."""
    return {"type": _HOST_TYPES[type(message)], **models.encode(message)}


def from_json(content: dict[str, object]) -> AgentMessage:
    """Check a message of the agent and build it, or raise `ProtocolViolation`."""
    kind = _AGENT_TYPES.get(str(content.get("type")))
    if kind is None:
        raise ProtocolViolation(f"message of the unknown type {str(content.get('type'))[:40]!r}")
    try:
        message = models.decode(kind, {name: value for name, value in content.items() if name != "type"})
    except InvalidRequest as error:
        raise ProtocolViolation(f"malformed message: {error.message[:200]}") from error
    _check(message)
    return message


def _check(message: AgentMessage) -> None:
    if isinstance(message, Started) and not 1 <= message.pid < 1 << 31:
        raise ProtocolViolation("a process id out of range")
    if isinstance(message, Failed) and message.code not in _FAILURES:
        raise ProtocolViolation(f"the unknown error code {message.code[:40]!r}")
    if isinstance(message, Exited):
        if (message.exit_code is None) == (message.signal is None):
            raise ProtocolViolation("an end with both or neither of exit code and signal")
        if message.exit_code not in (None, *range(256)) or message.signal not in (None, *range(1, 65)):
            raise ProtocolViolation("an exit code or signal out of range")
