"""Workspaces through the command line, in real guests: the whole way, and what bad input gets."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyro_mcp import Pyro
from tests.support.pace import patience
from tests.support.waiting import wait_until
from tests.vm.front_ends import refusal
from tests.vm.pyro_command import Ended, PyroCommand
from tests.vm.vmms import vmms_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "python_workspace.py"
PATCH = "--- a/text\n+++ b/text\n@@ -1,2 +1,2 @@\n-one\n+ONE\n two\n"


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git checkout with something tracked, something new and something ignored."""
    folder = tmp_path_factory.mktemp("seeds") / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "text").write_text("one\ntwo\n")
    (folder / "src" / "run.sh").write_text("#!/bin/sh\necho running\n")
    (folder / "src" / "run.sh").chmod(0o755)
    (folder / ".gitignore").write_text("ignored\n")
    (folder / "ignored").write_text("x")
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "text", ".gitignore"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    return folder


@pytest.fixture(scope="module")
def demo(pyro: PyroCommand, seed: Path) -> Iterator[str]:
    """A workspace for tests that leave it as they found it."""
    ended = pyro("workspace", "create", "debian:12", "--seed-path", str(seed), "--name", "demo", "--id-only")
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout.decode().startswith("w-")
    yield "demo"
    assert pyro("workspace", "delete", "demo").exit_code == 0
    assert pyro("workspace", "prune").exit_code == 0


def ids(sdk: Pyro) -> list[str]:
    """Which workspaces there are; the rest of what is told of them, like the space on the disk, changes by itself."""
    return [info.workspace_id for info in sdk.list_workspaces()]


def _ok(ended: Ended) -> str:
    assert ended.exit_code == 0, ended.stderr
    return ended.stdout.decode()


def test_the_whole_way(pyro: PyroCommand, seed: Path, tmp_path: Path) -> None:
    created = pyro(
        "workspace", "create", "debian:12", "--seed-path", str(seed), "--name", "way", "--label", "a=b", "--json"
    )
    info = json.loads(_ok(created))
    assert (info["state"], info["environment"], info["labels"]) == ("running", "debian:12", {"a": "b"})
    assert info["seed"]["files"] > 4  # the three that git sees, and its own
    assert _ok(pyro("workspace", "exec", "way", "--", "git", "status", "--short")) == "?? src/\n"
    assert _ok(pyro("workspace", "exec", info["workspace_id"][:4], "--", "src/run.sh")) == "running\n"
    status = json.loads(_ok(pyro("workspace", "status", "way", "--json")))
    assert 4 << 20 < status["host_memory_bytes"] < 1 << 30
    assert "host memory: " in _ok(pyro("workspace", "status", "way"))

    _ok(pyro("workspace", "file", "write", "way", "new/é.txt", "--text", "hé\n"))
    assert _ok(pyro("workspace", "file", "read", "way", "new/é.txt")) == "hé\n"
    listed = json.loads(_ok(pyro("workspace", "file", "list", "way", "new", "--json")))
    assert [entry["path"] for entry in listed["entries"]] == ["/workspace/new/é.txt"]
    (tmp_path / "patch").write_text(PATCH)
    _ok(pyro("workspace", "patch", "apply", "way", "--patch-file", str(tmp_path / "patch")))
    (tmp_path / "push").mkdir()
    (tmp_path / "push" / "pushed").write_bytes(bytes(range(256)))
    assert _ok(pyro("workspace", "sync", "push", "way", str(tmp_path / "push"), "--dest", "in")).endswith(
        "1 file, 256 B\n"
    )

    diff = pyro("workspace", "diff", "way")
    assert diff.stderr == "[diff] 3 files changed, 2 insertions(+), 1 deletion(-)\n"
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(seed), str(clone)], check=True)
    subprocess.run(["git", "apply"], input=diff.stdout, cwd=clone, check=True)
    out = tmp_path / "out"
    _ok(pyro("workspace", "export", "way", ".", "--output", str(out)))
    for path in ("text", "new/é.txt", "in/pushed"):
        assert (out / path).read_bytes() == (clone / path).read_bytes()
    assert (out / "src" / "run.sh").stat().st_mode & 0o777 == 0o755

    reset = pyro("workspace", "reset", "way")
    assert "pyro workspace restore" in reset.stderr
    assert _ok(pyro("workspace", "diff", "way")) == ""
    _ok(pyro("workspace", "restore", "way"))
    assert _ok(pyro("workspace", "file", "read", "way", "text")) == "ONE\ntwo\n"
    _ok(pyro("workspace", "update", "way", "--name", "other", "--clear-label", "a"))
    _ok(pyro("workspace", "stop", "other"))
    assert json.loads(_ok(pyro("workspace", "status", "other", "--json")))["host_memory_bytes"] is None
    stopped = pyro("workspace", "exec", "other", "--", "true")
    assert (stopped.exit_code, "[workspace_stopped]" in stopped.stderr) == (1, True)
    _ok(pyro("workspace", "start", "other"))
    assert _ok(pyro("workspace", "exec", "other", "--", "cat", "text")) == "ONE\ntwo\n"
    history = json.loads(_ok(pyro("workspace", "logs", "other", "--json")))
    assert [row["command"] for row in history] == [["git", "status", "--short"], ["src/run.sh"], ["cat", "text"]]
    _ok(pyro("workspace", "delete", "other"))
    assert info["workspace_id"] not in _ok(pyro("workspace", "list"))
    assert info["workspace_id"] in _ok(pyro("workspace", "list", "--deleted"))
    _ok(pyro("workspace", "restore", "other", "--name", "again"))
    assert [row["name"] for row in json.loads(_ok(pyro("workspace", "list", "--json")))] == ["again"]
    _ok(pyro("workspace", "delete", "again"))
    assert info["workspace_id"] in _ok(pyro("workspace", "prune", "again"))
    assert info["workspace_id"] not in _ok(pyro("workspace", "list", "--deleted"))


