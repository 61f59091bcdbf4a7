"""manifest.json: what a runtime bundle consists of, where it came from, and the SHA-256 of every file."""

import json
import re
from dataclasses import dataclass

from pyro_mcp import models
from pyro_mcp.errors import HostUnfit, InvalidRequest

SCHEMA = 1
PLATFORM = "linux-x86_64"
NAME = "manifest.json"

KERNEL = "vmlinux"
INITRAMFS = "initramfs.cpio"
MODULES = "modules.sqfs"
FIRECRACKER = "bin/firecracker"
JAILER = "bin/jailer"
NOTICE = "NOTICE"
# Every bundle has these files, and a bundle with any other is none of ours.
PATHS = (NOTICE, FIRECRACKER, JAILER, INITRAMFS, MODULES, KERNEL)

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class BundledFile:
    """One file: its path inside the bundle, its SHA-256 in hex, and its size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Component:
    """One thing that was put in: `source` says in words where to get it again, `licence` is an SPDX expression."""

    name: str
    version: str
    source: str
    licence: str


@dataclass(frozen=True)
class Manifest:
    schema: int
    platform: str
    components: tuple[Component, ...]
    files: tuple[BundledFile, ...]


def render(components: tuple[Component, ...], files: tuple[BundledFile, ...]) -> bytes:
    """The text of manifest.json; equal parts give equal bytes."""
    manifest = Manifest(
        SCHEMA,
        PLATFORM,
        tuple(sorted(components, key=lambda component: component.name)),
        tuple(sorted(files, key=lambda file: file.path)),
    )
    return json.dumps(models.encode(manifest), indent=2, sort_keys=True).encode() + b"\n"


def parse(text: bytes) -> Manifest:
    """Read manifest.json, or raise `HostUnfit` (`bad_runtime_bundle`) that says what is wrong with it."""
    try:
        data = json.loads(text)
        # A later schema may have any other field, so its number is looked at before anything else.
        if isinstance(data, dict) and data.get("schema") != SCHEMA:
            raise _bad(f"has schema {data.get('schema')!r}, and this pyro reads schema {SCHEMA}")
        manifest = models.decode(Manifest, data)
    except ValueError as error:
        raise _bad(f"is no JSON: {error}") from None
    except InvalidRequest as error:
        raise _bad(f"is malformed: {error.message}") from None
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    if manifest.platform != PLATFORM:
        raise _bad(f"is for the platform {manifest.platform!r}, not {PLATFORM}")
    paths = sorted(file.path for file in manifest.files)
    if paths != sorted(PATHS):
        odd = sorted(set(paths) ^ set(PATHS)) or paths
        raise _bad(f"must list each of {', '.join(sorted(PATHS))} once; look at {odd[0]!r}")
    for file in manifest.files:
        if not _SHA256.fullmatch(file.sha256) or file.size < 0:
            raise _bad(f"has no usable digest or size for {file.path}")


def _bad(what: str) -> HostUnfit:
    return HostUnfit("bad_runtime_bundle", f"the runtime bundle's {NAME} {what}")
