"""A host whose apt and mmdebstrap know one kernel package, made here, and no network."""

import os
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from . import fakes

RELEASE = "6.1.0-9-fake"
ROW = "Debian\tbookworm\tmain\thttp://mirror.invalid/debian/"


class FakeHost:
    """Programs in a folder at the head of PATH; `fetches` counts what was asked of the mirror."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._calls = folder / "calls"
        self.package = folder / "package.tar"
        folder.mkdir()
        self.program("apt-get", f"printf '{ROW}\\n'")
        self.program("apt-config", 'printf \'Acquire::Check-Date "false";\\nAcquire::Languages "none";\\n\'')
        self.mirror_works()
        self.offer(package())
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def program(self, name: str, script: str) -> None:
        path = self._folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def offer(self, content: bytes) -> None:
        """Have the mirror hand out this package from now on."""
        self.package.write_bytes(content)

    def mirror_works(self) -> None:
        copy = f'for word; do case $word in *.tar) cp "{self.package}" "$word" ;; esac; done'
        self.program("mmdebstrap", f'echo "$*" >> "{self._calls}"; {copy}')

    def mirror_fails(self) -> None:
        self.program("mmdebstrap", "echo 'E: Unable to fetch some archives' >&2; echo 'I: cleaning up' >&2; exit 25")

    @property
    def fetches(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


def package(*, release: str = RELEASE, extra: dict[str, bytes] | None = None, without: str = "") -> bytes:
    """A kernel package as mmdebstrap unpacks it, with what is not wanted around it."""
    vmlinux = fakes.pvh_kernel(b"kernel " * 1000)
    tree = {
        f"./boot/vmlinuz-{RELEASE}": fakes.bzimage(fakes.lz4_legacy(vmlinux), len(vmlinux)),
        f"./lib/modules/{release}/modules.dep": b"kernel/b.ko: kernel/a.ko\nkernel/a.ko:\nkernel/c.ko:\n",
        f"./lib/modules/{release}/kernel/a.ko": b"module a",
        f"./lib/modules/{release}/kernel/b.ko": b"module b",
        f"./lib/modules/{release}/kernel/c.ko": b"module c",
        f"./usr/share/doc/linux-image-{RELEASE}/copyright": b"Copyright: its authors\n",
        "./usr/share/common-licenses/GPL-2": b"text of GPL-2\n",
        "./usr/share/common-licenses/Artistic": b"not asked for\n",
        "./etc/apt/sources.list": b"deb http://mirror.invalid/debian bookworm main\n",
        **(extra or {}),
    }
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in tree.items():
            if name != without:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                member.mode = 0o600
                archive.addfile(member, BytesIO(content))
        link = tarfile.TarInfo(f"./lib/modules/{release}/build")
        link.type, link.linkname = tarfile.SYMTYPE, "/usr/src/headers"
        archive.addfile(link)
    return out.getvalue()
