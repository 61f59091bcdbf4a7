"""Which Debian archives a build uses: those of the host's apt, or those on a mirror that the user named.

Whichever it is, packages are checked against Debian's own archive keys.
"""

import email.utils
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pyro_mcp import apt
from pyro_mcp.errors import HostUnfit, InvalidRequest, SourceFailed
from pyro_mcp.images import confine

_APT_HELPER = "/usr/lib/apt/apt-helper"
_SCHEMES = ("http", "https", "file", "copy")
_USERINFO = re.compile(r"://[^/@\s]*@")


@dataclass(frozen=True)
class Archives:
    """Lines of a sources.list, lines of an apt.conf, and when the newest of these archives was made.

    `date` is in seconds since 1970; `notes` say what the user may miss.
    """

    entries: tuple[str, ...]
    options: tuple[str, ...]
    date: int
    notes: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The archives as people may see them: without passwords."""
        rows = (line.split()[-3:-1] for line in self.entries)
        return ", ".join(f"{without_password(uri)} {suite}" for uri, suite in rows)


def without_password(text: str) -> str:
    """The same text with user names and passwords taken out of its addresses."""
    return _USERINFO.sub("://", text)


def checked_url(url: str) -> str:
    """A mirror's address as apt wants it, or `InvalidRequest` that says what is wrong with it."""
    hint = "give a Debian mirror, such as http://HOST/debian or file:///path/to/mirror"
    if re.search(r"[\s\[\]#\"'\\;{}<>\x00-\x1f\x7f]", url):
        raise InvalidRequest("bad_source", f"{url!r} holds characters that no mirror's address has", hint)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidRequest("bad_source", f"{url!r} is no address", hint) from None
    if parts.scheme not in _SCHEMES:
        raise InvalidRequest("bad_source", f"{url!r} does not start with one of: {', '.join(_SCHEMES)}", hint)
    if parts.query:
        raise InvalidRequest("bad_source", f"{url!r} holds a query", hint)
    if parts.scheme in ("http", "https"):
        if not parts.hostname:
            raise InvalidRequest("bad_source", f"{url!r} names no host", hint)
        return url.rstrip("/")
    if parts.netloc or not Path(parts.path).is_dir():
        raise InvalidRequest("bad_source", f"{url!r} names no folder of this machine", hint)
    # apt reads `file:` packages where they lie, which the tree being built cannot see; `copy:` brings them in.
    return f"copy://{parts.path.rstrip('/')}"


async def resolve(url: str | None, suite: str, folder: Path) -> Archives:
    """Find the archives and fetch the signed index of each into `folder`.

    Raises `HostUnfit` when the host's apt has no Debian mirror or Debian's keys are missing, and `SourceFailed` when
    the main archive cannot be reached.
    """
    if not apt.KEYRING.is_file():
        raise HostUnfit(
            "no_debian_keys",
            f"{apt.KEYRING} is missing, and without it no package can be checked",
            "sudo apt-get install debian-archive-keyring",
        )
    return await (_host_archives(suite, folder) if url is None else _named_archives(url, suite, folder))


async def _host_archives(suite: str, folder: Path) -> Archives:
    try:
        sources = await apt.debian_sources(suite)
    except HostUnfit as error:
        hint = f"{error.hint}; or name a mirror: pyro env pull ENV --source URL"
        raise HostUnfit(error.code, error.message, hint) from None
    rows = [line.split()[-3:-1] for line in sources.entries]
    dates = [await _release_date(uri, archive_suite, folder) for uri, archive_suite in rows]
    return Archives(sources.entries, sources.options, max(dates))


async def _named_archives(url: str, suite: str, folder: Path) -> Archives:
    """The suite on the user's mirror, with updates and security fixes where the mirror has them.

    Mirrors keep security fixes in a folder beside the main one, named `debian-security` beside `debian`.
    """
    options = await apt.transport_options()
    entries = [_entry(url, suite)]
    dates = [await _release_date(url, suite, folder)]
    notes = []
    for uri, pocket in ((url, f"{suite}-updates"), (f"{url}-security", f"{suite}-security")):
        try:
            dates.append(await _release_date(uri, pocket, folder))
            entries.append(_entry(uri, pocket))
        except SourceFailed:
            notes.append(f"the mirror has no {pocket}")
    return Archives(tuple(entries), options, max(dates), tuple(notes))


def _entry(uri: str, suite: str) -> str:
    return f"deb [signed-by={apt.KEYRING}] {uri} {suite} main"


async def _release_date(uri: str, suite: str, folder: Path) -> int:
    """When an archive's index was made, by its own word (only file times depend on it); proves it is reachable."""
    address = f"{uri.rstrip('/')}/dists/{suite}/InRelease"
    target = folder / f"InRelease-{suite}"
    argv = [_APT_HELPER, "-o", "APT::Sandbox::User=root", "download-file", address, str(target)]
    try:
        ended = await confine.run(confine.Confinement(()), argv, env=confine.environment())
    except FileNotFoundError:
        raise HostUnfit("no_apt", f"there is no {_APT_HELPER} on this machine", "use a Debian 12 machine") from None
    if ended.exit_code != 0:
        raise SourceFailed(
            "source_failed", without_password(_why(ended.lines, address)), "check the network and the mirror's address"
        )
    for line in target.read_text(errors="replace").splitlines():
        if line.startswith("Date: ") and (parsed := email.utils.parsedate_tz(line.removeprefix("Date: "))):
            return email.utils.mktime_tz(parsed)
    raise SourceFailed("source_failed", f"{without_password(address)} is not an archive's index", "check the address")


def _why(lines: tuple[str, ...], address: str) -> str:
    errors = [line.removeprefix("E: ") for line in lines if line.startswith("E: Failed to fetch")]
    return errors[-1] if errors else f"{address} could not be fetched"
