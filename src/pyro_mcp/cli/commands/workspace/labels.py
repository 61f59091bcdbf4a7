"""`--label K=V`."""

from collections.abc import Sequence

from pyro_mcp.errors import InvalidRequest


def parse_labels(typed: Sequence[str]) -> dict[str, str]:
    """Labels by key. Raises `InvalidRequest` for a word without `=`, and for a key that is given twice."""
    labels: dict[str, str] = {}
    for word in typed:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InvalidRequest("bad_label", f"{word!r} is no label", "write --label KEY=VALUE")
        if key in labels:
            raise InvalidRequest("bad_label", f"the label {key!r} is given twice", "give each label once")
        labels[key] = value
    return labels
