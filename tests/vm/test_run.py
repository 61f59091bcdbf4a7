"""`pyro run` in real guests: output, input, exit codes, signals, limits."""

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.pace import patience
from tests.support.waiting import wait_until
from tests.vm.pyro_command import CHOSEN_VMM, VMM, PyroCommand, descendants, named

_RUN_LINE = re.compile(
    rf"^\[run\] environment=debian:12 vmm={CHOSEN_VMM} exit_code=(\d+) duration_ms=\d+$", re.MULTILINE
)


def run_sh(pyro: PyroCommand, script: str, *flags: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
    ended = pyro("run", "debian:12", *flags, "--", "sh", "-c", script, stdin=stdin)
    return ended.exit_code, ended.stdout, ended.stderr


def test_prints_what_the_command_prints_and_tells_how_it_ended(pyro: PyroCommand) -> None:
    ended = pyro("run", "debian:12", "--", "git", "--version")
    assert ended.exit_code == 0
    assert ended.stdout.startswith(b"git version 2.39")
    assert _RUN_LINE.search(ended.stderr)


def test_tells_where_the_time_went(pyro: PyroCommand) -> None:
    began = time.monotonic()
    ended = pyro("run", "debian:12", "--timings", "--json", "--", "true")
    seconds = time.monotonic() - began
    timings = json.loads(ended.stdout)["timings"]
    phases = {phase["phase"]: phase["ms"] for phase in timings["phases"]}
    assert set(phases) >= {
        "client",
        "daemon",
        "request",
        "vmm",
        "guest",
        "session",
        "command",
        "machine_gone",
        "delivery",
    }
    assert min(phases.values()) >= 0
    assert sum(phases.values()) == pytest.approx(timings["total_ms"])
    assert timings["total_ms"] <= seconds * 1000 + 10, "a clock tick more than it took"
    assert ended.stderr == ""


def test_the_guest_is_a_machine_of_its_own(pyro: PyroCommand) -> None:
    script = (
        "echo $$; cat /proc/sys/kernel/random/boot_id; id -u; hostname; pwd; nproc; cat /proc/1/comm;"
        " ls /sys/class/net; touch /etc/x /root/x"
    )
    code, stdout, stderr = run_sh(pyro, script, "--vcpu-count", "2")
    pid, boot, uid, hostname, folder, processors, init, *networks = stdout.decode().split()
    assert code == 0, stderr
    assert int(pid) > 1
    assert boot != Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (uid, folder, processors, init, networks) == ("0", "/", "2", "init", ["lo"])
    assert hostname.startswith("pyro-")


def test_memory_is_as_asked(pyro: PyroCommand) -> None:
    _, stdout, _ = run_sh(pyro, "grep MemTotal /proc/meminfo", "--mem-mib", "512")
    total_kib = int(stdout.split()[1])
    assert 400 * 1024 < total_kib < 512 * 1024


def test_a_processor_that_has_nothing_to_do_does_not_tick(pyro: PyroCommand) -> None:
    _, stdout, _ = run_sh(pyro, "grep nohz_mode /proc/timer_list", "--vcpu-count", "2")
    assert [line.split()[-1] for line in stdout.splitlines()] == [b"2", b"2"]  # NOHZ_MODE_HIGHRES


@pytest.mark.parametrize("code", [1, 42, 255])
def test_ends_with_the_commands_exit_code(pyro: PyroCommand, code: int) -> None:
    ended = run_sh(pyro, f"exit {code}")
    assert ended[0] == code
    assert _RUN_LINE.search(ended[2])


def test_ends_as_a_shell_would_after_a_signal(pyro: PyroCommand) -> None:
    assert run_sh(pyro, "kill -KILL $$")[0] == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("command", "exit_code", "code"),
    [
        (["no-such-command"], 127, "command_not_found"),
        (["/no/such/path"], 127, "command_not_found"),
        (["/etc/passwd"], 126, "command_not_executable"),
        (["/etc"], 126, "command_not_executable"),
    ],
)
def test_a_command_that_cannot_start(pyro: PyroCommand, command: list[str], exit_code: int, code: str) -> None:
    ended = pyro("run", "debian:12", "--", *command)
    assert ended.exit_code == exit_code
    assert f"[{code}]" in ended.stderr
    assert "hint:" in ended.stderr


def test_both_outputs_arrive_whole_and_apart(pyro: PyroCommand) -> None:
    script = "seq 200000 & seq 200001 400000 >&2; wait"
    code, stdout, stderr = run_sh(pyro, script)
    assert code == 0
    assert stdout == b"".join(b"%d\n" % number for number in range(1, 200001))
    lines = stderr.splitlines()
    assert lines[:-1] == [str(number) for number in range(200001, 400001)]


def test_input_goes_through_unchanged(pyro: PyroCommand) -> None:
    data = os.urandom(3 << 20)
    code, stdout, stderr = run_sh(pyro, "tee /dev/stderr 2>/root/copy; sha256sum </root/copy", stdin=data)
    assert code == 0, stderr
    assert stdout[: len(data)] == data
    assert stdout[len(data) :].split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_command_that_does_not_read_its_input_ends_all_the_same(pyro: PyroCommand) -> None:
    code, _, stderr = run_sh(pyro, "exit 3", stdin=bytes(8 << 20))
    assert code == 3, stderr


