"""The server as the official SDK runs it: lists our tools, calls them, and tells what went wrong."""

import difflib
import json
from typing import Any

from mcp.server import CacheHint, Server, ServerRequestContext
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp_types import Tool as ListedTool

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.mcp.backend import Backend
from pyro_mcp.mcp.call import Call, Limits, Send
from pyro_mcp.mcp.failure import failure_text
from pyro_mcp.mcp.profiles import instructions_of, tools_of
from pyro_mcp.mcp.schema import input_schema, output_schema, parse, plain
from pyro_mcp.mcp.tools.tool import Tool
from pyro_mcp.version import __version__

_UNCHANGED = CacheHint(ttl_ms=3_600_000, scope="public")  # the lists are the same for as long as we are installed
Context = ServerRequestContext[dict[str, Any]]


def build_server(profile: str, pyro: Backend, limits: Limits) -> "Server[dict[str, Any]]":
    """The server of a profile. Raises `InvalidRequest` for an unknown one."""
    tools = _Tools({tool.name: tool for tool in tools_of(profile)}, pyro, limits)
    server: Server[dict[str, Any]] = Server(
        "pyro",
        version=__version__,
        title="pyro",
        instructions=instructions_of(profile),
        cache_hints={"tools/list": _UNCHANGED, "server/discover": _UNCHANGED},
        on_list_tools=tools.list,
        on_call_tool=tools.call,
    )
    server.middleware.clear()  # telemetry, which nobody collects
    return server


class _Tools:
    """The two requests that tools are about."""

    def __init__(self, tools: dict[str, Tool], pyro: Backend, limits: Limits) -> None:
        self._tools = tools
        self._pyro = pyro
        self._limits = limits

    async def list(self, context: Context, parameters: PaginatedRequestParams | None) -> ListToolsResult:
        """All tools, on one page."""
        return ListToolsResult(tools=[_listed(tool) for tool in self._tools.values()])

    async def call(self, context: Context, parameters: CallToolRequestParams) -> CallToolResult:
        """Call a tool. Whatever goes wrong becomes a result that a model can act on.

        Such a result has no structured content: hosts hold that against the tool's output schema, errors included.
        """
        arguments = parameters.arguments or {}
        given = json.dumps(arguments, ensure_ascii=False)
        try:
            tool = self._find(parameters.name)
            call = Call(self._pyro, self._limits, _sender(context), given, self._tools)
            reply = await tool.run(call, parse(tool.name, tool.parameters, arguments))
        except Exception as error:
            words = failure_text(error, given, self._tools)
            return CallToolResult(content=[TextContent(text=words)], is_error=True)
        return CallToolResult(content=[TextContent(text=reply.text)], structured_content=plain(reply.result))

    def _find(self, name: str) -> Tool:
        if name in self._tools:
            return self._tools[name]
        near = difflib.get_close_matches(name, self._tools, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(self._tools)}"
        raise InvalidRequest("unknown_tool", f"there is no tool {name[:60]!r}", hint)


def _sender(context: Context) -> Send | None:
    """Where progress goes, or None if the caller did not ask for any."""
    if context.meta is None or context.meta.get("progress_token") is None:
        return None
    session = context.session

    async def send(seconds: float, words: str) -> None:
        await session.report_progress(seconds, None, words)

    return send


def _listed(tool: Tool) -> ListedTool:
    hints = tool.effect.annotations()
    return ListedTool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=input_schema(tool.parameters),
        output_schema=output_schema(tool.result),
        annotations=ToolAnnotations.model_validate(hints),
    )
