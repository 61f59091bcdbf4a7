"""The agent's version, and the Rust crates that are linked into it with their licences."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.runtime.tool import run_tool

_TARGET = "x86_64-unknown-linux-gnu"
_TEXTS = ("LICENSE*", "LICENCE*", "COPYING*", "COPYRIGHT*", "NOTICE*")
_METADATA_BYTES = 64 << 20


@dataclass(frozen=True)
class Crate:
    """A crate; `licence` is an SPDX expression, and `text` what its licence files say."""

    name: str
    version: str
    licence: str
    text: str


def agent_version(agent_source: Path) -> str:
    """The version in the agent's Cargo.toml, or `InvalidRequest` when there is none to read."""
    try:
        return str(tomllib.loads((agent_source / "Cargo.toml").read_text())["package"]["version"])
    except (OSError, ValueError, KeyError) as error:
        raise InvalidRequest(
            "no_agent_source", f"{agent_source} is not the agent's source: {error!r}", "name it with --agent-source"
        ) from None


async def linked_crates(agent_source: Path) -> tuple[Crate, ...]:
    """The crates of the registry that are in the agent, sorted by name and version."""
    # Not --offline: building fetches fewer crates than the whole lock names, and cargo wants to see them all here.
    output = await run_tool(
        "cargo", "metadata", "--quiet", "--locked", "--format-version=1", f"--filter-platform={_TARGET}",
        package="cargo", hint="build the agent first: make agent", cwd=agent_source, keep_bytes=_METADATA_BYTES,
    )  # fmt: skip
    return crates_of(json.loads(output))


def crates_of(metadata: Any) -> tuple[Crate, ...]:
    """Read the output of `cargo metadata`; what only builds or tests use is left out."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    linked: set[str] = set()
    waiting = [root]
    while waiting:
        package = waiting.pop()
        if package not in linked:
            linked.add(package)
            waiting += [edge["pkg"] for edge in nodes[package]["deps"] if _is_linked(edge)]
    crates = [_crate(package) for package in metadata["packages"] if package["id"] in linked - {root}]
    return tuple(sorted(crates, key=lambda crate: (crate.name, crate.version)))


def _is_linked(edge: Any) -> bool:
    return any(kind["kind"] is None for kind in edge["dep_kinds"])


def _crate(package: Any) -> Crate:
    licence = package["license"] or "see its licence file"
    folder = Path(package["manifest_path"]).parent
    return Crate(package["name"], package["version"], licence, _text(folder))


def _text(folder: Path) -> str:
    """The licence files in a crate's folder; of "MIT or Apache-2.0" we take MIT, whose text names the authors."""
    found = sorted({path for pattern in _TEXTS for path in folder.glob(pattern) if path.is_file()})
    mit = [path for path in found if path.name.upper().endswith("-MIT")]
    return "\n".join(path.read_text(errors="replace").strip() for path in mit or found)
