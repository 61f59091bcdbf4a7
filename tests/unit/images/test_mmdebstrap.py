"""The words are those that mmdebstrap 1.3.5 with apt 2.6 said when these things happened."""

import pytest

from pyro_mcp.errors import HostUnfit, SourceFailed
from pyro_mcp.images.mmdebstrap import Follower, failure
from pyro_mcp.images.source import Reporter
from pyro_mcp.models import Progress


def follow(*lines: str) -> list[Progress]:
    seen: list[Progress] = []
    follower = Follower(Reporter("debian:12", seen.append))
    for line in lines:
        follower.line(line)
    return seen


def test_both_rounds_are_counted() -> None:
    seen = follow(
        "I: running apt-get update...",
        "Get:1 http://mirror.invalid/debian bookworm InRelease [151 kB]",
        "Get:4 http://mirror.invalid/debian bookworm/main amd64 Packages [8790 kB]",
        "I: downloading packages with apt...",
        "0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.",
        "Get:1 http://mirror.invalid/debian bookworm/main amd64 libc6 amd64 2.36-9+deb12u14 [2759 kB]",
        "Get:2 http://mirror.invalid/debian bookworm/main amd64 sed amd64 4.9-1+deb12u1 [329 kB]",
        "Setting up libc6:amd64 (2.36-9+deb12u14) ...",
        "Setting up libc6:amd64 (2.36-9+deb12u14) ...",
        "Setting up sed (4.9-1+deb12u1) ...",
        "0 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.",
        "Get:1 http://mirror.invalid/debian bookworm/main amd64 git amd64 1:2.39.5 [7264 kB]",
        "Setting up git (1:2.39.5-0+deb12u3) ...",
    )
    assert [(each.phase, each.detail, each.done, each.total) for each in seen] == [
        ("resolve", "bookworm", None, None),
        ("download", "libc6 2.36-9+deb12u14", 1, 2),
        ("download", "sed 4.9-1+deb12u1", 2, 2),
        ("install", "libc6", 1, 2),
        ("install", "libc6", 1, 2),
        ("install", "sed", 2, 2),
        ("download", "git 1:2.39.5", 1, 1),
        ("install", "git", 3, 3),
    ]
    assert {each.operation for each in seen} == {"pull"}
    assert {each.environment for each in seen} == {"debian:12"}


def test_a_count_never_passes_its_total() -> None:
    package = "Get:1 http://mirror.invalid/debian bookworm/main amd64 git amd64 1:2.39.5 [7264 kB]"
    seen = follow(
        "0 upgraded, 1 newly installed, 0 to remove", package, package, "Setting up a (1)", "Setting up b (1)"
    )
    assert [(each.done, each.total) for each in seen] == [(1, 1)] * 4


@pytest.mark.parametrize(
    ("lines", "code", "words"),
    [
        (
            (
                "E: Failed to fetch http://u:secret@m.invalid/pool/g/git_2.deb  404  Not Found [IP: 203.0.113.1 80]",
                "E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?",
                "E: run_chroot failed: E: apt-get exited with status 100",
            ),
            "source_failed",
            "http://m.invalid/pool/g/git_2.deb could not be fetched: 404 Not Found [IP: 203.0.113.1 80]",
        ),
        (
            (
                "Err:1 http://m.invalid/debian bookworm InRelease",
                "  The following signatures couldn't be verified: NO_PUBKEY 0E98404D386FA1D9",
                "W: GPG error: http://m.invalid/debian bookworm InRelease: NO_PUBKEY 0E98404D386FA1D9",
                "E: The repository 'http://m.invalid/debian bookworm InRelease' is not signed.",
            ),
            "source_untrusted",
            "the mirror's signature does not hold: GPG error: http://m.invalid/debian bookworm InRelease: "
            "NO_PUBKEY 0E98404D386FA1D9",
        ),
        (
            ("E: The repository 'http://m.invalid/debian bookworm Release' is not signed.",),
            "source_untrusted",
            "the mirror's signature does not hold: The repository 'http://m.invalid/debian bookworm Release' is not "
            "signed.",
        ),
        (
            ("E: Unable to locate package ripgrep", "E: apt-get exited with status 100"),
            "source_failed",
            "the mirror is incomplete: Unable to locate package ripgrep",
        ),
        (
            ("Err:1 http://m.invalid/debian bookworm InRelease", "  Connection failed", "E: setup failed: E: 100"),
            "source_failed",
            "http://m.invalid/debian bookworm InRelease could not be fetched",
        ),
        (
            ("dpkg: error processing package foo (--configure):", "E: run_chroot failed: E: env exited with status 1"),
            "source_failed",
            "mmdebstrap ended with code 3: dpkg: error processing package foo (--configure):",
        ),
        ((), "source_failed", "mmdebstrap ended with code 3: it said nothing"),
        (("", "Terminated", ""), "source_failed", "mmdebstrap ended with code 3: Terminated"),
    ],
)
def test_a_failure_says_its_cause(lines: tuple[str, ...], code: str, words: str) -> None:
    error = failure(3, lines)
    assert isinstance(error, SourceFailed)
    assert (error.code, error.message) == (code, words)
    assert "--source URL" in str(error.hint)


@pytest.mark.parametrize(
    "line",
    [
        "tar: ./usr/lib/x.so: Cannot write: No space left on device",
        "E: You don't have enough free space in /x/var/cache/apt/archives/.",
        "E: Write error - write (28: No space left on device)",
    ],
)
def test_a_full_disk_is_told_apart(line: str) -> None:
    error = failure(1, (line, "E: something else"))
    assert isinstance(error, HostUnfit)
    assert error.code == "no_disk_space"


def test_words_stay_readable() -> None:
    assert len(failure(1, ("E: " + "x" * 10_000,)).message) < 500
