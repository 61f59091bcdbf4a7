"""A Debian mirror on the loopback address that passes on what the host's mirrors have, and can be made to misbehave."""

import contextlib
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pyro_mcp import apt

# Given a path and the right content, what to send: all of it, other bytes, or None for 404.
Trouble = Callable[[str, bytes], bytes | None]


def all_well(path: str, content: bytes) -> bytes | None:
    """No trouble."""
    return content


@dataclass
class TroubleMirror:
    """`url` is the main archive; `trouble` decides what is sent, `cut` names what is broken off half-way."""

    upstreams: dict[str, str]
    url: str = ""
    trouble: Trouble = all_well
    cut: str = ""
    served: list[str] = field(default_factory=list)
    _kept: dict[str, bytes | None] = field(default_factory=dict)

    def content(self, path: str) -> bytes | None:
        """What upstream has there; fetched once."""
        if path not in self._kept:
            self._kept[path] = self._fetched(path)
        return self._kept[path]

    def _fetched(self, path: str) -> bytes | None:
        _, archive, rest = path.split("/", 2)
        if archive not in self.upstreams:
            return None
        address = re.sub(r"^copy:", "file:", f"{self.upstreams[archive].rstrip('/')}/{rest}")
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310  (the host's own mirror)
                content: bytes = answer.read()
                return content
        except urllib.error.URLError:
            return None


@contextlib.contextmanager
def trouble_mirror(sources: apt.DebianSources) -> Iterator[TroubleMirror]:
    """Serve until the block ends."""
    rows = [entry.split()[-3:-1] for entry in sources.entries]
    upstreams = {"debian-security" if suite.endswith("-security") else "debian": uri for uri, suite in rows}
    mirror = TroubleMirror(upstreams)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            content = mirror.content(self.path)
            answer = None if content is None else mirror.trouble(self.path, content)
            mirror.served.append(self.path)
            self.send_response(404 if answer is None else 200)
            body = answer or b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if mirror.cut and mirror.cut in self.path:
                body = body[: len(body) // 2]
                self.close_connection = True
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are kept in `served`, not printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        mirror.url = f"http://127.0.0.1:{server.server_port}/debian"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield mirror
        server.shutdown()
        thread.join()
