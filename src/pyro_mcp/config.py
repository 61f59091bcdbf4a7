"""Settings: where state and environments are kept, and which VMM is wanted.

They come from the environment variables of the *client* (see `Settings.from_environment`) and travel to the daemon when
it is started, so both always mean the same folders.
"""

import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_mcp.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

VMM_CHOICES = ("auto", "firecracker", "qemu")
SWITCH = ("on", "off")
MOST_READY = 4


@dataclass(frozen=True)
class Settings:
    """What a client and its daemon agree on.

    `home` holds state (PYRO_HOME), `cache_dir` installed environments (PYRO_CACHE_DIR), `runtime_bundle_dir` is another
    runtime bundle than the one shipped (PYRO_RUNTIME_BUNDLE_DIR), `vmm` one of `VMM_CHOICES` (PYRO_VMM), and with
    `templates` "off" every machine boots (PYRO_TEMPLATES). `pool` is how many machines a chat host wants to have ready
    (PYRO_POOL, 0 to `MOST_READY`); each client has its own idea of that, and the daemon goes by what it is told.
    """

    home: Path
    cache_dir: Path
    runtime_bundle_dir: Path | None
    vmm: str
    templates: str = "on"
    pool: int = 1

    @staticmethod
    def from_environment(environ: "Mapping[str, str] | None" = None) -> "Settings":
        """Read the settings, or raise `InvalidRequest` that names the variable with the bad value."""
        env = os.environ if environ is None else environ
        bundle = env.get("PYRO_RUNTIME_BUNDLE_DIR")
        return Settings(
            home=_folder(env, "PYRO_HOME", "XDG_STATE_HOME", ".local/state"),
            cache_dir=_folder(env, "PYRO_CACHE_DIR", "XDG_CACHE_HOME", ".cache"),
            runtime_bundle_dir=_absolute("PYRO_RUNTIME_BUNDLE_DIR", bundle) if bundle else None,
            vmm=_choice(env, "PYRO_VMM", VMM_CHOICES),
            templates=_choice(env, "PYRO_TEMPLATES", SWITCH),
            pool=_number(env, "PYRO_POOL", MOST_READY, default=1),
        )

    def to_environment(self) -> dict[str, str]:
        """The variables that make another process read these same settings."""
        named = {
            "PYRO_HOME": self.home,
            "PYRO_CACHE_DIR": self.cache_dir,
            "PYRO_RUNTIME_BUNDLE_DIR": self.runtime_bundle_dir,
            "PYRO_VMM": self.vmm,
            "PYRO_TEMPLATES": self.templates,
            "PYRO_POOL": self.pool,
        }
        return {name: str(value) for name, value in named.items() if value is not None}

    def describe(self) -> str:
        """One line that is equal for equal settings; client and daemon compare it."""
        shared = {name: value for name, value in asdict(self).items() if name != "pool"}
        return " ".join(f"{name}={str(value)!r}" for name, value in shared.items())


def _folder(env: "Mapping[str, str]", name: str, xdg_name: str, fallback: str) -> Path:
    if env.get(name):
        return _absolute(name, env[name])
    # The XDG base directory specification tells programs to ignore relative values, so they fall through.
    xdg = env.get(xdg_name, "")
    if xdg.startswith("/"):
        return Path(xdg) / "pyro"
    home = env.get("HOME", "")
    if not home.startswith("/"):
        raise InvalidRequest(
            "bad_setting", f"neither {name} nor HOME names a folder", f"set {name} to an absolute path"
        )
    return Path(home) / fallback / "pyro"


def _absolute(name: str, value: str) -> Path:
    if "\0" in value or not value.startswith("/"):
        raise InvalidRequest(
            "bad_setting", f"{name}={value!r} is not an absolute path", f"set {name} to an absolute path"
        )
    path = Path(value)
    try:
        usable = _is_folder_or_none(path)
    except OSError as error:  # too long, or in a folder that we may not enter
        raise InvalidRequest(
            "bad_setting", f"{name}={value[:200]!r} cannot be used: {error.strerror}", f"set {name} to another folder"
        ) from None
    if not usable:
        raise InvalidRequest("bad_setting", f"{name}={value!r} is not a folder", f"set {name} to a folder")
    return path


def _is_folder_or_none(path: Path) -> bool:
    """Looks once: somebody else may be making it now."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True


def _choice(env: "Mapping[str, str]", name: str, choices: tuple[str, ...]) -> str:
    value = env.get(name) or choices[0]
    if value not in choices:
        raise InvalidRequest(
            "bad_setting", f"{name}={value!r} is not known", f"set {name} to one of: {', '.join(choices)}"
        )
    return value


def _number(env: "Mapping[str, str]", name: str, most: int, *, default: int) -> int:
    value = env.get(name) or str(default)
    numbers = [str(number) for number in range(most + 1)]
    if value not in numbers:
        raise InvalidRequest(
            "bad_setting", f"{name}={value!r} is not known", f"set {name} to a number from 0 to {most}"
        )
    return int(value)
