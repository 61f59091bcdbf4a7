"""A patch as a model reads it: what is text comes first, and the contents of binary files stay out.

Running a Python project's tests alone leaves dozens of compiled files, whose contents in base 85 would bury the change.
"""

import re

_SECTION = re.compile(rb"^(?=diff --git )", re.MULTILINE)
_BINARY = b"\nGIT binary patch\n"
_LEFT_OUT = b"\n[binary contents are not shown]\n"


def for_reading(patch: bytes) -> bytes:
    """The same patch in another order, and with a line in the place of each binary file's contents.

    A section for each file begins with `diff --git`; source: git-diff(1), "Generating patch text with -p".
    """
    text, binary = [], []
    for section in _SECTION.split(patch):
        head, found, _ = section.partition(_BINARY)
        if found:
            binary.append(head + _LEFT_OUT)
        else:
            text.append(section)
    return b"".join((*text, *binary))
