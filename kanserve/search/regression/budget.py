"""The budget of a search: wall-clock time, fits, or both. Long computations check it inside too, since a single step
may take a minute with twenty inputs."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

Limit = Literal["seconds", "max_fits"]


class OutOfBudgetError(Exception):
    """The time or the fits of the search are used up; `find_formulas` goes on with the results so far."""


@dataclass
class _Count:
    fits: int = 0


@dataclass(frozen=True, eq=False)
class Budget:
    """A budget of time until `deadline` (of `time.perf_counter`) and `max_fits` fits. A fit is one least-squares fit:
    of a polynomial, of a network from one start, or of all constants after a change."""

    deadline: float = math.inf
    max_fits: float = math.inf
    _count: _Count = field(default_factory=_Count)

    @property
    def fits(self) -> int:
        """The number of fits so far."""
        return self._count.fits

    def limit_reached(self) -> Limit | None:
        """The limit that has been reached, or None."""
        if self.fits >= self.max_fits:
            return "max_fits"
        return "seconds" if self.deadline < math.inf and time.perf_counter() > self.deadline else None

    def part(self, share: float) -> "Budget":
        """A budget of this share of the remaining time and fits. What it spends also counts for the whole."""
        now = time.perf_counter()
        return Budget(
            now + share * max(self.deadline - now, 0.0),
            self.fits + share * max(self.max_fits - self.fits, 0.0),
            self._count,
        )

    def of_fits(self, most: int) -> "Budget":
        """A budget of at most `most` further fits. What it spends also counts for the whole."""
        return Budget(self.deadline, min(self.max_fits, self.fits + most), self._count)

    @contextmanager
    def enforce(self) -> Iterator[None]:
        """Make `check` and `count_fit` raise inside this context once the budget is spent."""
        before = _enforced.set(self)
        try:
            yield
        finally:
            _enforced.reset(before)

    def count(self, fits: int = 1) -> None:
        self._count.fits += fits


def current_budget() -> Budget:
    """The budget of the current context, or an unlimited one."""
    return _enforced.get() or Budget()


_enforced: ContextVar[Budget | None] = ContextVar("budget", default=None)


def check() -> None:
    """Raise OutOfBudgetError if the budget is spent."""
    budget = _enforced.get()
    if budget is not None and budget.limit_reached():
        raise OutOfBudgetError


def count_fit() -> None:
    """Count a fit that is about to start. Raises OutOfBudgetError if the budget is spent."""
    check()
    budget = _enforced.get()
    if budget is not None:
        budget.count()
