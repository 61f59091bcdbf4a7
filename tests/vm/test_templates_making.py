"""A template is made once and whole, whoever else wants one or dies meanwhile; where that cannot be, machines boot."""

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyro_mcp import Pyro
from pyro_mcp.doctor import templates as doctor
from pyro_mcp.doctor.report import Status
from tests.support.waiting import wait_until
from tests.vm.copies import MEM_MIB, RUN, says
from tests.vm.own_cache import templates_in, trouble_with_templates
from tests.vm.pyro_command import VMM, PyroCommand, descendants, kill, named

_AT_ONCE = 16


def test_machines_boot_where_no_template_can_be_kept(harming: PyroCommand, template: Path) -> None:
    shutil.rmtree(template.parent)
    (template.parent / "lock").mkdir(parents=True)  # where a file should be
    for _ in range(2):
        assert says(harming, "echo fine") == ["fine"]
    assert len(trouble_with_templates(harming.home)) == 1
    row = asyncio.run(doctor.examine(harming.client.settings))
    assert row.status is Status.WARN
    assert "no template could be made" in row.found


def test_a_daemon_that_is_killed_while_it_makes_a_template_leaves_none(harming: PyroCommand, template: Path) -> None:
    shutil.rmtree(template)
    others = templates_in(template.parent)
    daemon = harming.daemon_pid()
    with harming.start(*RUN, "true") as process:
        wait_until(lambda: templates_in(template.parent) > others and named(descendants(daemon), VMM))
        below = descendants(daemon)
        kill(daemon)
        process.communicate()
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in below))
    assert not template.exists()
    assert says(harming, "echo fine") == ["fine"]
    assert set(template.parent.iterdir()) == {template.parent / "lock", template, *others}
    assert list((harming.home / "vmms").glob("*")) == []
    assert trouble_with_templates(harming.home) == []


def test_many_machines_at_once_make_one_template_and_begin_from_it(
    harming: PyroCommand, template: Path, tmp_path: Path
) -> None:
    shutil.rmtree(template)
    others = templates_in(template.parent)
    pair = (harming, PyroCommand(tmp_path / "another", harming.extra))
    for each in pair:
        each.daemon_pid()

    def boot_id(number: int) -> bytes:
        sdk = Pyro(pair[number % 2].client.settings)
        return sdk.run_in_vm("debian:12", ["cat", "/proc/sys/kernel/random/boot_id"], mem_mib=MEM_MIB).stdout

    try:
        for _ in range(2):
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                assert len(set(pool.map(boot_id, range(_AT_ONCE)))) == _AT_ONCE
            assert templates_in(template.parent) == {template, *others}
    finally:
        pair[1].client.stop()
    assert [trouble_with_templates(each.home) for each in pair] == [[], []]  # to make a second one would have failed
