"""A runtime bundle that is whole, but with nothing in it that could run."""

import hashlib
from pathlib import Path

from pyro_mcp.runtime import manifest
from pyro_mcp.runtime.manifest import BundledFile, Component


def make_bundle(folder: Path) -> Path:
    for path in manifest.PATHS:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode())
    files = tuple(BundledFile(path, hashlib.sha256(path.encode()).hexdigest(), len(path)) for path in manifest.PATHS)
    components = (Component("linux", "6.1-test", "a test", "GPL-2.0-only"),)
    (folder / manifest.NAME).write_bytes(manifest.render(components, files))
    return folder
