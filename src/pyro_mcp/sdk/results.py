"""Commands that have ended, with everything that they wrote."""

from dataclasses import dataclass

from pyro_mcp.models import Phase


@dataclass(frozen=True)
class RunResult:
    """A throwaway VM's command. `duration_ms` covers the machine's boot too; `phases` say where that time went, if the
    call asked for `timings`."""

    environment: str
    vmm: str
    exit_code: int
    timed_out: bool
    duration_ms: int
    stdout: bytes
    stderr: bytes
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True)
class CommandResult:
    """A workspace's command. `status` and `exit_code` are as in `ExecInfo`; `exec_id` finds it in the history."""

    exec_id: str
    status: str
    exit_code: int | None
    duration_ms: int
    stdout: bytes
    stderr: bytes
