"""Which VMM runs a guest on this very host, and what its user is told of that."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.own_cache import copied_cache
from tests.vm.pyro_command import PyroCommand

_NOTICE = re.compile(r"^\[run\] .*: guests run under QEMU's emulation", re.MULTILINE)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[PyroCommand]:
    """`pyro` on a host of which nobody has found out anything yet."""
    cache = copied_cache(tmp_path)
    (cache / "kvm.json").unlink(missing_ok=True)
    command = PyroCommand(tmp_path / "home", {"PYRO_CACHE_DIR": str(cache)})
    yield command
    command.client.stop()


def test_a_host_whose_kvm_runs_no_guest_is_told_apart_once(fresh: PyroCommand) -> None:
    first, second = (fresh("run", "debian:12", "--", "echo", "fine") for _ in range(2))
    assert (first.stdout, second.stdout) == (b"fine\n", b"fine\n"), first.stderr
    falls_back = "vmm=qemu" in first.stderr
    assert len(_NOTICE.findall(first.stderr)) == falls_back, first.stderr
    assert not _NOTICE.search(second.stderr)
    fresh.client.stop()  # the next daemon need not find out again
    third = fresh("run", "debian:12", "--json", "--", "true")
    assert json.loads(third.stdout)["vmm"] == ("qemu" if falls_back else "firecracker")
    proved = (Path(fresh.extra["PYRO_CACHE_DIR"]) / "kvm.json").exists()
    assert not (proved and _NOTICE.search(third.stderr))
