"""A file in a workspace, by which tests tell what became of its disk."""

from pyro_mcp.errors import NotFound
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.files import read_file, write_file
from pyro_mcp.workspace_models import ReadFile, WriteFile


async def write(workspaces: Workspaces, workspace: str, text: str) -> None:
    async with workspaces.using(workspace) as live:
        await write_file(live.guest, WriteFile("notes", text.encode()))


async def read(workspaces: Workspaces, workspace: str) -> str | None:
    async with workspaces.using(workspace) as live:
        try:
            return (await read_file(live.guest, ReadFile("notes"))).data.decode()
        except NotFound:
            return None
