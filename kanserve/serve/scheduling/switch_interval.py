"""How long a thread may keep Python's lock while others want it: one number for the whole process.

A call needs its turn some times, and beside one that computes in Python, or a model that is being loaded, it waits so
long each time; where there is neither, a short interval only costs.

Only a process that is the server's own changes it: a server that is started inside a user's process leaves it alone.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

BESIDE_CALLS = 0.0005  # seconds
BESIDE_LOADS = 0.0001  # which hold the lock nearly all the time, for long, and are in no hurry themselves

_lock = threading.Lock()
_wanted: dict[str, float] = {}
_usual: float | None = None  # of a process of the server's own; None: it is somebody else's


@contextmanager
def own_process() -> Iterator[None]:
    """Inside, the process is the server's own, and the interval is what is wanted; at the end it is as it was."""
    global _usual
    before = sys.getswitchinterval()
    with _lock:
        _usual = before
        _set()
    try:
        yield
    finally:
        with _lock:
            _usual = None
            sys.setswitchinterval(before)


def shorten(who: str, seconds: float) -> None:
    """Turns of no more than that, until who asked for it says `relax`."""
    with _lock:
        _wanted[who] = seconds
        _set()


def relax(who: str) -> None:
    with _lock:
        _wanted.pop(who, None)
        _set()


def _set() -> None:
    if _usual is not None:
        sys.setswitchinterval(min([_usual, *_wanted.values()]))
