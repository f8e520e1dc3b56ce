"""What a search may spend: wall-clock time, fits, or both. Asked by all that may take long.

`Search.over` is asked between the steps of a search; one step of it may take a minute where there are twenty inputs.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

Limit = Literal["seconds", "max_fits"]


class OutOfBudgetError(Exception):
    """The time or the fits of the search are used up; `find_formulas` goes on with what it has."""


@dataclass
class _Count:
    fits: int = 0


@dataclass(frozen=True, eq=False)
class Budget:
    """Time until `deadline`, of `time.perf_counter`, and up to `max_fits` fits.

    One fit is one least-squares fit: of a polynomial, of a network from one random start, or of all constants again
    when a curve has been named, a grid made finer or parts put together.
    """

    deadline: float = math.inf
    max_fits: float = math.inf
    _count: _Count = field(default_factory=_Count)

    @property
    def fits(self) -> int:
        """How many have been made."""
        return self._count.fits

    def spent(self) -> Limit | None:
        """The limit that has been reached, if one has."""
        if self.fits >= self.max_fits:
            return "max_fits"
        return "seconds" if self.deadline < math.inf and time.perf_counter() > self.deadline else None

    def part(self, share: float) -> "Budget":
        """This share of the time and of the fits that are left; what is spent of it is spent of the whole."""
        now = time.perf_counter()
        return Budget(
            now + share * max(self.deadline - now, 0.0),
            self.fits + share * max(self.max_fits - self.fits, 0.0),
            self._count,
        )

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Let `check` and `count_fit` raise once this is spent."""
        before = _enforced.set(self)
        try:
            yield
        finally:
            _enforced.reset(before)

    def count(self) -> None:
        self._count.fits += 1


_enforced: ContextVar[Budget | None] = ContextVar("budget", default=None)


def check() -> None:
    """Raise OutOfBudgetError if the search has nothing left to spend."""
    budget = _enforced.get()
    if budget is not None and budget.spent():
        raise OutOfBudgetError


def count_fit() -> None:
    """Called before each fit: counts it, unless there is nothing left to spend."""
    check()
    budget = _enforced.get()
    if budget is not None:
        budget.count()
