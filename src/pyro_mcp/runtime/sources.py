"""What the bundle is made of: the data in runtime_sources/, read and typed."""

import json
import typing
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp import models
from pyro_mcp.errors import InternalError, InvalidRequest

T = typing.TypeVar("T")


@dataclass(frozen=True)
class KernelSource:
    """`package` of Debian's release `suite`; `boot_modules` in the order of loading, `licences` by Debian's names."""

    suite: str
    package: str
    source_package: str
    licences: tuple[str, ...]
    boot_modules: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A program inside a wheel: `member` is its path there."""

    name: str
    member: str
    sha256: str


@dataclass(frozen=True)
class FirecrackerSource:
    """The wheel that carries Firecracker's programs; `python_version` is what that wheel asks for."""

    version: str
    distribution: str
    distribution_version: str
    python_version: str
    programs: tuple[Program, ...]


def kernel_source(folder: Path) -> KernelSource:
    return _read(KernelSource, folder / "kernel.json")


def firecracker_source(folder: Path) -> FirecrackerSource:
    return _read(FirecrackerSource, folder / "firecracker.json")


def _read(kind: type[T], path: Path) -> T:
    try:
        return models.decode(kind, json.loads(path.read_bytes()))
    except (OSError, ValueError, InvalidRequest) as error:
        raise InternalError(
            "bad_runtime_sources", f"{path} is not usable: {error}", "restore it: git checkout runtime_sources"
        ) from None
