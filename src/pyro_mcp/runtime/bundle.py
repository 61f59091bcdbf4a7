"""Finding the runtime bundle and checking that it is what its manifest says."""

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_mcp import digests
from pyro_mcp.errors import HostUnfit
from pyro_mcp.runtime import manifest
from pyro_mcp.runtime.manifest import Component, Manifest

if TYPE_CHECKING:
    from pyro_mcp.config import Settings

_PACKAGE = Path(__file__).resolve().parent.parent
_REINSTALL = "reinstall it: pip install --force-reinstall pyro-mcp"


@dataclass(frozen=True)
class RuntimeBundle:
    """A bundle in `folder`. `digest` is the SHA-256 of its manifest, and so names all of its content.

    `memory` is a folder of ours where `verify` remembers which files were found intact.
    """

    folder: Path
    digest: str
    manifest: Manifest
    memory: Path
    mending: str

    @property
    def kernel(self) -> Path:
        """An uncompressed ELF kernel that starts through PVH (QEMU) and through the 64-bit entry (Firecracker)."""
        return self.folder / manifest.KERNEL

    @property
    def initramfs(self) -> Path:
        """An uncompressed cpio archive with the agent as /init."""
        return self.folder / manifest.INITRAMFS

    @property
    def modules(self) -> Path:
        """A squashfs of what belongs in the guest's /lib/modules."""
        return self.folder / manifest.MODULES

    @property
    def firecracker(self) -> Path:
        return self.folder / manifest.FIRECRACKER

    @property
    def jailer(self) -> Path:
        return self.folder / manifest.JAILER

    @property
    def components(self) -> tuple[Component, ...]:
        return self.manifest.components

    def verify(self) -> None:
        """Check every file's SHA-256; files that were not written since they were last found intact are not read.

        Raises `HostUnfit` (`corrupt_runtime_bundle`) that names the first file that is missing or differs.
        """
        # Without the folder nothing is remembered, which costs time and nothing else.
        with contextlib.suppress(OSError):
            self.memory.mkdir(parents=True, exist_ok=True)
        for file in self.manifest.files:
            try:
                intact = digests.matches(self.folder / file.path, file.sha256, self._memory_of(file.path))
            except OSError as error:
                raise self._corrupt(file.path, f"cannot be read: {error.strerror}") from None
            if not intact:
                raise self._corrupt(file.path, "is not what the manifest says")

    def _memory_of(self, path: str) -> Path:
        return self.memory / f"{path.replace('/', '-')}.json"

    def _corrupt(self, path: str, what: str) -> HostUnfit:
        message = f"{path} in the runtime bundle {self.folder} {what}"
        return HostUnfit("corrupt_runtime_bundle", message, self.mending)


def find_bundle(settings: "Settings") -> RuntimeBundle:
    """The bundle to use: the one that the settings name, else the wheel's own, else the one built in this checkout.

    Raises `HostUnfit`: `no_runtime_bundle` where there is none, `bad_runtime_bundle` where its manifest is unusable.
    """
    checkout = checkout_of(_PACKAGE)
    mending = _REINSTALL if checkout is None else f"build it: make -C {checkout} runtime"
    if settings.runtime_bundle_dir is not None:
        mending = "PYRO_RUNTIME_BUNDLE_DIR names this folder: point it to a whole bundle, or unset it"
        candidates = [settings.runtime_bundle_dir]
    else:
        candidates = [_PACKAGE / "runtime_bundle" / manifest.PLATFORM]
        if checkout is not None:
            candidates.append(checkout / "build" / "runtime_bundle" / manifest.PLATFORM)
    for folder in candidates:
        text = _manifest_text(folder)
        if text is not None:
            return _bundle(folder, text, settings.cache_dir / "runtime", mending)
    raise HostUnfit("no_runtime_bundle", f"there is no runtime bundle in {candidates[-1]}", mending)


def open_bundle(folder: Path, memory: Path) -> RuntimeBundle:
    """The bundle in exactly this folder; raises as `find_bundle` does."""
    text = _manifest_text(folder)
    if text is None:
        raise HostUnfit("no_runtime_bundle", f"there is no runtime bundle in {folder}")
    return _bundle(folder, text, memory, "build it again: make runtime")


def checkout_of(package: Path) -> Path | None:
    """The source checkout that this package runs from, if it does."""
    root = package.parent.parent
    return root if package.parent.name == "src" and (root / "runtime_sources").is_dir() else None


def _manifest_text(folder: Path) -> bytes | None:
    try:
        return (folder / manifest.NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        message = f"the runtime bundle in {folder} cannot be read: {error.strerror}"
        raise HostUnfit("bad_runtime_bundle", message, "make the folder readable for you") from None


def _bundle(folder: Path, text: bytes, memory: Path, mending: str) -> RuntimeBundle:
    try:
        parsed = manifest.parse(text)
    except HostUnfit as error:
        raise HostUnfit(error.code, f"{error.message} (in {folder})", mending) from None
    return RuntimeBundle(folder, hashlib.sha256(text).hexdigest(), parsed, memory, mending)
