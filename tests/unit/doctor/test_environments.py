import dataclasses

import pytest

from pyro_mcp.config import Settings
from pyro_mcp.doctor import environments
from pyro_mcp.doctor.checks import all_checks
from pyro_mcp.doctor.report import Status
from pyro_mcp.doctor.shared import Shared
from pyro_mcp.errors import NotFound
from pyro_mcp.models import EnvironmentInfo
from pyro_mcp.vmm.kvm import PROOF_SECONDS

DEFAULT = EnvironmentInfo("debian:12", "", True, ())
BASE = EnvironmentInfo("debian:12-base", "", True, ())


def without(environment: EnvironmentInfo) -> EnvironmentInfo:
    return dataclasses.replace(environment, installed=False)


def test_what_is_installed_is_told() -> None:
    row = environments.row_for([DEFAULT, BASE])
    assert (row.status, row.found) == (Status.PASS, "debian:12 and debian:12-base installed")


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ([without(DEFAULT), without(BASE)], "none is installed yet"),
        ([without(DEFAULT), BASE], "debian:12-base installed"),
    ],
)
def test_without_the_usual_one_it_is_to_be_pulled(listed: list[EnvironmentInfo], found: str) -> None:
    row = environments.row_for(listed)
    assert (row.status, row.found, row.mend) == (Status.WARN, found, "pyro env pull debian:12")


async def test_an_empty_cache_is_no_error(settings: Settings) -> None:
    row = await environments.examine(Shared(settings))
    assert row.mend == "pyro env pull debian:12"
    assert not settings.cache_dir.exists()


async def test_nothing_is_pulled_to_be_run(settings: Settings) -> None:
    row = await environments.examine_run(Shared(settings), "debian:12-base")
    assert row.status is Status.WARN
    assert row.mend == "pyro env pull debian:12-base"
    assert not settings.cache_dir.exists()


def test_the_checks_go_from_the_ground_up(settings: Settings) -> None:
    names = [check.name for check in all_checks(settings, None)]
    assert names == [
        *("platform", "runtime", "kvm", "qemu", "isolation", "disk", "workspaces"),
        *("build", "network", "daemon", "environments", "templates", "chat-hosts"),
    ]


def test_a_named_environment_is_one_more_check(settings: Settings) -> None:
    extra = {check.name for check in all_checks(settings, "debian:12")} - {c.name for c in all_checks(settings, None)}
    assert extra == {"environment"}


def test_an_environment_that_does_not_exist_is_refused_at_once(settings: Settings) -> None:
    with pytest.raises(NotFound) as caught:
        all_checks(settings, "debian:21")
    assert "debian:12" in (caught.value.hint or "")


def test_no_check_may_take_longer_than_the_whole_may(settings: Settings) -> None:
    assert all(check.timeout_seconds < 15 for check in all_checks(settings, "debian:12"))


def test_a_check_that_waits_for_the_proof_of_kvm_has_longer_than_the_proof(settings: Settings) -> None:
    seconds = {check.name: check.timeout_seconds for check in all_checks(settings, "debian:12")}
    assert all(seconds[name] > seconds["kvm"] for name in ("qemu", "environment"))


def test_a_run_has_time_left_when_the_proof_of_kvm_took_all_of_its_own(settings: Settings) -> None:
    """A slow machine takes some three seconds for a guest under emulation."""
    (check,) = [check for check in all_checks(settings, "debian:12") if check.name == environments.NAME_OF_RUN]
    assert check.timeout_seconds - PROOF_SECONDS >= 6
