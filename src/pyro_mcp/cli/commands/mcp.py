"""`pyro mcp serve`: the MCP server for chat hosts."""

import argparse

EPILOG = """\
Connect a chat host (more in docs/integrations.md):
  claude mcp add pyro -- pyro mcp serve
  codex mcp add pyro -- pyro mcp serve
  pyro mcp serve --profile vm-run      # only throwaway machines
"""
PROFILES = ("vm-run", "workspace-core", "workspace-full")
_SERVE = "serve a chat host at stdin and stdout"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-command and its flags."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    serve = actions.add_parser("serve", help=_SERVE, description=_SERVE[0].upper() + _SERVE[1:] + ".", epilog=EPILOG)
    serve.add_argument(
        "--profile", choices=PROFILES, default="workspace-core", help="which tools there are (default workspace-core)"
    )
    serve.add_argument(
        "--allow-path",
        action="append",
        default=[],
        metavar="DIR",
        help="a folder that tools may copy from and to, beside the working directory and CLAUDE_PROJECT_DIR",
    )
    serve.add_argument(
        "--network-policy", choices=("off",), default="off", help="most that workspaces may reach (only off, so far)"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Serve until the chat host closes."""
    from pyro_mcp.config import Settings
    from pyro_mcp.mcp.serve import ServeOptions, serve

    Settings.from_environment()  # a bad one is told now, not at the first call
    serve(ServeOptions(arguments.profile, tuple(arguments.allow_path), arguments.network_policy))
    return 0
