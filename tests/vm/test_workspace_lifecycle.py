"""The workspace engine with real guests: states, disks, and machines that outlive the engine that started them."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pyro_mcp.errors import GuestFailed
from pyro_mcp.events import Event, OutputChunk
from pyro_mcp.images.disk import FOLDERS
from pyro_mcp.models import NOTICE, Progress
from pyro_mcp.workspace import files, patch
from pyro_mcp.workspace.engine import Workspaces
from pyro_mcp.workspace.live import LiveWorkspace
from pyro_mcp.workspace_models import (
    ApplyPatch,
    CreateWorkspace,
    ExecInfo,
    ExecRequest,
    ResetWorkspace,
    RestoreWorkspace,
    WriteFile,
)
from tests.support.pace import patience
from tests.support.waiting import wait_until
from tests.vm.engine_home import SMALL, Home, nobody
from tests.vm.pyro_command import CHOSEN_VMM, PyroCommand
from tests.vm.vmms import vmms_of


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    made = Home(PyroCommand(tmp_path / "home").client.settings)
    yield made
    await made.clear()
    await asyncio.to_thread(wait_until, lambda: not vmms_of(made.path))
    assert os.listdir(made.path / "workspaces") == []


async def run_in(live: LiveWorkspace, command: str) -> tuple[ExecInfo, str]:
    chunks: list[bytes] = []

    async def emit(event: Event | OutputChunk) -> None:
        assert isinstance(event, OutputChunk)
        chunks.append(event.data)

    started = await live.runner.start(ExecRequest(("sh", "-c", command), timeout_seconds=60))
    return await started.follow(emit), b"".join(chunks).decode()


async def sh(workspaces: Workspaces, workspace: str, command: str) -> str:
    """What a command prints that ends well."""
    async with workspaces.using(workspace) as live:
        info, output = await run_in(live, command)
    assert (info.status, info.exit_code) == ("exited", 0), output
    return output


async def test_a_new_disk_has_the_folders_that_its_guest_wants(home: Home) -> None:
    async with home.daemon() as workspaces:
        w = (await workspaces.create(SMALL, nobody)).workspace_id
        await workspaces.stop(w)
        (disk,) = (home.path / "workspaces" / w).glob("disk-*")
        for folder in ("", "workspace/"):
            given = {name.removeprefix(folder) for name in FOLDERS if name.rpartition("/")[0] == folder.rstrip("/")}
            assert await asyncio.to_thread(_names_in, disk, f"/{folder}") - {"lost+found"} == given


def _names_in(disk: Path, folder: str) -> set[str]:
    """What is in a folder of an ext4 file system that nobody has mounted."""
    listed = subprocess.run(["debugfs", "-R", f"ls -p {folder}", disk], check=True, capture_output=True, text=True)
    names = {line.split("/")[5] for line in listed.stdout.split()}
    return names - {".", ".."}


async def test_from_creation_to_removal(home: Home, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.mkdir()
    (seed / "text").write_text("from the host\n")
    request = CreateWorkspace("debian:12", mem_mib=512, seed_path=str(seed), name="mine")
    async with home.daemon() as workspaces:
        made = await workspaces.create(request, nobody)
        w = made.workspace_id
        assert (made.state, made.vmm) == ("running", CHOSEN_VMM)
        assert made.seed is not None
        assert (made.seed.files, made.seed.bytes) == (1, 14)
        assert await sh(workspaces, w, "pwd; id -u; cat text") == "/workspace\n0\nfrom the host\n"

        await sh(workspaces, w, "echo changed > text; echo new > /root/outside")
        assert (await workspaces.stop("mine")).state == "stopped"
        assert len(vmms_of(home.path)) == 0
        assert (await workspaces.start("mine")).state == "running"
        assert await sh(workspaces, w, "cat text /root/outside") == "changed\nnew\n"

        assert (await workspaces.reset(w, ResetWorkspace())).recoverable == ("reset",)
        assert await sh(workspaces, w, "cat text; ls -A /root | grep outside; ls") == "from the host\ntext\n"
        await workspaces.restore(w, RestoreWorkspace())
        assert await sh(workspaces, w, "cat text") == "changed\n"

        await workspaces.delete("mine")
        assert workspaces.list(deleted=False) == ()
        await workspaces.restore(w, RestoreWorkspace())
        assert await sh(workspaces, "mine", "cat text") == "changed\n"
        assert len(vmms_of(home.path)) == 1


async def test_links_in_place_of_what_the_agent_mounts_on_are_followed(home: Home) -> None:
    # umount2(2) with MNT_DETACH; the image has no umount.
    unmount = "perl -e '$path = shift; syscall(166, $path, 2) == 0 or die $!'"
    link = f"{unmount} $1; rm -r $1; mkdir $2; ln -s $2 $1"
    links = f"set -e; link() {{ {link}; }}; link /run /srv/run; link /lib/modules /srv/modules"
    async with home.daemon() as workspaces:
        w = (await workspaces.create(SMALL, nobody)).workspace_id
        await sh(workspaces, w, f"{links}; echo kept > state")
        await workspaces.stop(w)
        await workspaces.start(w)
        mounted = await sh(workspaces, w, "cat state; readlink /run /lib/modules; stat -fc %T /run/ /lib/modules/")
        assert mounted.split() == ["kept", "/srv/run", "/srv/modules", "tmpfs", "squashfs"]


async def test_a_workspace_and_its_commands_outlive_the_daemon(home: Home) -> None:
    async with home.daemon() as first:
        w = (await first.create(SMALL, nobody)).workspace_id
        await sh(first, w, "echo before > state; sync")
        async with first.using(w) as live:
            waiting = "until [ -e go ]; do sleep 0.05; done; echo went"
            command = await live.runner.start(ExecRequest(("sh", "-c", waiting), timeout_seconds=120))
    process = home.vmm(w)
    assert len(vmms_of(home.path)) == 1
    async with home.daemon() as second:
        assert second.running == 1
        assert second.exec(w, command.exec_id).status == "running"
        assert await sh(second, w, "cat state; touch go") == "before\n"
        async with second.using(w) as live:
            result = await live.runner.wait(command.exec_id, 60)
        assert (result.info.status, result.info.exit_code, result.head) == ("exited", 0, b"went\n")
        assert home.vmm(w) == process


async def test_a_vmm_that_is_killed_costs_no_more_than_the_commands_under_way(home: Home) -> None:
    async with home.daemon() as workspaces:
        w = (await workspaces.create(SMALL, nobody)).workspace_id
        await sh(workspaces, w, "echo kept > state; sync")
        async with workspaces.using(w) as live:
            command = await live.runner.start(ExecRequest(("sleep", "1000"), timeout_seconds=1000))
        following = asyncio.create_task(command.follow(_drop))
        await asyncio.sleep(0)
        process = home.vmm(w)
        await write_without_sync(workspaces, w)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(GuestFailed):
            async with asyncio.timeout(30):
                await following
        told: list[Progress] = []

        async def tell(step: object) -> None:
            assert isinstance(step, Progress)
            told.append(step)

        # Which had no way to tell.
        assert await sh(workspaces, w, "cat state made/here/*; ls -A . made/here") == (
            "kept\npatched\nwritten\n.:\nmade\nstate\n\nmade/here:\npatched\nwritten\n"
        )
        for _ in range(2):
            async with workspaces.using(w, tell):
                pass
        assert [step.phase for step in told] == [NOTICE]
        assert "was started again, because it had ended by itself" in told[0].detail
        assert workspaces.exec(w, command.exec_id).status == "lost"


async def write_without_sync(workspaces: Workspaces, workspace: str) -> None:
    """Have the agent's tools make two files, which they answer for."""
    made = "--- /dev/null\n+++ b/made/here/patched\n@@ -0,0 +1 @@\n+patched\n"
    async with workspaces.using(workspace) as live:
        await patch.apply_patch(live.guest, ApplyPatch(made))
        await files.write_file(live.guest, WriteFile("made/here/written", b"written\n"))


