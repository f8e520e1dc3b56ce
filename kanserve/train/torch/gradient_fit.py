"""Training by LBFGS or Adam: for classifiers, sparsity penalties, and networks too large for least squares."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import cos, inf, isfinite, isinf, pi

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import mean_difference
from kanserve.errors import DataError, MissingDependencyError, TrainingError
from kanserve.network.kan import Kan, Layer
from kanserve.network.splines import span
from kanserve.train.checkpoints import Checkpoint
from kanserve.train.constant_guard import errors
from kanserve.train.fit_arguments import training_rows
from kanserve.train.fit_progress import Watch
from kanserve.train.fit_settings import Settings
from kanserve.train.grids import set_ranges
from kanserve.train.jumps import JUMPS_ROWS, regrid_with_jumps, with_jumps
from kanserve.train.lm.schedule import START_ROWS
from kanserve.train.torch.batch_positions import (
    batch_positions,
    batch_size,
    judging_rows,
    rows_at_once,
    validation_interval,
)
from kanserve.train.torch.batches import Batches, Places
from kanserve.train.torch.modules import from_module
from kanserve.train.torch.objective import Goal, by_row, function, model, shrinkage, value
from kanserve.train.torch.optimizers import Adam, Lbfgs, adam, adam_step, lbfgs, lbfgs_step

FITTING_DESCENT_START_STEPS = 20  # of each start of LBFGS
FITTING_ADAM_START_FACTOR = 5  # times as many steps of each start of Adam


def best_start(
    starts: Iterable[Kan],
    train: Dataset,
    held: Dataset | None,
    settings: Settings,
    watch: Watch,
    without: Places | None = None,
) -> Kan:
    """Take a few steps from each start, and return the network with the lowest validation loss."""
    longer = 1 if settings.method == "lbfgs" else FITTING_ADAM_START_FACTOR
    steps = min(settings.steps, longer * FITTING_DESCENT_START_STEPS)
    short = replace(settings, steps=steps, grids=settings.grids[:1], finer=())
    rows = training_rows(train, without, START_ROWS, settings.seed)
    judges = rows if held is None else held.sample(START_ROWS, settings.seed)
    best, least = None, inf
    whole = settings.starts * steps + settings.steps
    for number, start in enumerate(starts):
        found = descend(start, rows, None, short)
        loss = float(judges.mean(errors(found, judges, settings.function)))
        if best is None or loss < least:
            best, least = found, loss
            watch.best = loss, partial(_itself, found)
        watch.tell(f"start {number + 1} of {settings.starts}", least, least, (number + 1) * steps / max(whole, 1))
    assert best is not None
    watch.before = settings.starts * steps / max(whole, 1)
    return best


def _itself(kan: Kan) -> Kan:
    return kan


DECAY = 1e-4  # weight decay of coefficients and base weights, Adam only
SMALL_GAIN = 1e-3  # relative: less counts against the patience
CERTAIN = 2.0  # standard errors by which a finer grid must be better
MOST_FAILURES = 5  # steps in a row that may fail before a run ends
WORTH_SHARING = 3e7  # rows times coefficients
OUTSIDE = 0.02  # a grid is updated if its input leaves the range by so much, or uses less of it than this
USED = 0.6  # share of its range below which a hidden node wants another one
RANGE_ROWS = 2000  # to set ranges by

try:
    import torch
    from torch import Tensor
except ImportError:
    raise MissingDependencyError("torch", "torch") from None

RATES = {"lbfgs": 1.0, "adam": 1e-2}  # default learning rates
RIDGE = {"cross_entropy": 2e-3}  # separable classes have no finite best weights; 0 for other losses

GRID_UPDATES = (0.05, 0.1, 0.2)  # shares of the run after which grids follow the data


def descend(
    kan: Kan,
    train: Dataset,
    held: Dataset | None,
    settings: Settings,
    *,
    without: Places | None = None,
    watch: Watch | None = None,
    checkpoint: Checkpoint | None = None,
) -> Kan:
    """Train a network from its present weights, in float64. The loss is ½·mean ‖(prediction - y)/output_scale‖², or the
    softmax cross-entropy, plus `penalties`, on the rows of `train` except those at `without`. The result is the network
    with the lowest validation loss, on the held-out rows or 2,000 to 20,000 training rows; never worse than `kan`.
    Stops after `steps`, or when `patience` validations together gain less than a thousandth. LBFGS takes all rows per
    step (`batch`: rows computed at once; `learning_rate`: first trial of the line search); Adam takes `batch` rows (all
    up to 512, else 256) with a cosine `learning_rate` (0.01) and 50 validations. Each of `grids` gets a share of the
    steps; one that is not better by two standard errors is given up, more than `look_ahead` in a row end the run, and
    where residuals jump, knots are added there. Deterministic; torch's global generator is not used."""
    _check(kan, (train, held), settings)
    rows = Batches(train, settings.device, without)
    judging = rows if held is None else Batches(held, settings.device)
    judges = Batches(judging.sample(judging_rows(len(rows), settings)), settings.device)
    with _threads_for(kan, batch_size(len(rows), settings)):
        run = _Run(kan, settings, rows, judges, held is None, watch or Watch(), checkpoint or Checkpoint())
        run.to_the_end()
        return run.best.kan()


