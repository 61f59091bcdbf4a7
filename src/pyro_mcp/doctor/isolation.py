"""How well a VMM is shut in on this host, by a program that was shut in."""

import asyncio
import os
import shutil
from pathlib import Path

from pyro_mcp.doctor.mending import apt_install, as_root
from pyro_mcp.doctor.report import Row, passed, warning
from pyro_mcp.doctor.shared import Shared
from pyro_mcp.vmm import cgroup
from pyro_mcp.vmm.confine import BWRAP

NAME = "isolation"
_SYSTEM_SETTINGS = Path("/proc/sys")
# Settings that keep ordinary users from making user namespaces: file below /proc/sys, value that forbids, and cure.
_FORBIDDING = (
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=65536"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
)
_CONTAINER = (
    "allow namespaces to whatever this machine runs in, such as a container: docker run --security-opt"
    " seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined ..."
)


async def examine(shared: Shared) -> Row:
    return row_for(
        await shared.unconfinable.get(),
        runs_as_root=os.geteuid() == 0,
        has_groups=await asyncio.to_thread(cgroup.find) is not None,
        settings=_SYSTEM_SETTINGS,
    )


def row_for(unconfinable: str | None, *, runs_as_root: bool, has_groups: bool, settings: Path) -> Row:
    """The row for `why_unconfinable`'s answer; `has_groups` tells of control groups, `settings` is where sysctl's
    files are."""
    if unconfinable is None:
        user = "a user of its own (started by root)" if runs_as_root else "the ordinary user that started it"
        return passed(
            NAME,
            "full: every VMM runs in namespaces of its own, without network, capabilities, other processes or any file"
            " of this host but /usr and its inputs, read-only, under a seccomp filter,"
            f" as {user}, and {_bounds(has_groups)}",
        )
    found = f"weak: a VMM has nothing but its seccomp filter between it and {_at_risk(runs_as_root)}: {unconfinable}"
    return warning(NAME, found, _mend(settings))


def _bounds(has_groups: bool, /) -> str:
    if has_groups:
        return "in a control group that bounds its memory and its threads"
    return "bounded in its memory by a resource limit alone: no control group here is ours to make others below"


def _at_risk(runs_as_root: bool) -> str:
    return "this whole machine, since it is started by root" if runs_as_root else "what this user may do"


def _mend(settings: Path) -> str:
    if shutil.which(BWRAP) is None:
        return apt_install(["bubblewrap"])
    for file, forbidding, cure in _FORBIDDING:
        if _value(settings / file) == forbidding:
            return as_root(cure)
    return _CONTAINER


def _value(file: Path) -> str | None:
    """A setting, or None on a kernel that has none of that name."""
    try:
        return file.read_text().strip()
    except OSError:
        return None
