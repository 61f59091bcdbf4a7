"""Turns an archive that nobody vouches for into a tar stream of ours: every entry checked, or the whole refused.

Everything in it becomes root's: the ids in an archive are those of the machine that made it and mean nothing here, and
root is who works in the guest.
"""

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.transfer.compression import unpacked
from pyro_mcp.transfer.limits import Tally, shown
from pyro_mcp.transfer.names import BadName, components, stays_inside
from pyro_mcp.transfer.standing import Standing
from pyro_mcp.transfer.tar_headers import Attributes
from pyro_mcp.transfer.tar_reader import BadTar, Member, TarReader
from pyro_mcp.transfer.tar_writer import TarWriter


def rewrite(fd: int, path: str, writer: TarWriter, tally: Tally) -> None:
    """Write what the archive open as `fd` holds, and the end of the archive; `path` is its name for messages.

    Raises `InvalidRequest` (`bad_archive`, `seed_too_large`), `BrokenPipeError` when the reader has gone.
    """
    try:
        with unpacked(fd) as stream:
            reader = TarReader(stream)
            checked = _Checked(writer, reader, tally)
            for member in reader.members():
                checked.take(member)
            stream.drain()
    except (BadTar, BadName) as error:
        raise _refused(path, str(error)) from error
    writer.finish()


def _refused(path: str, why: str) -> InvalidRequest:
    return InvalidRequest("bad_archive", f"the archive {shown(path)} is refused: {why}", "make it anew with GNU tar")


class _Checked:
    """Passes entries on if they fit to what came before."""

    def __init__(self, writer: TarWriter, reader: TarReader, tally: Tally) -> None:
        self.writer = writer
        self.reader = reader
        self.tally = tally
        self._standing = Standing(tally)

    def take(self, member: Member) -> None:
        try:
            self._take(member)
        except BadName as error:
            raise BadName(f"{shown(member.name)}: {error}") from error

    def _take(self, member: Member) -> None:
        parts = components(member.name)
        name = b"/".join(parts)
        if not parts:
            if member.kind != "directory":
                raise BadName("an entry without a name")
            self.tally.pass_over()
            return
        repeated = self._standing.place(parts, member.kind)
        if repeated:
            self.tally.pass_over()
            return
        self.tally.add(member.size, folder=member.kind == "directory")
        about = Attributes(member.mode, 0, 0, member.mtime_ns)
        match member.kind:
            case "directory":
                self.writer.folder(name, about)
            case "file":
                self.writer.file(name, member.size, self.reader.content(), about)
            case "symlink":
                if not stays_inside(parts, member.target, strict=False):
                    raise BadName(f"a link out of the tree, to {shown(member.target)}")
                self.writer.symlink(name, member.target, about)
            case "hardlink":
                target = components(member.target)
                if target == parts or not self._standing.is_file(target):
                    raise BadName(f"a link to {shown(member.target)}, which is no file before it in the archive")
                self.writer.hard_link(name, b"/".join(target), about)
            case _:
                raise BadName(f"a {member.kind}")
