import pytest

from pyro_mcp.runtime import elf

from . import fakes


def test_a_kernel_with_a_pvh_note_after_others_is_one() -> None:
    assert elf.is_pvh_kernel(fakes.pvh_kernel())


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x7fELF", id="only the magic"),
        pytest.param(b"#!/bin/sh\n" + bytes(100), id="script"),
        pytest.param(fakes.elf((1, b"code")), id="no notes"),
        pytest.param(fakes.elf((fakes.PT_NOTE, fakes.note(b"GNU\0", 18))), id="another owner's note"),
        pytest.param(fakes.elf((fakes.PT_NOTE, fakes.note(b"Xen\0", 17))), id="another note of Xen's"),
        pytest.param(fakes.elf((fakes.PT_NOTE, fakes.note(*fakes.PVH)), machine=183), id="arm64"),
        pytest.param(fakes.elf((fakes.PT_NOTE, fakes.note(*fakes.PVH)), bits=1), id="32 bits"),
        pytest.param(fakes.pvh_kernel()[:100], id="cut in the program headers"),
        pytest.param(fakes.pvh_kernel()[:125], id="cut in the notes"),
    ],
)
def test_anything_else_is_no_pvh_kernel(image: bytes) -> None:
    assert not elf.is_pvh_kernel(image)


def test_a_program_that_asks_for_a_loader_is_not_static() -> None:
    assert elf.is_static_program(fakes.static_program())
    assert not elf.is_static_program(fakes.elf((fakes.PT_INTERP, b"/lib64/ld.so\0"), (1, b"code")))
    assert not elf.is_static_program(fakes.elf((1, b"code"), machine=183))
    assert not elf.is_static_program(b"#!/bin/sh\n")
