"""Who is told of progress and does not want to know."""

from pyro_mcp.models import Progress


async def nobody(_progress: Progress) -> None:
    """Nobody wants to know."""
