"""Run steps of a search that do not depend on one another ahead in joblib's workers, and take their results in order.
The result of a step does not depend on who computes it, and its fits count when it is taken; a step that fails or would
exceed the limit of fits is run again in the main process. So a search gives the same formulas for any number of
workers."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from contextvars import ContextVar, Token, copy_context
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Generic, TypeVar

import numpy as np

from kanserve import native
from kanserve.errors import InputError, MissingDependencyError, reason
from kanserve.formula import register_function
from kanserve.network.own_functions import OWN, OwnFunction
from kanserve.search.regression.budget import Budget, current_budget
from kanserve.train.argument_checks import whole
from kanserve.train.lm.blas_threads import threads_for

# Seconds after which a search of several jobs starts its workers. With 0 it waits for them, as in tests.
AFTER_SECONDS = 0.2

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """The result of a step that ran in a worker, and the number of fits it took."""

    value: T
    fits: int


def worker_count(n_jobs: int | None) -> int:
    """The number of workers for `n_jobs`, as in scikit-learn: None is 1 (or joblib's `parallel_config`), -1 all cores,
    -2 all but one. Raises InputError for 0 and non-integers, MissingDependencyError without joblib."""
    if n_jobs is not None and (isinstance(n_jobs, bool) or not whole(n_jobs, -sys.maxsize) or n_jobs == 0):
        raise InputError(f"n_jobs must be a whole number of 1 or more, or -1 for all cores; got {n_jobs!r}.")
    if n_jobs == 1 or (n_jobs is None and "joblib" not in sys.modules):
        return 1
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*joblib will operate in serial mode")  # said below, in one line
            from joblib import effective_n_jobs, parallel
    except ImportError:
        raise MissingDependencyError("joblib", "parallel") from None
    if n_jobs is not None and parallel.mp is None:
        logging.getLogger("kanserve").warning(
            "Processes cannot share memory here (/dev/shm is missing or read-only): the search runs in one process."
        )
    return int(effective_n_jobs(n_jobs))


def ahead(steps: Sequence[Callable[[], T]]) -> Iterator[Callable[[], T]]:
    """Run independent steps in order. The workers of the current search, if any, may run them ahead."""
    workers = _workers.get()
    return iter(steps) if workers is None else workers.ahead(steps, current_budget())


def alone(step: Callable[[], T]) -> T:
    """Run a step with linear algebra on one thread, as workers do, so that sums round the same."""
    with threads_for(0), np.errstate(all="ignore"):  # a worker is not within that of `find_formulas`
        return step()


@dataclass(eq=False)
class Workers:
    """The worker processes of one search. With one job, or before they have started, steps run in this process."""

    jobs: int = 1
    _began: float = field(default_factory=time.perf_counter)
    _start: "_Batch[None] | None" = None
    _started: bool = False
    _batches: "list[_Batch[Any]]" = field(default_factory=list)
    _token: "Token[Workers | None]" = field(init=False)

    def ahead(self, steps: Sequence[Callable[[], T]], budget: Budget) -> "Iterator[Taken[T]]":
        """Yield the steps in order, to run or to skip. Workers run them ahead until the iterator is closed."""
        batch: _Batch[T] | None = None
        first = 0
        try:
            for place, step in enumerate(steps):
                if batch is not None and not batch.gives(place - first):
                    batch = None
                if batch is None and place + 1 < len(steps) and self._ready():
                    batch, first = self._begin(steps[place:], budget), place
                yield Taken(step, budget, batch, place - first)
        finally:
            if batch is not None:
                batch.stopped = True

    def __enter__(self) -> "Workers":
        self._token = _workers.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the steps that are still running."""
        _workers.reset(self._token)
        self.jobs = 1
        while self._batches:
            self._batches.pop().close()

    def _ready(self) -> bool:
        """Whether workers are available. They start in the background, some time after the search."""
        if self.jobs == 1 or self._started:
            return self._started
        if not _gives_results_one_by_one():
            logging.getLogger("kanserve").warning(
                "This backend of joblib gives results only all at once (Ray's does): the search runs in one process. "
                "Use the backend loky or dask."
            )
            self.jobs = 1
            return False
        after = AFTER_SECONDS
        if self._start is None and time.perf_counter() - self._began >= after:
            self._start = self._begin([_nothing] * (self.jobs - 1), Budget())
            if after == 0:
                self._start.receive()
                self._started = True
        if self._start is not None and (self._started or self._start.any_done):
            self._started = self._start.stopped = True
        return self._started

    def _begin(self, steps: Sequence[Callable[[], T]], budget: Budget) -> "_Batch[T]":
        """Stop the earlier batches and start a new one; steps that are already running finish."""
        for earlier in self._batches:
            earlier.stopped = True
        self._batches = [batch for batch in self._batches if not batch.ended()]
        batch = _Batch(steps, self.jobs, budget)
        self._batches.append(batch)
        return batch


def _gives_results_one_by_one() -> bool:
    from joblib.parallel import get_active_backend

    return bool(get_active_backend()[0].supports_return_generator)


_workers: ContextVar[Workers | None] = ContextVar("workers", default=None)


@dataclass(frozen=True, eq=False)
class Taken(Generic[T]):
    """A step of a batch; calling it returns its result."""

    step: Callable[[], T]
    budget: Budget
    batch: "_Batch[T] | None"
    place: int

    def __call__(self) -> T:
        outcome = self.outcome()
        return alone(self.step) if outcome is None else outcome.value

    def outcome(self) -> Outcome[T] | None:
        """The worker's result, with its fits counted in the budget; None if the step has to run here."""
        outcome = self.batch.outcome(self.place) if self.batch is not None and self.batch.gives(self.place) else None
        if outcome is None or self.budget.fits + outcome.fits >= self.budget.max_fits:
            return None
        self.budget.count(outcome.fits)
        return outcome


class _Batch(Generic[T]):
    """A list of steps that the workers run in order. While the search waits for a result it runs steps itself."""

    def __init__(self, steps: Sequence[Callable[[], T]], jobs: int, budget: Budget) -> None:
        from joblib import Parallel

        self.stopped = False
        self._steps = steps
        self._scene = _Scene.of(budget)
        self._next = 0
        self._lock = Lock()  # joblib asks for the next step in a thread of its own
        self._outcomes: dict[int, Outcome[T] | None] = {}
        self._received = 0
        ahead = jobs - 1
        # Two processes at least, since joblib runs one job in this process; no more steps than are wanted go to them.
        self._parallel = Parallel(
            n_jobs=max(2, ahead), return_as="generator_unordered", batch_size=1, pre_dispatch=ahead
        )
        self._results = self._parallel(self._tasks())

    def _tasks(self) -> Iterator[Any]:
        from joblib import delayed

        while (place := self._claim()) is not None:
            yield delayed(_run_at)(place, self._steps[place], self._scene)

    def _claim(self) -> int | None:
        """Reserve the next step, so that nobody else runs it."""
        with self._lock:
            if self.stopped or self._next == len(self._steps):
                return None
            self._next += 1
            return self._next - 1

    def gives(self, place: int) -> bool:
        """Whether a step has already been started, or still will be."""
        return place < self._next or not self.stopped

    @property
    def any_done(self) -> bool:
        return bool(self._parallel.n_completed_tasks > self._received)

    def outcome(self, place: int) -> Outcome[T] | None:
        """Wait for the outcome of a step; None if it failed."""
        try:
            while place not in self._outcomes:
                if self.any_done:
                    self.receive()
                elif (mine := self._claim()) is not None:
                    self._outcomes[mine] = _run(self._steps[mine], self._scene)
                else:
                    self.receive()
        except Exception as error:  # a worker was killed, or a result cannot be sent
            logging.getLogger("kanserve").warning("A worker failed (%s); its steps are run here.", reason(error))
            return None
        return self._outcomes.pop(place)

    def receive(self) -> None:
        """Wait for the outcome of any running step."""
        place, outcome = next(self._results)
        self._received += 1
        self._outcomes[place] = outcome

    def ended(self) -> bool:
        """Whether the batch is stopped and no step is running, so that joblib can release it."""
        if not self.stopped or self._parallel.n_completed_tasks < self._parallel.n_dispatched_tasks:
            return False
        while self._received < self._parallel.n_dispatched_tasks:
            self.receive()
        for _ in self._results:  # none is left: joblib forgets them
            pass
        return True

    def close(self) -> None:
        """Cancel the steps that are still running."""
        self.stopped = True
        if not self.ended():
            with warnings.catch_warnings():  # joblib's, that steps were lost
                warnings.simplefilter("ignore")
                self._results.close()


@dataclass(frozen=True)
class _Scene:
    """The context of a step in a worker: the limits of the search and the user's functions."""

    deadline: float
    """In seconds of `time.time`, which all processes share."""
    most_fits: float
    kernels: bool
    functions: tuple[OwnFunction, ...]

    @staticmethod
    def of(budget: Budget) -> "_Scene":
        deadline = budget.deadline - time.perf_counter() + time.time()
        kernels = native.library() is not None
        most_fits = budget.max_fits - budget.fits
        return _Scene(deadline, most_fits, kernels, tuple(OWN.values()))


def _run_at(place: int, step: Callable[[], T], scene: _Scene) -> tuple[int, Outcome[T] | None]:
    return place, _run(step, scene)


def _run(step: Callable[[], T], scene: _Scene) -> Outcome[T] | None:
    """Run a step in a worker; None if it fails, as by lack of time. It then fails again when the search runs it."""
    return copy_context().run(_run_in, step, scene)


def _run_in(step: Callable[[], T], scene: _Scene) -> Outcome[T] | None:
    budget = Budget(scene.deadline - time.time() + time.perf_counter(), scene.most_fits)
    try:
        for own in scene.functions:
            register_function(**own.arguments())
        with budget.enforce(), nullcontext() if scene.kernels else native.disable_kernels():
            return Outcome(alone(step), budget.fits)
    except Exception:
        return None


def _nothing() -> None:
    """A first step that makes a worker import its modules."""
