"""The rate of the processor's time stamp counter.

QEMU's emulated processor hands the host's counter through to the guest, and a guest kernel that is told the rate need
not find it out: under emulation finding it out hangs about every second boot.
"""

import ctypes
import functools
import mmap
import statistics
import time
from collections.abc import Callable

# rdtsc; shl rdx, 32; or rax, rdx; ret (Intel SDM volume 2: RDTSC puts the counter into EDX:EAX)
_READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")
_SAMPLES = 5
_SAMPLE_SECONDS = 0.004


@functools.cache
def host_khz() -> int | None:
    """The counter's rate in kHz, or None where this process may not run code that it wrote (some hardened hosts).

    Takes about 20 ms the first time.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    page.write(_READ_COUNTER)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)
    return round(statistics.median(_sample_khz(counter) for _ in range(_SAMPLES)))


def _sample_khz(counter: Callable[[], int]) -> float:
    ticks, nanoseconds = counter(), time.monotonic_ns()
    time.sleep(_SAMPLE_SECONDS)
    ticks, nanoseconds = counter() - ticks, time.monotonic_ns() - nanoseconds
    return ticks * 1_000_000 / nanoseconds
