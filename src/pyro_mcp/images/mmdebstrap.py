"""Reads what mmdebstrap says: how far it is, and why it failed.

Its words are those of apt and dpkg under LC_ALL=C.UTF-8, passed on line by line with `--verbose`. Packages come in two
rounds, the essential ones first, and each round downloads and then installs.
"""

import re

from pyro_mcp.errors import PyroError, SourceFailed
from pyro_mcp.images.mirror import without_password
from pyro_mcp.images.rootfs import no_disk_space, says_no_space
from pyro_mcp.images.source import Reporter

_COUNTED = re.compile(r"^\d+ upgraded, (\d+) newly installed")
# apt numbers its downloads per round: `Get:12 http://host/debian bookworm/main amd64 git amd64 1:2.39 [1234 kB]`.
_FETCHED = re.compile(r"^Get:\d+ \S+ \S+ \S+ (\S+) \S+ (\S+) \[")
_INDEX = re.compile(r"^Get:\d+ \S+ (\S+) InRelease")
_SET_UP = re.compile(r"^Setting up ([^ :]+)")
_RETRY = "try again, or name another mirror: pyro env pull ENV --source URL"
_DISTRUST = "the mirror may be broken or forged: name another with pyro env pull ENV --source URL"
_UNTRUSTED = "the mirror's signature does not hold: {}"
# (pattern, code, sentence, hint), the likeliest cause of the others first.
_CAUSES = (
    (r"^(?:[EW]: )?(GPG error: .*)$", "source_untrusted", _UNTRUSTED, _DISTRUST),
    (r"^(?:[EW]: )?(The repository .* is not signed\.)$", "source_untrusted", _UNTRUSTED, _DISTRUST),
    (r"^E: (Release file for .* is (?:expired|not valid yet).*)$", "source_untrusted", _UNTRUSTED, _DISTRUST),
    (r"^E: Failed to fetch (\S+)\s+(.*)$", "source_failed", "{} could not be fetched: {}", _RETRY),
    (r"^E: (Unable to locate package \S+)$", "source_failed", "the mirror is incomplete: {}", _RETRY),
    (r"^E: (Package .* has no installation candidate)$", "source_failed", "the mirror is incomplete: {}", _RETRY),
    (r"^(?:W: Failed to fetch|Err:\d+) (.+)$", "source_failed", "{} could not be fetched", _RETRY),
)
# Lines about what ended because something else did.
_AFTERMATH = re.compile(
    r"^E: (Unable to fetch some archives|Download Failed|run_chroot failed|setup failed|.*exit status)"
)
_MAX_WORDS = 400


class Follower:
    """Turns lines into progress. `download` and `install` count packages; `install` counts over both rounds."""

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._round = 0
        self._round_fetched = 0
        self._wanted = 0
        self._set_up: set[str] = set()

    def line(self, line: str) -> None:
        if index := _INDEX.match(line):
            self._report("resolve", index[1])
        elif counted := _COUNTED.match(line):
            self._round, self._round_fetched = int(counted[1]), 0
            self._wanted += self._round
        elif self._round and (fetched := _FETCHED.match(line)):
            self._round_fetched = min(self._round_fetched + 1, self._round)
            self._count("download", f"{fetched[1]} {fetched[2]}", self._round_fetched, self._round)
        elif set_up := _SET_UP.match(line):
            self._set_up.add(set_up[1])
            self._count("install", set_up[1], min(len(self._set_up), self._wanted), self._wanted)

    def _count(self, phase: str, detail: str, done: int, total: int) -> None:
        self._report(phase, detail, done=done, total=total, unit="packages")


def failure(exit_code: int, lines: tuple[str, ...]) -> PyroError:
    """The error for an mmdebstrap that ended with this code after these last lines: its cause, in a line or two."""
    if says_no_space(lines):
        return no_disk_space("the disk filled up while packages were installed")
    for pattern, code, sentence, hint in _CAUSES:
        if found := next((found for line in lines if (found := re.match(pattern, line.strip()))), None):
            return SourceFailed(code, _clean(sentence.format(*found.groups())), hint)
    errors = [line for line in lines if line.startswith(("E: ", "dpkg: error")) and not _AFTERMATH.match(line)]
    words = (errors or [line for line in lines if line.strip()] or ["it said nothing"])[-1]
    return SourceFailed("source_failed", _clean(f"mmdebstrap ended with code {exit_code}: {words}"), _RETRY)


def _clean(words: str) -> str:
    """One line without passwords, cut where it gets too long to read."""
    line = without_password(" ".join(words.split()))
    return line if len(line) <= _MAX_WORDS else f"{line[:_MAX_WORDS]}..."
