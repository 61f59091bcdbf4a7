"""What a VMM that its guest has taken over can see and do: a shell in its place, in the very same sandbox."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pyro_mcp.runtime.bundle import RuntimeBundle
from pyro_mcp.vmm import channel, user_ids, vmm_process
from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.template import Template
from tests.kvmhost.machines import ROOT_AND_USER, machine

_SHELL = ("/bin/sh", "-c")


async def shell_says(
    bundle: RuntimeBundle, folder: Path, script: str, *, template: Template | None = None
) -> list[str]:
    """What a shell prints that runs in the place of Firecracker, of one that is to restore that template if given."""
    os.mkdir(folder, mode=0o700)
    driver = FirecrackerDriver(bundle.firecracker, folder.parent)
    async with machine(bundle) as plain:
        spec = replace(plain, template=template)
        with driver._starting(spec, folder, "--no-api") as program:
            async with vmm_process.running(replace(program, argv=(*_SHELL, f"{script}\necho end"))) as (process, said):
                async with asyncio.timeout(60):
                    await process.wait()
                    await said.closed.wait()
    lines = said.data.decode().splitlines()
    assert lines[-1:] == ["end"], lines
    return lines[:-1]


def group_of(pid: int) -> Path:
    return Path("/sys/fs/cgroup") / Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")


def limit(group: Path, name: str) -> int:
    return int((group / name).read_text())


@ROOT_AND_USER
async def test_no_file_of_the_host_but_its_own(bundle: RuntimeBundle, tmp_path: Path, who: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    said = await shell_says(
        bundle,
        tmp_path / "own",
        f"test -e {secret} && echo found; ls -A /root /home /etc /var /tmp {tmp_path} 2>/dev/null;"
        "for place in /usr/x /x /inputs/x /etc/x; do (echo x >$place) 2>/dev/null && echo wrote $place; done;"
        "echo x >written && cat written",
    )
    assert said == ["x"]


@ROOT_AND_USER
async def test_a_template_can_be_read_and_not_written(bundle: RuntimeBundle, tmp_path: Path, who: str) -> None:
    template = Template(tmp_path / "template")
    template.folder.mkdir()
    files = (template.memory, template.state)
    for file in files:
        file.write_text(f"{file.name}\n")
        file.chmod(0o444)
    said = await shell_says(
        bundle,
        tmp_path / "own",
        "cd /inputs; cat snapshot.memory snapshot.state; chmod u+w snapshot.* 2>/dev/null && echo changed;"
        "for file in snapshot.*; do (echo x 1<>$file) 2>/dev/null && echo wrote $file; done;"
        "readlink /proc/self/fd/* | grep template;"
        "mount -o remount,rw,bind snapshot.memory 2>/dev/null && echo mounted; rm -f snapshot.* 2>/dev/null && ls",
        template=template,
    )
    assert said == ["memory", "state"]
    assert [file.read_text() for file in files] == ["memory\n", "state\n"]


@ROOT_AND_USER
async def test_no_other_machines_folder_or_socket(bundle: RuntimeBundle, tmp_path: Path, who: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with channel.listening(other / "v.sock"):
        said = await shell_says(
            bundle, tmp_path / "own", f"ls -A /vm; ls {other} /vm/../other 2>/dev/null; cat /proc/net/unix"
        )
    assert "v.sock" not in " ".join(said)
    assert {"disk", "v.sock_5001"} >= {name for name in said if name in ("disk", "v.sock_5001", "other")}


@ROOT_AND_USER
async def test_no_process_and_no_network_of_the_host(bundle: RuntimeBundle, tmp_path: Path, who: str) -> None:
    said = await shell_says(
        bundle,
        tmp_path / "own",
        "ls /proc | grep -c '^[0-9]'; grep -c : /proc/net/dev; kill -0 4321 2>/dev/null && echo killable",
    )
    assert int(said[0]) <= 5
    assert said[1:] == ["1"]  # the loopback alone


@ROOT_AND_USER
async def test_no_privilege(bundle: RuntimeBundle, tmp_path: Path, who: str) -> None:
    said = await shell_says(bundle, tmp_path / "own", "id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status")
    user = int(said[0])
    assert user_ids.is_ours(user) if who == "root" else user == os.getuid()
    words = [line.split() for line in said[1:]]
    assert [word[1].strip("0") for word in words] == ["", "", "1"]


@pytest.mark.kvmhost_root
async def test_two_machines_of_root_are_not_the_same_user(bundle: RuntimeBundle, tmp_path: Path) -> None:
    users = [(await shell_says(bundle, tmp_path / name, "id -u"))[0] for name in ("one", "two")]
    assert users[0] != users[1]


@ROOT_AND_USER
async def test_its_memory_and_its_threads_are_bounded(bundle: RuntimeBundle, tmp_path: Path, who: str) -> None:
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    driver = FirecrackerDriver(bundle.firecracker, tmp_path)
    async with machine(bundle) as spec:
        with driver._booting(spec, folder, "--no-api") as program:
            async with vmm_process.running(replace(program, argv=("sleep", "60"))) as (process, _):
                group = group_of(process.pid)
                assert group.name == program.group
                assert limit(group, "memory.max") > spec.mem_mib << 20
                assert limit(group, "pids.max") == 64
    assert not group.exists()
