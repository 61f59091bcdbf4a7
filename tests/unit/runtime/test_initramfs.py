import pytest

from pyro_mcp.errors import InvalidRequest
from pyro_mcp.runtime.initramfs import initramfs

from . import fakes


def test_it_holds_agent_modules_and_the_order_of_loading() -> None:
    agent = fakes.static_program(b"agent")
    archive = initramfs(agent, ("b.ko", "a.ko"), {"a.ko": b"module a", "b.ko": b"module b"})
    assert b"init\0" in archive
    assert agent in archive
    assert b"modules/order\0" in archive
    assert b"b.ko\na.ko\n" in archive
    assert b"module a" in archive
    assert b"dev/console\0" in archive


def test_an_agent_that_needs_a_loader_is_refused() -> None:
    agent = fakes.elf((fakes.PT_INTERP, b"/lib64/ld.so\0"))
    with pytest.raises(InvalidRequest, match="static") as caught:
        initramfs(agent, (), {})
    assert caught.value.code == "agent_not_static"
