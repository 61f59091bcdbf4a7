"""Disposable Linux workspaces in microVMs for chat coding agents.

The names below are the public interface for programs; `pyro` and the MCP server stand on the same calls. What they
return is in `pyro_mcp.sdk`, what they raise in `pyro_mcp.errors`.
"""

from pyro_mcp.version import __version__

TYPE_CHECKING = False  # type checkers know the name; `typing` takes half of the time until `pyro` can take a Ctrl-C
if TYPE_CHECKING:
    from pyro_mcp.errors import PyroError as PyroError
    from pyro_mcp.sdk import Pyro as Pyro
    from pyro_mcp.sdk.asynchronous import AsyncPyro as AsyncPyro

__all__ = ["AsyncPyro", "Pyro", "PyroError", "__version__"]

_HOMES = {"AsyncPyro": "pyro_mcp.sdk.asynchronous", "Pyro": "pyro_mcp.sdk", "PyroError": "pyro_mcp.errors"}


def __getattr__(name: str) -> object:
    """Load a public name at its first use, so that `pyro --version` imports next to nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  (late on purpose: see above)

    return getattr(import_module(_HOMES[name]), name)
