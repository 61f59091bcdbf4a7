from pathlib import Path
from typing import Any

import pytest

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.runtime import crates


def package(root: Path, name: str, licence: str | None = "MIT OR Apache-2.0", **texts: str) -> dict[str, Any]:
    folder = root / name
    folder.mkdir()
    for file, text in texts.items():
        (folder / file.replace("_", "-")).write_text(text)
    manifest = str(folder / "Cargo.toml")
    return {"id": name, "name": name, "version": "1.0", "license": licence, "manifest_path": manifest}


def node(name: str, **deps: str | None) -> dict[str, Any]:
    edges = [{"pkg": dep, "dep_kinds": [{"kind": kind}]} for dep, kind in deps.items()]
    return {"id": name, "deps": edges}


def test_only_what_is_linked_is_listed(tmp_path: Path) -> None:
    metadata = {
        "packages": [
            package(tmp_path, "agent"),
            package(tmp_path, "direct", LICENSE_MIT="mit text\n", LICENSE_APACHE="apache text"),
            package(tmp_path, "deep", None, COPYING="own text"),
            package(tmp_path, "builder"),
            package(tmp_path, "tester"),
        ],
        "resolve": {
            "root": "agent",
            "nodes": [
                node("agent", direct=None, builder="build", tester="dev"),
                node("direct", deep=None),
                node("deep", direct=None),
                node("builder"),
                node("tester"),
            ],
        },
    }
    assert crates.crates_of(metadata) == (
        crates.Crate("deep", "1.0", "see its licence file", "own text"),
        crates.Crate("direct", "1.0", "MIT OR Apache-2.0", "mit text"),
    )


def test_the_agents_version_comes_from_its_package(tmp_path: Path) -> None:
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "agent"\nversion = "7.1.0"\n')
    assert crates.agent_version(tmp_path) == "7.1.0"


@pytest.mark.parametrize("text", [None, "[package", "[dependencies]"])
def test_a_folder_that_is_no_crate_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "Cargo.toml").write_text(text)
    with pytest.raises(InvalidRequest, match=str(tmp_path)) as caught:
        crates.agent_version(tmp_path)
    assert caught.value.code == "no_agent_source"
