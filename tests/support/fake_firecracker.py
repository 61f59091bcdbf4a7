"""A program in Firecracker's place: for the driver, without KVM and without a guest."""

import asyncio
import sys
from pathlib import Path

from pyro_mcp.vmm.firecracker import FirecrackerDriver
from pyro_mcp.vmm.machine import OpenChannel

# What every script begins with: `config` is what it was told, and `v.sock` is there as soon as Firecracker has it: at
# once, or when it has loaded a snapshot.
_BEGIN = """\
#!{python}
import json, os, signal, socket, sys, threading, time
sys.stdout.reconfigure(line_buffering=True)

def listening(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener

def knock():
    with socket.socket(socket.AF_UNIX) as to:
        to.connect(config["vsock"]["uds_path"] + "_5001")

def serve():
    # One connection after the other, to an agent that says everything backwards.
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as reader:
            if reader.readline() == b"CONNECT 5000\\n":
                connection.sendall(b"OK 1073741824\\n")
            while said := reader.readline():
                connection.sendall(said.strip()[::-1] + b"\\n")

def relay(agent):
    # Any number of connections, to an agent that listens somewhere else on this host.
    while True:
        host, _ = listener.accept()
        assert host.recv(len(b"CONNECT 5000\\n"), socket.MSG_WAITALL) == b"CONNECT 5000\\n"
        host.sendall(b"OK 1073741824\\n")
        guest = socket.socket(socket.AF_UNIX)
        guest.connect(agent)
        for ends in ((host, guest), (guest, host)):
            threading.Thread(target=copy, args=ends, daemon=True).start()

def copy(source, to):
    while data := source.recv(65536):
        to.sendall(data)
    to.shutdown(socket.SHUT_WR)

def asked(api):
    # One request to its API, and who waits for the answer; whoever hangs up without one only looked.
    while True:
        host, _ = api.accept()
        with host.makefile("rb") as reader:
            what = reader.readline().decode().strip()
            lines = iter(lambda: reader.readline().strip().lower(), b"")
            length = sum(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
            if what:
                return what, json.loads(reader.read(length)), host

if "--config-file" in sys.argv:
    config = json.load(open(sys.argv[sys.argv.index("--config-file") + 1]))
    listener = listening(config["vsock"]["uds_path"])

"""
BOOTS = "print('it boots'); knock(); serve()"
"""A guest that comes up."""

FOR_EVER = "\nwhile True: time.sleep(1000)"
"""A VMM that does nothing more."""

GOES_ON = """\
what, body, host = asked(listening(sys.argv[sys.argv.index("--api-sock") + 1]))
print(json.dumps([sys.argv[1:], what, body, os.getcwd(), open(body["snapshot_path"]).read()]))
listener = listening("v.sock")
host.sendall(b"HTTP/1.1 204 \\r\\n\\r\\n")
serve()
"""
"""A guest that goes on where the snapshot was made that its VMM is told to load."""

IS_WRITTEN_DOWN = """\
def write(state, memory):
    open(state, "x").write("the state")
    with open(memory, "xb") as file:
        os.pwrite(file.fileno(), b"mine", 1 << 20)
        file.truncate(768 << 20)

def answers(asked_file):
    # Whatever it is asked, noting that; what it prints is nobody's.
    api = listening(sys.argv[sys.argv.index("--api-sock") + 1])
    threading.Thread(target=serve, daemon=True).start()
    knock()
    while True:
        what, body, host = asked(api)
        if "/snapshot/create" in what:
            write(body["snapshot_path"], body["mem_file_path"])
        with open(asked_file, "a") as file:
            print(json.dumps([sys.argv[1:], config, what, body]), file=file)
        host.sendall(b"HTTP/1.1 204 \\r\\n\\r\\n")

"""
"""For a guest that comes up and is written down, by `write`; `answers(asked_file)` begins it."""


def fake_firecracker(folder: Path, script: str = BOOTS) -> Path:
    """The program: it is told what Firecracker is, listens where Firecracker does, and does as the script says."""
    program = folder / "firecracker"
    program.write_text(_BEGIN.replace("{python}", sys.executable) + script)
    program.chmod(0o755)
    return program


def unconfined_driver(folder: Path, script: str = BOOTS) -> FirecrackerDriver:
    """A driver whose machines are such programs."""
    return FirecrackerDriver(fake_firecracker(folder, script), folder / "run", confined=False)


async def talk(open_channel: OpenChannel) -> bytes:
    """Open the channel and exchange a line with the agent, which says `olleh`."""
    async with asyncio.timeout(30):
        with await open_channel() as connection:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection, b"hello\n")
            answer = b""
            while not answer.endswith(b"\n"):
                more = await loop.sock_recv(connection, 100)
                assert more, f"it hung up after {answer!r}"
                answer += more
            return answer
