"""How long a thread may keep Python's lock while others want it: one number for the whole process.

A call needs its turn some times, and beside one that computes in Python, or a model that is being loaded, it waits so
long each time; where there is neither, a short interval only costs.
"""

import sys
import threading

BESIDE_CALLS = 0.0005  # seconds
BESIDE_LOADS = 0.0001  # which hold the lock nearly all the time, for long, and are in no hurry themselves

_USUAL = sys.getswitchinterval()
_lock = threading.Lock()
_wanted: dict[str, float] = {}


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
    sys.setswitchinterval(min([_USUAL, *_wanted.values()]))
