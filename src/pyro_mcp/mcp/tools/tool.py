"""What a tool is: its names and words for models, its parameters and result, and the function that does it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pyro_mcp.mcp.call import Call
from pyro_mcp.models import MEM_MIB_RANGE, VCPU_RANGE
from pyro_mcp.workspace_models import SHOWN_OUTPUT_BYTES

ENVIRONMENTS = "debian:12 (git, Python 3, ripgrep), debian:12-build (gcc, make too) or debian:12-base"
Vcpus = Annotated[int, "default 1", VCPU_RANGE]
MemMib = Annotated[int, "default 1024", MEM_MIB_RANGE]
Offset = Annotated[int, "byte to read from (default 0)", range(1 << 53)]  # the whole numbers that JSON is safe for
PageBytes = Annotated[int, f"most bytes (default {SHOWN_OUTPUT_BYTES})", range(1, 32769)]


@dataclass(frozen=True)
class Effect:
    """What a call may change, as the protocol's annotations have it.

    `destructive` is false throughout. All that tools change is a copy inside a sandbox: what the user has is not
    reachable from there, the seed stays as it was, `export` never writes over anything, and the two calls that throw a
    disk away (`reset`, `delete`) keep it for `restore`. And hosts that ask before destructive calls would
    otherwise ask before each of them, or refuse them all.

    `open_world` is false as well: nothing but the user's own machine takes part, and guests have no network.
    """

    read_only: bool = False
    idempotent: bool = False

    def annotations(self) -> dict[str, bool]:
        """All four hints: hosts assume the worst of one that is missing."""
        return {
            "readOnlyHint": self.read_only,
            "destructiveHint": False,
            "idempotentHint": self.idempotent,
            "openWorldHint": False,
        }


READS = Effect(read_only=True, idempotent=True)
CHANGES = Effect()
SETS = Effect(idempotent=True)  # asking for the same again changes nothing more


@dataclass(frozen=True)
class Reply:
    """What a call brought: text for models, and the same as an instance of the tool's result."""

    text: str
    result: object


def with_note(text: str, note: str | None) -> str:
    """A reply's text, and what a caller should know about what was done."""
    return text if note is None else f"{text}\nnote: {note}"


@dataclass(frozen=True)
class Tool:
    """A tool. `parameters` and `result` are dataclasses (see `schema`)."""

    name: str
    title: str
    description: str
    effect: Effect
    parameters: type
    result: type
    run: Callable[[Call, Any], Awaitable[Reply]]
