"""Limit BLAS to one thread where products are too small to share. A fit is thousands of small matrix products; on busy
cores, threads that wait for one another at each of them slow it down thirtyfold."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import numpy as np  # noqa: F401 - loads the BLAS library that threadpoolctl looks for

WORTH_SHARING = 5e9  # multiply-adds of one product: about half a second on one core
WORTH_A_THREAD = 1e8  # multiply-adds of a pass of the compiled kernels: a few hundredths of a second


def threads_worth(work: float) -> int:
    """How many threads the compiled kernels use for a pass of `work` multiply-adds: at most the cores of this process,
    or OMP_NUM_THREADS. The results do not depend on the number."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    most = int(wanted) if wanted.isdecimal() and int(wanted) > 0 else cores
    return int(max(1, min(most, cores, work // WORTH_A_THREAD)))


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Run NumPy's linear algebra on one thread, unless products of `work` multiply-adds are worth sharing. Needs
    threadpoolctl; without it, OMP_NUM_THREADS=1 has the same effect."""
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
    """One thread limit shared by all running fits. They may end in any order; the last one lifts it."""

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
