"""What travels between processes is checked field by field."""

import base64
import json
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_mcp import models
from pyro_mcp.errors import InvalidRequest
from pyro_mcp.models import (
    DaemonHello,
    EnvironmentInfo,
    Progress,
    PruneReport,
    PruneRequest,
    PullRequest,
    ReadyMachine,
    RunAccepted,
    RunFinished,
    RunRequest,
    RunStarted,
    SignalRequest,
    TemplateFacts,
    TemplateInfo,
    decode,
    encode,
)

KINDS = (
    DaemonHello,
    EnvironmentInfo,
    Progress,
    PruneReport,
    PruneRequest,
    PullRequest,
    ReadyMachine,
    RunAccepted,
    RunFinished,
    RunRequest,
    RunStarted,
    SignalRequest,
    TemplateFacts,
    TemplateInfo,
)
_anything: st.SearchStrategy[Any] = st.sampled_from(KINDS).flatmap(st.from_type)
_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(_anything)
def test_what_was_encoded_is_decoded_to_the_same(value: Any) -> None:
    assert decode(type(value), json.loads(json.dumps(encode(value)))) == value


@given(st.sampled_from(KINDS), _json)
def test_whatever_comes_is_decoded_or_refused(kind: type, data: object) -> None:
    try:
        value: object = decode(kind, data)
    except InvalidRequest as error:
        value = error
    assert isinstance(value, (kind, InvalidRequest))


@given(st.sampled_from([kind for kind in KINDS if kind is not TemplateInfo]).flatmap(st.from_type), st.data())
def test_a_value_of_another_type_is_refused_with_its_name(value: Any, data: st.DataObject) -> None:
    content = json.loads(json.dumps(encode(value)))
    name = data.draw(st.sampled_from([field.name for field in fields(value)]))
    # No field of these takes an object or a fraction.
    content[name] = data.draw(st.sampled_from([{}, {"a": 1}, 1.5]))
    with pytest.raises(InvalidRequest) as caught:
        decode(type(value), content)
    assert f"{type(value).__name__}.{name}" in caught.value.message


@pytest.mark.parametrize(
    ("kind", "data", "named"),
    [
        (RunRequest, [], "RunRequest"),
        (RunRequest, None, "RunRequest"),
        (RunRequest, {}, "'environment'"),
        (RunRequest, {"environment": "e"}, "'command'"),
        (RunRequest, {"environment": "e", "command": [], "colour": 1}, "'colour'"),
        (RunRequest, {"environment": "e", "command": "ls"}, "RunRequest.command"),
        (RunRequest, {"environment": "e", "command": [1]}, "RunRequest.command"),
        (RunRequest, {"environment": None, "command": []}, "RunRequest.environment"),
        (RunRequest, {"environment": "e", "command": [], "mem_mib": True}, "RunRequest.mem_mib"),
        (RunRequest, {"environment": "e", "command": [], "mem_mib": "1024"}, "RunRequest.mem_mib"),
        (RunRequest, {"environment": "e", "command": [], "network": 1}, "RunRequest.network"),
        (RunRequest, {"environment": "e", "command": [], "ttl_seconds": "1"}, "RunRequest.ttl_seconds"),
        (RunRequest, {"environment": "e", "command": [], "timeout_seconds": None}, "RunRequest.timeout_seconds"),
        (SignalRequest, {"signal": 15.0}, "SignalRequest.signal"),
        (PullRequest, {"source": 1}, "PullRequest.source"),
    ],
)
def test_what_is_wrong_is_named(kind: type, data: object, named: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(kind, data)
    assert named in caught.value.message


def test_optional_fields_may_be_left_out_or_null() -> None:
    request = decode(RunRequest, {"environment": "debian:12", "command": ["ls"]})
    assert request == RunRequest("debian:12", ("ls",))
    assert decode(RunRequest, {**encode(request), "ttl_seconds": None}) == request
    assert decode(RunRequest, {**encode(request), "ttl_seconds": 5}) == replace(request, ttl_seconds=5)


@dataclass(frozen=True)
class _Outer:
    inner: SignalRequest
    several: tuple[SignalRequest, ...] = ()


def test_nested_objects_are_checked_too() -> None:
    outer = _Outer(SignalRequest(1), (SignalRequest(2), SignalRequest(3)))
    assert decode(_Outer, encode(outer)) == outer
    with pytest.raises(InvalidRequest, match=r"SignalRequest\.signal"):
        decode(_Outer, {"inner": {"signal": 1}, "several": [{"signal": "x"}]})


@dataclass(frozen=True)
class _Bytes:
    data: bytes


@given(st.binary())
def test_bytes_travel_as_base64(data: bytes) -> None:
    assert encode(_Bytes(data)) == {"data": base64.b64encode(data).decode()}
    assert decode(_Bytes, encode(_Bytes(data))) == _Bytes(data)


@pytest.mark.parametrize("text", ["QQ", "QQ=", "Q", "QQ==QQ==", "QUE\n", "Q-_=", "=", "\u00e9", None, 1, []])
def test_what_is_not_base64_is_refused(text: object) -> None:
    with pytest.raises(InvalidRequest, match=r"_Bytes\.data must be base64"):
        decode(_Bytes, {"data": text})


@pytest.mark.parametrize("value", [{}, "text", None, RunRequest])
def test_only_instances_of_dataclasses_are_encoded(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_the_ranges_are_those_of_the_contract() -> None:
    request = RunRequest("e", ("c",))
    assert request.vcpu_count in models.VCPU_RANGE
    assert request.mem_mib in models.MEM_MIB_RANGE
    assert request.timeout_seconds in models.TIMEOUT_SECONDS_RANGE
    assert 0 not in models.VCPU_RANGE
    assert 0 not in models.TIMEOUT_SECONDS_RANGE
