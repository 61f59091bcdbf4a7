"""What unit tests share: none leaves a descriptor open."""

import gc
from collections.abc import Iterator

import pytest

from tests.support.descriptors import none_left


@pytest.fixture(autouse=True)
def no_descriptor_left() -> Iterator[None]:
    """Fail a test that leaves a descriptor open, before it can disturb another.

    The garbage collector rests meanwhile: what only it would close is left open, and whether it comes by in time must
    not decide whether that is seen.
    """
    gc.disable()
    try:
        with none_left():
            yield
    finally:
        gc.enable()
