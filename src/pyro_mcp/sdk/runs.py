"""Commands in throwaway VMs."""

from collections.abc import Sequence

from pyro_mcp import sdk
from pyro_mcp.sdk.calls import Calls


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
        timings: bool = False,
        on_progress: "sdk.OnProgress | None" = None,
    ) -> "sdk.RunResult":
        """Run one command in a throwaway VM and return what it wrote and how it ended.

        `timeout_seconds` (1 to 86400) limits the command: at its end the exit code is 124. An environment that is not
        installed is pulled first, which `on_progress` hears of. With `timings` the result's `phases` tell where time
        went. Raises `PyroError`; a command that ran and failed is no error.
        """
        request = sdk.RunRequest(
            environment=environment,
            command=tuple(command),
            vcpu_count=vcpu_count,
            mem_mib=mem_mib,
            timeout_seconds=timeout_seconds,
            ttl_seconds=ttl_seconds,
            network=network,
            timings=timings,
        )
        with self.stream_in_vm(request) as run:
            return _collect(run, on_progress)

    def stream_in_vm(self, request: "sdk.RunRequest") -> "sdk.RunStream":
        """Run one command in a throwaway VM and follow it as it happens."""
        return sdk.RunStream(self._daemon, request)


def _collect(run: "sdk.RunStream", on_progress: "sdk.OnProgress | None") -> "sdk.RunResult":
    output = {"stdout": bytearray(), "stderr": bytearray()}
    phases: list[sdk.Phase] = []
    end: sdk.RunFinished | None = None
    for event in run:
        if isinstance(event, sdk.OutputChunk):
            output[event.stream] += event.data
        elif isinstance(event, sdk.Progress) and on_progress is not None:
            on_progress(event)
        elif isinstance(event, sdk.Phase):
            phases.append(event)
        elif isinstance(event, sdk.RunFinished):
            end = event
    assert end is not None  # noqa: S101  (a stream without an end has raised)
    return sdk.RunResult(
        environment=end.environment,
        vmm=end.vmm,
        exit_code=end.exit_code,
        timed_out=end.timed_out,
        duration_ms=end.duration_ms,
        stdout=bytes(output["stdout"]),
        stderr=bytes(output["stderr"]),
        phases=tuple(phases),
    )
