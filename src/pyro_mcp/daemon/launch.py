"""The daemon's process: `python -m pyro_mcp.daemon.launch SOCKET_FD LOCK_FD`.

Clients start it with a socket that listens already and the lock that makes it the only one (see `daemon.client`), so
they can send their first request before it has finished starting.
"""

import os
import sys


def main() -> None:
    """Leave the caller's process tree, then serve. Chat hosts signal every descendant that they find."""
    socket_fd, lock_fd = (int(word) for word in sys.argv[1:])
    if os.fork():
        os._exit(0)
    from pyro_mcp.daemon.serve import serve  # noqa: PLC0415  (after the fork: the caller waits for its first half)

    serve(socket_fd, lock_fd)


if __name__ == "__main__":
    main()