def test_an_export_names_what_it_leaves_out(pyro: PyroCommand, demo: str, tmp_path: Path) -> None:
    make = "mkdir odd && cd odd && echo text >text && mkfifo pipe \"$(printf 'a\\033\\377')\" && mknod null c 1 3"
    _ok(pyro("workspace", "exec", demo, "--", "sh", "-c", make))
    exported = pyro("workspace", "export", demo, "odd", "--output", str(tmp_path / "odd"))
    _ok(pyro("workspace", "exec", demo, "--", "rm", "-r", "odd"))
    assert _ok(exported) == f"{tmp_path}/odd: 1 file, 5 B\n"
    for said in (
        "left out: a\\x1b\\xff",
        "left out: null",
        "left out: pipe",
        "what is left out: devices, pipes or sockets",
    ):
        assert f"[export] {said}\n" in exported.stderr
    assert [path.name for path in (tmp_path / "odd").iterdir()] == ["text"]


def test_exec_is_like_a_command_of_this_host(pyro: PyroCommand, demo: str) -> None:
    script = "pwd; tr a-z A-Z; echo oops >&2; exit 7"
    ended = pyro("workspace", "exec", demo, "--", "sh", "-c", script, stdin=b"input\n")
    assert (ended.exit_code, ended.stdout) == (7, b"/workspace\nINPUT\n")
    first, last = ended.stderr.splitlines()
    assert first == "oops"
    exec_id = last.split("exec_id=")[1].split()[0]
    assert last.startswith(f"[exec] exec_id={exec_id} exit_code=7 duration_ms=")
    output = pyro("workspace", "logs", demo, exec_id)
    assert output.stdout == b"/workspace\nINPUT\noops\n"
    tail = pyro("workspace", "logs", demo, exec_id, "--tail-bytes", "5")
    assert tail.stdout == b"oops\n"
    grep = pyro("workspace", "logs", demo, exec_id, "--grep", "^I", "--json")
    assert json.loads(grep.stdout)["output"] == "INPUT\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_command(pyro: PyroCommand, demo: str, number: signal.Signals) -> None:
    script = f"trap 'echo told; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.1; done"
    process = pyro.start("workspace", "exec", demo, "--", "sh", "-c", script)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.communicate()[0] == b"told\n"
    assert process.returncode == 9


def test_a_command_whose_client_is_killed_is_cancelled(pyro: PyroCommand, demo: str) -> None:
    process = pyro.start("workspace", "exec", demo, "--timeout-seconds", "600", "--", "sh", "-c", "echo go; sleep 500")
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"go\n"
        process.kill()
    sdk = Pyro(pyro.client.settings)
    wait_until(lambda: sdk.workspace_logs(demo)[-1].status == "cancelled")


