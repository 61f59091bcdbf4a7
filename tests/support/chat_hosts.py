"""Real chat hosts from npm, each installed once under build/ and run in a home of its own.

They are those that start a server to list it: installing takes some hundred megabytes each.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.config import Settings
from tests.support.daemons import end_daemon
from tests.support.waiting import wait_until

_INSTALLED = Path(__file__).parents[2] / "build" / "chat-hosts"
PACKAGES = {
    "claude": "@anthropic-ai/claude-code@2.1.330",
    "opencode": "opencode-ai@1.18.33",
}


def installed(name: str) -> Path:
    """The program of a chat host, which is installed if it is not there yet."""
    prefix = _INSTALLED / PACKAGES[name].rpartition("/")[2]
    program = prefix / "node_modules" / ".bin" / name
    if not program.exists():
        npm = shutil.which("npm")
        assert npm is not None, "tests with real chat hosts need npm (Debian: apt-get install npm)"
        prefix.mkdir(parents=True, exist_ok=True)
        options = ["--no-audit", "--no-fund", "--loglevel=error", "--no-save", "--prefix", str(prefix)]
        done = subprocess.run([npm, "install", *options, PACKAGES[name]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"npm could not install {PACKAGES[name]}:\n{done.stderr}"
    return program


@dataclass(frozen=True)
class ChatHost:
    """A chat host with a home and a project of its own; `pyro` is the one of this checkout."""

    name: str
    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def environment(self) -> dict[str, str]:
        programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        kept = {name: os.environ[name] for name in ("LANG", "TERM", "USER") if name in os.environ}
        return kept | {"HOME": str(self.home), "PATH": programs, "PYRO_HOME": str(self.home / "pyro"), "NO_COLOR": "1"}

    def __call__(self, *words: str) -> str:
        """Run the host's command line and return what it printed."""
        for folder in (self.home, self.project):
            folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [installed(self.name), *words],
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def end(self) -> None:
        """Wait until its servers are gone, and end the daemon that one of them may have started."""
        wait_until(lambda: not self._serving())
        # A host need not hand all of its environment on; then the daemon is where HOME says.
        for environ in (self.environment, {"HOME": str(self.home)}):
            end_daemon(Settings.from_environment(environ))

    def _serving(self) -> bool:
        """Whether a server that this host started still runs."""
        marker = f"HOME={self.home}".encode()
        return any(_serves(entry, marker) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _serves(entry: Path, marker: bytes) -> bool:
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
        return words[-3:-1] == [b"mcp", b"serve"] and marker in (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        return False  # gone meanwhile, or another user's
