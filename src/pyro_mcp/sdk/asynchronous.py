"""`AsyncPyro`: the calls of `Pyro` as coroutines."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from pyro_mcp import sdk  # noqa: TC001  (so that `typing.get_type_hints` finds it)
from pyro_mcp.config import Settings
from pyro_mcp.daemon.client import DaemonClient
from pyro_mcp.sdk.async_streams import AsyncExecStream, AsyncRunStream, Opening
from pyro_mcp.sdk.pyro import Pyro
from pyro_mcp.sdk.threads import in_a_thread

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate["AsyncPyro", P], Coroutine[Any, Any, T]]:
    """A method of `Pyro` as a coroutine with the same parameters and the same documentation."""

    @functools.wraps(method)
    async def call(self: "AsyncPyro", /, *args: P.args, **kwargs: P.kwargs) -> T:
        options: dict[str, Any] = dict(kwargs)
        if options.get("on_progress") is not None:
            options["on_progress"] = functools.partial(
                asyncio.get_running_loop().call_soon_threadsafe, options["on_progress"]
            )
        return await self._call(lambda pyro: method(pyro, *args, **options))

    return call


class AsyncPyro:
    """The calls of `Pyro` as coroutines, many at once; each takes a thread for as long as it lasts.

    Cancelling a call cancels what it does: a command ends, a workspace that is being made is not made. `on_progress`
    is called in the event loop's own thread.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._daemon = DaemonClient(settings or Settings.from_environment())

    run_in_vm = _awaited(Pyro.run_in_vm)
    list_environments = _awaited(Pyro.list_environments)
    inspect_environment = _awaited(Pyro.inspect_environment)
    pull_environment = _awaited(Pyro.pull_environment)
    prune_environments = _awaited(Pyro.prune_environments)

    create_workspace = _awaited(Pyro.create_workspace)
    list_workspaces = _awaited(Pyro.list_workspaces)
    workspace_status = _awaited(Pyro.workspace_status)
    update_workspace = _awaited(Pyro.update_workspace)
    start_workspace = _awaited(Pyro.start_workspace)
    stop_workspace = _awaited(Pyro.stop_workspace)
    delete_workspace = _awaited(Pyro.delete_workspace)
    reset_workspace = _awaited(Pyro.reset_workspace)
    restore_workspace = _awaited(Pyro.restore_workspace)
    prune_workspaces = _awaited(Pyro.prune_workspaces)

    exec_workspace = _awaited(Pyro.exec_workspace)
    start_command = _awaited(Pyro.start_command)
    wait_for_command = _awaited(Pyro.wait_for_command)
    command_status = _awaited(Pyro.command_status)
    read_command_output = _awaited(Pyro.read_command_output)
    cancel_command = _awaited(Pyro.cancel_command)
    workspace_logs = _awaited(Pyro.workspace_logs)

    push_workspace_sync = _awaited(Pyro.push_workspace_sync)
    list_workspace_files = _awaited(Pyro.list_workspace_files)
    read_workspace_file = _awaited(Pyro.read_workspace_file)
    write_workspace_file = _awaited(Pyro.write_workspace_file)
    apply_workspace_patch = _awaited(Pyro.apply_workspace_patch)
    diff_workspace = _awaited(Pyro.diff_workspace)
    export_workspace = _awaited(Pyro.export_workspace)

    def stream_in_vm(self, request: "sdk.RunRequest") -> Opening[AsyncRunStream]:
        """Run one command in a throwaway VM and follow it: `async with` this, or await it for the stream."""

        async def begin() -> AsyncRunStream:
            return AsyncRunStream(await self._call(lambda pyro: pyro.stream_in_vm(request)))

        return Opening(begin)

    def stream_in_workspace(self, workspace: str, request: "sdk.ExecRequest") -> Opening[AsyncExecStream]:
        """Run a command in `/workspace` and follow it: `async with` this, or await it for the stream."""

        async def begin() -> AsyncExecStream:
            return AsyncExecStream(await self._call(lambda pyro: pyro.stream_in_workspace(workspace, request)))

        return Opening(begin)

    async def close(self) -> None:
        """Close idle connections to the daemon. Calls under way go on, and workspaces keep running."""
        self._daemon.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: Callable[[Pyro], T]) -> T:
        return await in_a_thread(self._daemon, lambda daemon: method(Pyro._over(daemon)))
