"""Linear algebra on one thread where the work is too small to share.

A fit is thousands of small matrix products. Where somebody else uses the cores too, threads that wait for one another
at each of them made a fit of half a second take 15. Only products that are long compared with a turn of the scheduler
gain from a second thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np  # noqa: F401 - loads the library that is to be found

WORTH_SHARING = 5e9
"""Multiply-adds of one product: about half a second on one core."""


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """NumPy's linear algebra on one thread, unless products have `work` multiply-adds that are worth sharing.

    Without the package threadpoolctl nothing is changed; OMP_NUM_THREADS=1 does the same then.
    """
    controller = _controller()
    if controller is None or work >= WORTH_SHARING:
        yield
        return
    with controller.limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
