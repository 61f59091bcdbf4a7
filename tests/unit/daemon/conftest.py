"""The API of a daemon whose machines are none."""

import asyncio
from unittest.mock import AsyncMock

import pytest
from starlette.types import ASGIApp

from pyro_mcp.config import Settings
from pyro_mcp.daemon.activity import Activity
from pyro_mcp.daemon.app import Daemon, create_app
from pyro_mcp.images.store import Store
from pyro_mcp.workspace.engine import Workspaces


@pytest.fixture
async def daemon(settings: Settings) -> Daemon:
    stopped = asyncio.Event()
    images = Store(settings.cache_dir)
    find_host = AsyncMock(return_value=None)
    workspaces = Workspaces(settings.home, images, AsyncMock())
    return Daemon(settings, Activity(stopped.set), stopped.set, images, find_host, workspaces=workspaces)


@pytest.fixture
def app(daemon: Daemon) -> ASGIApp:
    return create_app(daemon)
