import json
from collections.abc import Callable
from typing import Any

import pytest

from pyro_mcp.errors import HostUnfit
from pyro_mcp.runtime import manifest
from pyro_mcp.runtime.manifest import BundledFile, Component

DIGEST = "ab" * 32
COMPONENTS = (Component("linux", "6.1", "from Debian", "GPL-2.0-only"), Component("agent", "1", "from here", "MIT"))
FILES = tuple(BundledFile(path, DIGEST, 7) for path in manifest.PATHS)


def good() -> dict[str, Any]:
    data = json.loads(manifest.render(COMPONENTS, FILES))
    assert isinstance(data, dict)
    return data


def test_what_is_rendered_is_read_back() -> None:
    read = manifest.parse(manifest.render(COMPONENTS, FILES))
    assert set(read.files) == set(FILES)
    assert set(read.components) == set(COMPONENTS)


def test_the_text_does_not_depend_on_the_order_of_its_parts() -> None:
    assert manifest.render(COMPONENTS, FILES) == manifest.render(COMPONENTS[::-1], FILES[::-1])


SPOILERS: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("a later schema", lambda data: data.update(schema=2, novelty=True), "schema 2"),
    ("no schema", lambda data: data.pop("schema"), "schema None"),
    ("an unknown field", lambda data: data.update(novelty=True), "novelty"),
    ("a missing field", lambda data: data.pop("components"), "components"),
    ("another platform", lambda data: data.update(platform="linux-arm64"), "linux-arm64"),
    ("a file too few", lambda data: data["files"].pop(), manifest.KERNEL),
    ("a file twice", lambda data: data["files"].append(data["files"][0]), "once"),
    ("a file outside", lambda data: data["files"].append({"path": "../x", "sha256": DIGEST, "size": 1}), r"\.\./x"),
    ("a short digest", lambda data: data["files"][0].update(sha256="ab"), "digest"),
    ("a negative size", lambda data: data["files"][0].update(size=-1), "size"),
    ("a size that is no number", lambda data: data["files"][0].update(size="7"), "size"),
    ("files that are no list", lambda data: data.update(files={}), "files"),
]


@pytest.mark.parametrize(("spoil", "why"), [pytest.param(*rest, id=name) for name, *rest in SPOILERS])
def test_a_manifest_that_is_not_exactly_right_is_refused(spoil: Callable[[dict[str, Any]], object], why: str) -> None:
    data = good()
    spoil(data)
    with pytest.raises(HostUnfit, match=why) as caught:
        manifest.parse(json.dumps(data).encode())
    assert caught.value.code == "bad_runtime_bundle"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_what_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(HostUnfit) as caught:
        manifest.parse(text)
    assert caught.value.code == "bad_runtime_bundle"
