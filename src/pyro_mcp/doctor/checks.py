"""All checks, in the order in which they are shown: from the ground up."""

from functools import partial

from pyro_mcp.config import Settings
from pyro_mcp.doctor import (
    build_tools,
    bundle,
    chat_hosts,
    daemon,
    disk,
    environments,
    isolation,
    kvm,
    network,
    qemu,
    state,
    system,
    templates,
)
from pyro_mcp.doctor.run import Check
from pyro_mcp.doctor.shared import Shared
from pyro_mcp.images import catalog


def all_checks(settings: Settings, environment: str | None) -> tuple[Check, ...]:
    """The checks for these settings, with a run in `environment` if one is named. Raises `NotFound` for a bad name."""
    shared = Shared(settings)
    checks: tuple[Check, ...] = (
        Check(system.NAME, system.examine),
        # Every byte of it is hashed, and the proof of KVM needs it: where there is one processor, one after the other.
        Check(bundle.NAME, partial(bundle.examine, shared), bundle.SECONDS, heavy=True),
        Check(kvm.NAME, partial(kvm.examine, shared), kvm.SECONDS, heavy=True),
        Check(qemu.NAME, partial(qemu.examine, shared), qemu.SECONDS, heavy=True),
        Check(isolation.NAME, partial(isolation.examine, shared)),
        Check(disk.NAME, partial(disk.examine, settings)),
        Check(state.NAME, partial(state.examine, settings)),
        Check(build_tools.NAME, build_tools.examine),
        Check(network.NAME, network.examine),
        Check(daemon.NAME, partial(daemon.examine, settings), daemon.SECONDS, heavy=True),
        Check(environments.NAME, partial(environments.examine, shared)),
        Check(templates.NAME, partial(templates.examine, settings), templates.SECONDS),
    )
    if environment is not None:
        name = catalog.lookup(environment).name
        run = partial(environments.examine_run, shared, name)
        checks = (*checks, Check(environments.NAME_OF_RUN, run, environments.SECONDS))
    return (*checks, Check(chat_hosts.NAME, chat_hosts.examine, chat_hosts.SECONDS))
