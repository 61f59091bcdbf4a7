"""`Pyro`: what programs import.

from pyro_mcp import Pyro

result = Pyro().run_in_vm("debian:12", ["git", "--version"])
print(result.stdout.decode())
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import quote

from pyro_mcp import models
from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.errors import DaemonFailed
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.models import (
    EnvironmentInfo,
    Progress,
    PruneReport,
    PruneRequest,
    PullRequest,
    RunAccepted,
    RunFinished,
    RunRequest,
    RunStarted,
    SignalRequest,
)


@dataclass(frozen=True)
class RunResult:
    """A command's end and everything that it wrote. `duration_ms` covers the machine's boot too."""

    environment: str
    vmm: str
    exit_code: int
    timed_out: bool
    duration_ms: int
    stdout: bytes
    stderr: bytes


class RunStream:
    """A run under way: iterate over it for its events, from another thread give it input and signals.

    Leaving it (`close`, or the end of a `with` block) before the end stops the machine.
    """

    def __init__(self, daemon: DaemonClient, request: RunRequest) -> None:
        self._daemon = daemon
        self._events = daemon.stream("/v1/runs", models.encode(request))
        self._path = ""

    def __iter__(self) -> Iterator[Event | OutputChunk]:
        """Events in order, ending with `RunFinished`. Raises `PyroError`; output not read holds the command back."""
        finished = False
        for event in self._events:
            if isinstance(event, RunAccepted):
                self._path = f"/v1/runs/{event.run_id}"
            finished = isinstance(event, RunFinished)
            yield event
        if not finished:
            raise DaemonFailed("daemon_gone", "pyro's daemon ended in the middle of the run", "run the command again")

    def signal(self, number: int) -> None:
        """Send a signal (1 to 64) to the command's process group. Raises `NotFound` when the run has ended."""
        self._daemon.ask("POST", f"{self._path}/signal", models.encode(SignalRequest(number)))

    def send_input(self, parts: Iterable[bytes]) -> None:
        """Give the command its input, part by part as `parts` yields them, and end it; returns when all is taken."""
        self._daemon.upload(f"{self._path}/stdin", parts)

    def cancel(self) -> None:
        """From another thread: stop the run; whoever iterates over it gets `DaemonFailed`."""
        self._events.cancel()

    def close(self) -> None:
        """Stop the run if it has not ended."""
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Pyro:
    """Runs commands in microVMs and manages their environments, through a daemon that it starts when needed.

    `settings` are read from the environment unless given. A `Pyro` holds nothing open between calls and may be shared
    by threads.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._daemon = DaemonClient(settings or Settings.from_environment())

    def run_in_vm(
        self,
        environment: str,
        command: Sequence[str],
        *,
        vcpu_count: int = 1,
        mem_mib: int = 1024,
        timeout_seconds: int = 30,
        ttl_seconds: int | None = None,
        network: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> RunResult:
        """Run one command in a throwaway VM and return what it wrote and how it ended.

        `timeout_seconds` (1 to 86400) limits the command: at its end the exit code is 124. An environment that is not
        installed is pulled first, which `on_progress` hears of. Raises `PyroError`; a command that ran and failed is no
        error.
        """
        request = RunRequest(
            environment=environment,
            command=tuple(command),
            vcpu_count=vcpu_count,
            mem_mib=mem_mib,
            timeout_seconds=timeout_seconds,
            ttl_seconds=ttl_seconds,
            network=network,
        )
        with self.stream_in_vm(request) as run:
            return _collect(run, on_progress)

    def stream_in_vm(self, request: RunRequest) -> RunStream:
        """Run one command in a throwaway VM and follow it as it happens."""
        return RunStream(self._daemon, request)

    def list_environments(self) -> tuple[EnvironmentInfo, ...]:
        """The catalog, and what is installed of it."""
        listed = self._daemon.ask("GET", "/v1/environments")
        return tuple(models.decode(EnvironmentInfo, info) for info in listed)

    def inspect_environment(self, environment: str) -> EnvironmentInfo:
        """One environment, with the packages in it. Raises `NotFound`."""
        return models.decode(EnvironmentInfo, self._daemon.ask("GET", _environment_path(environment)))

    def pull_environment(
        self, environment: str, *, source: str | None = None, on_progress: Callable[[Progress], None] | None = None
    ) -> EnvironmentInfo:
        """Install an environment or renew it; `source` is another mirror. Raises `NotFound`, `SourceFailed`."""
        installed: EnvironmentInfo | None = None
        path = f"{_environment_path(environment)}/pull"
        with contextlib.closing(self._daemon.stream(path, models.encode(PullRequest(source)))) as events:
            for event in events:
                if isinstance(event, Progress) and on_progress is not None:
                    on_progress(event)
                elif isinstance(event, EnvironmentInfo):
                    installed = event
        if installed is None:
            raise DaemonFailed("daemon_gone", "pyro's daemon ended in the middle of the pull", "pull again")
        return installed

    def prune_environments(self, *, dry_run: bool = False) -> PruneReport:
        """Remove what nothing uses, or say what that would be."""
        request = models.encode(PruneRequest(dry_run))
        return models.decode(PruneReport, self._daemon.ask("POST", "/v1/environments/prune", request))


def _environment_path(environment: str) -> str:
    return f"/v1/environments/{quote(environment, safe='', errors='replace')}"


def _collect(run: RunStream, on_progress: Callable[[Progress], None] | None) -> RunResult:
    output = {"stdout": bytearray(), "stderr": bytearray()}
    end: RunFinished | None = None
    for event in run:
        if isinstance(event, OutputChunk):
            output[event.stream] += event.data
        elif isinstance(event, Progress) and on_progress is not None:
            on_progress(event)
        elif isinstance(event, RunFinished):
            end = event
    assert end is not None  # noqa: S101  (a stream without an end has raised)
    return RunResult(
        environment=end.environment,
        vmm=end.vmm,
        exit_code=end.exit_code,
        timed_out=end.timed_out,
        duration_ms=end.duration_ms,
        stdout=bytes(output["stdout"]),
        stderr=bytes(output["stderr"]),
    )


__all__ = ["Pyro", "RunResult", "RunStarted", "RunStream"]
