"""Commands in throwaway VMs, and signals for any command."""

from dataclasses import dataclass

from pyro_mcp.models.event import Event


@dataclass(frozen=True)
class RunRequest:
    """One command in a throwaway VM.

    `mem_mib` is guest memory in MiB; `timeout_seconds` limits the command (not the pull or the boot before it) and
    `ttl_seconds` the life of the whole VM, boot included (None: no limit of its own). With `timings` each `Phase` that
    has ended is an event, too.
    """

    environment: str
    command: tuple[str, ...]
    vcpu_count: int = 1
    mem_mib: int = 1024
    timeout_seconds: int = 30
    ttl_seconds: int | None = None
    network: bool = False
    stdin: bool = False
    timings: bool = False


@dataclass(frozen=True)
class RunAccepted(Event):
    """The first event of a run: what later signals and input are addressed to."""

    run_id: str


@dataclass(frozen=True)
class RunStarted(Event):
    """The command runs in its guest."""

    vmm: str
    boot_ms: int


@dataclass(frozen=True)
class RunFinished(Event):
    """How the run ended. `exit_code` is the guest's own, 128+N after signal N, 124 after a time-out.

    `duration_ms` is the time from request to end, as the daemon saw it.
    """

    environment: str
    vmm: str
    exit_code: int
    timed_out: bool
    duration_ms: int


@dataclass(frozen=True)
class SignalRequest:
    """A signal (1 to 64) for a run's command."""

    signal: int
