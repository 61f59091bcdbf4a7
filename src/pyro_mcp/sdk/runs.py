"""Commands in throwaway VMs."""

from collections.abc import Sequence

from pyro_mcp.events import OutputChunk
from pyro_mcp.models import Progress, RunFinished, RunRequest
from pyro_mcp.sdk.calls import Calls, OnProgress
from pyro_mcp.sdk.results import RunResult
from pyro_mcp.sdk.streams import RunStream


class RunCalls(Calls):
    """The part of `Pyro` that runs commands in throwaway VMs."""

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
        on_progress: OnProgress | None = None,
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


def _collect(run: RunStream, on_progress: OnProgress | None) -> RunResult:
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
