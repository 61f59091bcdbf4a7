"""Against stand-ins for apt's programs: what the real ones say depends on the machine."""

from pathlib import Path

import pytest

from pyro_mcp import apt
from pyro_mcp.errors import HostUnfit, SourceFailed

MAIN = "Debian\tbookworm\tmain\thttp://mirror.invalid/debian/"
UPDATES = "Debian\tbookworm-updates\tmain\thttp://mirror.invalid/debian/"
SECURITY = "Debian\tbookworm-security\tmain\thttp://mirror.invalid/debian-security/"
KEY = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"


class FakeApt:
    """`apt-get` and `apt-config` as the only programs in PATH. Rows with "fetched" show only after an update."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def knows(self, *rows: str, fetched: tuple[str, ...] = ()) -> None:
        lines = "".join(f"echo '{row}'\n" for row in rows)
        after = "".join(f"echo '{row}'\n" for row in fetched)
        # The update must go into a folder of the caller's own, never into the system's.
        self.program(
            "apt-get",
            f"""
            for word; do case $word in Dir::State::lists=*) lists=${{word#*=}};; esac; done
            case "$*" in
                *update*) [ -d "$lists/partial" ] || exit 9; : > "$lists/index";;
                *) {lines or ":"}
                   if [ -n "$lists" ] && [ -e "$lists/index" ]; then
                   {after or ":"}
                   fi;;
            esac""",
        )

    def is_configured(self, *lines: str) -> None:
        self.program("apt-config", "".join(f"echo '{line}'\n" for line in lines))

    def program(self, name: str, script: str) -> None:
        (self._folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (self._folder / name).chmod(0o755)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeApt:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    fake = FakeApt(tmp_path)
    fake.is_configured()
    return fake


async def test_the_hosts_mirrors_are_used_with_debians_keys(fake: FakeApt) -> None:
    fake.knows(SECURITY, MAIN, UPDATES, MAIN)
    assert (await apt.debian_sources("bookworm")).entries == (
        f"deb {KEY} http://mirror.invalid/debian/ bookworm main",
        f"deb {KEY} http://mirror.invalid/debian/ bookworm-updates main",
        f"deb {KEY} http://mirror.invalid/debian-security/ bookworm-security main",
    )


async def test_a_host_of_another_release_lends_its_mirrors(fake: FakeApt) -> None:
    fake.knows(MAIN.replace("bookworm", "trixie"), SECURITY.replace("bookworm", "trixie"))
    assert (await apt.debian_sources("bookworm")).entries == (
        f"deb {KEY} http://mirror.invalid/debian/ bookworm main",
        f"deb {KEY} http://mirror.invalid/debian-security/ bookworm-security main",
    )


async def test_other_projects_archives_and_other_pockets_are_left_out(fake: FakeApt) -> None:
    fake.knows(
        MAIN,
        "Docker\tbookworm\tmain\thttp://docker.invalid/",
        "Debian\tbookworm-backports\tmain\thttp://mirror.invalid/debian/",
        "Debian\tbookworm\tcontrib\thttp://mirror.invalid/debian/",
        "\t\t\thttp://nameless.invalid/",
    )
    assert (await apt.debian_sources("bookworm")).entries == (f"deb {KEY} http://mirror.invalid/debian/ bookworm main",)


def left_behind(folder: Path) -> list[Path]:
    return list(folder.glob("pyro-apt-*"))


async def test_a_host_without_indexes_fetches_them_for_itself(fake: FakeApt, tmp_path: Path) -> None:
    fake.knows(fetched=(MAIN,))
    assert (await apt.debian_sources("bookworm")).entries == (f"deb {KEY} http://mirror.invalid/debian/ bookworm main",)
    assert left_behind(tmp_path) == []


async def test_a_host_without_debian_is_told_what_to_add(fake: FakeApt) -> None:
    fake.knows("Ubuntu\tnoble\tmain\thttp://mirror.invalid/ubuntu/", SECURITY)
    with pytest.raises(HostUnfit) as caught:
        await apt.debian_sources("bookworm")
    assert caught.value.code == "no_debian_mirror"
    assert "sources.list.d" in str(caught.value.hint)


async def test_only_what_concerns_the_way_to_the_mirror_is_passed_on(fake: FakeApt) -> None:
    fake.knows(MAIN)
    passed = (
        'Acquire::http::Proxy "http://proxy.invalid:3128";',
        'Acquire::https::mirror.invalid::CaInfo "/etc/ours.pem";',
        'Acquire::Check-Valid-Until "false";',
        'Acquire::Retries "3";',
    )
    fake.is_configured('Acquire "";', 'Acquire::http "";', *passed, 'Acquire::Languages:: "none";')
    assert (await apt.debian_sources("bookworm")).options == passed


async def test_a_mirror_that_fails_is_told_by_its_first_error(fake: FakeApt) -> None:
    fake.program("apt-get", "echo 'W: odd' >&2; echo 'E: Failed to fetch it' >&2; echo 'E: Some failed' >&2; exit 100")
    with pytest.raises(SourceFailed, match="apt-get ended with code 100: E: Failed to fetch it") as caught:
        await apt.debian_sources("bookworm")
    assert caught.value.hint


async def test_a_machine_without_apt_is_unfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostUnfit, match="no apt-get") as caught:
        await apt.debian_sources("bookworm")
    assert caught.value.code == "no_apt"
