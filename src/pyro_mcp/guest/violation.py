"""The error for a guest that does not speak the protocol."""

from pyro_mcp.errors import GuestFailed


class ProtocolViolation(GuestFailed):
    """The guest sent something that the protocol does not allow; its session must end."""

    def __init__(self, what: str) -> None:
        super().__init__(
            "guest_protocol",
            f"the guest's agent broke the protocol: {what}",
            "the machine was stopped; try again",
        )
