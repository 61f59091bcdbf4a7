"""Every tool: what it asks of the daemon, what it says, and what it says in JSON."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.errors import CommandNotStarted, Conflict, GuestFailed, InvalidRequest, NotFound
from pyro_mcp.events import OutputChunk
from pyro_mcp.mcp.profiles import tools_of
from pyro_mcp.models import NOTICE, Progress, RunFinished
from pyro_mcp.workspace_models import ExecInfo, OutputPage
from tests.unit.mcp.conftest import Calling, W, words
from tests.unit.mcp.fake_pyro import AT, ENDLESS, FakePyro, workspace

OFF = "Hint: leave network_policy out: this version of pyro gives workspaces no network, whatever the user allows."


async def test_vm_run(call: Calling, fake: FakePyro) -> None:
    result = await call("vm_run", environment="debian:12", command=["false"], mem_mib="2048")
    assert words(result) == "exit code 3 after 2.0 s\nout\n\n[stderr]\nerr\n"
    assert result.structured_content == {
        "exit_code": 3,
        "timed_out": False,
        "duration_ms": 2000,
        "stdout": "out\n",
        "stderr": "err\n",
    }
    ((_, asked),) = fake.calls
    assert (asked["request"].command, asked["request"].mem_mib) == (("false",), 2048)


async def test_vm_run_keeps_little_of_much_output(call: Calling, fake: FakePyro) -> None:
    flood = [OutputChunk("stdout", b"x" * 65536)] * 100
    fake.events = [*flood, OutputChunk("stderr", b"why\n"), RunFinished("debian:12", "qemu", 124, True, 30000)]
    result = await call("vm_run", environment="debian:12", command="yes")
    assert words(result).startswith("timed out after 30.0 s, exit code 124; give it more timeout_seconds\nxxx")
    assert "bytes left out]" in result.structured_content["stdout"]
    assert result.structured_content["stderr"] == "why\n"
    assert len(json.dumps(result.structured_content)) < 9000


async def test_vm_run_that_says_nothing(call: Calling, fake: FakePyro) -> None:
    fake.events = [RunFinished("debian:12", "qemu", 0, False, 2000)]
    assert (
        words(await call("vm_run", environment="debian:12", command="true")) == "exit code 0 after 2.0 s\n[no output]"
    )


async def test_vm_run_passes_on_what_its_user_should_know(call: Calling, fake: FakePyro) -> None:
    fake.events.insert(0, Progress("run", NOTICE, "", "this is the slow one"))
    result = await call("vm_run", environment="debian:12", command="true")
    assert words(result).endswith("err\n\nnote: this is the slow one")
    assert result.structured_content["note"] == "this is the slow one"


async def test_what_a_note_asks_for_and_a_model_cannot_do_is_said_to_be_the_users(
    call: Calling, fake: FakePyro
) -> None:
    notice = "no /dev/kvm: guests run under QEMU's emulation, which is slower; `pyro doctor` tells why and what to do"
    fake.events.insert(0, Progress("run", NOTICE, "", notice))
    fake.notices = [notice, "see `pyro env list`"]
    result = await call("vm_run", environment="debian:12", command="true")
    told = f"{notice} (that is for the user to run)"
    assert result.structured_content["note"] == told
    result = await call("workspace_create", environment="debian:12", seed_path=".")
    assert result.structured_content["note"] == f"{told}; see vm_list_environments"


@pytest.mark.parametrize("command", ["", " \n", [], [""], ["", "-l"]])
async def test_an_empty_command_is_refused(call: Calling, fake: FakePyro, command: object) -> None:
    for tool, where in (("vm_run", {"environment": "debian:12"}), ("workspace_exec", {"workspace": W})):
        said = words(await call(tool, command=command, **where), error=True)
        assert said == "no_command: `command` is empty. Hint: give a shell line, or a list of words: program first."
    assert fake.calls == []


async def test_exec_takes_a_line_or_words(call: Calling, fake: FakePyro) -> None:
    result = await call("workspace_exec", workspace=W, command="echo $HOME | wc")
    await call("workspace_exec", workspace=W, command=["ls", "-l"], timeout_seconds=600, wait_seconds=3)
    assert words(result) == "exit code 0 after 0.8 s (exec_id x-000000)\nhello\n"
    assert result.structured_content == {
        "exec_id": "x-000000",
        "status": "exited",
        "output": "hello\n",
        "exit_code": 0,
        "duration_ms": 812,
        "output_bytes": 6,
    }
    asked = [arguments for _, arguments in fake.calls]
    assert [each["command"] for each in asked] == [("sh", "-c", "echo $HOME | wc"), ("ls", "-l")]
    assert [each["timeout_seconds"] for each in asked] == [30, 600]
    assert asked[1]["wait"] == 3


async def test_exec_tells_that_the_machine_had_ended(call: Calling, fake: FakePyro) -> None:
    """A model whose server ran in there must not look for it."""
    fake.notices = ["the workspace's machine was started again"]
    result = await call("workspace_exec", workspace=W, command="pgrep server")
    assert result.structured_content["note"] == fake.notices[0]
    assert words(result).endswith("hello\n\nnote: the workspace's machine was started again")


async def test_exec_hands_back_what_still_runs(call: Calling, fake: FakePyro) -> None:
    result = await call("workspace_exec", workspace=W, command=ENDLESS[2], wait_seconds=0)
    assert result.structured_content["status"] == "running"
    assert "exit_code" not in result.structured_content
    said = words(result)
    assert "workspace_logs exec_id=x-000000 wait_seconds=45" in said
    stopped = await call("workspace_exec", workspace=W, cancel="x-000000")
    assert stopped.structured_content["status"] == "cancelled"
    assert "cancel_command" in [name for name, _ in fake.calls]


async def test_exec_shows_head_and_tail_and_how_to_read_the_rest(call: Calling, fake: FakePyro) -> None:
    fake.output = b"".join(b"line %d\n" % i for i in range(10_000))
    result = await call("workspace_exec", workspace=W, command="seq")
    shown = result.structured_content["output"]
    assert shown.startswith("line 0\n")
    assert shown.endswith("line 9999\n")
    left_out = len(fake.output) - 8192
    assert f"[{left_out} bytes left out; read them with workspace_logs exec_id=x-000000 offset=2048]" in shown


async def test_exec_says_what_to_do_about_a_time_out(call: Calling, fake: FakePyro) -> None:
    fake.output = b""
    fake.commands["x-1"] = ExecInfo("x-1", W, ("sleep",), "timed_out", AT, 124, 1000, 0)
    result = await call("workspace_logs", workspace=W, exec_id="x-1", wait_seconds=1)
    first = "timed out after 1.0 s, exit code 124 (exec_id x-1); give it more timeout_seconds"
    assert words(result) == f"{first}\n[no output]"


async def test_exec_wants_one_thing(call: Calling) -> None:
    assert "either `command` or `cancel`" in words(await call("workspace_exec", workspace=W), error=True)
    both = await call("workspace_exec", workspace=W, command="ls", cancel="x-1")
    assert "either `command` or `cancel`" in words(both, error=True)


async def test_logs_list_the_history(call: Calling, fake: FakePyro) -> None:
    assert words(await call("workspace_logs", workspace=W)) == "no commands yet"
    for number in range(40):
        await fake.start_command(W, ("sh", "-c", f"echo {number} {'x' * 200}"))
    result = await call("workspace_logs", workspace=W)
    assert words(result).startswith("40 commands, the last 30:\nx-00000a  exited 0  echo 10 xxx")
    listed = result.structured_content["commands"]
    assert len(listed) == 30
    assert max(len(each["command"]) for each in listed) == 160


@pytest.mark.parametrize("of_one", [{"grep": "x"}, {"grep": ""}, {"offset": 1}, {"limit": 9}, {"wait_seconds": 1}])
async def test_logs_refuse_what_means_one_command_without_its_id(
    call: Calling, fake: FakePyro, of_one: dict[str, object]
) -> None:
    (name,) = of_one
    said = words(await call("workspace_logs", workspace=W, **of_one), error=True)
    assert said.startswith(f"bad_argument: workspace_logs: `{name}` needs `exec_id`, ")
    assert fake.calls == []
    defaults = {"offset": 0, "limit": "8192", "grep": None, "wait_seconds": 0}
    assert words(await call("workspace_logs", workspace=W, exec_id=None, **defaults)) == "no commands yet"


async def test_logs_read_in_pages_that_end_between_characters(call: Calling, fake: FakePyro) -> None:
    fake.output = "\u20ac".encode() * 10
    await fake.start_command(W, ("cat",))
    first = await call("workspace_logs", workspace=W, exec_id="x-000000", limit=10)
    assert first.structured_content["output"] == "\u20ac" * 3
    assert first.structured_content["next_offset"] == 9
    assert words(first).endswith("[there is more of the 30 bytes: read on with offset=9]")
    rest = await call("workspace_logs", workspace=W, exec_id="x-000000", offset=9, grep="x")
    assert rest.structured_content["output"] == "\u20ac" * 7
    assert "next_offset" not in rest.structured_content
    assert fake.calls[-1][1] == {"offset": 9, "limit": 8192, "grep": "x"}


@pytest.mark.parametrize(
    ("asked", "told"),
    [({"grep": "x"}, "[no line matches]"), ({"offset": 30}, "[no output from offset 30 on]"), ({}, "[no output]")],
)
async def test_logs_say_so_where_there_is_nothing_to_show(
    call: Calling, fake: FakePyro, asked: dict[str, object], told: str
) -> None:
    fake.output = b""
    await fake.start_command(W, ("true",))
    result = await call("workspace_logs", workspace=W, exec_id="x-000000", **asked)
    assert words(result) == f"exit code 0 after 0.8 s (exec_id x-000000)\n{told}"
    assert result.structured_content["output"] == ""


async def test_logs_of_now_ask_the_guest_for_nothing_but_the_page(call: Calling, fake: FakePyro) -> None:
    await fake.start_command(W, ENDLESS)
    fake.calls.clear()
    result = await call("workspace_logs", workspace=W, exec_id="x-000000")
    assert result.structured_content["status"] == "running"
    assert [called for called, _ in fake.calls] == ["command_status", "read_command_output"]
    unknown = await call("workspace_logs", workspace=W, exec_id="x-1")
    assert words(unknown, error=True).startswith("unknown_command: ")


async def test_logs_of_a_command_that_ended_meanwhile(
    call: Calling, fake: FakePyro, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fake.start_command(W, ENDLESS)
    read = fake.read_command_output

    async def ended(*given: Any, **named: Any) -> OutputPage:
        await fake.cancel_command(W, "x-000000")
        return await read(*given, **named)

    monkeypatch.setattr(fake, "read_command_output", ended)
    result = await call("workspace_logs", workspace=W, exec_id="x-000000")
    assert (result.structured_content["status"], result.structured_content["exit_code"]) == ("cancelled", 143)


async def test_logs_wait_no_longer_than_asked(call: Calling, fake: FakePyro) -> None:
    await fake.start_command(W, ("true",))
    await call("workspace_logs", workspace=W, exec_id="x-000000", wait_seconds=30)
    assert ("wait_for_command", {"wait": 5}) in fake.calls


async def test_logs_show_whoever_has_waited_the_end_of_the_output(call: Calling, fake: FakePyro) -> None:
    fake.output = b"".join(b"line %d\n" % i for i in range(10_000))
    await fake.start_command(W, ("seq",))
    result = await call("workspace_logs", workspace=W, exec_id="x-000000", wait_seconds=30)
    assert result.structured_content["output"].endswith("line 9999\n")
    assert (result.structured_content["next_offset"], result.structured_content["total_bytes"]) == (
        2048,
        len(fake.output),
    )
    assert words(result).startswith("exit code 0 after 0.8 s (exec_id x-000000)\nline 0\n")


async def test_create_from_the_projects_folder(call: Calling, fake: FakePyro, project: Path) -> None:
    result = await call(
        "workspace_create", environment="debian:12", seed_path=".", name="mine", labels={"a": "b"}, mem_mib=2048
    )
    assert fake.calls[0][1] == {
        "environment": "debian:12",
        "seed_path": str(project),
        "labels": {"a": "b"},
        "mem_mib": 2048,
    }
    assert words(result) == (
        "w-new2 made; its files are in /workspace\nstate: running, environment: debian:12\nname: mine\nlabels: a=b\n"
        "seed: 3 files, 999 bytes"
    )
    assert str(project) not in json.dumps(result.structured_content)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"seed_path": "/etc"}, "path_not_allowed"),
        ({"seed_path": "../.."}, "path_not_allowed"),
        ({"seed_path": "link"}, "path_not_allowed"),
        ({"seed_path": ""}, "bad_argument"),
        ({"seed_path": "missing"}, "path_not_found: there is no 'missing' on the user's machine. Hint: relative paths"),
        ({"network_policy": "egress"}, f"network_not_allowed: this server allows network_policy off at most. {OFF}"),
        ({"network_policy": "all"}, f"bad_argument: there is no network_policy 'all'. {OFF}"),
        ({"vcpu_count": 99}, "bad_argument"),
        ({"ttl_seconds": 0}, "bad_argument"),
        ({"ttl_seconds": 86401}, "bad_argument"),
        ({"allow_path": "/"}, "bad_argument"),
    ],
)
async def test_create_goes_no_further_than_the_user_allows(
    call: Calling, fake: FakePyro, project: Path, arguments: dict[str, Any], code: str
) -> None:
    (project / "link").symlink_to("/etc")
    assert words(await call("workspace_create", environment="debian:12", **arguments), error=True).startswith(code)
    assert fake.calls == []


async def test_create_tells_what_of_the_seed_is_not_as_one_might_think(
    call: Calling, fake: FakePyro, project: Path
) -> None:
    (project / "src").mkdir()
    fake.notices = ["a folder inside the checkout /srv/mine: its files without the repository", "1 socket left out"]
    result = await call("workspace_create", environment="debian:12", seed_path="src")
    note = "a folder inside the checkout (a path of the host): its files without the repository; 1 socket left out"
    assert words(result).endswith(f"\nseed: 3 files, 999 bytes\nnote: {note}")
    assert result.structured_content["note"] == note
    pushed = await call("workspace_sync_push", workspace=W, source="src")
    assert words(pushed) == f"2 files, 20 bytes to /workspace\nnote: {note}"
    assert pushed.structured_content["note"] == note


async def test_list(call: Calling, fake: FakePyro) -> None:
    fake.workspaces = [workspace(workspace_id=f"w-{i}", name=f"n{i}", labels={"k": "v"}) for i in range(60)]
    result = await call("workspace_list")
    assert words(result).splitlines()[0] == "w-0  running  debian:12  n0  k=v"
    assert words(result).endswith("[10 more]")
    assert (len(result.structured_content["workspaces"]), result.structured_content["total"]) == (50, 60)
    fake.workspaces = []
    assert words(await call("workspace_list")) == "no workspaces yet"


async def test_status_tells_why_it_is_stopped_and_not_where_its_seed_came_from(call: Calling, fake: FakePyro) -> None:
    fake.workspaces = [workspace(state="stopped", stopped_because="expired", expires_at="soon", running_commands=2)]
    said = words(await call("workspace_status", workspace=W))
    assert said == f"{W}\nstate: stopped (expired), environment: debian:12\nstops at: soon\nrunning commands: 2"


async def test_status_tells_what_it_takes_of_the_host(call: Calling, fake: FakePyro) -> None:
    fake.workspaces = [workspace(host_memory_bytes=45_000_000)]
    result = await call("workspace_status", workspace=W)
    assert result.structured_content["host_memory_bytes"] == 45_000_000
    assert words(result).endswith("\nhost memory in use: 42 MiB")


async def test_update(call: Calling, fake: FakePyro) -> None:
    await call("workspace_update", workspace=W, name="n", labels={"a": "b"}, clear_labels=["c"])
    assert fake.calls[0][1] == {"name": "n", "clear_name": False, "labels": {"a": "b"}, "clear_labels": ("c",)}


async def test_reset_and_delete_say_how_to_get_things_back(call: Calling, fake: FakePyro) -> None:
    for name in ("workspace_reset", "workspace_delete"):
        result = await call(name, workspace=W)
        assert f"`pyro workspace restore {W}`" in words(result)
        undo = {"workspace_id": W, "state": "running", "undo": f"pyro workspace restore {W}"}
        assert result.structured_content == undo
    assert fake.calls[0][1] == {"snapshot": "baseline"}


@pytest.mark.parametrize("name", ["workspace_stop", "workspace_start", "workspace_restore"])
async def test_the_rest_of_a_workspaces_life(call: Calling, fake: FakePyro, name: str) -> None:
    result = await call(name, workspace=W)
    assert result.structured_content["workspace_id"] == W
    assert [called for called, _ in fake.calls] == [f"{name.removeprefix('workspace_')}_workspace"]


async def test_environments(call: Calling) -> None:
    result = await call("vm_list_environments")
    assert words(result) == "debian:12  installed  Debian with tools"
    assert result.structured_content["environments"][0]["installed"] is True


async def test_sync_push(call: Calling, fake: FakePyro, project: Path) -> None:
    (project / "src").mkdir()
    result = await call("workspace_sync_push", workspace=W, source="src", dest="/workspace/src")
    assert words(result) == "2 files, 20 bytes to /workspace/src"
    assert fake.calls[0][1] == {"source": str(project / "src"), "dest": "/workspace/src"}
    refused = await call("workspace_sync_push", workspace=W, source="/root")
    assert words(refused, error=True).startswith("path_not_allowed: ")


async def test_export(call: Calling, fake: FakePyro, project: Path) -> None:
    result = await call("workspace_export", workspace=W, path="a.txt", output="out.txt")
    assert words(result) == "1 files, 8 bytes to out.txt; left out 2 (git repositories, devices): .git, dev/null"
    assert result.structured_content["output"] == "out.txt"
    assert fake.calls[0][1]["output"] == str(project / "out.txt")
    for output in ("/tmp/x", "../x", ".git/hooks/pre-commit", "sub/.envrc", "."):
        refused = await call("workspace_export", workspace=W, path="a.txt", output=output)
        assert words(refused, error=True).startswith("path_not_allowed: "), output
    refused = await call("workspace_export", workspace=W, path="a.txt", output="no/such/x")
    said = words(refused, error=True)
    assert said.startswith("path_not_found: there is no folder on the user's machine to write 'no/such/x' into. Hint: ")
    assert len(fake.calls) == 1


@pytest.mark.parametrize(
    "error",
    [
        NotFound("unknown_workspace", "there is no workspace 'x'", "look at the list"),
        Conflict("name_in_use", "the name is in use"),
        CommandNotStarted("command_not_found", "there is no command 'x'", exit_code=127),
        GuestFailed("guest_died", "the guest died"),
        InvalidRequest("bad_request", "no"),
    ],
)
async def test_every_tool_tells_errors_in_words(call: Calling, fake: FakePyro, project: Path, error: Exception) -> None:
    fake.error = error
    sample = {"workspace": W, "environment": "debian:12", "command": "ls", "source": ".", "path": "a", "text": "t"}
    sample |= {"patch": "p", "output": "o"}
    for tool in tools_of("workspace-full"):
        needed = {field: sample[field] for field in inspect.signature(tool.parameters).parameters if field in sample}
        assert words(await call(tool.name, **needed), error=True).startswith(f"{error.code}: ")  # type: ignore[attr-defined]
