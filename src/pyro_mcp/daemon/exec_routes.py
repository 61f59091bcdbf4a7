"""The part of the local API that is about commands in workspaces.

POST /v1/workspaces/{w}/execs                   run one; streams its start, output and end; leaving cancels it
POST /v1/workspaces/{w}/execs/wait              run one and wait a while; leaving before the answer cancels it
GET  /v1/workspaces/{w}/execs                   the history, oldest first
GET  /v1/workspaces/{w}/execs/{id}              one of them; one that runs with the figures of the moment
POST /v1/workspaces/{w}/execs/{id}/wait         {"wait_seconds": 45}
POST /v1/workspaces/{w}/execs/{id}/output       a page of its output
POST /v1/workspaces/{w}/execs/{id}/stdin        input, as the body comes; the body's end is the input's end
POST /v1/workspaces/{w}/execs/{id}/signal       {"signal": 15}, to its process group
POST /v1/workspaces/{w}/execs/{id}/cancel       end it
"""

import asyncio
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pyro_mcp.daemon.exchange import answer, decoded, large_answer, named, pass_signal, pass_stdin, while_there
from pyro_mcp.daemon.streaming import Emit, EventStream
from pyro_mcp.daemon.workspace_routes import reference
from pyro_mcp.errors import NotFound
from pyro_mcp.workspace.command_words import check_range
from pyro_mcp.workspace.commands import CommandRunner
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.running import RunningCommand
from pyro_mcp.workspace_models import (
    WAIT_SECONDS_RANGE,
    CommandHistory,
    CommandWait,
    ExecRequest,
    ExecStarted,
    OutputQuery,
    WaitedExecRequest,
)


@dataclass(frozen=True)
class ExecRoutes:
    """Handlers that decode, call the workspace's runner, and encode. No running command keeps a hold."""

    workspaces: Workspaces

    def routes(self) -> list[Route]:
        """Where each stands."""
        execs = "/v1/workspaces/{w}/execs"
        return [
            Route(execs, self.run, methods=["POST"]),
            Route(execs, self.history, methods=["GET"]),
            Route(f"{execs}/wait", self.run_waited, methods=["POST"]),
            Route(f"{execs}/{{id}}", self.info, methods=["GET"]),
            Route(f"{execs}/{{id}}/wait", self.wait, methods=["POST"]),
            Route(f"{execs}/{{id}}/output", self.output, methods=["POST"]),
            Route(f"{execs}/{{id}}/stdin", self.stdin, methods=["POST"]),
            Route(f"{execs}/{{id}}/signal", self.signal, methods=["POST"]),
            Route(f"{execs}/{{id}}/cancel", self.cancel, methods=["POST"]),
        ]

    async def run(self, request: Request) -> EventStream:
        wanted = await decoded(ExecRequest, request)

        async def produce(emit: Emit) -> None:
            async with self.workspaces.using(reference(request), emit) as live:
                command = await live.runner.start(wanted)
            try:
                await emit(ExecStarted(command.exec_id))
                info = await command.follow(emit)
            except asyncio.CancelledError:
                command.cancel_soon()  # `follow` does so, too, but it may not have begun
                raise
            await emit(info)

        return EventStream(produce)

    async def run_waited(self, request: Request) -> EventStream:
        wanted = await decoded(WaitedExecRequest, request)
        check_range("wait_seconds", wanted.wait_seconds, WAIT_SECONDS_RANGE)

        async def produce(emit: Emit) -> None:
            async with self.workspaces.using(reference(request), emit) as live:
                command = await live.runner.start(ExecRequest(wanted.command, wanted.timeout_seconds))
            try:
                await emit(ExecStarted(command.exec_id))
                result = await live.runner.wait(command.exec_id, wanted.wait_seconds)
            except asyncio.CancelledError:
                command.cancel_soon()
                raise
            await emit(result)

        return EventStream(produce)

    async def history(self, request: Request) -> Response:
        return await large_answer(CommandHistory(await asyncio.to_thread(self.workspaces.execs, reference(request))))

    async def info(self, request: Request) -> Response:
        runner = self._runner(request)
        if runner is None:
            return answer(self.workspaces.exec(reference(request), named(request, "id")))
        return answer(runner.info(named(request, "id")))

    async def wait(self, request: Request) -> Response:
        wanted = await decoded(CommandWait, request)

        async def work() -> Response:
            async with self.workspaces.using(reference(request)) as live:
                runner = live.runner
            return answer(await runner.wait(named(request, "id"), wanted.wait_seconds))

        return await while_there(request, work())

    async def output(self, request: Request) -> Response:
        wanted = await decoded(OutputQuery, request)

        async def work() -> Response:
            async with self.workspaces.using(reference(request)) as live:
                page = await live.runner.output(named(request, "id"), wanted)
            return await large_answer(page)

        return await while_there(request, work())

    async def stdin(self, request: Request) -> Response:
        return await pass_stdin(request, self._running(request))

    async def signal(self, request: Request) -> Response:
        return await pass_signal(request, self._running(request).signal)

    async def cancel(self, request: Request) -> Response:
        runner = self._runner(request)
        if runner is None:  # no machine, so nothing that runs: as for a command that has ended
            return answer(self.workspaces.exec(reference(request), named(request, "id")))
        return answer(await runner.cancel(named(request, "id")))

    def _runner(self, request: Request) -> CommandRunner | None:
        return self.workspaces.runner_if_live(reference(request))

    def _running(self, request: Request) -> RunningCommand:
        runner = self._runner(request)
        if runner is None:
            raise NotFound("command_not_running", "the workspace's machine does not run, nor does the command")
        return runner.running(named(request, "id"))
