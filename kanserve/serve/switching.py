"""How long a thread may keep Python's lock, and a core, while others want them.

A call needs its turn some times, and beside one that computes in Python, or a model that is being loaded, it waits so
long each time; where there is neither, a short interval only costs. That is one number for the whole process.

The core is the kernel's to give. A thread that wakes takes it from one of a lower priority at once, but for the slice
that this one has begun: 4 ms on many machines, and in the midst of them the lock is not asked for either. A thread that
asks for shorter slices itself does not wait (Linux 6.12; others take no notice).
"""

import ctypes
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BESIDE_CALLS = 0.0005  # seconds
BESIDE_LOADS = 0.0001  # which hold the lock nearly all the time, for long, and are in no hurry themselves
SLICE = 100_000  # nanoseconds: the least that Linux takes

_USUAL = sys.getswitchinterval()
_lock = threading.Lock()
_wanted: dict[str, float] = {}

# sched_setattr(2), of processes of 64 bits
_NUMBERS = {"x86_64": 314, "aarch64": 274, "riscv64": 274}
_SET = _NUMBERS.get(os.uname().machine) if sys.platform == "linux" and sys.maxsize > 2**32 else None
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")  # size, policy, flags, nice, priority, runtime, deadline, period


def shorten(who: str, seconds: float) -> None:
    """Turns of no more than that, until who asked for it says `relax`."""
    with _lock:
        _wanted[who] = seconds
        _set()


def relax(who: str) -> None:
    with _lock:
        _wanted.pop(who, None)
        _set()


def take_slices(nanoseconds: int) -> None:
    """Of this thread and those that it starts; 0: as long as the kernel's own."""
    if _SET is None or os.sched_getscheduler(0) != os.SCHED_OTHER:  # then somebody has chosen otherwise
        return
    nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    asked = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, nanoseconds, 0, 0)
    with suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).syscall(_SET, 0, asked, 0)


@contextmanager
def starting_what_answers() -> Iterator[None]:
    """The threads that are started in this context take short slices."""
    take_slices(SLICE)
    try:
        yield
    finally:
        take_slices(0)


def _set() -> None:
    sys.setswitchinterval(min([_USUAL, *_wanted.values()]))
