from pathlib import Path

import pytest

from pyro_mcp.doctor import isolation
from pyro_mcp.doctor.report import Status


@pytest.fixture
def settings_folder(tmp_path: Path) -> Path:
    for name, value in (("user/max_user_namespaces", "1000"), ("kernel/unprivileged_userns_clone", "1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    return tmp_path


@pytest.fixture
def with_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bwrap").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.parametrize(("root", "user"), [(True, "a user of its own"), (False, "the ordinary user")])
@pytest.mark.parametrize(("groups", "bounds"), [(True, "in a control group"), (False, "by a resource limit alone")])
def test_full_isolation_is_named(settings_folder: Path, root: bool, user: str, groups: bool, bounds: str) -> None:
    row = isolation.row_for(None, runs_as_root=root, has_groups=groups, settings=settings_folder)
    assert row.status is Status.PASS
    assert row.found.startswith("full: ")
    assert user in row.found
    assert bounds in row.found


def test_without_bubblewrap_it_is_to_be_installed(
    settings_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    row = isolation.row_for("bubblewrap is not installed", runs_as_root=True, has_groups=True, settings=settings_folder)
    assert row.status is Status.WARN
    assert row.found.startswith("weak: ")
    assert "this whole machine" in row.found
    assert (row.mend or "").endswith("apt-get install bubblewrap")


@pytest.mark.usefixtures("with_bubblewrap")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user/max_user_namespaces", "0"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ],
)
def test_the_setting_that_forbids_namespaces_is_named(settings_folder: Path, name: str, value: str) -> None:
    (settings_folder / name).write_text(value)
    row = isolation.row_for("no permission", runs_as_root=False, has_groups=True, settings=settings_folder)
    assert row.status is Status.WARN
    assert "what this user may do: no permission" in row.found
    assert f"sysctl {name.replace('/', '.')}=" in (row.mend or "")


@pytest.mark.usefixtures("with_bubblewrap")
def test_with_no_setting_to_blame_it_is_what_the_machine_runs_in(settings_folder: Path) -> None:
    row = isolation.row_for("no permission", runs_as_root=False, has_groups=True, settings=settings_folder)
    assert "--security-opt" in (row.mend or "")