def test_a_creation_whose_client_is_killed_leaves_nothing(pyro: PyroCommand) -> None:
    sdk = Pyro(pyro.client.settings)
    before, machines = ids(sdk), vmms_of(pyro.home)
    process = pyro.start("workspace", "create", "debian:12")
    assert process.stderr is not None
    with process:
        assert b"phase=boot" in process.stderr.readline()
        process.kill()
    wait_until(lambda: ids(sdk) == before)
    wait_until(lambda: vmms_of(pyro.home) == machines)
    assert sdk.list_workspaces(deleted=True) == ()


def test_resetting_again_does_not_lose_what_the_first_reset_left(pyro: PyroCommand) -> None:
    made = _ok(pyro("workspace", "create", "debian:12", "--id-only")).strip()
    _ok(pyro("workspace", "exec", made, "--", "sh", "-c", "echo precious >/root/mark"))
    _ok(pyro("workspace", "reset", made))
    _ok(pyro("workspace", "reset", made))  # of what nobody has touched
    _ok(pyro("workspace", "restore", made))
    assert _ok(pyro("workspace", "exec", made, "--", "cat", "/root/mark")) == "precious\n"
    _ok(pyro("workspace", "reset", made))  # it was used
    _ok(pyro("workspace", "file", "write", made, "new", "--text", "newer\n"))
    _ok(pyro("workspace", "reset", made))
    _ok(pyro("workspace", "restore", made))
    assert _ok(pyro("workspace", "file", "read", made, "new")) == "newer\n"
    _ok(pyro("workspace", "delete", made))
    _ok(pyro("workspace", "prune", made))


# What bad input gets here alone; the rest is in test_bad_input, for the MCP server, too


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["debain:12"], "unknown_environment", "did you mean debian:12?"),
        (["debian:12", "--mem-mib", "1"], "out_of_range", "--mem-mib is 1"),
        (["debian:12", "--vcpu-count", "99"], "out_of_range", "--vcpu-count is 99"),
        (["debian:12", "--ttl-seconds", "0"], "out_of_range", "--ttl-seconds is 0"),
        (["debian:12", "--network-policy", "egress"], "network_unsupported", "--network-policy"),
    ],
    ids=str,
)
def test_what_cannot_be_created(pyro: PyroCommand, words: list[str], code: str, says: str) -> None:
    sdk = Pyro(pyro.client.settings)
    before = ids(sdk)
    assert says in refusal(pyro("workspace", "create", *words), code)
    assert ids(sdk) == before


def test_a_file_that_is_no_text_can_be_read_as_it_is(pyro: PyroCommand, demo: str) -> None:
    _ok(pyro("workspace", "exec", demo, "--", "sh", "-c", "printf '\\377\\000' >binary"))
    try:
        assert "--content-only" in refusal(pyro("workspace", "file", "read", demo, "binary"), "not_utf8")
        assert pyro("workspace", "file", "read", demo, "binary", "--content-only").stdout == b"\xff\x00"
    finally:
        _ok(pyro("workspace", "exec", demo, "--", "rm", "binary"))


def test_a_pattern_that_is_none(pyro: PyroCommand, demo: str) -> None:
    ended = pyro("workspace", "exec", demo, "--", "true")
    exec_id = ended.stderr.split("exec_id=")[1].split()[0]
    assert "regular expression" in refusal(pyro("workspace", "logs", demo, exec_id, "--grep", "("), "bad_pattern")


def test_a_guest_that_dies_in_the_middle_of_a_command(pyro: PyroCommand) -> None:
    _ok(pyro("workspace", "create", "debian:12", "--name", "dies"))
    process = pyro.start(
        "workspace", "exec", "dies", "--timeout-seconds", "600", "--", "sh", "-c", "echo go; sleep 500"
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"go\n"
        crash = pyro("workspace", "exec", "dies", "--", "sh", "-c", "echo c >/proc/sysrq-trigger")
        _, stderr = process.communicate(timeout=patience(60))
    for ended in (crash, Ended(process.returncode, b"", stderr.decode())):
        assert "pyro workspace" in refusal(ended, "guest_gone", 2)
    assert pyro("workspace", "exec", "dies", "--", "echo", "back").stdout == b"back\n"
    _ok(pyro("workspace", "delete", "dies"))
    _ok(pyro("workspace", "prune", "dies"))


def test_the_example(pyro: PyroCommand) -> None:
    ended = subprocess.run(
        [sys.executable, EXAMPLE],
        env=pyro.environment,
        capture_output=True,
        text=True,
        timeout=patience(100),
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for part in ("seeded with 1 file(s)", "hello workspace", "exited: '1\\n2\\n3\\n'", "+2 -1", "exported 1 file(s)"):
        assert part in ended.stdout
