"""Lists that are encoded again and again."""

import json
from dataclasses import replace
from unittest.mock import Mock

import pytest

from pyro_mcp import models
from pyro_mcp.daemon import exchange
from pyro_mcp.daemon.exchange import Encoded
from tests.support.fake_workspaces import INFO


def test_a_list_in_json_is_of_what_is_in_it_now() -> None:
    encoded = Encoded()
    other = replace(INFO, workspace_id="w-other", name='"ä\n')
    changed = replace(other, state="stopped")
    for values in ([], [INFO], [INFO, other], [changed, INFO], [other], [INFO, changed], []):
        answer = encoded.answer("workspaces", values)
        expected = {"workspaces": [models.encode(value) for value in values]}
        assert json.loads(bytes(answer.body)) == json.loads(json.dumps(expected))
        assert answer.headers["content-type"] == "application/json"


def test_only_what_is_new_in_a_list_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Mock(wraps=exchange.answer)
    monkeypatch.setattr(exchange, "answer", seen)
    encoded = Encoded()
    new = replace(INFO)
    for values in ([INFO], [INFO, new], [new], [INFO, new]):
        encoded.answer("workspaces", values)
    assert [call.args[0] is new for call in seen.call_args_list] == [False, True, False]
