"""Steps of a search that do not depend on one another, run ahead in joblib's workers and taken in their order.

A step is a function of its arguments and of the settings in force, so its result does not depend on who computes it.
Its fits count when it is taken. A step that fails in a worker, or in which a limit of fits would have been reached, is
run again where it is taken. So a search gives the same formulas for any number of workers.
"""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from kanserve import native
from kanserve.errors import InputError, MissingDependencyError, reason
from kanserve.formula import register_function
from kanserve.network.functions import FUNCTIONS
from kanserve.network.own_functions import OWN
from kanserve.search.regression.budget import Budget
from kanserve.search.search_settings import SEARCH, SearchSettings
from kanserve.simplification.simplification_settings import SIMPLIFICATION, SimplificationSettings
from kanserve.train.common.argument_checks import whole
from kanserve.train.lm.blas_threads import threads_for

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a step gave in a worker, and the fits that it took."""

    value: T
    fits: int


def worker_count(n_jobs: int | None) -> int:
    """The number of workers for `n_jobs`, with scikit-learn's meaning: None is 1, unless within joblib's
    `parallel_config`; -1 is all cores, -2 all but one.

    InputError for 0 and for anything but a whole number, MissingDependencyError without joblib.
    """
    if n_jobs is not None and (isinstance(n_jobs, bool) or not whole(n_jobs, -sys.maxsize) or n_jobs == 0):
        raise InputError(f"n_jobs must be a whole number of 1 or more, or -1 for all cores; got {n_jobs!r}.")
    if n_jobs == 1 or (n_jobs is None and "joblib" not in sys.modules):
        return 1
    try:
        from joblib import effective_n_jobs
    except ImportError:
        raise MissingDependencyError("joblib", "parallel") from None
    return int(effective_n_jobs(n_jobs))


def alone(step: Callable[[], T]) -> T:
    """The result of a step, with linear algebra on one thread, here as in workers: sums round alike."""
    with threads_for(0):
        return step()


@dataclass(eq=False)
class Workers:
    """The workers of one search. With one job, and until they have started, every step is run where it is taken."""

    jobs: int = 1
    _began: float = field(default_factory=time.perf_counter)
    _start: "_Batch[None] | None" = None
    _started: bool = False
    _batches: "list[_Batch[Any]]" = field(default_factory=list)

    def ahead(self, steps: Sequence[Callable[[], T]], budget: Budget) -> "Iterator[Taken[T]]":
        """The steps in order, to be taken or passed over. They are run ahead until this iterator ends or is closed."""
        batch: _Batch[T] | None = None
        first = 0
        try:
            for place, step in enumerate(steps):
                if batch is None and place + 1 < len(steps) and self._ready():
                    batch, first = self._begun(steps[place:], budget), place
                yield Taken(step, budget, batch, place - first)
        finally:
            if batch is not None:
                batch.stopped = True

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the steps that are still running, and run no more ahead."""
        self.jobs = 1
        while self._batches:
            self._batches.pop().close()

    def _ready(self) -> bool:
        """Whether workers have started. They start in the background, once the search has run for a while."""
        if self.jobs == 1 or self._started:
            return self.jobs > 1
        after = SEARCH.get().workers_after_seconds
        if self._start is None and time.perf_counter() - self._began >= after:
            self._start = self._begun([_nothing] * self.jobs, Budget())
        if self._start is not None and (self._start.any_done or after == 0):
            self._started = self._start.stopped = True
        return self._started

    def _begun(self, steps: Sequence[Callable[[], T]], budget: Budget) -> "_Batch[T]":
        self._batches = [batch for batch in self._batches if not batch.ended()]
        batch = _Batch(steps, self.jobs, budget)
        self._batches.append(batch)
        return batch


