"""The Debian mirrors that this machine's apt is configured with, for programs that build from Debian packages.

mmdebstrap left alone uses a mirror of its own choice. What it should use comes from apt: where Debian's archives are,
and how to reach them (proxies, certificates, a snapshot whose signature dates have passed).
"""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp import process
from pyro_mcp.errors import HostUnfit, SourceFailed

# Debian's own archive keys, from the package debian-archive-keyring: a mirror cannot vouch for itself.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Pockets of a release that belong to it; backports and proposed updates do not.
_POCKETS = ("", "-updates", "-security")
_TARGET_FORMAT = "$(ORIGIN)\t$(CODENAME)\t$(COMPONENT)\t$(REPO_URI)"
# What tells apt how to fetch, rather than what; see apt.conf(5), "THE ACQUIRE GROUP".
_TRANSPORT_OPTION = re.compile(
    r"^Acquire::((?:https?::.+|Check-Valid-Until|Check-Date|Max-FutureTime|Retries|ForceIPv[46])) .*;$"
)


@dataclass(frozen=True)
class DebianSources:
    """Where and how to fetch Debian packages.

    `entries` are lines of a sources.list, `options` lines of an apt.conf. mmdebstrap takes the first as MIRROR
    arguments and the second as `--aptopt`, and leaves both in what it builds (etc/apt/sources.list and
    etc/apt/apt.conf.d): they may name a private mirror or proxy, so whoever publishes the result takes them out.
    """

    entries: tuple[str, ...]
    options: tuple[str, ...]


async def debian_sources(suite: str) -> DebianSources:
    """Debian's `suite` (a code name) with its updates and security fixes, as far as the host has them configured.

    The host may itself run another release: its mirrors are used, with `suite` on them. Raises `HostUnfit` when there
    is no apt or no Debian mirror in its configuration, `SourceFailed` when apt has no index and cannot fetch one.
    """
    rows = await _index_rows()
    if not _entries(rows, suite):
        rows = await _fetched_index_rows()
    entries = _entries(rows, suite)
    if not entries:
        raise HostUnfit(
            "no_debian_mirror",
            "apt on this machine is configured with no Debian mirror",
            "add a Debian source to /etc/apt/sources.list.d, then run: apt-get update",
        )
    return DebianSources(entries, await transport_options())


def _entries(rows: list[list[str]], suite: str) -> tuple[str, ...]:
    """Turn rows of (origin, code name, component, URI) into sources.list lines; none if the main archive is missing."""
    found: dict[str, list[str]] = {pocket: [] for pocket in _POCKETS}
    for origin, codename, component, uri in rows:
        _, dash, pocket = codename.partition("-")
        if origin == "Debian" and component == "main" and dash + pocket in found:
            found[dash + pocket].append(f"deb [signed-by={KEYRING}] {uri} {suite}{dash}{pocket} main")
    if not found[""]:
        return ()
    return tuple(dict.fromkeys(line for pocket in _POCKETS for line in found[pocket]))


async def _index_rows(*options: str) -> list[list[str]]:
    """What apt knows about the package indexes that it has fetched; without an index it knows no origin."""
    output = await _apt("apt-get", *options, "indextargets", "--format", _TARGET_FORMAT, "Created-By: Packages")
    return [row for line in output.splitlines() if len(row := line.split("\t")) == 4]


async def _fetched_index_rows() -> list[list[str]]:
    """The same from indexes fetched into a folder of our own: container images come with theirs removed."""
    with tempfile.TemporaryDirectory(prefix="pyro-apt-") as folder:
        # apt drops to its own user for downloads, who must be able to pass through this folder.
        os.chmod(folder, 0o755)  # noqa: S103
        os.makedirs(f"{folder}/lists/partial")
        options = (
            "-o", f"Dir::State::lists={folder}/lists",
            "-o", f"Dir::Cache={folder}",
            "-o", "Acquire::Languages=none",
            "-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        )  # fmt: skip
        await _apt("apt-get", *options, "update", "--quiet")
        return await _index_rows(*options)


async def transport_options() -> tuple[str, ...]:
    """Lines of an apt.conf: how this host's apt reaches archives (proxies, certificates, clock checks)."""
    lines = (await _apt("apt-config", "dump", "Acquire")).splitlines()
    return tuple(line for line in lines if _TRANSPORT_OPTION.match(line))


async def _apt(*argv: str) -> str:
    try:
        done = await process.run(argv, env={**os.environ, "LC_ALL": "C.UTF-8"})
    except FileNotFoundError:
        raise HostUnfit(
            "no_apt", f"there is no {argv[0]} on this machine", "Debian packages are fetched through apt: use Debian 12"
        ) from None
    if done.exit_code != 0:
        # The first error is the cause, and those after it follow from it.
        lines = done.stderr.decode(errors="replace").splitlines()
        cause = next((line for line in lines if line.startswith("E: ")), "it did not say why")
        raise SourceFailed(
            "apt_failed",
            f"{argv[0]} ended with code {done.exit_code}: {cause}",
            "apt-get update, run by hand, shows the whole story",
        )
    return done.stdout.decode(errors="replace")
