"""Which tests run in the test host when none are named: what is for such a host alone, and of each kind of test that
goes for both VMMs as much as fits into ten minutes. The others of tests/vm can be named.
"""

_RUN = "tests/vm/test_run.py"
_FAULTS = "tests/vm/test_faults.py"
_COMMAND_LINE = "tests/vm/test_workspace_command_line.py"
_TEMPLATES = "tests/vm/test_templates.py"

TESTS = (
    "tests/kvmhost",
    "tests/vm/test_workspace_lifecycle.py",
    "tests/vm/test_protocol.py",
    "tests/vm/test_hostile_guest.py",
    f"{_RUN}::test_the_guest_is_a_machine_of_its_own",
    f"{_RUN}::test_both_outputs_arrive_whole_and_apart",
    f"{_RUN}::test_input_goes_through_unchanged",
    f"{_RUN}::test_signals_reach_the_whole_process_group",
    f"{_RUN}::test_a_time_out_ends_the_group_and_exits_124",
    f"{_FAULTS}::test_a_killed_vmm_is_told_and_leaves_nothing",
    f"{_FAULTS}::test_a_client_that_goes_away_takes_its_machine_along[9]",
    f"{_FAULTS}::test_an_interrupt_during_the_boot_ends_the_machine",
    f"{_FAULTS}::test_a_daemon_told_to_end_ends_its_machines_in_order",
    f"{_COMMAND_LINE}::test_exec_is_like_a_command_of_this_host",
    f"{_COMMAND_LINE}::test_signals_reach_the_command",
    f"{_TEMPLATES}::test_machines_have_nothing_in_common",
    f"{_TEMPLATES}::test_what_one_writes_no_other_sees",
    f"{_TEMPLATES}::test_a_workspace_with_a_seed_begins_from_a_template_without_one",
    "tests/vm/test_pool.py::test_a_workspace_of_a_chat_takes_the_machine_that_is_ready",
)
