"""A template's figures in words."""

from dataclasses import replace

import pytest

from pyro_mcp.models import TemplateFacts

FACTS = TemplateFacts("debian:12", "abc", "qemu", 1, 1024, "2026-01-02T03:04:05+00:00", boot_ms=1730, copy_ms=118)


@pytest.mark.parametrize(
    ("boot_ms", "copy_ms", "saved_ms", "words"),
    [
        (None, 118, None, "what it saves is not known"),
        (1730, 118, 1612, "saves 1.6 s per machine (0.12 s instead of 1.7 s)"),
        (1730, None, None, "no machine has begun from it yet; booting took 1.7 s"),
        (200, 250, -50, "saves nothing (0.25 s instead of 0.20 s)"),
        (200, 200, 0, "saves nothing (0.20 s instead of 0.20 s)"),
        (61_300, 9_000, 52_300, "saves 52.3 s per machine (9.0 s instead of 61.3 s)"),
    ],
)
def test_what_it_saves(boot_ms: int | None, copy_ms: int | None, saved_ms: int | None, words: str) -> None:
    facts = replace(FACTS, boot_ms=boot_ms, copy_ms=copy_ms)
    assert (facts.saved_ms, facts.saving) == (saved_ms, words)


def test_what_machines_begin_from_it() -> None:
    assert FACTS.machine == "debian:12, 1 vCPU, 1024 MiB, qemu, for workspaces"
    other = replace(FACTS, environment=None, vcpu_count=2, throwaway=True)
    assert other.machine == "an image without a name, 2 vCPUs, 1024 MiB, qemu, for runs"
