"""Many clients, many workspaces, many commands: no mix-up, no leak, memory flat."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyro_mcp import Pyro
from pyro_mcp.workspace_models import WorkspaceInfo
from tests.support.pace import repeated
from tests.support.waiting import wait_until
from tests.vm.pyro_command import PyroCommand, open_files
from tests.vm.vmms import vmms_of

_WORKSPACES = 20
_ROUNDS = repeated(40)
_COMMANDS = repeated(1000)
_WARM_UP = repeated(100)
# What the daemon may grow by over all commands but those of the warm-up: allocator noise, not a cost per command.
_GROWTH_KIB = 4096


@pytest.fixture
def sdk(lone_pyro: PyroCommand) -> Iterator[Pyro]:
    pyro = Pyro(lone_pyro.client.settings)
    yield pyro
    for info in pyro.list_workspaces():
        pyro.delete_workspace(info.workspace_id)
    pyro.prune_workspaces()
    wait_until(lambda: not vmms_of(lone_pyro.home))


@pytest.mark.slow
def test_many_commands_in_one_workspace(sdk: Pyro, lone_pyro: PyroCommand) -> None:
    made = sdk.create_workspace("debian:12")
    daemon = lone_pyro.daemon_pid()
    for number in range(_WARM_UP):
        one_command(sdk, made.workspace_id, number)
    memory, files = resident_kib(daemon), open_files(daemon)
    for number in range(_WARM_UP, _COMMANDS):
        one_command(sdk, made.workspace_id, number)
    assert resident_kib(daemon) - memory < _GROWTH_KIB
    wait_until(lambda: open_files(daemon) == files)
    history = sdk.workspace_logs(made.workspace_id)
    assert [info.command[-1] for info in history] == [str(number) for number in range(_COMMANDS)]


@pytest.mark.slow
def test_two_clients_on_one_workspace(sdk: Pyro, lone_pyro: PyroCommand) -> None:
    made = sdk.create_workspace("debian:12")

    def client(name: str) -> None:
        own = Pyro(lone_pyro.client.settings)
        for number in range(_ROUNDS):
            path, text = f"{name}/{number % 5}", f"{name} {number}\n"
            own.write_workspace_file(made.workspace_id, path, text)
            ended = own.exec_workspace(made.workspace_id, ["cat", path])
            assert (ended.exit_code, ended.stdout) == (0, text.encode())
            patch = f"--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-{text}+{text.upper()}"
            own.apply_workspace_patch(made.workspace_id, patch)
            assert own.read_workspace_file(made.workspace_id, path).data == text.upper().encode()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(client, ("one", "two")))
    changed = {entry.path: entry.change for entry in sdk.diff_workspace(made.workspace_id).entries}
    assert changed == {f"/workspace/{name}/{number}": "added" for name in ("one", "two") for number in range(5)}


@pytest.mark.slow
def test_20_workspaces_at_once(sdk: Pyro, lone_pyro: PyroCommand, tmp_path: Path) -> None:
    def use(number: int) -> WorkspaceInfo:
        seed = tmp_path / f"seed-{number}"
        seed.mkdir()
        (seed / "number").write_text(f"{number}\n")
        made = sdk.create_workspace("debian:12", mem_mib=256, name=f"many-{number}", seed_path=str(seed))
        for round_ in range(5):
            ended = sdk.exec_workspace(made.name or "", ["sh", "-c", f"cat number; echo {round_} >>log; wc -l <log"])
            assert ended.stdout == b"%d\n%d\n" % (number, round_ + 1)
        return made

    with ThreadPoolExecutor(_WORKSPACES) as pool:
        made = list(pool.map(use, range(_WORKSPACES)))
    assert len({info.workspace_id for info in made}) == _WORKSPACES
    assert len(vmms_of(lone_pyro.home)) == _WORKSPACES
    assert {info.name for info in sdk.list_workspaces()} == {f"many-{number}" for number in range(_WORKSPACES)}
    with ThreadPoolExecutor(_WORKSPACES) as pool:
        diffs = list(pool.map(lambda info: sdk.diff_workspace(info.workspace_id), made))
    assert all([entry.path for entry in diff.entries] == ["/workspace/log"] for diff in diffs)


def one_command(sdk: Pyro, workspace: str, number: int) -> None:
    ended = sdk.exec_workspace(workspace, ["sh", "-c", "echo $1; echo $1 >&2; exit $(($1 % 100))", "sh", str(number)])
    assert (ended.exit_code, ended.stdout, ended.stderr) == (number % 100, b"%d\n" % number, b"%d\n" % number)


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])
