"""Packages that import what they offer when it is first wanted: nothing earlier, and nothing is missing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from pyro_mcp import models, sdk, workspace_models
from pyro_mcp.late import names_from

PACKAGES = (models, workspace_models, sdk)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package that offers `THING` of one module and breaks its promise of `OTHER`."""
    folder = tmp_path / "late_example"
    folder.mkdir()
    homes = {".things": ("THING", "OTHER")}
    (folder / "__init__.py").write_text(
        f"from pyro_mcp.late import names_from\n__getattr__ = names_from(__name__, {homes})\n"
    )
    (folder / "things.py").write_text("THING = object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("late_example")
    for name in ("late_example", "late_example.things"):
        sys.modules.pop(name, None)


def test_a_module_is_imported_when_a_name_of_it_is_wanted(package: ModuleType) -> None:
    assert "late_example.things" not in sys.modules
    thing = package.THING
    assert thing is sys.modules["late_example.things"].THING
    assert vars(package)["THING"] is thing


@pytest.mark.parametrize("name", ["nonsense", "__path_of_nothing__", "OTHER"])
def test_a_name_that_is_not_there(package: ModuleType, name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(package, name)
    with pytest.raises(ImportError, match=name):
        exec(f"from late_example import {name}")  # noqa: S102


def test_names_of_modules_elsewhere() -> None:
    assert names_from("pyro_mcp.sdk", {"pyro_mcp.models": ("Progress",)})("Progress") is models.Progress


@pytest.mark.parametrize("package", [models, workspace_models], ids=lambda package: package.__name__)
def test_everything_public_is_offered(package: ModuleType) -> None:
    for path in Path(str(package.__file__)).parent.glob("[!_]*.py"):
        module = import_module(f"{package.__name__}.{path.stem}")
        for name, value in vars(module).items():
            belongs_here = getattr(value, "__module__", module.__name__) == module.__name__
            if name[0] != "_" and belongs_here and not isinstance(value, ModuleType):
                assert getattr(package, name) is value, name


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_importing_a_package_imports_none_of_its_modules(package: ModuleType) -> None:
    script = f"import sys, json, {package.__name__}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    loaded = {name for name in json.loads(done.stdout) if name.startswith("pyro_mcp")}
    assert loaded == {"pyro_mcp", "pyro_mcp.version", "pyro_mcp.late", package.__name__}
