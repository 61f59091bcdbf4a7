"""What all events are."""


class Event:
    """Something that a long request tells on its way. Each kind of it stands in `pyro_mcp.events`, too."""
