"""Talks to pyro's MCP server without any library: lists its tools and runs a command in a throwaway VM.

    python3 examples/generic/talk.py

A message is one line of JSON. A request has an id, and the answer with that id belongs to it.
"""

import json
import subprocess
from typing import Any


def main() -> None:
    """Shake hands, list, call."""
    command = ["pyro", "mcp", "serve", "--profile", "vm-run"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as server:  # noqa: S603  (nothing of others)
        us = {"name": "talk", "version": "1"}
        opening = ask(server, 1, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=us)
        send(server, {"method": "notifications/initialized"})
        print(opening["serverInfo"]["name"], opening["serverInfo"]["version"])
        for tool in ask(server, 2, "tools/list")["tools"]:
            print(f"{tool['name']}: {tool['title']}")
        arguments = {"environment": "debian:12", "command": "git --version"}
        print(ask(server, 3, "tools/call", name="vm_run", arguments=arguments)["content"][0]["text"], end="")


def ask(server: "subprocess.Popen[str]", number: int, method: str, **parameters: Any) -> Any:
    """Send a request and wait for its result."""
    send(server, {"id": number, "method": method, "params": parameters})
    for line in server.stdout or ():
        message = json.loads(line)
        if message.get("id") == number:
            return message["result"]
    raise SystemExit("the server has ended")


def send(server: "subprocess.Popen[str]", message: dict[str, Any]) -> None:
    """Send one message."""
    print(json.dumps({"jsonrpc": "2.0", **message}), file=server.stdin, flush=True)


if __name__ == "__main__":
    main()
