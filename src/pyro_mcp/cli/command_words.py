"""The words of a guest's command as they were typed."""

import os
from collections.abc import Sequence

from pyro_mcp.errors import InvalidRequest


def utf8_words(words: Sequence[str]) -> tuple[str, ...]:
    """The words as they travel. Raises `InvalidRequest` for one that is not UTF-8."""
    for word in words:
        if not os.fsencode(word).isascii():
            try:
                word.encode()
            except UnicodeEncodeError:
                raise InvalidRequest(
                    "bad_command",
                    f"the command is not UTF-8: {os.fsencode(word)!r}",
                    "a command's words must be UTF-8; other bytes can go to its input",
                ) from None
    return tuple(words)
