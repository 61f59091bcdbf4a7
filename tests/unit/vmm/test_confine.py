"""What a confined program can see and do, found out by confined programs; runs without root as with it."""

import os
import resource
import socket
import stat
from pathlib import Path

import pytest

from pyro_mcp.process import run
from pyro_mcp.vmm import confine, user_ids
from pyro_mcp.vmm.confine import FOLDER, INPUTS, Sandbox, confined, limits, why_unconfinable
from pyro_mcp.vmm.kvm_device import KvmAccess
from pyro_mcp.vmm.own_folder import hand_over


async def _says(script: str, sandbox: Sandbox | None = None) -> list[str]:
    ended = await run(confined(["/bin/sh", "-c", script], sandbox or Sandbox()))
    assert ended.exit_code == 0, ended.stderr.decode()
    return ended.stdout.decode().splitlines()


async def test_it_can_be_done_here() -> None:
    assert await why_unconfinable() is None


async def test_where_bubblewrap_is_missing_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "not installed" in (await why_unconfinable() or "")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'bwrap: No permissions to create new namespace' >&2; exit 1", "No permissions"),
        ("exit 3", "ended with 3"),
    ],
)
async def test_where_it_cannot_be_done_it_is_said_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    stand_in = tmp_path / confine.BWRAP
    stand_in.write_text(f"#!/bin/sh\n{script}\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert why in (await why_unconfinable() or "")


async def test_only_the_files_given_can_be_seen_and_none_written(tmp_path: Path) -> None:
    given, hidden = tmp_path / "given", tmp_path / "hidden"
    given.write_text("content")
    hidden.write_text("secret")
    given.chmod(0o444)
    inside = INPUTS / "given"
    script = (
        f"cat {inside}; echo; test -e {hidden} -o -e {given} || echo hidden; "
        f"(chmod 666 {inside}; echo x >{inside}) 2>/dev/null || echo read-only; "
        "for place in /usr/x /x /inputs/x /proc/sys/kernel/core_pattern; do "
        "(echo x >$place) 2>/dev/null || echo $place is closed; done; "
        "ls /root /home /etc /var /tmp 2>/dev/null; true"
    )
    closed = ["/usr/x", "/x", "/inputs/x", "/proc/sys/kernel/core_pattern"]
    said = await _says(script, Sandbox({inside: given}))
    assert said == ["content", "hidden", "read-only", *(f"{place} is closed" for place in closed)]
    assert given.read_text() == "content"


async def test_no_switch_of_the_kernel_can_be_opened_for_writing() -> None:
    # The one that anybody may write belongs to the namespace of its reader.
    assert await _says("find /proc/sys -type f -writable 2>/dev/null | head") == ["/proc/sys/kernel/ns_last_pid"]


async def test_it_is_nobody_where_root_starts_it() -> None:
    assert await _says("id -u") == ["65534" if os.geteuid() == 0 else str(os.getuid())]


def _its_user(*paths: Path) -> int | None:
    """A user for a VMM, to whom these belong from now on; without root it is ourselves (None)."""
    user = user_ids.for_vmm()
    if user is not None:
        for path in paths:
            hand_over(user, path)
    return user


async def test_it_is_the_user_that_it_is_given_and_in_no_group() -> None:
    user = user_ids.for_vmm()
    said = await _says("id -u; id -g; id -G", Sandbox(user=user))
    if user is None:
        assert said[:2] == [str(os.getuid()), str(os.getgid())]
    else:
        assert said == [str(user)] * 3


async def test_its_folder_is_where_it_works_and_all_that_it_can_write(tmp_path: Path) -> None:
    folder, beside = tmp_path / "folder", tmp_path / "beside"
    folder.mkdir(mode=0o700)
    beside.touch(mode=0o666)
    (folder / "old").write_text("from before")
    script = (
        f"pwd; cat old; echo new >new; echo; test -e ../beside -o -e {beside} || echo hidden; "
        "for place in /x /vm2 /usr/x /inputs/x /proc/sys/kernel/core_pattern; do "
        "(echo x >$place) 2>/dev/null || echo $place is closed; done"
    )
    said = await _says(script, Sandbox(folder=folder, user=_its_user(folder)))
    closed = ["/x", "/vm2", "/usr/x", "/inputs/x", "/proc/sys/kernel/core_pattern"]
    assert said == [str(FOLDER), "from before", "hidden", *(f"{place} is closed" for place in closed)]
    assert (folder / "new").read_text() == "new\n"
    assert beside.read_text() == ""


async def test_a_folder_of_another_vmm_cannot_be_entered(tmp_path: Path) -> None:
    """Should one ever be shown to it."""
    folder, others = tmp_path / "folder", tmp_path / "others"
    folder.mkdir(mode=0o700)
    others.mkdir(mode=0o700)
    (others / "sock").touch()
    user, _ = _its_user(folder), _its_user(others)
    if user is None:
        pytest.skip("whoever is not root has one user for all of them")
    said = await _says("ls /inputs/others 2>&1 || true", Sandbox({INPUTS / "others": others}, folder, user=user))
    assert "Permission denied" in said[0]


async def test_the_device_is_there_only_where_it_is_wanted(tmp_path: Path) -> None:
    """Stood for by /dev/null, which everybody may use."""
    assert await _says("test -e /dev/kvm || echo none") == ["none"]
    sandbox = Sandbox(kvm=KvmAccess(Path("/dev/null"), Path("/dev/kvm")))
    assert await _says("stat -c '%t %T' /dev/kvm; echo x >/dev/kvm && echo written", sandbox) == ["1 3", "written"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes nodes and gives them away")
async def test_a_node_of_the_vmms_own_can_be_used_and_belongs_to_nobody_else(tmp_path: Path) -> None:
    folder, user, other = tmp_path / "folder", user_ids.unused(), user_ids.unused()
    folder.mkdir(mode=0o700)
    os.mknod(folder / "kvm", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    hand_over(user, folder)
    access = KvmAccess(folder / "kvm", Path("/dev/kvm"))
    script = "(echo x >/dev/kvm) 2>/dev/null && echo written || echo refused"
    assert await _says(script, Sandbox(folder=folder, kvm=access, user=user)) == ["written"]
    assert await _says(script, Sandbox(kvm=access, user=other)) == ["refused"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives groups away")
async def test_a_device_for_a_group_is_used_as_one_of_that_group(tmp_path: Path) -> None:
    device, group, user = tmp_path / "kvm", 1_900_000_003, user_ids.unused()
    device.touch()
    os.chown(device, 0, group)
    device.chmod(0o660)
    script = "id -G; (echo x >/dev/kvm) 2>/dev/null && echo written || echo refused"
    with_group = Sandbox(kvm=KvmAccess(device, Path("/dev/kvm"), group), user=user)
    assert await _says(script, with_group) == [f"{user} {group}", "written"]
    without = Sandbox(kvm=KvmAccess(device, Path("/dev/kvm")), user=user)
    assert await _says(script, without) == [str(user), "refused"]


def test_limits_are_little_more_than_the_guest_needs() -> None:
    given = limits(mem_mib=512, file_bytes=1 << 31)
    assert given[resource.RLIMIT_CORE] == 0
    assert given[resource.RLIMIT_FSIZE] == 1 << 31
    assert 512 << 20 < given[resource.RLIMIT_AS] <= (512 << 20) + (4 << 30)


async def test_there_is_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        connect = ["/bin/bash", "-c", f": </dev/tcp/127.0.0.1/{port}"]
        assert (await run(connect)).exit_code == 0
        assert (await run(confined(connect, Sandbox()))).exit_code != 0
    assert await _says("ls /sys/class/net 2>/dev/null; grep -c : /proc/net/dev") == ["1"]  # the loopback alone


async def test_there_is_no_other_process_and_no_capability() -> None:
    processes = await _says("ls /proc | grep -c '^[0-9]'")
    assert int(processes[0]) <= 4
    status = await _says("grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs)' /proc/self/status")
    assert [line.split()[1].strip("0") for line in status] == ["", "", "", "1"]


async def test_nor_is_there_any_for_one_with_a_folder_and_a_device(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    sandbox = Sandbox(
        folder=tmp_path / "folder",
        kvm=KvmAccess(Path("/dev/null"), Path("/dev/kvm"), os.getgid() or 1_900_000_003),
        user=_its_user(tmp_path / "folder"),
    )
    status = await _says("grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs)' /proc/self/status", sandbox)
    assert [line.split()[1].strip("0") for line in status] == ["", "", "", "", "", "1"]


async def test_nothing_of_the_environment_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "do not tell")
    assert not [line for line in await _says("env") if not line.startswith(("PWD=", "SHLVL=", "_="))]


async def test_descriptors_are_passed_on() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"through")
    os.close(writer)
    ended = await run(confined(["/bin/bash", "-c", f"cat <&{reader}"], Sandbox()), pass_fds=[reader])
    os.close(reader)
    assert ended.stdout == b"through"