async def _drop(_event: Event | OutputChunk) -> None:
    """Nobody wants to know."""


async def test_a_guest_that_switches_itself_off_is_booted_again_when_it_is_wanted(home: Home) -> None:
    async with home.daemon() as workspaces:
        w = (await workspaces.create(SMALL, nobody)).workspace_id
        await sh(workspaces, w, "echo kept > state; sync")
        async with workspaces.using(w) as live:
            switching_off = await live.runner.start(ExecRequest(("sh", "-c", "echo b > /proc/sysrq-trigger"), 60))
        with pytest.raises(GuestFailed):
            async with asyncio.timeout(30):
                await switching_off.follow(_drop)
        assert await sh(workspaces, w, "cat state") == "kept\n"
        assert len(vmms_of(home.path)) == 1


async def test_a_guest_that_halts_is_found_out_and_its_workspace_goes_on(home: Home) -> None:
    """Its VMM does not end by that, and the limit of the command is a minute."""
    async with home.daemon() as workspaces:
        w = (await workspaces.create(SMALL, nobody)).workspace_id
        await sh(workspaces, w, "echo kept > text; sync")
        halted = home.vmm(w)
        rb_halt_system = 0xCDEF0123  # of reboot(2)
        async with workspaces.using(w) as live, asyncio.timeout(patience(40)):
            with pytest.raises(GuestFailed):
                await run_in(live, f"python3 -c 'import ctypes; ctypes.CDLL(None).reboot({rb_halt_system})'")
        assert await sh(workspaces, w, "cat text") == "kept\n"
        assert home.vmm(w) != halted
