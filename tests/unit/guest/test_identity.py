"""What tells machines from each other."""

from pyro_mcp.guest import identity


def test_no_two_throwaway_machines_have_anything_in_common() -> None:
    one, other = identity.of_throwaway(), identity.of_throwaway()
    assert one.host_name != other.host_name
    assert one.machine_id != other.machine_id


def test_a_workspaces_machine_is_the_same_each_time_and_no_other_workspaces() -> None:
    one = identity.of_workspace("w-ab23", seed=False)
    assert one == identity.of_workspace("w-ab23", seed=False)
    assert one.host_name == "w-ab23"
    assert one.machine_id != identity.of_workspace("w-ab24", seed=False).machine_id


def test_entropy_and_time_are_new_each_time() -> None:
    machine = identity.of_throwaway()
    one, other = machine.assignment(), machine.assignment()
    assert one["entropy"] != other["entropy"]
    assert isinstance(one["time_ns"], int)
    assert isinstance(other["time_ns"], int)
    assert one["time_ns"] <= other["time_ns"]
