"""JSON out of a guest, which may say more than text can hold."""

import json
import re

# Bytes that are UTF-8 hold no half of a surrogate pair; only an escape can name one.
_MAY_BE_A_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parsed(data: bytes) -> object:
    """What UTF-8 JSON says. Raises `ValueError` for what is none, and for strings that cannot be had in UTF-8.

    A lone surrogate is such a string: it would go as far as the first place that writes it anywhere.
    """
    try:
        content = json.loads(data.decode())  # decoded here, because `loads` would also guess at UTF-16
        if _MAY_BE_A_SURROGATE.search(data):
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    return content
