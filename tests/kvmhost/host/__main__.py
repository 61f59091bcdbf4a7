"""`python -m tests.kvmhost.host [pytest arguments]`: run tests in a machine where KVM works.

Ends with pytest's exit code, or with 70 when the machine did not get as far as that.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from pyro_mcp.config import Settings
from pyro_mcp.errors import PyroError
from pyro_mcp.runtime.bundle import find_bundle
from tests.kvmhost.host import boot_files, image, machine, pulse, rerun, scratch, selection, software
from tests.kvmhost.host.machine import Ending
from tests.kvmhost.host.places import BUILT, CHECKOUT, RUN

_BROKEN = 70  # EX_SOFTWARE of sysexits.h; pytest's own codes are small
_SECONDS = float(os.environ.get("KVMHOST_SECONDS", "2600"))  # the machine's whole life
_SECONDS_BESIDE_TESTS = 60.0  # to boot, and to hand out the logs of tests that were stopped


async def main(arguments: Sequence[str]) -> int:
    """Prepare, boot, run and report; the exit code."""
    with _alone():
        return await _main(arguments)


async def _main(arguments: Sequence[str]) -> int:
    words = _with_tests(arguments)
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir(parents=True)
    ending = await rerun.unless_frozen(lambda: _run_once(words), _put_aside)
    exit_code = _result()
    if ending is Ending.OUT_OF_TIME:
        return _broken(f"it did not end within {_SECONDS:g} s and was killed (KVMHOST_SECONDS)")
    if ending is Ending.FROZEN:
        return _broken("its kernel stood still in the new machine, too, so nothing is known of the tests")
    if exit_code is None:
        return _broken("it ended without a word about the tests")
    if exit_code != 0:
        _say(f"failed; what there is to look at is in {RUN.relative_to(CHECKOUT)}/")
    return exit_code


async def _run_once(words: Sequence[str]) -> Ending:
    """Prepare a machine and run it to its end."""
    began = time.monotonic()
    parts = await _prepare(words)
    _say(f"prepared in {time.monotonic() - began:.1f} s")
    began = time.monotonic()
    with (RUN / "output.log").open("wb") as log:
        ending = await machine.run(parts, _tee(log), _SECONDS)
    _unpack_logs()
    if ending is not Ending.FROZEN and (RUN / machine.EVIDENCE).exists():
        evidence = (RUN / machine.EVIDENCE).relative_to(CHECKOUT)
        _say(f"the emulator stood still for some seconds, and was woken; where it stood is in {evidence}")
    _say(f"the machine ran for {time.monotonic() - began:.1f} s")
    return ending


def _put_aside(number: int) -> None:
    """Tell of a machine whose kernel stood still, and keep what is known of it where the next one leaves it alone."""
    folder = RUN / f"frozen-{number}"
    folder.mkdir()
    for name in (machine.EVIDENCE, "console.log", "output.log", "qemu.log"):
        shutil.copy(RUN / name, folder)
    evidence = (folder / machine.EVIDENCE).relative_to(CHECKOUT)
    _say("=" * 60)
    _say(f"FROZEN: the kernel of the emulated machine has stood still for {pulse.SILENCE_SECONDS:g} s, which is the")
    _say(f"emulator's fault and no result of the tests; where it stands is in {evidence}")
    _say("=" * 60)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One run at a time in this checkout; another waits."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another run is under way; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # It is large, though sparse, and nobody looks into it.
            (RUN / "scratch.ext4").unlink(missing_ok=True)


def _with_tests(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the default selection of tests where they name none."""
    named = any((CHECKOUT / word.partition("::")[0]).exists() for word in arguments if not word.startswith("-"))
    colour = ["--color=yes"] if sys.stdout.isatty() else []
    return [*colour, *arguments, *([] if named else selection.TESTS)]


async def _prepare(arguments: Sequence[str]) -> machine.Parts:
    bundle = find_bundle(Settings.from_environment())
    root = await image.root_image()
    return machine.Parts(
        kernel=bundle.kernel,
        initramfs=await boot_files.initramfs(root, bundle),
        inputs={"root": root, "modules": bundle.modules, "software": await software.software_image()},
        scratch=await scratch.scratch_disk(RUN, arguments, _SECONDS - _SECONDS_BESIDE_TESTS),
        folder=RUN,
    )


def _tee(log: BinaryIO) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        for file in (log, sys.stdout.buffer):
            file.write(data)
            file.flush()

    return write


def _result() -> int | None:
    try:
        return int(json.loads((RUN / "result.json").read_text())["exit_code"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _unpack_logs() -> None:
    logs = RUN / "logs.tar"
    with contextlib.suppress(OSError, tarfile.TarError), tarfile.open(logs) as archive:
        archive.extractall(RUN / "logs", filter="data")
    logs.unlink(missing_ok=True)


def _broken(what: str) -> int:
    console = (RUN / "console.log").read_bytes() if (RUN / "console.log").exists() else b""
    for line in console.decode(errors="replace").splitlines()[-20:]:
        _say(f"console: {line}")
    _say(f"error: {what}; its console is in {(RUN / 'console.log').relative_to(CHECKOUT)}")
    return _BROKEN


def _say(text: str) -> None:
    print(f"[kvmhost] {text}", flush=True)


def _report(error: PyroError) -> int:
    _say(f"error: {error.message}" + (f" ({error.hint})" if error.hint else ""))
    return _BROKEN


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(sys.argv[1:])))
    except KeyboardInterrupt:
        sys.exit(130)
    except PyroError as failure:
        sys.exit(_report(failure))
