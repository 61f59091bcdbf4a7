"""What is installed, and how a VM gets hold of it.

    CACHE/environments/NAME.json             which image an environment's name stands for
    CACHE/images/sha256-DIGEST/rootfs.sqfs   the image, named after its content
                              /manifest.json what is in it
                              /verified.json the stamp with which its digest was last found right
    CACHE/staging/NAME-RANDOM/               a build under way, locked by the process that does it
    CACHE/disks/                             blank disks, see `disk`
    CACHE/uses/                              which images workspaces need, see `uses`
    CACHE/locks/                             one lock per environment's pull, one for everything short

Lock order: an environment's pull lock, then the short lock. Under the short lock, names and folders are changed by
rename only; images are read under a shared lock of their own, so pruning leaves those in use alone.
"""

import asyncio
import errno
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from pyro_mcp import digests, models
from pyro_mcp.errors import HostUnfit, InvalidRequest, NotFound, SourceFailed
from pyro_mcp.images import catalog, locks
from pyro_mcp.images.confine import remove_tree
from pyro_mcp.images.rootfs import no_disk_space
from pyro_mcp.models import EnvironmentInfo
from pyro_mcp.resource_limits import limit_hint
from pyro_mcp.to_the_end import to_the_end

IMAGE_FILE = "rootfs.sqfs"
MANIFEST_FILE = "manifest.json"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
T = TypeVar("T")


@dataclass(frozen=True)
class Store:
    """The folder that environments are kept in."""

    cache_dir: Path

    @property
    def images(self) -> Path:
        return self.cache_dir / "images"

    @property
    def environments(self) -> Path:
        return self.cache_dir / "environments"

    @property
    def staging(self) -> Path:
        return self.cache_dir / "staging"

    @property
    def locks(self) -> Path:
        return self.cache_dir / "locks"

    def image_folder(self, digest: str) -> Path:
        return self.images / f"sha256-{digest}"

    def reference_file(self, name: str) -> Path:
        return self.environments / f"{file_name(name)}.json"

    def pull_lock(self, name: str) -> Path:
        return self.locks / f"pull-{file_name(name)}.lock"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The short lock, around every change of names and folders and every look that must see them as one.

        Raises `HostUnfit` where the cache cannot be written.
        """
        with ExitStack() as held:
            try:
                held.enter_context(locks.briefly(self.locks / "store.lock"))
            except OSError as error:
                if error.errno in (*_UNWRITABLE, *_FULL):
                    raise unusable(self.locks, error) from None
                raise
            yield

    def prepare(self) -> None:
        """Make the folders. Raises `HostUnfit` when they cannot be made or written."""
        folders = (self.images, self.environments, self.staging, self.locks)
        try:
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unusable(self.cache_dir, error) from None
        for folder in folders:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise unusable(folder, _why_unwritable(folder))


@dataclass(frozen=True)
class Reference:
    """What an environment's name stands for. `build_id` is new with every pull, `requested` is the source's request."""

    name: str
    digest: str
    build_id: str
    requested: str
    installed_at: str


@dataclass(frozen=True)
class Manifest:
    """What an image is; `contents` are its packages as lines of "name version", `origin` is where they came from."""

    digest: str
    image_bytes: int
    origin: str
    contents: tuple[str, ...]


@dataclass(frozen=True)
class OpenImage:
    """An image that was found whole, locked against removal for as long as `fd`, open for reading, is.

    VMMs get it by its `path`, through a mount that is read-only for them.
    """

    environment: str
    digest: str
    fd: int
    size_bytes: int
    path: Path

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> "OpenImage":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def file_name(name: str) -> str:
    """An environment's name as part of a file's name; different names stay different."""
    return name.replace("%", "%25").replace("/", "%2f").replace(":", "%3a")


def reference(store: Store, name: str) -> Reference | None:
    """What the name stands for, or None if nothing is installed or what is written there makes no sense."""
    return read_json(store.reference_file(name), Reference)


def references(store: Store) -> tuple[Reference, ...]:
    """All names that stand for something, also those of another version's catalog."""
    found = (read_json(file, Reference) for file in sorted(store.environments.glob("*.json")))
    return tuple(each for each in found if each is not None)


def manifest(store: Store, digest: str) -> Manifest | None:
    """What an image is, or None if it is not there."""
    folder = store.image_folder(digest)
    return read_json(folder / MANIFEST_FILE, Manifest) if (folder / IMAGE_FILE).exists() else None


def list_environments(store: Store) -> tuple[EnvironmentInfo, ...]:
    """The whole catalog, with what is installed of it; without the packages inside."""
    return tuple(_info(store, environment, with_contents=False) for environment in catalog.CATALOG)


def inspect(store: Store, name: str) -> EnvironmentInfo:
    """One environment with the packages inside. Raises `NotFound` for a name that is not in the catalog."""
    return _info(store, catalog.lookup(name), with_contents=True)


async def open_verified(store: Store, name: str) -> OpenImage:
    """Open an installed environment's image, checked against its digest.

    Raises `NotFound` (`unknown_environment` or `environment_not_installed`), and `SourceFailed` (`image_corrupt`) for
    an image that is not what was installed; that one is removed, so that the next pull installs it anew. Raises
    `HostUnfit` (`cache_unwritable`) where the cache's lock cannot be taken.
    """
    environment = catalog.lookup(name)
    installed, image = await to_the_end(
        asyncio.to_thread(_open_locked, store, environment.name), lambda opened: opened[1].close()
    )
    if not await _whole_or_closed(store, image):
        await _discard(store, installed)
        raise SourceFailed(
            "image_corrupt",
            f"the installed image of {name} is damaged and was removed",
            f"install it again: pyro env pull {name}",
        )
    return image


