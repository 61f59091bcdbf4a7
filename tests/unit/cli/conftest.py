"""The SDK behind a command line."""

import pytest

from pyro_mcp import sdk
from tests.unit.cli.fake_pyro import FakePyro


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePyro:
    pyro = FakePyro()
    pyro.asked = []
    monkeypatch.setattr(sdk, "Pyro", lambda: pyro)
    return pyro
