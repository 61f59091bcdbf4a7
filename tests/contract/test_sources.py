"""Rules that every source file keeps: who may start processes, and what may not be written down."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyro_mcp

PACKAGE = Path(pyro_mcp.__file__).parent
ROOT = PACKAGE.parents[1]
MODULES = sorted(PACKAGE.rglob("*.py"))
# The one place that starts processes, and the one fork that takes the daemon out of its caller's process tree.
STARTS_PROCESSES = {"process.py"}
FORKS = {"daemon/launch.py"}

_STARTING_MODULES = {"subprocess", "multiprocessing", "pty", "concurrent.futures.process", "asyncio.subprocess"}
_STARTING_CALLS = {
    ("os", "system"),
    ("os", "popen"),
    ("os", "fork"),
    ("os", "forkpty"),
    ("os", "posix_spawn"),
    ("os", "posix_spawnp"),
    ("asyncio", "create_subprocess_exec"),
    ("asyncio", "create_subprocess_shell"),
}


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _starts(tree: ast.Module) -> Iterator[str]:
    """Whatever in a module could start a process."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names if alias.name in _STARTING_MODULES)
        elif isinstance(node, ast.ImportFrom):
            if node.module in _STARTING_MODULES:
                yield f"from {node.module}"
            yield from (
                f"from {node.module} import {alias.name}"
                for alias in node.names
                if (node.module, alias.name) in _STARTING_CALLS or f"{node.module}.{alias.name}" in _STARTING_MODULES
            )
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            call = (node.value.id, node.attr)
            if call in _STARTING_CALLS or (call[0] == "os" and call[1].startswith(("exec", "spawn"))):
                yield ".".join(call)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_processes_are_started_in_one_place(path: Path) -> None:
    found = set(_starts(ast.parse(path.read_text())))
    if _name(path) in FORKS:
        found.discard("os.fork")
    # A constant such as DEVNULL starts nothing, but needs the module.
    if found == {"import subprocess"} and _uses_only_constants(path):
        found.clear()
    assert not found or _name(path) in STARTS_PROCESSES


def _uses_only_constants(path: Path) -> bool:
    used = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "subprocess"
    }
    return used <= {"DEVNULL", "PIPE", "STDOUT"}


def test_the_rule_sees_what_it_forbids() -> None:
    for line in (
        "import subprocess",
        "from subprocess import run",
        "from asyncio import create_subprocess_exec",
        "import os\nos.execv('x', [])",
        "import os\nos.fork()",
        "import asyncio\nasyncio.create_subprocess_shell('x')",
        "from concurrent.futures import process",
    ):
        assert list(_starts(ast.parse(line))), line


def _committed() -> list[Path]:
    """Every text file that is or would be committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def _host_names_of_mirrors() -> set[str]:
    """The mirrors and registries that this machine is configured with; none of them may be written down."""
    names = set()
    configured = [*Path("/etc/apt").rglob("*.list"), *Path("/etc/apt").rglob("*.sources")]
    configured += [Path.home() / ".config/pip/pip.conf", Path("/etc/pip.conf"), Path.home() / ".cargo/config.toml"]
    for file in configured:
        if file.is_file():
            for word in file.read_text().replace('"', " ").split():
                if "://" in word:
                    names.add(word.partition("://")[2].split("/")[0].rpartition("@")[2].split(":")[0])
    return {name for name in names if "." in name} - {"localhost"}


def test_no_file_names_this_checkout_or_this_machines_mirrors() -> None:
    words = "|".join(re.escape(word) for word in (str(ROOT), *sorted(_host_names_of_mirrors())))
    forbidden = re.compile(rf"(?<![\w.-])({words})(?![\w-])")
    guilty = [
        f"{file.relative_to(ROOT)}: {found.group()}"
        for file in _committed()
        if (found := forbidden.search(file.read_bytes().decode(errors="replace")))
    ]
    assert guilty == []


def test_no_binary_is_committed() -> None:
    binaries = [str(file.relative_to(ROOT)) for file in _committed() if b"\0" in file.read_bytes()[:8192]]
    assert binaries == []


def test_the_requirement_lock_has_hashes_and_no_addresses() -> None:
    lock = (ROOT / "requirements" / "dev.txt").read_text()
    assert "--hash=sha256:" in lock
    for line in lock.splitlines():
        assert "://" not in line, line
        assert not line.startswith(("--index", "-i ", "--extra", "--find", "--trusted"))