async def open_digest(store: Store, name: str, digest: str) -> OpenImage:
    """Open the image of that digest, checked against it, whatever the environment's name stands for by now.

    Raises `NotFound` (`image_gone`) and `SourceFailed` (`image_corrupt`); a damaged one stays, and installing the very
    same image again mends it. Raises `HostUnfit` (`cache_unwritable`) where the cache's lock cannot be taken.
    """
    image = await to_the_end(asyncio.to_thread(_open_digest, store, name, digest), OpenImage.close)
    if not await _whole_or_closed(store, image):
        raise SourceFailed(
            "image_corrupt",
            f"the image of {name} that this was made from is damaged (sha256-{digest})",
            f"pyro env pull {name} mends it if the same packages can still be had",
        )
    return image


def digest_in(image: Path) -> str | None:
    """The digest that an image's path names, or None for a file that is not in a store."""
    prefix, _, digest = image.parent.name.partition("-")
    return digest if prefix == "sha256" else None


def write_json(path: Path, value: object, *, lasting: bool = True) -> None:
    """Write a dataclass as a file that is there whole or not at all, also after a power failure if it is `lasting`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w") as file:
            json.dump(models.encode(value), file, indent=1)
            file.flush()
            if lasting:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if lasting:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last through a power failure."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def disk_usage(path: Path) -> int:
    """Bytes that a file, or a folder with all in it, takes on disk; what cannot be read counts as nothing."""
    try:
        total = path.lstat().st_blocks * 512
    except OSError:
        return 0
    if path.is_dir() and not path.is_symlink():
        for folder, _, files in os.walk(path):
            names = files if folder == str(path) else [*files, "."]
            total += sum(file_usage(os.path.join(folder, file)) for file in names)
    return total


def file_usage(path: str) -> int:
    """Bytes that a file takes on disk; nothing where it cannot be looked at."""
    try:
        return os.lstat(path).st_blocks * 512
    except OSError:
        return 0


def read_json(path: Path, kind: type[T]) -> T | None:
    """What `write_json` wrote, or None if it is not there or makes no sense."""
    try:
        return models.decode(kind, json.loads(path.read_text()))
    except (OSError, ValueError, RecursionError, InvalidRequest):
        return None


def _info(store: Store, environment: catalog.Environment, *, with_contents: bool) -> EnvironmentInfo:
    about = EnvironmentInfo(environment.name, environment.description, False, environment.packages)
    installed = reference(store, environment.name)
    made = manifest(store, installed.digest) if installed else None
    if installed is None or made is None:
        return about
    details = {
        "installed": True,
        "digest": made.digest,
        "size_bytes": disk_usage(store.image_folder(made.digest)),
        "source": made.origin,
        "installed_at": installed.installed_at,
        "contents": made.contents if with_contents else (),
    }
    return EnvironmentInfo(**{**asdict(about), **details})


def _open_locked(store: Store, name: str) -> tuple[Reference, OpenImage]:
    if store.locks.is_dir():
        with store.lock():
            installed = reference(store, name)
            if installed is not None and (image := _open_image(store, name, installed.digest)) is not None:
                return installed, image
    raise NotFound("environment_not_installed", f"{name} is not installed", f"pyro env pull {name}")


def _open_digest(store: Store, name: str, digest: str) -> OpenImage:
    if store.locks.is_dir():
        with store.lock():
            if (image := _open_image(store, name, digest)) is not None:
                return image
    raise NotFound(
        "image_gone",
        f"the image of {name} that this was made from is no longer in {store.cache_dir} (sha256-{digest})",
        f"pyro env pull {name} brings it back if the same packages can still be had",
    )


def _open_image(store: Store, name: str, digest: str) -> OpenImage | None:
    path = store.image_folder(digest) / IMAGE_FILE
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    # Only prune takes the other kind of lock, under the store's lock, which we hold.
    locks.try_lock(fd, shared=True)
    return OpenImage(name, digest, fd, os.fstat(fd).st_size, path)


async def _whole_or_closed(store: Store, image: OpenImage) -> bool:
    """Whether the image is what its digest says; closed if it is not, or if this fails."""
    whole = False
    try:
        whole = await to_the_end(asyncio.to_thread(_is_whole, store, image))
    finally:
        if not whole:
            image.close()
    return whole


def _is_whole(store: Store, image: OpenImage) -> bool:
    memory = store.image_folder(image.digest) / "verified.json"
    return digests.matches(Path(f"/proc/self/fd/{image.fd}"), image.digest, memory)


async def _discard(store: Store, installed: Reference) -> None:
    """Take a damaged image out of the store, unless a new one has taken its place meanwhile."""
    store.prepare()
    aside = store.staging / f"damaged-{installed.build_id}"
    with store.lock():
        if reference(store, installed.name) != installed:
            return
        store.reference_file(installed.name).unlink()
        store.image_folder(installed.digest).rename(aside)
    await remove_tree(aside)


def unusable(folder: Path, error: OSError) -> HostUnfit:
    """The error for something in a `folder` of the cache that could not be written, which is named if it is known."""
    if error.errno in _FULL:
        return no_disk_space(f"the disk of {folder} is full")
    what, why = error.filename or folder, error.strerror or str(error)
    hint = limit_hint(error) or "make it writable for pyro, or set PYRO_CACHE_DIR to a folder that can be written"
    return HostUnfit("cache_unwritable", f"{what} cannot be written: {why}", hint)


def _why_unwritable(folder: Path) -> OSError:
    """Why access(2) says so, which Python does not tell."""
    read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
    code = errno.EROFS if read_only else errno.EACCES
    return OSError(code, os.strerror(code))
