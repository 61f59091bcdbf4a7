"""Puts a runtime bundle into the wheel, where PYRO_WHEEL_BUNDLE names one (see scripts/build-wheel).

Without it, as in the editable installation of a checkout, the wheel holds Python files alone.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# The bundled programs are static and need no C library, but package indexes refuse a plain "linux_x86_64".
_TAG = "py3-none-manylinux_2_17_x86_64"


class RuntimeBundleHook(BuildHookInterface[Any]):
    """Hatchling finds this by its type; "custom" in pyproject.toml turns it on."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        bundle = os.environ.get("PYRO_WHEEL_BUNDLE")
        if version == "editable" or not bundle:
            return
        if not Path(bundle, "manifest.json").is_file():
            raise FileNotFoundError(f"PYRO_WHEEL_BUNDLE={bundle} holds no runtime bundle: run make runtime")
        build_data["force_include"][bundle] = f"pyro_mcp/runtime_bundle/{Path(bundle).name}"
        build_data["pure_python"] = False
        build_data["tag"] = _TAG
