"""The end of a search's time, looked at by what may take long: least squares of many inputs, fits, subsets of inputs.

`Search.over` is asked between the steps of a search; one step of it may take a minute where there are twenty inputs.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


class OutOfTimeError(Exception):
    """The time of the search is over; `find_formulas` goes on with what it has."""


@contextmanager
def until(deadline: float) -> Iterator[None]:
    """Let `check` raise from this time on, of `time.perf_counter`."""
    before = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(before)


def check() -> None:
    if time.perf_counter() > _deadline.get():
        raise OutOfTimeError
