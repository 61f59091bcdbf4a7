"""What to do about a limit of the daemon's that was too low."""

import errno

_LIMITS = {
    errno.EFBIG: "the size of files (`ulimit -f`)",
    errno.EMFILE: "open files (`ulimit -n`)",
}


def limit_hint(error: OSError) -> str | None:
    """The hint for an error that comes of a resource limit (setrlimit(2)); None for any other."""
    limit = _LIMITS.get(error.errno or 0)
    if limit is None:
        return None
    return (
        f"raise the limit on {limit}, and end the daemon, which keeps the limits of the shell that started it; "
        "`pyro doctor` names its process"
    )