def test_output_appears_as_it_is_written(pyro: PyroCommand) -> None:
    process = pyro.start(
        "run", "debian:12", "--", "sh", "-c", "echo ready; read answer; echo got $answer", stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"ready\n"
        process.stdin.write(b"it\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got it\n"
        assert process.communicate()[0] == b""
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_whole_process_group(pyro: PyroCommand, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    # Both the shell and the process that it waits for are told, and the shell decides how to end.
    script = f"trap 'echo told; exit 7' {name}; echo ready; sleep 1000 & wait"
    process = pyro.start("run", "debian:12", "--", "sh", "-c", script)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.communicate()[0] == b"told\n"
    assert process.returncode == 7


def test_a_signal_gets_through_although_the_input_is_not_read(pyro: PyroCommand) -> None:
    process = pyro.start("run", "debian:12", "--", "sh", "-c", "echo ready; exec sleep 1000", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    os.set_blocking(process.stdin.fileno(), False)
    with process:
        assert process.stdout.readline() == b"ready\n"
        # More than every buffer on the way holds.
        written = 1
        while written:
            try:
                written = os.write(process.stdin.fileno(), bytes(1 << 20))
            except BlockingIOError:
                written = 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(patience(30)) == 128 + signal.SIGTERM


def test_a_third_interrupt_gives_up_on_a_command_that_ignores_two(pyro: PyroCommand) -> None:
    process = pyro.start(
        "run", "debian:12", "--", "sh", "-c", "trap 'echo no' INT; echo ready; while :; do sleep 1; done"
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"ready\n"
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == b"no\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(patience(30)) == 130


def test_a_time_out_ends_the_group_and_exits_124(pyro: PyroCommand) -> None:
    code, stdout, stderr = run_sh(pyro, "echo before; sleep 1000 & sleep 1000", "--timeout-seconds", "1")
    assert (code, stdout) == (124, b"before\n")
    assert "exit_code=124" in stderr


def test_a_time_out_ends_a_command_whose_output_nobody_takes(pyro: PyroCommand) -> None:
    below = pyro.daemon_pid()
    process = pyro.start("run", "debian:12", "--timeout-seconds", "1", "--", "yes")
    assert process.stdout is not None
    with process:
        assert process.stdout.read(2) == b"y\n"
        # Not reading on: the flood is held back all the way into the guest, and the machine goes all the same.
        wait_until(lambda: not named(descendants(below), VMM), 60)
        process.stdout.close()
        assert process.wait(patience(30)) in (124, 141)


def test_a_reader_that_goes_away_ends_the_run(pyro: PyroCommand) -> None:
    below = pyro.daemon_pid()
    process = pyro.start("run", "debian:12", "--timeout-seconds", "600", "--", "yes")
    assert process.stdout is not None
    with process:
        assert process.stdout.read(2) == b"y\n"
        process.stdout.close()
        assert process.wait(patience(30)) == 141
    wait_until(lambda: not named(descendants(below), VMM))


def test_a_machines_time_to_live_ends_it(pyro: PyroCommand) -> None:
    ended = pyro("run", "debian:12", "--ttl-seconds", "5", "--timeout-seconds", "600", "--", "sleep", "1000")
    assert ended.exit_code == 124
    assert "[ttl_expired]" in ended.stderr


def test_json_tells_everything_in_one_object(pyro: PyroCommand) -> None:
    ended = pyro("run", "debian:12", "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 5")
    result = json.loads(ended.stdout)
    assert ended.exit_code == 5
    assert ended.stderr == ""
    assert result.pop("duration_ms") > 0
    assert result == {
        "environment": "debian:12",
        "vmm": CHOSEN_VMM,
        "exit_code": 5,
        "timed_out": False,
        "stdout": "out\n",
        "stderr": "err\n",
    }


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["run", "debain:12", "--", "true"], "unknown_environment", "debian:12"),
        (["run", "debian:12"], "no_command", "--"),
        (["run", "debian:12", "--"], "no_command", "--"),
        (["run", "debian:12", "--mem-mib", "1", "--", "true"], "out_of_range", "--mem-mib"),
        (["run", "debian:12", "--mem-mib", "9999999", "--", "true"], "out_of_range", "--mem-mib"),
        (["run", "debian:12", "--vcpu-count", "0", "--", "true"], "out_of_range", "--vcpu-count"),
        (["run", "debian:12", "--vcpu-count", "1000", "--", "true"], "out_of_range", "--vcpu-count"),
        (["run", "debian:12", "--timeout-seconds", "0", "--", "true"], "out_of_range", "--timeout-seconds"),
        (["run", "debian:12", "--network", "--", "true"], "network_unsupported", "--network"),
        (["run", "debian:12", "--vcpu-count", "many", "--", "true"], "bad_usage", "--vcpu-count"),
        (["run", "debian:12", "--", b"\xff".decode(errors="surrogateescape")], "bad_command", "UTF-8"),
    ],
)
def test_bad_input_is_an_error_with_a_hint(pyro: PyroCommand, words: list[str], code: str, named: str) -> None:
    ended = pyro(*words)
    assert ended.exit_code == 1
    assert ended.stdout == b""
    assert f"[{code}]" in ended.stderr
    assert named in ended.stderr


def test_errors_are_json_too(pyro: PyroCommand) -> None:
    ended = pyro("run", "debain:12", "--json", "--", "true")
    error = json.loads(ended.stderr)["error"]
    assert ended.exit_code == 1
    assert error["code"] == "unknown_environment"
    assert "debian:12" in error["message"] + error["hint"]
