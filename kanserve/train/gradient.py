"""Training by gradients: LBFGS or Adam, for classifiers, penalties and networks too large for least squares."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import cos, inf, isfinite, pi
from typing import Literal

import numpy as np

from kanserve.errors import DataError, MissingDependencyError, TrainingError
from kanserve.ir import Kan, Layer
from kanserve.splines import span
from kanserve.table import Dataset
from kanserve.train.convert import from_torch
from kanserve.train.grids import set_ranges
from kanserve.train.objective import Goal, Loss, Model, Rows, function, model, ridge, value
from kanserve.train.optimizers import adam, lbfgs

try:
    import torch
    from torch import Tensor
except ImportError:
    raise MissingDependencyError("torch", "train") from None

Method = Literal["lbfgs", "adam"]
Report = Callable[[int, float], None]

RATES = {"lbfgs": 1.0, "adam": 1e-2}
DECAY = 1e-4  # of coefficients and base weights, Adam only
RIDGE = {"squared": 0.0, "cross_entropy": 1e-3}  # classes that can be told apart have no finite best weights
SMALL_GAIN = 1e-3
JUDGEMENTS = 50  # of an Adam run; LBFGS has one a step
MOST_FAILURES = 5
FULL_BATCH, BATCH = 512, 256
WORTH_SHARING = 3e7  # rows times coefficients
NUMBERS_AT_ONCE = 2**22  # of the largest array of a pass

GRID_UPDATES = (0.05, 0.1, 0.2)  # where in the run grids follow the data
OUTSIDE, USED = 0.02, 0.6  # a hidden node this far outside, or using this little of its range, wants another one
WORSE = 1.1  # a grid may cost this much of the loss
RANGE_ROWS = 2000


def descend(
    kan: Kan,
    train: Dataset,
    held: Dataset | None,
    *,
    method: Method,
    loss: Loss,
    steps: int,
    learning_rate: float | None = None,
    batch: int | None = None,
    l1: float = 0.0,
    entropy: float = 0.0,
    patience: int,
    seed: int,
    device: str = "cpu",
    report: Report | None = None,
) -> Kan:
    """Train a network from where it is, in float64 on `device`; what is free is what `refine` frees.

    The loss is ½·mean ‖(prediction - y)/output_scale‖², or the mean cross-entropy of the softmax, plus the penalties
    (`penalties`). Judged is the same on the held-out rows, without any on the training rows: the network judged best
    is the result, so by that measure it is never worse than `kan`, and it is finite if `kan` is. Training ends after
    `steps`, or when `patience` judgements in a row have together gained less than a thousandth.

    LBFGS takes all rows at every step and is judged after each; `batch` is then how many are computed at once, and
    `learning_rate` the first trial of its line search (1). Adam takes `batch` rows a step (all up to 512, else 256)
    with a `learning_rate` (0.01) that falls to 0 along a cosine, and is judged 50 times. Early on, the grids of hidden
    layers follow their data where those have left them. `report` is told the step and the judged value. Equal
    arguments give equal networks; torch's global generator is neither used nor set.
    """
    _check(kan, (train, held), steps, patience, batch, learning_rate, (l1, entropy))
    with _threads_for(kan, len(train) if method == "lbfgs" else min(len(train), batch or BATCH)):
        penalised = l1 > 0 or entropy > 0
        at_once = batch if batch is not None and method == "lbfgs" else _rows_at_once(kan, penalised)
        goal = Goal(loss, l1, entropy, RIDGE[loss], at_once)
        rows = _rows(train, device)
        judges = rows if held is None else _rows(held, device)
        batches = _batches(rows, batch, seed)
        every = 1 if method == "lbfgs" else max(1, steps // JUDGEMENTS)
        updates = {max(1, round(share * steps)) for share in GRID_UPDATES}
        rate = RATES[method] if learning_rate is None else learning_rate
        one = model(kan, device)

        def judged(one: Model, vector: Tensor) -> float:
            return value(goal, one, vector, judges) + (ridge(goal, one, vector) if held is None else 0.0)

        watch = _Watch(one, one.vector(), judged(one, one.vector()), patience)
        step = failures = 0
        while step < steps and failures <= MOST_FAILURES:
            moved = None
            for vector, loss_there in _vectors(one, goal, method, rows, batches, rate, range(step, steps)):
                step += 1
                if step % every == 0 or step == steps:
                    found = loss_there if method == "lbfgs" and held is None else judged(one, vector)
                    if report is not None:
                        report(step, found)
                    if not watch.goes_on(one, vector, found):
                        return watch.kan()
                if step in updates:
                    moved = _followed(goal, one, vector, train, rows)
                if moved is not None or step == steps:
                    break
            else:
                # LBFGS ends where nothing goes down, Adam where something is not finite: back to the best, slower.
                failures = failures + 1 if method == "adam" else MOST_FAILURES + 1
                one, rate = model(watch.kan(), device), rate / 4
            one = one if moved is None else moved
        return watch.kan()


@contextmanager
def _threads_for(kan: Kan, rows: int) -> Iterator[None]:
    """One of torch's threads where a pass is too small to share: where others use the cores too, threads that wait
    for one another at each of a thousand small operations took 150 times as long."""
    before = torch.get_num_threads()
    work = rows * sum(one.coefficients.size for one in kan.layers)
    torch.set_num_threads(1 if work < WORTH_SHARING else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _vectors(
    one: Model, goal: Goal, method: Method, rows: Rows, batches: Iterator[Rows], rate: float, steps: range
) -> Iterator[tuple[Tensor, float]]:
    """The vectors of free parameters that these steps make, with the losses that the optimizers tell."""
    if method == "lbfgs":
        return lbfgs(function(goal, one, lambda: rows), one.vector(), rate)
    rates = (rate * (1 + cos(pi * step / steps.stop)) / 2 for step in steps)
    return adam(function(goal, one, lambda: next(batches)), one.vector(), rates, DECAY * one.shrinks)


@dataclass
class _Watch:
    """The best network so far, and how long nothing better has come."""

    model: Model
    vector: Tensor
    least: float
    patience: int
    mark: float = inf
    waited: int = 0

    def goes_on(self, one: Model, vector: Tensor, found: float) -> bool:
        """Whether to go on after a judgement; the best network judged is kept."""
        if found < self.least:
            self.model, self.vector, self.least = one, vector, found
        if found < self.mark * (1 - SMALL_GAIN):
            self.mark, self.waited = found, 0
        else:
            self.waited += 1
        return self.waited < self.patience

    def kan(self) -> Kan:
        return from_torch(self.model.write(self.vector))


def _followed(goal: Goal, one: Model, vector: Tensor, train: Dataset, rows: Rows) -> Model | None:
    """The network with hidden ranges set to the data, where they need it and it costs little; else None.

    The first layer's ranges are the user's data's already.
    """

    def cost(one: Model, vector: Tensor) -> float:
        return value(goal, one, vector, rows) + ridge(goal, one, vector)

    now = cost(one, vector)
    if not isfinite(now):
        return None
    kan = from_torch(one.write(vector))
    moved = set_ranges(kan, train.x[:: max(1, len(train) // RANGE_ROWS)])
    moved = replace(moved, layers=(kan.layers[0], *moved.layers[1:]))
    if not any(_has_left(before, after) for before, after in zip(kan.layers, moved.layers, strict=True)):
        return None
    other = model(moved, str(rows.x.device))
    return other if cost(other, other.vector()) <= WORSE * now else None


def _has_left(before: Layer, after: Layer) -> bool:
    """Whether an input with splines is outside its range or uses little of it; `after` has the ranges of the data."""
    for i in np.flatnonzero(before.spline_mask.any(axis=0)):
        low, high = span(before.knots[i], before.order)
        least, most = span(after.knots[i], after.order)
        if max(low - least, most - high) > OUTSIDE * (high - low) or most - least < USED * (high - low):
            return True
    return False


def _batches(rows: Rows, batch: int | None, seed: int) -> Iterator[Rows]:
    """Random batches without end: each pass takes every row once, but for a last batch that would be short."""
    size = min(len(rows), batch if batch is not None else len(rows) if len(rows) <= FULL_BATCH else BATCH)
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(rows), generator=generator).to(rows.x.device)
        for start in range(0, len(rows) - size + 1, size):
            yield rows if size == len(rows) else rows.take(order[start : start + size])


def _rows(data: Dataset, device: str) -> Rows:
    return Rows(torch.tensor(data.x, device=device), torch.tensor(data.y, device=device))


def _rows_at_once(kan: Kan, penalised: bool) -> int:
    """How many rows a pass may take: bases, and with penalties the values of all edges, are its largest arrays."""
    largest: int = max(one.inputs * (one.coefficients.shape[2] + penalised * one.subnodes) for one in kan.layers)
    return max(1, NUMBERS_AT_ONCE // largest)


def _check(
    kan: Kan,
    data: tuple[Dataset, Dataset | None],
    steps: int,
    patience: int,
    batch: int | None,
    learning_rate: float | None,
    strengths: tuple[float, float],
) -> None:
    wanted = (len(kan.inputs), len(kan.outputs))
    for one in data:
        if one is not None and (one.x.shape[1], one.y.shape[1]) != wanted:
            raise DataError(
                f"A network from {wanted[0]} inputs to {wanted[1]} outputs cannot learn data with "
                f"{one.x.shape[1]} and {one.y.shape[1]}. Change its shape or the columns."
            )
    if steps < 0 or patience < 1 or (batch is not None and batch < 1):
        raise TrainingError(f"steps ≥ 0, patience ≥ 1 and batch ≥ 1 are needed, got {steps}, {patience} and {batch}.")
    if learning_rate is not None and not 0 < learning_rate < inf:
        raise TrainingError(f"learning_rate must be positive and finite, got {learning_rate}.")
    if not all(0 <= one < inf for one in strengths):
        raise TrainingError(f"l1 and entropy must be finite and not negative, got {strengths[0]} and {strengths[1]}.")
