"""Every error that pyro raises on purpose.

    PyroError                    code, message, hint; exit code 1: something the user can mend
    +-- InvalidRequest           a parameter, name or value that cannot be right
    +-- NotFound                 an environment, workspace or file that does not exist
    +-- Conflict                 a name in use, a daemon of another version that is busy
    +-- HostUnfit                this machine lacks something: a VMM, disk space, a program
    +-- SourceFailed             packages or downloads that could not be fetched or verified
    +-- CommandNotStarted        the guest could not start the command (exit 127 or 126, as a shell would)
    +-- Interrupted              the user stopped it (exit 130)
    +-- InternalError            exit code 2: ours to mend
        +-- GuestFailed          a guest that did not boot, died, or spoke rubbish
        +-- DaemonFailed         the daemon did not start, died, or spoke rubbish

An error travels unchanged from where it is raised through the daemon's API to the SDK, the command line and MCP:
`to_wire` and `from_wire` are the two ends of that road.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class WireError:
    """An error as it travels between processes."""

    kind: str
    code: str
    message: str
    hint: str | None
    exit_code: int


class PyroError(Exception):
    """An error with a stable code, a sentence that says what happened, and a hint that says what to do.

    `code` is lower-case words joined by underscores and never changes its meaning. `exit_code` is what the command
    line ends with.
    """

    exit_code = 1

    def __init__(self, code: str, message: str, hint: str | None = None, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code

    def to_wire(self) -> WireError:
        """This error for another process; one that a lower module refines travels as the class that it refines."""
        kind = next(base.__name__ for base in type(self).__mro__ if base in _KINDS.values())
        return WireError(kind, self.code, self.message, self.hint, self.exit_code)


class InvalidRequest(PyroError):
    """A parameter, name or value that cannot be right."""


class NotFound(PyroError):
    """An environment, workspace or file that does not exist."""


class Conflict(PyroError):
    """Something that is there already, or busy."""


class HostUnfit(PyroError):
    """This machine lacks something that the request needs."""


class SourceFailed(PyroError):
    """Packages or downloads that could not be fetched or verified."""


class CommandNotStarted(PyroError):
    """The guest could not start the command; `exit_code` is 127 (no such file) or 126 (not executable)."""


class Interrupted(PyroError):
    """The user stopped it before there was a command to signal."""

    exit_code = 130


class InternalError(PyroError):
    """Something that is ours to mend."""

    exit_code = 2


class GuestFailed(InternalError):
    """A guest that did not boot, died in the middle, or spoke rubbish."""


class DaemonFailed(InternalError):
    """A daemon that did not start, died in the middle, or spoke rubbish."""


_KINDS: dict[str, type[PyroError]] = {
    kind.__name__: kind
    for kind in (
        PyroError,
        InvalidRequest,
        NotFound,
        Conflict,
        HostUnfit,
        SourceFailed,
        CommandNotStarted,
        Interrupted,
        InternalError,
        GuestFailed,
        DaemonFailed,
    )
}


def from_wire(wire: WireError) -> PyroError:
    """Rebuild an error that another process sent; an unknown kind becomes a plain `PyroError`."""
    kind = _KINDS.get(wire.kind, PyroError)
    return kind(wire.code, wire.message, wire.hint, exit_code=wire.exit_code)
