"""A real project for tests to work on: the released sources of a Python package, as the package index has them."""

import subprocess
import sys
from pathlib import Path

from pyro_mcp.runtime.tool import run_tool

PROJECT = "markdown==3.7"
# Where they lie in a checkout that has no network; scripts/check-kvm puts them there.
HANDED_IN = Path("build/project")


async def download(folder: Path) -> None:
    """Put the archive into that folder."""
    await run_tool(
        *(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"),
        *("--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", str(folder), PROJECT),
        package="python3-pip",
        hint="check the network and pip's index",
    )


def unpack(archive_folder: Path, folder: Path) -> Path:
    """The project's own folder, below `folder`, from the only archive in `archive_folder`."""
    (archive,) = archive_folder.glob("*.tar.gz")
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(folder)], check=True)
    (project,) = (path for path in folder.iterdir() if path.is_dir())
    return project
