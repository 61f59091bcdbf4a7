"""The SDK as the command line sees it: notes each call, and answers what the test says."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from pyro_mcp import Pyro, sdk


class FakePyro:
    """Has the methods of `Pyro` with their parameters; `answers` has a result, or an error to raise, for each."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        signature = inspect.signature(getattr(Pyro, name))

        def call(*args: Any, **kwargs: Any) -> Any:
            given = dict(signature.bind(self, *args, **kwargs).arguments)
            del given["self"]
            on_progress = given.pop("on_progress", None)
            self.asked.append((name, given))
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer(on_progress) if callable(answer) else answer

        return call


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePyro:
    """What the command line finds in place of `Pyro`."""
    pyro = FakePyro()
    monkeypatch.setattr(sdk, "Pyro", lambda: pyro)
    return pyro
