import pytest

from pyro_mcp.errors import NotFound
from pyro_mcp.images import catalog

ALL = "there are: debian:12, debian:12-base, debian:12-build"


def test_every_row_is_found_by_its_name() -> None:
    assert [catalog.lookup(row.name) for row in catalog.CATALOG] == list(catalog.CATALOG)
    assert catalog.DEFAULT == "debian:12"


def test_the_build_environment_has_what_the_default_one_has() -> None:
    assert set(catalog.lookup("debian:12").packages) < set(catalog.lookup("debian:12-build").packages)


@pytest.mark.parametrize(
    ("typed", "meant"), [("debian:12-bild", "debian:12-build"), ("debian12", "debian:12"), ("Debian:12", "debian:12")]
)
def test_an_unknown_name_gets_the_nearest_one(typed: str, meant: str) -> None:
    with pytest.raises(NotFound) as caught:
        catalog.lookup(typed)
    assert caught.value.code == "unknown_environment"
    assert repr(typed) in caught.value.message
    assert caught.value.hint == f"did you mean {meant}? {ALL}"


def test_a_name_that_is_far_too_long_is_shortened() -> None:
    with pytest.raises(NotFound) as caught:
        catalog.lookup("x" * 100_000)
    assert caught.value.message == f"there is no environment named '{'x' * 60}...'"


def test_a_name_like_no_other_gets_no_guess() -> None:
    with pytest.raises(NotFound) as caught:
        catalog.lookup("xyzzy")
    assert caught.value.hint == ALL
