"""A host with templates of machines that are fake."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyro_mcp.vmm.machine import MachineSpec
from pyro_mcp.vmm.template import Template
from pyro_mcp.workspace.boot import machine_spec
from pyro_mcp.workspace.host import Host
from pyro_mcp.workspace.template_stages import WAITING, Stage
from pyro_mcp.workspace.templates import Templates
from tests.support.fake_machine import Boots


@dataclass
class Place:
    """A host, and where its templates are."""

    folder: Path
    host: Host
    boots: Boots
    image: Path

    def daemon(self) -> Templates:
        """What a daemon that has just started knows."""
        return Templates(self.folder)

    def spec(self, vcpu_count: int = 1, **changes: Any) -> MachineSpec:
        """A machine."""
        plain = machine_spec(self.host, self.image, -1, vcpu_count=vcpu_count, mem_mib=512)
        return replace(plain, **changes)

    def there(self) -> set[str]:
        """The templates, and whatever else is beside the lock and what is noted of trouble."""
        return {path.name for path in self.folder.iterdir()} - {"lock", "trouble.json"}


async def begun(templates: Templates, place: Place, stage: Stage = WAITING, **changes: Any) -> Template:
    """The template that such a machine begins from."""
    copy = await templates.begin_from(place.host, place.spec(**changes), stage)
    assert copy.template is not None
    return copy.template
