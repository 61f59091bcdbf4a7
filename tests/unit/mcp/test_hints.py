"""Hints in terms of the tools that a model has."""

import pytest

from pyro_mcp.mcp.hints import for_models
from pyro_mcp.mcp.profiles import tools_of

GONE = "see `pyro workspace list` and `pyro workspace logs W`, then ask again"


def _hint(hint: str, profile: str) -> str:
    return for_models(hint, [tool.name for tool in tools_of(profile)])


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("pyro workspace list", "workspace_list"),
        ("did you mean w-abc1? `pyro workspace list` shows all", "did you mean w-abc1? workspace_list shows all"),
        ("pyro workspace logs w-abc1", "workspace_logs"),
        ("see what is there: `pyro workspace file list W`", "see what is there: workspace_file_list"),
        ("copy large files with `pyro workspace sync push`", "copy large files with workspace_sync_push"),
        ("try pyro workspace exec W -- ls -la", "try workspace_exec"),
        ("try pyro run ENV -- ls -la", "try vm_run"),
        ("choose another", "choose another"),
        (GONE, "see workspace_list and workspace_logs, then ask again"),
    ],
)
@pytest.mark.parametrize("profile", ["workspace-core", "workspace-full"])
def test_tools_stand_for_commands(hint: str, told: str, profile: str) -> None:
    assert _hint(hint, profile) == told


def test_what_a_model_has_no_tool_for_is_for_the_user() -> None:
    start = "pyro workspace start w-abc1"
    assert _hint(start, "workspace-full") == "workspace_start"
    assert _hint(start, "workspace-core") == f"{start} (that is for the user to run)"
    assert _hint(f"`{start}` starts it again", "workspace-full") == "workspace_start starts it again"
    both = "see `pyro workspace status`; `pyro workspace start` starts it again"
    assert _hint(both, "workspace-full") == "see workspace_status; workspace_start starts it again"
    told = "see workspace_status; `pyro workspace start` starts it again (that is for the user to run)"
    assert _hint(both, "workspace-core") == told
    deleted = "`pyro workspace list --deleted` shows what can be had back"
    assert _hint(deleted, "workspace-full") == f"{deleted} (that is for the user to run)"
    follow = "`pyro workspace logs w-abc1 --follow` shows the rest"
    assert _hint(follow, "workspace-full") == f"{follow} (that is for the user to run)"
    assert _hint("run `pyro doctor`", "workspace-full") == "run `pyro doctor` (that is for the user to run)"


def test_environments() -> None:
    hint = "pyro env list shows what there is"
    assert _hint(hint, "workspace-full") == "vm_list_environments shows what there is"
    assert _hint(hint, "workspace-core") == f"{hint} (that is for the user to run)"


def test_what_is_said_to_be_the_users_already_stays() -> None:
    hint = "use a path below the project's folder; the user allows others with `pyro mcp serve --allow-path DIR`"
    assert _hint(hint, "workspace-core") == hint
