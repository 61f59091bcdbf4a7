"""Runs in the test host as root: the tests, first as an ordinary user and then as root; hands out how they ended.

What leaves the machine goes through virtio-serial ports, see `host/machine.py`.
"""

import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PORTS = Path("/sys/class/virtio-ports")
SCRATCH = Path("/scratch")
KEPT = Path("/var/tmp/kept")  # tests put here what somebody may want to see when they fail
TEMPORARY = Path("/tmp")
PYTHON = "/opt/pyro/bin/python"
PATH = "/opt/pyro/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# An ordinary user's processes run in the part of the cgroup tree that is theirs.
BECOME = {
    "tester": (
        *("/bin/sh", "-c", 'echo $$ >/sys/fs/cgroup/tester/session/cgroup.procs && exec "$@"', "sh"),
        *("setpriv", "--reuid=tester", "--regid=tester", "--init-groups"),
    ),
    "root": (),
}
TESTS_OF = {"tester": "not kvmhost_root and not whole_host", "root": "kvmhost_root"}
SLOWNESS = 4  # of guests here, against those of an ordinary machine
# Importing what the other installed plugins import takes eight seconds here.
PLUGINS = ("--disable-plugin-autoload", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider")
NOTHING_COLLECTED = 5  # pytest's
STOPPED = 124  # as of timeout(1)
GRACE_SECONDS = 15
MAX_LOG_BYTES = 1 << 20
PULSE_SECONDS = 0.5
KVM_CREATE_VM, KVM_CREATE_IRQCHIP, KVM_CREATE_VCPU = 0xAE01, 0xAE60, 0xAE41  # linux/kvm.h


def main() -> None:
    output = os.open(port("output"), os.O_WRONLY)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    show_pulse()
    order = json.loads((SCRATCH / "order.json").read_text())
    KEPT.mkdir(mode=0o777)
    KEPT.chmod(0o1777)
    until = time.monotonic() + order["seconds"]
    say(f"booted in {float(Path('/proc/uptime').read_text().split()[0]):.1f} s")
    hold_kvm()
    codes = [run_as(user, order["arguments"], until) for user in BECOME]
    hand_out_logs()
    port("result").write_text(json.dumps({"exit_code": overall(codes)}))
    # Here rather than in `start`, as long as the machine of `hold_kvm` is there.
    os.sync()
    subprocess.run(["busybox", "reboot", "-f"], check=True)
    signal.pause()


def show_pulse() -> None:
    """Let `host/pulse.py` hear of each processor that it still runs programs, until the machine is turned off.

    This also keeps them running. One was seen asleep for good in the idle loop, its interrupts enabled, while the other
    went on. It must have lost its timer's interrupt: QEMU 7.2's `vmrun` (helper_vmrun) marks a virtual interrupt in the
    word in which other threads mark real ones, but without their lock. The next interrupt takes along what was lost.
    So there is a thread for each processor, and all of them move on at every beat: one that arrives is announced by an
    interrupt, and needs no timer of the processor that it comes to.
    """
    out = os.open(port("pulse"), os.O_WRONLY)
    processors = sorted(os.sched_getaffinity(0))
    for first in range(len(processors)):
        turns = itertools.cycle([*processors[first:], *processors[:first]])
        threading.Thread(target=beat, args=(turns, out), daemon=True).start()


def beat(turns: Iterator[int], out: int) -> None:
    # Before everything else there, so that no load is taken for a standstill.
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    for processor in turns:
        os.sched_setaffinity(0, {processor})
        os.write(out, bytes([processor]))
        time.sleep(PULSE_SECONDS)


def hold_kvm() -> None:
    """Keep one virtual machine, with one processor that never runs, until the host is turned off.

    The first machine makes the kernel change code of its scheduler and of KVM, the end of the last one changes it back
    (static keys: preempt_notifier_key, apic_sw_disabled). QEMU 7.2 with a thread per processor may translate code
    while another processor changes it, and keep the stale translation: a breakpoint that is no longer there, at which
    the kernel then spins for ever. That befell about every tenth guest.
    """
    kvm = os.open("/dev/kvm", os.O_RDWR)
    machine = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    fcntl.ioctl(machine, KVM_CREATE_IRQCHIP, 0)
    fcntl.ioctl(machine, KVM_CREATE_VCPU, 0)


def port(name: str) -> Path:
    """The device of the virtio-serial port of that name."""
    return next(Path("/dev") / entry.name for entry in PORTS.iterdir() if (entry / "name").read_text().strip() == name)


def run_as(user: str, arguments: list[str], until: float) -> int:
    if time.monotonic() >= until:
        say(f"no time is left for tests as {user}")
        return STOPPED
    home = "/root" if user == "root" else f"/home/{user}"
    environment = {
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "LANG": "C.UTF-8",
        "PATH": PATH,
    }
    report = f"--junitxml={KEPT / user}.xml"
    began = time.monotonic()
    process = subprocess.Popen(
        [*BECOME[user], PYTHON, "-m", "pytest", *PLUGINS, report, "-m", TESTS_OF[user], *arguments],
        cwd=SCRATCH / "checkout",
        env={
            **environment,
            "KVMHOST_KEPT": str(KEPT),
            "PYRO_TEST_VMM": "firecracker",
            "PYRO_TEST_SLOWNESS": str(SLOWNESS),
        },
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    code = wait(process, until)
    say(f"tests as {user}: exit code {code} after {time.monotonic() - began:.1f} s")
    return code


def wait(process: "subprocess.Popen[bytes]", until: float) -> int:
    try:
        return process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        say("the tests did not end in time and are interrupted")
    # An interrupted pytest tells where it was.
    for number in (signal.SIGINT, signal.SIGKILL):
        process.send_signal(number)
        try:
            process.wait(GRACE_SECONDS)
            break
        except subprocess.TimeoutExpired:
            continue
    return STOPPED


def overall(codes: list[int]) -> int:
    """The first failure; a user for whom there are no tests is none, as long as another has some."""
    ran = [code for code in codes if code != NOTHING_COLLECTED]
    return next((code for code in ran if code != 0), 0) if ran else NOTHING_COLLECTED


def hand_out_logs() -> None:
    """What tests kept, the kernel's log, and small logs among the tests' temporary files."""
    (KEPT / "dmesg.txt").write_bytes(subprocess.run(["dmesg"], capture_output=True, check=False).stdout)
    with port("logs").open("wb") as out, tarfile.open(fileobj=out, mode="w|") as archive:
        archive.add(KEPT, "kept")
        for path in TEMPORARY.rglob("*.log"):
            if path.is_file() and path.stat().st_size <= MAX_LOG_BYTES:
                archive.add(path, str(path.relative_to("/")))


def say(text: str) -> None:
    print(f"[kvmhost] {text}", flush=True)


if __name__ == "__main__":
    main()
