import pytest

from pyro_mcp.transfer.names import BadName, components, stays_inside


@pytest.mark.parametrize(
    ("name", "parts"),
    [(b"a", (b"a",)), (b"./a//b/", (b"a", b"b")), (b"./", ()), (b".", ()), (b"..a/...", (b"..a", b"..."))],
)
def test_names_are_taken_apart(name: bytes, parts: tuple[bytes, ...]) -> None:
    assert components(name) == parts


@pytest.mark.parametrize("name", [b"/a", b"a/../b", b"..", b"a\0b", b"n" * 256, b"a/" * 300 + b"a", b"d/" * 3000])
def test_names_that_lead_elsewhere_are_none(name: bytes) -> None:
    with pytest.raises(BadName):
        components(name)


@pytest.mark.parametrize(
    ("target", "loose", "strict"),
    [
        (b"f", True, True),
        (b"../f", True, True),
        (b"../../f", True, True),
        (b"../../../f", False, False),
        (b"../b/../f", True, False),
        (b"c/../../../../f", False, False),
        (b"./x/./y", True, True),
        (b"/etc/passwd", False, False),
        (b"", False, False),
        (b"a\0b", False, False),
    ],
)
def test_where_links_lead(target: bytes, loose: bool, strict: bool) -> None:
    link = (b"a", b"b", b"link")
    assert stays_inside(link, target, strict=False) is loose
    assert stays_inside(link, target, strict=True) is strict
