"""The messages of the guest protocol, typed (protocol/schema.json is what both sides are checked against)."""

from dataclasses import dataclass, field

from pyro_mcp import models
from pyro_mcp.errors import InvalidRequest
from pyro_mcp.guest import outgoing
from pyro_mcp.guest.tool_requests import Tool, tool_to_json
from pyro_mcp.guest.violation import ProtocolViolation


@dataclass(frozen=True)
class Exec:
    """Run a command. `env` is laid over the agent's default environment; `cwd` is absolute.

    `timeout_ms` counts from the command's start; None means no limit. With an id to `keep` it by (1 to 64 of a-z, 0-9
    and `-`) it outlives the stream and the session, and its output is kept in the guest.
    """

    argv: tuple[str, ...]
    cwd: str = "/"
    env: dict[str, str] = field(default_factory=dict)
    stdin: bool = False
    timeout_ms: int | None = None
    keep: str | None = None


@dataclass(frozen=True)
class Attach:
    """Follow a kept command: its output from `offset` (bytes of stdout and stderr together) and its end."""

    id: str
    offset: int = 0


@dataclass(frozen=True)
class Commands:
    """Ask how the kept commands are."""


@dataclass(frozen=True)
class End:
    """End a kept command's process group: SIGTERM, and SIGKILL a second later."""

    id: str


@dataclass(frozen=True)
class ToolRequest:
    """Let the agent do something by itself; it looks like a command from then on."""

    tool: Tool


@dataclass(frozen=True)
class Signal:
    """Send a signal (1 to 64) to the process group of a command of this session, or of a kept one, by `Started.pid`.

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


@dataclass(frozen=True)
class CommandState:
    """How a kept command is. An ended one has an exit code or a signal; `cancelled` if its end was asked for."""

    id: str
    pid: int
    running: bool
    exit_code: int | None
    signal: int | None
    timed_out: bool
    cancelled: bool
    output_bytes: int


@dataclass(frozen=True)
class CommandStates:
    """The kept commands: all that run, and those that ended last."""

    commands: tuple[CommandState, ...]


HostMessage = Exec | Attach | Commands | End | ToolRequest | Signal | Ping | Poweroff
AgentMessage = Started | Exited | Failed | Pong | Ok | CommandStates

_HOST_TYPES: dict[type, str] = {
    Exec: "exec",
    Attach: "attach",
    Commands: "commands",
    End: "end",
    Signal: "signal",
    Ping: "ping",
    Poweroff: "poweroff",
}
_AGENT_TYPES: dict[str, type[AgentMessage]] = {
    "started": Started,
    "exited": Exited,
    "error": Failed,
    "pong": Pong,
    "ok": Ok,
    "commands": CommandStates,
}
_FAILURES = {
    "bad_request",
    "not_found",
    "not_executable",
    "bad_cwd",
    "no_such_command",
    "id_in_use",
    "no_workspace",
    "internal",
}
_MOST_COMMANDS = 2048
_PIDS = range(1, 1 << 31)
# Far more than any disk holds, and so little that what is added to it later fits into every number of ours.
_OUTPUT_BYTES = range((1 << 53) + 1)


def to_json(message: HostMessage) -> dict[str, object]:
    """A message as the JSON object that goes to the agent. Raises `InvalidRequest` for what it would refuse."""
    _check_outgoing(message)
    if isinstance(message, ToolRequest):
        return {"type": "tool", "tool": tool_to_json(message.tool)}
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


def _check_outgoing(message: HostMessage) -> None:
    match message:
        case Exec(argv, cwd, env, _, timeout_ms, keep):
            outgoing.check_command(argv, env, cwd, timeout_ms)
            if keep is not None:
                outgoing.check_id(keep)
        case Attach(kept, offset):
            outgoing.check_id(kept)
            outgoing.check_number("an offset", offset, outgoing.SIZES)
        case End(kept):
            outgoing.check_id(kept)
        case Signal(pid, number):
            outgoing.check_signal(pid, number)
        case ToolRequest(tool):
            outgoing.check_tool(tool)


def _check(message: AgentMessage) -> None:
    match message:
        case Started(pid) if pid not in _PIDS:
            raise ProtocolViolation("a process id out of range")
        case Failed(code) if code not in _FAILURES:
            raise ProtocolViolation(f"the unknown error code {code[:40]!r}")
        case Exited(exit_code, number):
            _check_end(exit_code, number)
        case CommandStates(commands):
            if len(commands) > _MOST_COMMANDS:
                raise ProtocolViolation(f"more than {_MOST_COMMANDS} kept commands")
            for state in commands:
                _check_state(state)


def _check_end(exit_code: int | None, number: int | None) -> None:
    if (exit_code is None) == (number is None):
        raise ProtocolViolation("an end with both or neither of exit code and signal")
    if exit_code not in (None, *range(256)) or number not in (None, *outgoing.SIGNALS):
        raise ProtocolViolation("an exit code or signal out of range")


def _check_state(state: CommandState) -> None:
    if not outgoing.KEPT_ID.fullmatch(state.id):
        raise ProtocolViolation(f"a kept command with the id {state.id[:80]!r}")
    if state.pid not in _PIDS or state.output_bytes not in _OUTPUT_BYTES:
        raise ProtocolViolation("a number out of range in a kept command's state")
    if not state.running:
        _check_end(state.exit_code, state.signal)
    elif (state.exit_code, state.signal) != (None, None):
        raise ProtocolViolation("a kept command that runs and has ended")
