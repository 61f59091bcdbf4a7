"""A workspace from a program: make it from a folder, work in it, see what changed, take it out.

    python examples/python_workspace.py

Needs pyro installed (in a checkout `make runtime` does it), and nothing running: the daemon starts by itself.
"""

import sys
import tempfile
from pathlib import Path

from pyro_mcp import Pyro, PyroError

PATCH = """\
--- a/greet.py
+++ b/greet.py
@@ -1 +1,2 @@
-print("hello")
+for name in ("world", "workspace"):
+    print(f"hello {name}")
"""


def main(folder: Path) -> None:
    """Make a project and work in a copy of it."""
    project = folder / "project"
    project.mkdir()
    (project / "greet.py").write_text('print("hello")\n')
    with Pyro() as pyro:
        made = pyro.create_workspace("debian:12", seed_path=project, labels={"made-by": "example"})
        print(f"{made.workspace_id} runs {made.environment}, seeded with {made.seed.files if made.seed else 0} file(s)")
        try:
            work(pyro, made.workspace_id, folder)
        finally:
            # Without this it would stay, to be found again by its id, also by the next program.
            pyro.delete_workspace(made.workspace_id)
            pyro.prune_workspaces(workspace=made.workspace_id)


def work(pyro: Pyro, workspace: str, folder: Path) -> None:
    """Run, patch, run again, compare, export."""
    before = pyro.exec_workspace(workspace, ["python3", "greet.py"])
    print(f"before: {before.stdout.decode()!r}, exit code {before.exit_code}")

    pyro.apply_workspace_patch(workspace, PATCH)
    after = pyro.exec_workspace(workspace, ["python3", "greet.py"])
    print(f"after:  {after.stdout.decode()!r}, exit code {after.exit_code}")

    # A command that may take long: wait a while, then look again, or read its output in pages.
    running = pyro.start_command(workspace, ["sh", "-c", "sleep 2; seq 3"], timeout_seconds=60, wait_seconds=0)
    ended = pyro.wait_for_command(workspace, running.info.exec_id, wait_seconds=30)
    print(f"{ended.info.exec_id} {ended.info.status}: {ended.head.decode()!r}")

    report = pyro.diff_workspace(workspace)
    print(f"{len(report.entries)} file(s) changed, +{report.insertions} -{report.deletions}")
    print(report.text.decode(), end="")

    exported = pyro.export_workspace(workspace, "greet.py", folder / "greet-changed.py")
    print(f"exported {exported.files} file(s); the project itself is as it was")


if __name__ == "__main__":
    try:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary).resolve())
    except PyroError as error:
        sys.exit(f"{error.message} [{error.code}] {error.hint or ''}")
