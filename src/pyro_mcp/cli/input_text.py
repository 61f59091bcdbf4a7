"""Text that a flag gives, or a file that a flag names."""

import os
import sys

from pyro_mcp.errors import InvalidRequest, NotFound


def text_of(given: str | None, file: str | None, *, most: int) -> str:
    """What `given` says, or what is in `file` (`-`: our input): UTF-8, at most `most` bytes.

    Raises `NotFound` or `InvalidRequest` (`not_utf8`, `file_too_large`, `bad_path`).
    """
    data = os.fsencode(given) if given is not None else _read(file or "-", most)
    if len(data) > most:
        raise InvalidRequest(
            "file_too_large",
            f"that is more than the {most >> 20} MiB that can be sent at once",
            "put it into a folder and copy that with `pyro workspace sync push`, which takes larger files",
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        name = "the text" if given is not None else "the input" if file in (None, "-") else f"{file!r}"
        raise InvalidRequest(
            "not_utf8",
            f"{name} is not UTF-8 text (byte {error.start + 1})",
            "copy files that are not text with `pyro workspace sync push`",
        ) from None


def _read(file: str, most: int) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read(most + 1)
    try:
        with open(file, "rb") as opened:
            return opened.read(most + 1)
    except FileNotFoundError:
        raise NotFound("path_not_found", f"there is no file {file!r}", "check the path") from None
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else "not a path"
        raise InvalidRequest("bad_path", f"cannot read {file!r}: {said}", "give a file, or - for the input") from None
