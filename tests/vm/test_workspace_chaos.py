"""Clients and the daemon killed at random moments: what was acknowledged stays, and nothing else does.

Each round starts one step on a workspace through the command line or the MCP server and kills the client or the daemon
in the middle of it. What has to hold afterwards is kept in `Expected`, which learns of a step only what was
acknowledged.
"""

import random
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pyro_mcp import Pyro
from pyro_mcp.errors import NotFound
from pyro_mcp.process_watch import wait_for_end
from pyro_mcp.workspace_models import WorkspaceInfo
from tests.support.pace import patience, repeated
from tests.support.waiting import wait_until
from tests.vm.pyro_command import PyroCommand, kill
from tests.vm.stdio_server import StdioServer
from tests.vm.vmms import vmms_of

_ROUNDS = repeated(50)
_SEED = 20261123
_LINES = [f"line {number}\n" for number in range(40)]
_STEPS = ("create", "sync", "exec", "patch", "reset", "delete")
# Within which a kill falls, in seconds: about what the step takes on a two-core machine, and a little more.
_LASTS = {"create": 4.0, "sync": 0.6, "exec": 0.8, "patch": 0.6, "reset": 3.5, "delete": 0.9}


@dataclass
class Expected:
    """What the next command has to find. A value that may be either has two candidates."""

    version: set[str] = field(default_factory=lambda: {_LINES[0]})  # the first line of /workspace/text
    pushed: set[str | None] = field(default_factory=lambda: {None})  # the content of /workspace/pushed, None: no file
    deleted: set[bool] = field(default_factory=lambda: {False})


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    folder = tmp_path / "seed"
    folder.mkdir()
    (folder / "text").write_text("".join(_LINES))
    return folder


@pytest.mark.slow
def test_kills_at_random_moments(lone_pyro: PyroCommand, seed: Path, tmp_path: Path) -> None:
    rng = random.Random(_SEED)  # noqa: S311  (the same moments in every run, as far as time allows)
    trial = Trial(lone_pyro, seed, tmp_path, rng)
    for number in range(_ROUNDS):
        step = _STEPS[number % len(_STEPS)]
        victim = rng.choice(("client", "client", "daemon"))
        through = rng.choice((trial.by_command_line, trial.by_mcp))
        trial.round(number, step, victim, through)
    trial.clean_up()


