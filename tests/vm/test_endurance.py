"""Many runs, at the same time and one after the other, without a leak or a hang."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.pace import repeated
from tests.support.waiting import wait_until
from tests.vm.own_cache import trouble_with_templates
from tests.vm.pyro_command import PyroCommand, descendants, files_below, open_files

_RUNS = repeated(500)
_AT_ONCE = 16


@pytest.mark.slow
def test_many_runs_16_at_once_all_begin_as_copies_and_leave_nothing(pyro: PyroCommand) -> None:
    daemon = pyro.daemon_pid()
    cache = pyro.client.settings.cache_dir
    one_run(pyro, 0)
    before, trouble = snapshot(daemon, pyro.home, cache), trouble_with_templates(pyro.home)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda number: one_run(pyro, number), range(_RUNS)))
    wait_until(lambda: not descendants(daemon))
    after = snapshot(daemon, pyro.home, cache)
    assert pyro.daemon_pid() == daemon
    assert after == before
    assert trouble_with_templates(pyro.home) == trouble


def one_run(pyro: PyroCommand, number: int) -> None:
    """A run with output and exit code of its own, so that a mix-up would show."""
    script = f"echo {number}; echo {number} >&2; cat >/dev/null; exit {number % 100}"
    ended = pyro("run", "debian:12", "--timeout-seconds", "120", "--", "sh", "-c", script, stdin=b"input")
    assert (ended.exit_code, ended.stdout) == (number % 100, b"%d\n" % number), ended.stderr
    assert str(number) in ended.stderr.splitlines()  # beside what a run may tell of its host


def snapshot(daemon: int, home: Path, cache: Path) -> tuple[object, ...]:
    """Open descriptors, files and disk space; the daemon's log may grow, and so may its databases' own logs."""
    growing = ("daemon.log", "state.db", "history.db")
    in_home = {name: size for name, size in files_below(home).items() if not name.startswith(growing)}
    # The cache is the user's own: which workspaces of whatever home use an image may change meanwhile.
    in_cache = {name: size for name, size in files_below(cache).items() if not name.startswith("uses/")}
    return open_files(daemon), in_home, in_cache
