"""What a pull does beyond installing: the templates of the usual machine, so that nobody has to wait for them later."""

import logging

from pyro_mcp.errors import PyroError
from pyro_mcp.images import store
from pyro_mcp.models import Progress, RunRequest
from pyro_mcp.workspace.boot import NO_DISK, machine_spec
from pyro_mcp.workspace.environments import Report
from pyro_mcp.workspace.host import FindHost
from pyro_mcp.workspace.template_stages import PREPARED, WAITING

log = logging.getLogger(__name__)


async def prepare_usual_machine(find_host: FindHost, environment: str, report: Report) -> None:
    """Make the templates of the machine that commands and workspaces get unless they ask for another.

    A host that cannot run machines is no obstacle to a pull: its log tells, and so does whoever wants a machine.
    """
    try:
        host = await find_host(quiet=True)  # a command that needs the machine tells what there is to say
        if host.templates is None:
            return
        await report(Progress("pull", "template", environment))
        usual = RunRequest(environment, ())
        with await store.open_verified(host.images, environment) as image:
            spec = machine_spec(host, image.path, NO_DISK, vcpu_count=usual.vcpu_count, mem_mib=usual.mem_mib)
            for stage in (PREPARED, WAITING):
                await host.templates.begin_from(host, spec, stage)
    except (PyroError, OSError) as error:
        log.warning("no template was made of %s: %s", environment, error)