class Trial:
    """One daemon's home, its workspace, and what is known of it."""

    def __init__(self, pyro: PyroCommand, seed: Path, folder: Path, rng: random.Random) -> None:
        self.pyro = pyro
        self.sdk = Pyro(pyro.client.settings)
        self.seed = seed
        self.source = folder / "push"
        self.source.mkdir()
        self.rng = rng
        self.expected = Expected()
        self.made = 0
        self.workspace = self._create_undisturbed()

    def round(self, number: int, step: str, victim: str, through: Callable[[str], "Client"]) -> None:
        """One step with one kill in it, and what has to hold after it."""
        daemon = self.pyro.daemon_pid()
        before = self._prepare(step, number)
        name = self._new_name() if step == "create" else ""
        known = {info.exec_id for info in self.sdk.workspace_logs(self.workspace)}
        client = through(step)
        client.ended_within(self.rng.uniform(0, patience(_LASTS[step])))
        if victim == "daemon":
            kill(daemon)
            assert wait_for_end(daemon, patience(30))  # until then it may still take a request
        else:
            client.kill()
        acknowledged = client.finish()
        told = f"round {number}: {step}, {victim} killed, acknowledged: {acknowledged}"
        self._learn(step, before, acknowledged=acknowledged)
        if acknowledged and step == "create":
            assert self.sdk.workspace_status(name).state == "running", told
        self._check(told)
        if acknowledged and step == "exec":
            new = [info for info in self.sdk.workspace_logs(self.workspace) if info.exec_id not in known]
            ends = [(info.status, info.exit_code) for info in new if "sleep" in info.command[-1]]
            assert ends == [("exited", 0)], told

    def by_command_line(self, step: str) -> "Client":
        words = {
            "create": ("create", "debian:12", "--seed-path", str(self.seed), "--name", self._last_name()),
            "sync": ("sync", "push", self.workspace, str(self.source)),
            "exec": ("exec", self.workspace, "--", "sh", "-c", "sleep 0.3; echo done"),
            "patch": ("patch", "apply", self.workspace, "--patch-file", str(self.source.parent / "patch")),
            "reset": ("reset", self.workspace),
            "delete": ("delete", self.workspace),
        }[step]
        return CommandLine(self.pyro.start("workspace", *words))

    def by_mcp(self, step: str) -> "Client":
        this: dict[str, object] = {"workspace": self.workspace}
        arguments: dict[str, dict[str, object]] = {
            "create": {"environment": "debian:12", "seed_path": str(self.seed), "name": self._last_name()},
            "sync": {**this, "source": str(self.source)},
            "exec": {**this, "command": "sleep 0.3; echo done"},
            "patch": {**this, "patch": (self.source.parent / "patch").read_text()},
            "reset": this,
            "delete": this,
        }
        tool = {"sync": "workspace_sync_push", "patch": "workspace_patch_apply"}.get(step, f"workspace_{step}")
        server = StdioServer(self.pyro, "--allow-path", str(self.seed.parent))
        server.call(tool, arguments[step])
        return McpCall(server)

    def clean_up(self) -> None:
        """Everything can be removed, and then nothing is left."""
        for info in self.sdk.list_workspaces():
            self.sdk.delete_workspace(info.workspace_id)
        self.sdk.prune_workspaces()
        wait_until(lambda: not vmms_of(self.pyro.home))
        assert self.sdk.list_workspaces(deleted=True) == ()
        left = [path.name for path in (self.pyro.home / "workspaces").iterdir()]
        assert left == []

    def _new_name(self) -> str:
        self.made += 1
        return self._last_name()

    def _last_name(self) -> str:
        return f"made-{self.made}"

    def _create_undisturbed(self) -> str:
        made = self.sdk.create_workspace("debian:12", seed_path=str(self.seed))
        return made.workspace_id

    def _prepare(self, step: str, number: int) -> str:
        """The input of the step; returns what marks its success."""
        mark = f"round {number}\n"
        if step == "sync":
            (self.source / "pushed").write_text(mark)
        (first,) = self.expected.version
        patch = f"--- a/text\n+++ b/text\n@@ -1,2 +1,2 @@\n-{first}+{mark} {_LINES[1]}"
        (self.source.parent / "patch").write_text(patch)
        return mark

    def _learn(self, step: str, mark: str, *, acknowledged: bool) -> None:
        known = self.expected
        if step == "sync":
            known.pushed = {mark} if acknowledged else {*known.pushed, mark}
        elif step == "patch":
            known.version = {mark} if acknowledged else {*known.version, mark}
        elif step == "reset":
            known.version = {_LINES[0], *(() if acknowledged else known.version)}
            known.pushed = {None, *(() if acknowledged else known.pushed)}
        elif step == "delete":
            known.deleted = {True} if acknowledged else {False, True}

    def _check(self, told: str) -> None:
        """The next command works, and finds what is expected; from then on it is known which candidate was true."""
        ended = self.pyro("workspace", "exec", self.workspace, "--", "cat", "/workspace/text")
        deleted = "[workspace_deleted]" in ended.stderr
        assert deleted in self.expected.deleted, told
        self.expected.deleted = {False}
        if deleted:
            self.sdk.restore_workspace(self.workspace)  # what a delete took away can be had back
            self.sdk.start_workspace(self.workspace)
            ended = self.pyro("workspace", "exec", self.workspace, "--", "cat", "/workspace/text")
        assert ended.exit_code == 0, f"{told}: {ended.stderr}"
        first, *rest = ended.stdout.decode().splitlines(keepends=True)
        assert rest == _LINES[1:], told
        assert first in self.expected.version, told
        self.expected.version = {first}
        pushed = self._pushed()
        assert pushed in self.expected.pushed, told
        self.expected.pushed = {pushed}
        self._check_leftovers(told)

    def _pushed(self) -> str | None:
        try:
            return self.sdk.read_workspace_file(self.workspace, "pushed").data.decode()
        except NotFound:
            return None

    def _check_leftovers(self, told: str) -> None:
        """A half-made workspace is there whole or not at all; machines run for the workspaces that say so alone."""
        for info in self.sdk.list_workspaces():
            if info.workspace_id == self.workspace:
                continue
            assert self._is_whole(info), told
            self.sdk.delete_workspace(info.workspace_id)
        self.sdk.prune_workspaces()
        running = [info for info in self.sdk.list_workspaces() if info.state == "running"]
        wait_until(lambda: len(vmms_of(self.pyro.home)) == len(running))
        folders = list((self.pyro.home / "workspaces").iterdir())
        assert [path.name for path in folders] == [self.workspace], told
        disks = [path for path in folders[0].iterdir() if path.name.startswith("disk-")]
        assert len(disks) == 1, told  # what the last reset replaced was pruned just now

    def _is_whole(self, info: WorkspaceInfo) -> bool:
        listed = self.sdk.list_workspace_files(info.workspace_id)
        return [entry.path for entry in listed.entries] == ["/workspace/text"]


class Client:
    """Something that was asked for one step."""

    def ended_within(self, seconds: float) -> bool:
        """Wait for its end, no longer than that."""
        raise NotImplementedError

    def kill(self) -> None:
        raise NotImplementedError

    def finish(self) -> bool:
        """Wait for its end; whether it acknowledged its step."""
        raise NotImplementedError


class CommandLine(Client):
    """`pyro workspace ...` as a process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def ended_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)

    def finish(self) -> bool:
        self._process.communicate(timeout=patience(60))
        return self._process.returncode == 0


class McpCall(Client):
    """A tool of `pyro mcp serve`."""

    def __init__(self, server: StdioServer) -> None:
        self._server = server

    def ended_within(self, seconds: float) -> bool:
        return self._server.answer(seconds) is not None

    def kill(self) -> None:
        self._server.kill()

    def finish(self) -> bool:
        answer = self._server.answer(patience(60))
        self._server.close()
        return answer is not None and not answer.get("isError", False)
