"""fit(shape, data) -> Kan: choose the loss and the optimizer, normalise, train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kanserve.errors import DataError, TrainingError
from kanserve.ir import Kan
from kanserve.reference import evaluate
from kanserve.table import Dataset, dataset
from kanserve.train import schedule
from kanserve.train.creation import create
from kanserve.train.levenberg import PATIENCE
from kanserve.train.normalising import normalised
from kanserve.train.progress import Report, Tell, finish, teller

Loss = Literal["auto", "squared", "cross_entropy"]
Optimizer = Literal["auto", "lm", "lbfgs", "adam"]

FEWEST_ROWS = 10  # with fewer, holding some out leaves too little on either side
FEW_ROWS_SMOOTH = 1e-2
GRADIENT_STEPS = {"lbfgs": 200, "adam": 1000}
GRADIENT_PATIENCE = 20


@dataclass(frozen=True)
class Gradient:
    """What only LBFGS and Adam know: see `fit`."""

    method: Literal["lbfgs", "adam"]
    loss: Literal["squared", "cross_entropy"]
    steps: int
    learning_rate: float | None
    batch: int | None
    l1: float
    entropy: float
    patience: int
    seed: int
    device: str


def fit(
    kan: Kan | Sequence[int | tuple[int, int]],
    data: Dataset | tuple[object, object],
    *,
    loss: Loss = "auto",
    optimizer: Optimizer = "auto",
    grids: Sequence[int] = (3, 5, 10),
    starts: int = 8,
    steps: int | None = None,
    smooth: float | Literal["auto"] = "auto",
    noise_free: bool = False,
    l1: float = 0.0,
    entropy: float = 0.0,
    validation: float | Dataset = 0.2,
    learning_rate: float | None = None,
    patience: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    progress: bool = False,
    device: str = "cpu",
    report: Report | None = None,
) -> Kan:
    """Train a network of this structure on data, from scratch; `refine` goes on from a trained one.

    `kan` is a shape, [2, 5, 1], or a network whose structure is used: what is pruned stays pruned, named edges stay
    named, weights are drawn anew. `data` is a Dataset or (x, y), in raw features and units; the result takes and
    gives those, and carries names, training ranges and classes. Equal arguments give equal networks, bit for bit.

    Least squares goes by Levenberg-Marquardt without torch: `starts` random starts on grids[0], then finer grids as
    long as the held-out rows gain (`validation`: a share, or other rows), at last `steps` on all rows of `data`. How
    smooth the splines are is chosen on the held-out rows too, unless `smooth` is a number or the data `noise_free`.
    A classifier or more than 1500 parameters take LBFGS, `l1` and `entropy` take Adam (LBFGS gets stuck at the kinks
    of |φ|), both on grids[0]; `learning_rate`, `batch` and `device` are theirs.

    With validation=0 nothing is held out: every grid is used, and smooth="auto" means 0. An output never fits worse
    than its mean, and a constant answer gives a constant output.
    """
    data = dataset(data)
    if len(data) < 2:
        raise DataError("A fit needs at least 2 rows, got 1.")
    _check(seed, grids, starts, validation, smooth, data)
    template = normalised(kan if isinstance(kan, Kan) else create(kan, grid=grids[0], seed=seed), data)
    of = _loss(loss, data)
    start = schedule.fresh(template, grids[0], (seed,))
    method = _method(optimizer, of, l1 > 0 or entropy > 0, start)
    train, held = _split(data, validation, seed)
    tell = teller(progress, report)
    try:
        if method == "lm":
            few = held is None and validation != 0
            chosen = (FEW_ROWS_SMOOTH,) if few else (0.0,) if held is None or noise_free else schedule.STRENGTHS
            plan = schedule.Schedule(
                train,
                held,
                grids=tuple(grids[:1] if few else grids),
                starts=starts,
                strengths=chosen if smooth == "auto" else (float(smooth),),
                patience=PATIENCE if patience is None else patience,
                seed=seed,
                tell=tell,
            )
            return schedule.run(template, data, plan, steps=100 if steps is None else steps)
        settings = Gradient(
            method=method,
            loss=of,
            steps=GRADIENT_STEPS[method] if steps is None else steps,
            learning_rate=learning_rate,
            batch=batch,
            l1=l1,
            entropy=entropy,
            patience=GRADIENT_PATIENCE if patience is None else patience,
            seed=seed,
            device=device,
        )
        return _descended(start, train, held, settings, tell)
    finally:
        finish(progress)


def _descended(kan: Kan, train: Dataset, held: Dataset | None, settings: Gradient, tell: Tell) -> Kan:
    """The network that LBFGS or Adam find; this imports torch."""
    from kanserve.train.gradient import descend

    result = descend(
        kan,
        train,
        held,
        method=settings.method,
        loss=settings.loss,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        batch=settings.batch,
        l1=settings.l1,
        entropy=settings.entropy,
        patience=settings.patience,
        seed=settings.seed,
        device=settings.device,
        report=lambda step, loss: tell(f"{settings.method} step {step}", loss),
    )
    if not np.isfinite(evaluate(result, train.x)).all():
        raise TrainingError(f"{settings.method} found no finite network. Try a smaller learning_rate.")
    return result if settings.loss == "cross_entropy" else schedule.no_worse_than_the_mean(result, train)


def _split(data: Dataset, validation: float | Dataset, seed: int) -> tuple[Dataset, Dataset | None]:
    if isinstance(validation, Dataset):
        return data, validation
    if validation == 0 or len(data) < FEWEST_ROWS:
        return data, None
    train, held = data.split(validation, seed)
    return (train, held) if len(held) else (data, None)


def _loss(loss: Loss, data: Dataset) -> Literal["squared", "cross_entropy"]:
    if loss == "cross_entropy" and not data.classes:
        raise TrainingError("Cross-entropy needs a classifier's data: a Dataset with classes.")
    if loss == "auto":
        return "cross_entropy" if data.classes else "squared"
    return loss


def _method(optimizer: Optimizer, loss: str, penalised: bool, kan: Kan) -> Literal["lm", "lbfgs", "adam"]:
    least_squares = loss == "squared" and not penalised
    if optimizer == "lm" and not least_squares:
        raise TrainingError(
            "Levenberg-Marquardt minimises squares only. For cross-entropy, l1 or entropy choose lbfgs or adam."
        )
    if optimizer != "auto":
        return optimizer
    few = schedule.parameters(kan) <= schedule.MOST_PARAMETERS
    return "lm" if least_squares and few else "lbfgs"


def _check(
    seed: int, grids: Sequence[int], starts: int, validation: float | Dataset, smooth: float | str, data: Dataset
) -> None:
    if not grids or min(grids) < 1 or list(grids) != sorted(set(grids)):
        raise TrainingError(f"grids must be increasing numbers of intervals, got {list(grids)}.")
    if seed < 0:
        raise TrainingError(f"A seed is a number from 0 on, got {seed}.")
    if starts < 1:
        raise TrainingError(f"A fit needs at least one start, got {starts}.")
    if isinstance(validation, Dataset):
        if validation.x.shape[1] != data.x.shape[1] or validation.y.shape[1] != data.y.shape[1]:
            raise DataError("The validation data need the same columns as the training data.")
    elif not 0 <= validation < 1:
        raise TrainingError(f"validation is the share of rows to hold out, from 0 to less than 1; got {validation}.")
    if smooth != "auto" and not (isinstance(smooth, int | float) and 0 <= smooth < np.inf):
        raise TrainingError(f'smooth is "auto" or a number of 0 or more, got {smooth!r}.')