@dataclass(frozen=True, eq=False)
class Taken(Generic[T]):
    """A step of a batch; a call gives its result."""

    step: Callable[[], T]
    budget: Budget
    batch: "_Batch[T] | None"
    place: int

    def __call__(self) -> T:
        outcome = self.outcome()
        return alone(self.step) if outcome is None else outcome.value

    def outcome(self) -> Outcome[T] | None:
        """What a worker gave, with its fits counted; None if the step is to be run here."""
        outcome = None if self.batch is None else self.batch.outcome(self.place)
        if outcome is None or self.budget.fits + outcome.fits >= self.budget.max_fits:
            return None
        self.budget.count(outcome.fits)
        return outcome


class _Batch(Generic[T]):
    """A list of steps in joblib's workers, which take a further one when one has ended."""

    def __init__(self, steps: Sequence[Callable[[], T]], jobs: int, budget: Budget) -> None:
        from joblib import Parallel

        self.stopped = False
        self._place = -1
        self._last: Outcome[T] | None = None
        self._parallel = Parallel(n_jobs=jobs, return_as="generator", batch_size=1, pre_dispatch=jobs + 1)
        self._outcomes = self._parallel(self._tasks(steps, _Scene.of(budget)))

    def _tasks(self, steps: Sequence[Callable[[], T]], scene: "_Scene") -> Iterator[Any]:
        from joblib import delayed

        for step in steps:
            if self.stopped:
                return
            yield delayed(_run)(step, scene)

    @property
    def any_done(self) -> bool:
        return bool(self._parallel.n_completed_tasks)

    def outcome(self, place: int) -> Outcome[T] | None:
        """The outcome of a step, which is waited for; None if it failed."""
        try:
            while self._place < place:
                self._last = next(self._outcomes, None)
                self._place += 1
        except Exception as error:  # a worker was killed, or a result cannot be sent
            logging.getLogger("kanserve").warning("A worker failed (%s); its steps are run here.", reason(error))
            return None
        return self._last

    def ended(self) -> bool:
        """Whether nobody takes its steps any more and none is running, so that joblib may forget it."""
        if not self.stopped or self._parallel.n_completed_tasks < self._parallel.n_dispatched_tasks:
            return False
        for _ in self._outcomes:
            pass
        return True

    def close(self) -> None:
        """End the steps that are still running, with their workers."""
        self.stopped = True
        if not self.ended():
            with warnings.catch_warnings():  # joblib's, that steps were lost
                warnings.simplefilter("ignore")
                self._outcomes.close()


@dataclass(frozen=True)
class _Scene:
    """What a step finds around it: the limits of the search, the settings in force, and the user's functions."""

    deadline: float
    """In seconds of `time.time`, which all processes share."""
    most_fits: float
    search: SearchSettings
    simplification: SimplificationSettings
    kernels: bool
    functions: tuple[tuple[str, str, float, str], ...]
    """Name, formula, complexity and domain of each function that the user has registered."""

    @staticmethod
    def of(budget: Budget) -> "_Scene":
        deadline = budget.deadline - time.perf_counter() + time.time()
        kernels = native.library() is not None
        functions = tuple(
            (name, formula, FUNCTIONS[name].complexity, FUNCTIONS[name].domain) for name, formula in OWN.items()
        )
        return _Scene(deadline, budget.max_fits - budget.fits, SEARCH.get(), SIMPLIFICATION.get(), kernels, functions)


def _run(step: Callable[[], T], scene: _Scene) -> Outcome[T] | None:
    """Run a step in a worker; None if it fails, as for want of time: it will fail alike where it is taken."""
    return copy_context().run(_run_in, step, scene)


def _run_in(step: Callable[[], T], scene: _Scene) -> Outcome[T] | None:
    SEARCH.set(scene.search)
    SIMPLIFICATION.set(scene.simplification)
    budget = Budget(scene.deadline - time.time() + time.perf_counter(), scene.most_fits)
    try:
        for name, formula, complexity, domain in scene.functions:
            register_function(name, formula, complexity=complexity, domain=domain)
        with budget.enforced(), nullcontext() if scene.kernels else native.disabled():
            return Outcome(alone(step), budget.fits)
    except Exception:
        return None


def _nothing() -> None:
    """A first step, with which a worker imports what the others need."""
