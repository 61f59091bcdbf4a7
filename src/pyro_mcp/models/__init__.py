"""What travels between clients and the daemon: plain frozen dataclasses, typed once for all of them.

The modules hold one topic each, and are imported when a name of theirs is first wanted (see `pyro_mcp.late`).
"""

from typing import TYPE_CHECKING

from pyro_mcp.late import names_from

if TYPE_CHECKING:
    # ruff: noqa: F403
    from pyro_mcp.models.codec import *
    from pyro_mcp.models.daemon import *
    from pyro_mcp.models.environments import *
    from pyro_mcp.models.event import *
    from pyro_mcp.models.phase import *
    from pyro_mcp.models.progress import *
    from pyro_mcp.models.ranges import *
    from pyro_mcp.models.runs import *
else:
    __getattr__ = names_from(
        __name__,
        {
            ".codec": ("decode", "encode"),
            ".daemon": ("ChatHost", "DaemonHello", "ReadyMachine", "ReadyMachines"),
            ".environments": (
                *("EnvironmentInfo", "PruneReport", "PruneRequest", "PullRequest", "TemplateFacts", "TemplateInfo"),
            ),
            ".event": ("Event",),
            ".phase": ("Phase",),
            ".progress": ("NOTICE", "Progress"),
            ".ranges": ("MEM_MIB_RANGE", "TIMEOUT_SECONDS_RANGE", "VCPU_RANGE"),
            ".runs": ("RunAccepted", "RunFinished", "RunRequest", "RunStarted", "SignalRequest"),
        },
    )
