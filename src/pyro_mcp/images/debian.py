"""Root file systems from signed Debian packages, by mmdebstrap."""

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from pyro_mcp.errors import InternalError
from pyro_mcp.images import confine, mirror, rootfs
from pyro_mcp.images.catalog import Environment
from pyro_mcp.images.mmdebstrap import Follower, failure
from pyro_mcp.images.source import Built, Report, Reporter

# What no agent reads is left out, now and when the guest installs more; copyright files stay, licences ask for it.
_LEFT_OUT = """\
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
"""
# A build cut off by a power failure is thrown away, so dpkg need not wait for the disk after each file.
_DPKG_OPTION = "force-unsafe-io"
_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


@dataclass(frozen=True)
class DebianSource:
    """Debian packages from the host's own apt mirrors, or from `url` if that is given."""

    url: str | None = None

    @property
    def request(self) -> str:
        return "apt" if self.url is None else mirror.without_password(self.url)

    async def build(self, environment: Environment, folder: Path, report: Report) -> Built:
        progress = Reporter(environment.name, report)
        progress("resolve")
        for program, package in (("mmdebstrap", "mmdebstrap"), ("mksquashfs", "squashfs-tools")):
            if shutil.which(program, path=confine.environment()["PATH"]) is None:
                raise rootfs.missing_program(program, package)
        confinement = await confine.find()
        archives = await mirror.resolve(self.url, environment.suite, folder)
        for note in archives.notes:
            progress("resolve", note)
        tree, image = folder / "rootfs", folder / "rootfs.sqfs"
        await _install(confinement, environment, archives, tree, progress)
        contents = await _contents(confinement, tree)
        progress("squash")
        await rootfs.squash(confinement, tree, image, archives.date)
        return Built(image, contents, archives.origin)


def source(url: str | None = None) -> DebianSource:
    """The host's mirrors (None), or a mirror at an http, https, file or copy address.

    Raises `InvalidRequest` when that can be no mirror's address.
    """
    return DebianSource(None if url is None else mirror.checked_url(url))


async def _install(
    confinement: confine.Confinement,
    environment: Environment,
    archives: mirror.Archives,
    tree: Path,
    progress: Reporter,
) -> None:
    argv = [
        "mmdebstrap", "--verbose", "--mode=root", "--format=directory", "--variant=apt", "--skip=output/dev",
        *(f"--include={package}" for package in environment.packages),
        *(f"--aptopt={option}" for option in archives.options),
        f"--dpkgopt={_DPKG_OPTION}",
        f"--essential-hook={_LEAVE_OUT}", f"--customize-hook={_FINISH}",
        environment.suite, str(tree), *archives.entries,
    ]  # fmt: skip
    env = confine.environment(TMPDIR=str(tree.parent))
    ended = await confine.run(confinement, argv, env=env, on_line=Follower(progress).line)
    if ended.exit_code != 0:
        raise failure(ended.exit_code, ended.lines)


# Hooks are shell commands that mmdebstrap runs with the tree's path as $1. The first comes once the essential packages
# are in: given from the start (--dpkgopt), mmdebstrap would filter those by a slow program of its own, which costs more
# than taking their files out afterwards.
_LEAVE_OUT = f"""
set -eu
umask 022
cd "$1/etc/dpkg/dpkg.cfg.d"
printf %s {shlex.quote(_LEFT_OUT)} > pyro-left-out
"""
# The second takes out what the first came too late for, and what belongs to the build or to this host: its name and
# resolver (the guest agent sets the guest's), how it reaches the network, a password in a mirror's address.
_FINISH = f"""
set -eu
umask 022
cd "$1"
rm -rf usr/share/man usr/share/info
find usr/share/locale -mindepth 1 ! -name locale.alias -delete
find usr/share/doc -type f ! -name copyright -delete
find usr/share/doc -mindepth 1 -type d -empty -delete
rm -f etc/dpkg/dpkg.cfg.d/99mmdebstrap etc/apt/apt.conf.d/99mmdebstrap etc/hostname etc/resolv.conf
sed -i 's#://[^/@ ]*@#://#' etc/apt/sources.list
printf %s {shlex.quote(_HOSTS)} > etc/hosts
"""


async def _contents(confinement: confine.Confinement, tree: Path) -> tuple[str, ...]:
    """The packages in the tree as sorted lines of "name version"."""
    lines: list[str] = []
    argv = ["dpkg-query", f"--admindir={tree}/var/lib/dpkg", "--show", "--showformat=${Package} ${Version}\\n"]
    ended = await confine.run(confinement, argv, env=confine.environment(), on_line=lines.append)
    if ended.exit_code != 0:
        raise InternalError("package_list_failed", f"dpkg-query ended with code {ended.exit_code}: {ended.lines[-1:]}")
    return tuple(sorted(lines))
