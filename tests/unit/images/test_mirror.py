from pathlib import Path

import pytest

from pyro_mcp import apt
from pyro_mcp.apt import DebianSources
from pyro_mcp.errors import HostUnfit, InvalidRequest, SourceFailed
from pyro_mcp.images import mirror

INDEX = "-----BEGIN PGP SIGNED MESSAGE-----\n\nOrigin: Debian\nDate: {}\n"
OLD, NEW = "Sat, 10 Jun 2023 09:00:00 UTC", "Sat, 11 Jul 2026 10:16:37 UTC"
NEW_SECONDS = 1783764997


def index(archive: Path, suite: str, date: str) -> None:
    folder = archive / "dists" / suite
    folder.mkdir(parents=True)
    (folder / "InRelease").write_text(INDEX.format(date))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://mirror.invalid/debian",
        "mirror.invalid/debian",
        "http:///debian",
        "http://mirror.invalid/debian main",
        "http://mirror.invalid/debian\nmain",
        "http://mirror.invalid/[trusted=yes]",
        "http://mirror.invalid/debian?x=1",
        "http://mirror.invalid/debian#x",
        "http://[::1",
        "file://host/debian",
        "file:///no/such/folder",
        "copy:relative",
        "",
    ],
)
def test_what_can_be_no_mirror_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        mirror.checked_url(url)
    assert caught.value.code == "bad_source"
    assert caught.value.hint


def test_addresses_come_out_as_apt_wants_them(tmp_path: Path) -> None:
    assert mirror.checked_url("https://mirror.invalid:8080/debian/") == "https://mirror.invalid:8080/debian"
    assert mirror.checked_url(f"file://{tmp_path}/") == f"copy://{tmp_path}"
    assert mirror.checked_url(f"copy:{tmp_path}") == f"copy://{tmp_path}"


async def test_a_named_mirror_is_used_with_all_that_it_has(tmp_path: Path) -> None:
    archive, security = tmp_path / "debian", tmp_path / "debian-security"
    index(archive, "bookworm", OLD)
    index(archive, "bookworm-updates", OLD)
    index(security, "bookworm-security", NEW)
    found = await mirror.resolve(f"copy://{archive}", "bookworm", tmp_path)
    key = f"deb [signed-by={apt.KEYRING}]"
    assert found.entries == (
        f"{key} copy://{archive} bookworm main",
        f"{key} copy://{archive} bookworm-updates main",
        f"{key} copy://{security} bookworm-security main",
    )
    assert found.date == NEW_SECONDS
    assert found.notes == ()


async def test_a_named_mirror_may_lack_everything_but_the_suite(tmp_path: Path) -> None:
    index(tmp_path / "debian", "bookworm", NEW)
    found = await mirror.resolve(f"copy://{tmp_path}/debian", "bookworm", tmp_path)
    assert len(found.entries) == 1
    assert found.notes == ("the mirror has no bookworm-updates", "the mirror has no bookworm-security")


async def test_a_named_mirror_without_the_suite_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed) as caught:
        await mirror.resolve(f"copy://{tmp_path}", "bookworm", tmp_path)
    assert caught.value.code == "source_failed"
    assert "dists/bookworm/InRelease" in caught.value.message


async def test_an_index_without_a_date_is_none(tmp_path: Path) -> None:
    index(tmp_path / "debian", "bookworm", "")
    (tmp_path / "debian/dists/bookworm/InRelease").write_text("<html>")
    with pytest.raises(SourceFailed, match="not an archive's index"):
        await mirror.resolve(f"copy://{tmp_path}/debian", "bookworm", tmp_path)


async def test_an_index_with_a_senseless_date_is_none(tmp_path: Path) -> None:
    index(tmp_path / "debian", "bookworm", "once upon a time")
    with pytest.raises(SourceFailed, match="not an archive's index"):
        await mirror.resolve(f"copy://{tmp_path}/debian", "bookworm", tmp_path)


async def test_the_hosts_own_mirrors_come_with_how_to_reach_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(tmp_path / "debian", "bookworm", NEW)
    entry = f"deb [signed-by={apt.KEYRING}] copy://{tmp_path}/debian bookworm main"

    async def configured(suite: str) -> DebianSources:
        assert suite == "bookworm"
        return DebianSources((entry,), ('Acquire::Check-Date "false";',))

    monkeypatch.setattr(apt, "debian_sources", configured)
    found = await mirror.resolve(None, "bookworm", tmp_path)
    assert (found.entries, found.options) == ((entry,), ('Acquire::Check-Date "false";',))
    assert found.origin == f"copy://{tmp_path}/debian bookworm"


async def test_a_host_without_a_mirror_is_told_of_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unconfigured(suite: str) -> DebianSources:
        raise HostUnfit("no_debian_mirror", f"no {suite}", "add one")

    monkeypatch.setattr(apt, "debian_sources", unconfigured)
    with pytest.raises(HostUnfit) as caught:
        await mirror.resolve(None, "bookworm", tmp_path)
    assert caught.value.code == "no_debian_mirror"
    assert "--source URL" in str(caught.value.hint)


async def test_without_debians_keys_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "KEYRING", tmp_path / "missing.gpg")
    with pytest.raises(HostUnfit) as caught:
        await mirror.resolve(None, "bookworm", tmp_path)
    assert caught.value.code == "no_debian_keys"


def test_passwords_are_not_shown() -> None:
    archives = mirror.Archives(("deb [signed-by=/k] http://me:secret@mirror.invalid/debian bookworm main",), (), 0)
    assert archives.origin == "http://mirror.invalid/debian bookworm"
