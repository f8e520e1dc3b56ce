"""Linear algebra on one thread where the work is too small to share.

A fit is thousands of small matrix products. Where somebody else uses the cores too, threads that wait for one another
at each of them made a fit of half a second take 15. Only products that are long compared with a turn of the scheduler
gain from a second thread.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import numpy as np  # noqa: F401 - loads the library that is to be found

WORTH_SHARING = 5e9
"""Multiply-adds of one product: about half a second on one core."""

WORTH_A_THREAD = 1e8
"""Multiply-adds of a pass of the compiled kernels: some hundredths of a second."""


def threads_worth(work: float) -> int:
    """How many threads the compiled kernels take for a pass of so many multiply-adds.

    At most as many as there are cores for this process, or as OMP_NUM_THREADS says. Results do not depend on it.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    most = int(wanted) if wanted.isdecimal() and int(wanted) > 0 else cores
    return int(max(1, min(most, cores, work // WORTH_A_THREAD)))


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """NumPy's linear algebra on one thread, unless products have `work` multiply-adds that are worth sharing.

    Without the package threadpoolctl nothing is changed; OMP_NUM_THREADS=1 does the same then.
    """
    controller = _controller()
    if controller is None or work >= WORTH_SHARING:
        yield
        return
    _narrow.enter(controller)
    try:
        yield
    finally:
        _narrow.leave()


class _Narrow:
    """One limit for all fits at once: they may end in any order, and the last one gives the threads back."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._limit: Any = None

    def enter(self, controller: Any) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._limit = controller.limit(limits=1, user_api="blas")

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limit.restore_original_limits()


_narrow = _Narrow()


@cache
def _controller() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
