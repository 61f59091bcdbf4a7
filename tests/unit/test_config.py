"""Settings come from the environment, and a bad one names its variable."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp.config import MOST_READY, SWITCH, VMM_CHOICES, Settings
from pyro_mcp.errors import InvalidRequest

HOME = {"HOME": "/home/ada"}


def test_the_defaults_are_the_xdg_folders() -> None:
    settings = Settings.from_environment(HOME)
    assert settings == Settings(
        home=Path("/home/ada/.local/state/pyro"),
        cache_dir=Path("/home/ada/.cache/pyro"),
        runtime_bundle_dir=None,
        vmm="auto",
        templates="on",
    )


def test_xdg_variables_move_the_folders() -> None:
    settings = Settings.from_environment({**HOME, "XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c"})
    assert (settings.home, settings.cache_dir) == (Path("/s/pyro"), Path("/c/pyro"))


@pytest.mark.parametrize("ignored", ["", "relative/path", "~/state"])
def test_xdg_values_that_are_not_absolute_are_ignored_as_the_specification_says(ignored: str) -> None:
    settings = Settings.from_environment({**HOME, "XDG_STATE_HOME": ignored, "XDG_CACHE_HOME": ignored})
    assert settings == Settings.from_environment(HOME)


def test_own_variables_win_over_xdg_and_need_no_home(tmp_path: Path) -> None:
    settings = Settings.from_environment(
        {
            "PYRO_HOME": "/h",
            "PYRO_CACHE_DIR": "/c",
            "PYRO_RUNTIME_BUNDLE_DIR": str(tmp_path),
            "PYRO_VMM": "qemu",
            "PYRO_TEMPLATES": "off",
            "PYRO_POOL": "3",
            "XDG_STATE_HOME": "/other",
            "XDG_CACHE_HOME": "/other",
        }
    )
    assert settings == Settings(Path("/h"), Path("/c"), tmp_path, "qemu", "off", 3)


@pytest.mark.parametrize(
    "name", ["PYRO_HOME", "PYRO_CACHE_DIR", "PYRO_RUNTIME_BUNDLE_DIR", "PYRO_VMM", "PYRO_TEMPLATES", "PYRO_POOL"]
)
def test_an_empty_variable_is_as_good_as_none(name: str) -> None:
    assert Settings.from_environment({**HOME, name: ""}) == Settings.from_environment(HOME)


@pytest.mark.parametrize("vmm", VMM_CHOICES)
def test_every_vmm_can_be_chosen(vmm: str) -> None:
    assert Settings.from_environment({**HOME, "PYRO_VMM": vmm}).vmm == vmm


def test_this_process_is_where_the_variables_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_HOME", "/from/this/process")
    assert Settings.from_environment().home == Path("/from/this/process")


@pytest.mark.parametrize("name", ["PYRO_HOME", "PYRO_CACHE_DIR", "PYRO_RUNTIME_BUNDLE_DIR"])
@pytest.mark.parametrize("value", ["relative", "./x", "~/x", "a\0b", "/a\0b", "/" + "x" * 300, "/" + "x/" * 4000])
def test_a_bad_folder_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Settings.from_environment({**HOME, name: value})
    assert caught.value.code == "bad_setting"
    assert name in caught.value.message
    assert name in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["PYRO_HOME", "PYRO_CACHE_DIR", "PYRO_RUNTIME_BUNDLE_DIR"])
@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_file_where_a_folder_is_wanted_names_the_variable(name: str, below: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    value = f"{tmp_path}/file{below}"
    if below:
        # Nothing there yet: whoever makes the folder will find out, and says so then.
        assert str(tmp_path) in Settings.from_environment({**HOME, name: value}).describe()
        return
    with pytest.raises(InvalidRequest) as caught:
        Settings.from_environment({**HOME, name: value})
    assert name in caught.value.message


@pytest.mark.parametrize("value", ["kvm", "QEMU", "qemu ", "0"])
def test_an_unknown_vmm_names_the_variable_and_what_it_may_be(value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Settings.from_environment({**HOME, "PYRO_VMM": value})
    assert caught.value.code == "bad_setting"
    assert "PYRO_VMM" in caught.value.message
    for choice in VMM_CHOICES:
        assert choice in (caught.value.hint or "")


@pytest.mark.parametrize("value", ["yes", "ON", "0", "auto"])
def test_templates_are_on_or_off(value: str) -> None:
    with pytest.raises(InvalidRequest, match="PYRO_TEMPLATES") as caught:
        Settings.from_environment({**HOME, "PYRO_TEMPLATES": value})
    assert (caught.value.code, caught.value.hint) == ("bad_setting", "set PYRO_TEMPLATES to one of: on, off")


@pytest.mark.parametrize("value", ["5", "-1", "on", "1.0", "01", " 1"])
def test_the_size_of_the_pool_is_bounded(value: str) -> None:
    with pytest.raises(InvalidRequest, match="PYRO_POOL") as caught:
        Settings.from_environment({**HOME, "PYRO_POOL": value})
    assert (caught.value.code, caught.value.hint) == ("bad_setting", "set PYRO_POOL to a number from 0 to 4")


def test_a_chat_host_and_a_terminal_share_a_daemon_whatever_they_want_of_the_pool() -> None:
    one, none = (Settings.from_environment({**HOME, "PYRO_POOL": value}) for value in "10")
    assert (one.pool, none.pool) == (1, 0)
    assert one.describe() == none.describe()


@pytest.mark.parametrize("home", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_with_no_home_at_all_the_variable_to_set_is_named(home: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="PYRO_HOME"):
        Settings.from_environment(home)
    with pytest.raises(InvalidRequest, match="PYRO_CACHE_DIR"):
        Settings.from_environment({**home, "PYRO_HOME": "/h"})


_path = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).map(
    lambda name: Path("/nowhere") / name.strip("/")
)
_settings = st.builds(Settings, _path, _path, st.none() | _path, st.sampled_from(VMM_CHOICES), st.sampled_from(SWITCH))
_with_pool = st.builds(replace, _settings, pool=st.integers(0, MOST_READY))


@given(_with_pool)
def test_another_process_reads_the_same_settings(settings: Settings) -> None:
    assert Settings.from_environment(settings.to_environment()) == settings


@given(_settings, _settings)
def test_descriptions_are_equal_exactly_when_the_settings_are(one: Settings, other: Settings) -> None:
    assert (one.describe() == other.describe()) == (one == other)


def test_settings_that_only_look_alike_have_different_descriptions() -> None:
    one = Settings(Path("/a cache_dir=/b"), Path("/c"), None, "auto")
    other = Settings(Path("/a"), Path("/b cache_dir=/c"), None, "auto")
    assert one.describe() != other.describe()


def test_a_folder_that_somebody_makes_meanwhile_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, really_stat = tmp_path / "home", Path.stat

    def made_after_a_look(path: Path, **options: bool) -> os.stat_result:
        try:
            return really_stat(path, **options)
        finally:
            os.makedirs(home, exist_ok=True)  # which looks in another way

    monkeypatch.setattr(Path, "stat", made_after_a_look)
    assert Settings.from_environment({"HOME": str(tmp_path), "PYRO_HOME": str(home)}).home == home
