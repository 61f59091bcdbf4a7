"""What a guest said, for people to read."""

import re

_MOST_CHARACTERS = 16 * 1024
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The first 16,384 characters of it, harmless to a terminal: tabs and line ends stay, other controls do not."""
    return _UNPRINTABLE.sub("\ufffd", text[:_MOST_CHARACTERS])
