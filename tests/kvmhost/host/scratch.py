"""The test host's own disk: what is written there, and what differs from run to run.

checkout/        pyproject.toml, tests/, examples/, the inits of test guests, and the project that tests work on
home/, root/     homes of the tester and of root, with the environment installed that the user here has
order.json       what to run
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from pyro_mcp.config import Settings
from pyro_mcp.images import debian, pull, store
from pyro_mcp.images.store import Store
from pyro_mcp.runtime import cache
from pyro_mcp.runtime.tool import run_tool
from tests.kvmhost.host.places import BUILT, CHECKOUT
from tests.support import project

_ENVIRONMENT = "debian:12"
_BUILT = "build/cargo/x86_64-unknown-linux-gnu/release"
_TEST_INITS = (f"{_BUILT}/pyro-hostile-init", f"{_BUILT}/pyro-bench-init")
_PROJECT = BUILT / "project"
_SIZE = "12G"  # sparse
_HOMES = ("home/tester", "root")


async def scratch_disk(folder: Path, pytest_arguments: Sequence[str], tests_seconds: float) -> Path:
    """A new disk in `folder`, an ext4 file system."""
    tree = folder / "scratch"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("tests", "examples"):
        shutil.copytree(CHECKOUT / name, tree / "checkout" / name, ignore=ignore)
    shutil.copy(CHECKOUT / "pyproject.toml", tree / "checkout")
    for program in _TEST_INITS:
        (tree / "checkout" / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / program, tree / "checkout" / program)
    await cache.kept(_PROJECT, cache.key_of(project.PROJECT), project.download)
    shutil.copytree(_PROJECT, tree / "checkout" / project.HANDED_IN)
    installed = Store(Settings.from_environment().cache_dir)
    await pull.pull(installed, _ENVIRONMENT, debian.source(), lambda _: None, only_if_missing=True)
    for home in _HOMES:
        _copy_environment(installed, Store(tree / home / ".cache" / "pyro"))
    order = {"arguments": list(pytest_arguments), "seconds": tests_seconds}
    (tree / "order.json").write_text(json.dumps(order))
    disk = folder / "scratch.ext4"
    disk.unlink(missing_ok=True)
    await run_tool(
        *("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", "-O", "^has_journal", "-m", "0"),
        *("-d", str(tree), str(disk), _SIZE),
        package="e2fsprogs",
        hint="check the space on the disk",
    )
    shutil.rmtree(tree)
    return disk


def _copy_environment(source: Store, target: Store) -> None:
    reference = store.reference(source, _ENVIRONMENT)
    assert reference is not None
    target.prepare()
    shutil.copy(source.reference_file(_ENVIRONMENT), target.environments)
    folder = target.image_folder(reference.digest)
    folder.mkdir()
    for name in (store.IMAGE_FILE, store.MANIFEST_FILE):
        shutil.copy(source.image_folder(reference.digest) / name, folder)
