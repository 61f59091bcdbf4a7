import pytest

from pyro_mcp.doctor import network, system
from pyro_mcp.doctor.report import Status


async def test_this_machine_will_do() -> None:
    row = await system.examine()
    assert row.status is Status.PASS
    assert "Linux" in row.found
    assert "Python 3." in row.found


@pytest.mark.parametrize(("name", "machine"), [("Linux", "aarch64"), ("Darwin", "x86_64"), ("Windows", "AMD64")])
def test_others_will_not(name: str, machine: str) -> None:
    row = system.row_for(name, machine, "1.0", "3.11.2")
    assert row.status is Status.FAIL
    assert machine in row.found
    assert "Linux on x86_64" in (row.mend or "")


async def test_the_network_row_promises_nothing() -> None:
    row = await network.examine()
    assert (row.status, row.mend) == (Status.PASS, None)
    assert "no network card" in row.found