@dataclass(frozen=True, eq=False)
class _Best:
    """The best network so far."""

    structure: Kan
    vector: Tensor
    loss: float
    more: int = 0
    """Intervals that the first layer has more than the others, between knots at jumps."""

    def kan(self) -> Kan:
        return from_module(model(self.structure, str(self.vector.device)).write(self.vector))


class _Run:
    """A training loop. All of its state is stored in a checkpoint."""

    begun: int
    """The first step on this grid; `end` is the last."""
    end: int
    failures: int
    waited: int
    ahead: int
    """Grids in a row that have gained nothing."""
    looked: bool
    """Whether knots at jumps have been tried."""
    more: int
    """Intervals that the first layer has more than the others, between the knots at jumps."""
    rate: float
    mark: float

    def __init__(
        self,
        kan: Kan,
        settings: Settings,
        rows: Batches,
        judges: Batches,
        same_rows: bool,
        watch: Watch,
        checkpoint: Checkpoint,
    ) -> None:
        self.settings, self.rows, self.judges, self.same_rows = settings, rows, judges, same_rows
        self.watch, self.checkpoint = watch, checkpoint
        whole = settings.batch if settings.method == "lbfgs" else None
        at_once = rows_at_once(kan, settings.penalised) if whole is None else whole
        self.goal = Goal(
            settings.loss,
            settings.l1,
            settings.entropy,
            RIDGE.get(settings.loss, 0.0),
            settings.strengths[0],
            at_once,
            settings.shape,
        )
        self.positions = batch_positions(len(rows), settings)
        self.every = validation_interval(settings)
        self.told_every = max(1, self.every // 10)
        self.step = self.grid = self.ahead = self.more = 0
        self.looked = not settings.finer
        self._begin(kan)
        self.updates = {max(1, round(share * self.end)) for share in GRID_UPDATES}
        vector = self.model.vector()
        self.found = self._score(vector)
        self.coarser = _Best(kan, vector, inf)  # the best of the grids before this one: none yet
        self._keep_best(_Best(kan, vector, self.found))
        if checkpoint.holds("structure"):
            self._recall()

    @property
    def early_stopping(self) -> bool:
        """Whether the validation loss has not improved for `patience` steps."""
        return self.waited >= self.settings.patience

    def to_the_end(self) -> None:
        """Run all steps, on each grid until early stopping or failure."""
        while self.step < self.settings.steps:
            over = self.step >= self.end or self.early_stopping or self.failures > MOST_FAILURES
            if over and not self._start_next_grid():
                break
            self.state = self._next()
            if self.state is None:
                # LBFGS found no lower loss, or Adam a value that is not finite: back to the best, at a lower rate.
                self.failures = self.failures + 1 if self.settings.method == "adam" else MOST_FAILURES + 1
                self.rate /= 4
                self._structure(self.best.kan())
                continue
            self.step += 1
            judges = self.step % self.every == 0 or self.step == self.end
            if judges:
                self._judge()
            if judges or self.step % self.told_every == 0:
                stage = f"{self.settings.method}, grid {self.kan.layers[-1].intervals}"
                self.watch.tell(stage, self.found, self.state.loss, self.step / self.settings.steps)
            if self.step in self.updates:
                self._follow(self.state.vector)
            if self.checkpoint.due:
                self._write()
        if not self._has_gained():
            self._keep_best(self.coarser)

    def _begin(self, kan: Kan) -> None:
        """Start training this network, with its share of the remaining steps."""
        settings = self.settings
        self.failures = self.waited = 0
        self.mark = inf
        self.rate = RATES[settings.method] if settings.learning_rate is None else settings.learning_rate
        self.begun = self.step
        self.end = self.step + max(1, (settings.steps - self.step) // (len(settings.grids) - self.grid))
        self._structure(kan)

    def _start_next_grid(self) -> bool:
        """Move the best network to the next grid: once to one with knots at jumps, if there are any, else to a finer
        one. Returns False after too many grids without gain."""
        last = self.grid + 1 == len(self.settings.grids)
        if last and self.looked:
            return False
        gained = self._has_gained()
        self.ahead = 0 if gained else self.ahead + 1
        if self.ahead > self.settings.look_ahead:
            return False
        if not gained:
            self._keep_best(self.coarser)
        kan, self.more = self.best.kan(), self.best.more
        jumping = None if self.looked else with_jumps(kan, self.rows.sample(JUMPS_ROWS), self.settings.function)
        if jumping is not None:
            self.looked, self.more = True, jumping.layers[0].intervals - kan.layers[0].intervals
        elif last:
            return False
        else:
            self.grid += 1
        intervals = self.settings.grids[self.grid]
        self.coarser = self.best
        self._begin(regrid_with_jumps(kan, intervals, self.more) if jumping is None else jumping)
        self._follow(self.model.vector())
        return True

    def _structure(self, kan: Kan) -> None:
        """Continue with this network and a new optimizer state."""
        self.kan, self.model = kan, model(kan, self.settings.device)
        # So that a curve has the same penalty on each grid: squared second differences fall with the third power.
        finer = kan.layers[-1].intervals / self.settings.grids[0]
        self.goal = replace(self.goal, smooth=self.settings.strengths[0] * finer**3)
        self.decay = DECAY * self.model.shrinks
        self.state = None

    def _has_gained(self) -> bool:
        """Whether this grid beats the previous one by more than chance on the held-out rows."""
        if isinf(self.coarser.loss):
            return True
        if not self.best.loss < self.coarser.loss:
            return False
        if self.same_rows:
            return True
        before, after = (
            _array(by_row(self.goal, model(found.structure, self.settings.device), found.vector, self.judges))
            for found in (self.coarser, self.best)
        )
        gain, error = mean_difference(before, after)
        return gain > CERTAIN * error

    def _next(self) -> Lbfgs | Adam | None:
        """Take a step. Returns the new optimizer state, or None if no step is possible."""
        if self.settings.method == "lbfgs":
            whole = function(self.goal, self.model, self.rows)
            now = lbfgs(whole, self.model.vector()) if self.state is None else self.state
            return lbfgs_step(whole, now, self.rate) if isinstance(now, Lbfgs) else None
        state = self.state if isinstance(self.state, Adam) else adam(self.model.vector())
        rate = self.rate * (1 + cos(pi * (self.step - self.begun) / (self.end - self.begun))) / 2
        part = function(self.goal, self.model, self.rows, self.positions(self.step))
        return state if adam_step(part, state, rate, self.decay) else None

    def _score(self, vector: Tensor) -> float:
        own = shrinkage(self.goal, self.model, vector)[0] if self.same_rows else 0.0
        return value(self.goal, self.model, vector, self.judges) + own

    def _judge(self) -> None:
        """Compute the validation loss, and keep the network if it is the best so far."""
        state = self.state
        assert state is not None
        known = isinstance(state, Lbfgs) and self.same_rows and len(self.judges) == len(self.rows)
        self.found = found = state.loss if known else self._score(state.vector)
        if found < self.best.loss:
            self._keep_best(_Best(self.kan, state.vector.clone(), found, self.more))
        if found < self.mark * (1 - SMALL_GAIN):
            self.mark, self.waited = found, 0
        else:
            self.waited += 1

    def _keep_best(self, best: _Best) -> None:
        self.best = best
        if isfinite(best.loss):
            self.watch.best = best.loss, best.kan

    def _follow(self, vector: Tensor) -> None:
        """Update hidden grids to the range of their data, if needed. The first layer's have that range already."""
        sample = self.rows.sample(RANGE_ROWS)
        if not isfinite(value(self.goal, self.model, vector, Batches(sample, self.settings.device))):
            return
        kan = from_module(self.model.write(vector))
        moved = set_ranges(kan, sample.x, keep_first=True)
        if any(_has_left(before, after) for before, after in zip(kan.layers, moved.layers, strict=True)):
            self._structure(moved)

    def _write(self) -> None:
        """Write everything that is needed to resume exactly."""
        whole = (self.step, self.failures, self.waited, self.grid, self.ahead, self.begun, self.end)
        jumps = (self.looked, self.more, self.coarser.more, self.best.more)
        numbers = (*whole, *jumps, self.rate, self.mark, self.coarser.loss, self.best.loss)
        arrays = {"numbers": np.array(numbers, np.float64), "best": _array(self.best.vector)}
        match self.state:
            case Lbfgs(vector, loss, gradient, pairs):
                arrays |= {"vector": _array(vector), "loss": np.array([loss]), "gradient": _array(gradient)}
                arrays |= {"pairs": np.array([[_array(tensor) for tensor in pair] for pair in pairs])}
            case Adam(vector, mean, square, steps, loss):
                arrays |= {"vector": _array(vector), "mean": _array(mean), "square": _array(square)}
                arrays |= {"loss": np.array([steps, loss])}
        kans = {"structure": self.kan, "best": self.best.structure, "coarser": self.coarser.kan()}
        self.checkpoint.keep(kans, arrays)

    def _recall(self) -> None:
        arrays = {
            name: torch.tensor(array, device=self.settings.device) for name, array in self.checkpoint.arrays.items()
        }
        *whole, self.rate, self.mark, before, least = arrays["numbers"].tolist()
        self.step, self.failures, self.waited, self.grid, self.ahead, self.begun, self.end = map(int, whole[:7])
        self.looked, self.more, coarser_more, best_more = bool(whole[7]), *map(int, whole[8:])
        self._structure(self.checkpoint.kan("structure"))
        coarser = self.checkpoint.kan("coarser")
        self.coarser = _Best(coarser, model(coarser, self.settings.device).vector(), before, coarser_more)
        self._keep_best(_Best(self.checkpoint.kan("best"), arrays["best"], least, best_more))
        if "gradient" in arrays:
            # Clones, since sums over memory with another alignment may round differently.
            pairs = tuple((array[0].clone(), array[1].clone()) for array in arrays["pairs"])
            self.state = Lbfgs(arrays["vector"], arrays["loss"].item(), arrays["gradient"], pairs)
        elif "mean" in arrays:
            steps, loss = arrays["loss"].tolist()
            self.state = Adam(arrays["vector"], arrays["mean"], arrays["square"], int(steps), loss)
        self.watch.recalled = self.step / self.settings.steps


@contextmanager
def _threads_for(kan: Kan, rows: int) -> Iterator[None]:
    """Limit torch to one thread for small batches. On busy cores, threads waiting for each other in a thousand small
    operations took 150 times as long."""
    before = torch.get_num_threads()
    work = rows * sum(layer.coefficients.size for layer in kan.layers)
    torch.set_num_threads(1 if work < WORTH_SHARING else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _has_left(before: Layer, after: Layer) -> bool:
    """Whether an input with splines leaves its range or uses little of it; `after` has the ranges of the data."""
    for i in np.flatnonzero(before.spline_mask.any(axis=0)):
        low, high = span(before.knots[i], before.order)
        least, most = span(after.knots[i], after.order)
        if max(low - least, most - high) > OUTSIDE * (high - low) or most - least < USED * (high - low):
            return True
    return False


def _array(vector: Tensor) -> NDArray[np.float64]:
    return np.asarray(vector.cpu().numpy())


def _check(kan: Kan, data: tuple[Dataset, Dataset | None], settings: Settings) -> None:
    wanted = (len(kan.inputs), len(kan.outputs))
    for dataset in data:
        if dataset is not None and (dataset.x.shape[1], dataset.y.shape[1]) != wanted:
            raise DataError(
                f"A network from {wanted[0]} inputs to {wanted[1]} outputs cannot learn data with "
                f"{dataset.x.shape[1]} and {dataset.y.shape[1]}. Change its shape or the columns."
            )
    try:
        torch.empty(0, device=settings.device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"torch cannot compute on the device {settings.device!r}: {reason}") from None
