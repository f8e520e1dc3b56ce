"""The GIL switch interval (`sys.setswitchinterval`): how long a thread may keep the GIL while others wait for it. A
short interval shortens the wait of calls while other calls compute in Python or a model is being loaded, and otherwise
only costs. Only a process of the server itself changes it."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

BESIDE_CALLS = 0.0005  # seconds
BESIDE_LOADS = 0.0001  # loads hold the GIL nearly all the time, for long, and are not urgent

_lock = threading.Lock()
_wanted: dict[str, float] = {}
_usual: float | None = None  # the original interval, in a process of the server itself; None elsewhere


@contextmanager
def own_process() -> Iterator[None]:
    """Let the interval follow `shorten` and `relax` inside this context, and restore it at the end."""
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
    """Limit the interval to `seconds`, until `relax` is called with the same `who`."""
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
