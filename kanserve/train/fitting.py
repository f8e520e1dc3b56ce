"""fit(shape, data) -> Kan: choose the loss and the optimizer, normalise, train."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset, Target, TrainingData, dataset, past, some
from kanserve.data.frames import is_frame
from kanserve.errors import DataError, TrainingError
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.network.renamed_names import renamed_keyword
from kanserve.train.common.argument_checks import grid_sequence, increasing, not_negative, whole
from kanserve.train.common.checkpoints import Checkpoint, begun_or_begin, fingerprint
from kanserve.train.common.creation import create
from kanserve.train.common.fit_progress import FitReport, Watch
from kanserve.train.common.fit_settings import Settings
from kanserve.train.common.normalising import normalised
from kanserve.train.common.training_settings import TRAINING
from kanserve.train.lm import schedule

Loss = Literal["auto", "squared", "cross_entropy"]
Optimizer = Literal["auto", "lm", "lbfgs", "adam"]
Places = NDArray[np.int64]

STEPS = {"lm": 100, "lbfgs": 200, "adam": 1000}
PATIENCE = {"lm": TRAINING.levenberg_marquardt_patience, "lbfgs": 20, "adam": 20}
JUDGED_BY = {"lm": 5_000, "lbfgs": 20_000, "adam": 20_000}  # held-out rows at most


@renamed_keyword("grids", "grid")
def fit(
    kan: Kan | Sequence[int | tuple[int, int]],
    data: TrainingData,
    *,
    target: Target = None,
    loss: Loss = "auto",
    optimizer: Optimizer = "auto",
    grid: int | Sequence[int] = (3, 5, 10),
    starts: int = 8,
    steps: int | None = None,
    smooth: float | Literal["auto"] = "auto",
    noise_free: bool = False,
    l1: float = 0.0,
    entropy: float = 0.0,
    validation: float | TrainingData = 0.2,
    learning_rate: float | None = None,
    patience: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    progress: bool = False,
    device: str = "cpu",
    report: FitReport | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Kan:
    """Train a network of this structure on data, from scratch; `refine` goes on from a trained network.

    `kan` is a shape, [2, 5, 1], or a network whose structure is used: pruned edges stay pruned, named edges stay named,
    weights are drawn anew. `data` is a Dataset, (x, y), or a DataFrame with `target`, in raw features and units, whose
    rows count by their weights. The result takes and returns raw values too, and carries names, training ranges and
    classes. Equal arguments give equal networks, bit for bit.

    `grid` is the number of intervals of the finest splines, reached through coarser ones (10 after 3 and 5), or the
    list of all grids from coarse to fine.

    A regression is fitted by Levenberg-Marquardt, without torch: `starts` random starts on the first grid, then finer
    grids as long as the error on held-out rows falls (`validation`: a share, or other rows), at last `steps` on all
    rows of `data`. The smoothness of the splines is chosen on the held-out rows too, unless `smooth` is a number or the
    data are `noise_free`. With more than 5000 rows and 50 per parameter, a random part of the rows makes the choices
    and the last steps take all.

    A classifier, or a network of more than 1500 parameters, is trained by LBFGS, and by Adam from 50,000 rows on. `l1`
    and `entropy` take Adam, since LBFGS gets stuck at the kinks of |φ|. Both also refine the grid as long as the
    held-out loss falls, share their `steps` among the grids, and take a few last steps on all rows if there are up to
    20,000. `learning_rate`, `batch` and `device` are for them. They smooth the first layer only; smooth="auto" smooths
    that of a classifier by 0.005.

    With validation=0 nothing is held out: every grid is used, and smooth="auto" means 0 for least squares. An output
    never fits worse than its mean, a classifier never worse than the class frequencies, and a constant answer gives a
    constant output.

    Parameters
    ----------
    kan : Kan or sequence
        A shape, such as [2, 5, 1], or a network whose structure is used.
    data : Dataset, tuple of array_like or DataFrame
        Samples: a Dataset, (x, y), or a table of pandas or polars with `target`.
    target : str or sequence of str, optional
        Of a DataFrame, the columns to learn.
    loss : {"auto", "squared", "cross_entropy"}
        "auto" takes cross-entropy where the data have classes.
    optimizer : {"auto", "lm", "lbfgs", "adam"}
        Levenberg-Marquardt, or LBFGS and Adam, which need torch.
    grid : int or sequence of int, default=(3, 5, 10)
        Intervals of the finest grid, or of all grids from coarse to fine.
    starts : int, default=8
        Random starts of Levenberg-Marquardt.
    steps : int, optional
        The most steps; for Levenberg-Marquardt, those on all samples at the end.
    smooth : float or "auto"
        The strength of the smoothness penalty on the splines.
    noise_free : bool
        Whether y is exact.
    l1, entropy : float
        Penalties on the size of edges, and on the entropy of their sizes.
    validation : float, Dataset, tuple of array_like or DataFrame, default=0.2
        The share of the samples that is held out, or a separate validation set, given as `data` is.
    learning_rate, batch, device
        For LBFGS and Adam.
    patience : int, optional
        Steps without a gain before early stopping.
    seed : int, default=0
        Equal seeds give equal networks, bit for bit.
    progress : bool
        Show a progress line on the standard error.
    report : callable, optional
        Called with a `Progress`.
    checkpoint : path, optional
        A file from which a killed fit resumes.

    Returns
    -------
    Kan
        The trained network, with names, training ranges and classes.

    Raises
    ------
    DataError
        The data do not fit the shape, or are not finite.
    TrainingError
        An option cannot be used, or no finite network was found.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    >>> data = x, x[:, 0] ** 2
    >>> kan = kanserve.fit([2, 1], data, starts=1)
    >>> kanserve.score(kan, data).r2[0] > 0.999
    True
    """
    classes, outputs = (kan.classes, kan.shape[-1]) if isinstance(kan, Kan) else ((), _outputs(kan))
    data = dataset(data, target, classes=classes, outputs=outputs, labels=loss == "cross_entropy").counted()
    grids: Sequence[int] = grid_sequence(grid)
    if len(data) < 2:
        raise DataError("A fit needs at least 2 rows, got 1.")
    validation = _validation(validation, target, data)
    _check(seed, grids, validation, smooth, (loss, optimizer), data)
    wanted = kan if isinstance(kan, Kan) else create(kan, grid=grids[0], seed=seed)
    template = normalised(wanted, data)
    of = _loss(loss, data)
    few_rows = len(data) <= TRAINING.fitting_many_rows
    method = _method(optimizer, of, l1 != 0 or entropy != 0, few_rows, schedule.fresh(template, grids[0], (seed,)))
    out, held = _split(data, validation, JUDGED_BY[method], seed)
    few = validation != 0 and held is None
    settings = Settings(
        method=method,
        loss=of,
        steps=STEPS[method] if steps is None else steps,
        patience=PATIENCE[method] if patience is None else patience,
        seed=seed,
        grids=tuple(grids[:1] if few else grids),
        starts=starts,
        strengths=_strengths(smooth, few, noise_free, method == "lm" and held is not None, of),
        learning_rate=learning_rate,
        batch=batch,
        l1=l1,
        entropy=entropy,
        device=device,
    )
    watch = Watch(progress, report)
    kept = Checkpoint()
    if checkpoint is not None:
        kept = begun_or_begin(checkpoint, fingerprint(wanted, data, validation, settings))
        if kept.finished:
            return kept.kan("result")

    def finished(kan: Kan) -> Kan:
        rows = data.sample(JUDGED_BY[method], seed)
        guard = schedule.no_worse_than_the_shares if of == "cross_entropy" else schedule.no_worse_than_the_mean
        return guard(kan, rows)

    train = _least_squares if method == "lm" else _descent
    try:
        result = finished(train(template, data, out, held, settings, watch, kept))
        kept.finish(result)
    except KeyboardInterrupt:
        if watch.best is None:
            raise
        error, best = watch.best
        logging.getLogger("kanserve").warning("Interrupted: the best network so far has an error of %.3g.", error)
        result = finished(best())
    watch.finish()
    return result


def _least_squares(
    template: Kan,
    data: Dataset,
    out: Places | None,
    held: Dataset | None,
    settings: Settings,
    watch: Watch,
    kept: Checkpoint,
) -> Kan:
    train, every = data, data.sample(TRAINING.fitting_most_rows, settings.seed)
    if out is not None:
        left = len(data) - len(out)
        train = data.take(past(out, some(left, min(left, TRAINING.fitting_most_rows), settings.seed)))
    elif len(data) > TRAINING.fitting_most_rows:
        train = every
    return schedule.run(template, every, schedule.Schedule(train, held, settings, watch, kept))


def _descent(
    template: Kan,
    data: Dataset,
    out: Places | None,
    held: Dataset | None,
    settings: Settings,
    watch: Watch,
    kept: Checkpoint,
) -> Kan:
    """The network trained by LBFGS or Adam; this imports torch."""
    from kanserve.train.torch.gradient_fit import descend

    if kept.holds("chosen"):
        result = kept.kan("chosen")
    else:
        start = schedule.fresh(template, settings.grids[0], (settings.seed,), TRAINING.fitting_hidden)
        result = descend(start, data, held, settings, without=out, watch=watch, checkpoint=kept)
    if out is not None and len(data) <= TRAINING.fitting_settled_rows and not settings.penalised:
        kept.keep({"chosen": result}, {})
        last = replace(
            settings, method="lbfgs", steps=TRAINING.fitting_settle_steps, grids=settings.grids[:1], learning_rate=None
        )
        result = descend(result, data, None, last)
    if not np.isfinite(evaluate(result, data.sample(JUDGED_BY[settings.method], settings.seed).x)).all():
        raise TrainingError(f"{settings.method} found no finite network. Try a smaller learning_rate.")
    return result


def _outputs(shape: Sequence[int | tuple[int, int]]) -> int | None:
    """How many outputs a network of this shape has; None where `create` refuses it."""
    last = shape[-1] if len(shape) else None
    return int(last) if isinstance(last, int | np.integer) else None


def _strengths(
    smooth: float | Literal["auto"], few: bool, exact: bool, choosing: bool, loss: Loss
) -> tuple[float, ...]:
    """The smoothing strengths; of several, one is chosen on the held-out rows."""
    if smooth != "auto":
        return (float(smooth),)
    if few:
        return (TRAINING.fitting_few_rows_smooth,)
    if exact:
        return (0.0,)
    if loss == "cross_entropy":
        return (TRAINING.fitting_classes_smooth,)
    return schedule.STRENGTHS if choosing else (0.0,)


def _validation(given: float | TrainingData, target: Target, data: Dataset) -> float | Dataset:
    """The share to hold out, or the validation rows as a Dataset."""
    if not isinstance(given, Dataset | tuple) and not is_frame(given):
        return cast(float, given)  # `_check` refuses what is no share
    outputs = len(data.classes) or data.y.shape[1]
    return dataset(
        given, target if is_frame(given) else None, classes=data.classes, outputs=outputs, labels=bool(data.classes)
    )


def _split(data: Dataset, validation: float | Dataset, most: int, seed: int) -> tuple[Places | None, Dataset | None]:
    """The places of the rows to hold out (None: none), and the validation rows."""
    if isinstance(validation, Dataset):
        return None, validation.counted()
    count = min(round(validation * len(data)), most)
    if len(data) < TRAINING.fitting_fewest_rows or count == 0:
        return None, None
    if len(data) - count < 2:
        raise TrainingError(
            f"validation={validation} holds out {count} of {len(data)} rows; leave at least 2 to train on."
        )
    out = some(len(data), count, seed)
    return out, data.take(out)


def _loss(loss: Loss, data: Dataset) -> Literal["squared", "cross_entropy"]:
    if loss == "cross_entropy" and not data.classes:
        raise TrainingError(
            "Cross-entropy needs class labels: one column of integers or text as y, or a Dataset with classes."
        )
    if loss == "auto":
        return "cross_entropy" if data.classes else "squared"
    return loss


def _method(
    optimizer: Optimizer, loss: str, penalised: bool, few_rows: bool, kan: Kan
) -> Literal["lm", "lbfgs", "adam"]:
    least_squares = loss == "squared" and not penalised
    if optimizer == "lm" and not least_squares:
        raise TrainingError(
            "Levenberg-Marquardt minimises squares only. For cross-entropy, l1 or entropy choose lbfgs or adam."
        )
    if optimizer != "auto":
        return optimizer
    if least_squares and schedule.parameters(kan) <= schedule.MOST_PARAMETERS:
        return "lm"
    return "lbfgs" if few_rows and not penalised else "adam"


def _check(
    seed: int,
    grids: Sequence[int],
    validation: float | Dataset,
    smooth: float | str,
    names: tuple[Loss, Optimizer],
    data: Dataset,
) -> None:
    """Check the arguments that `Settings` does not check."""
    for name, value, known in zip(("loss", "optimizer"), names, (get_args(Loss), get_args(Optimizer)), strict=True):
        if value not in known:
            raise TrainingError(f"{name} is one of {', '.join(known)}; got {value!r}.")
    if not increasing(grids):
        raise TrainingError(
            f"grid is a number of intervals, or increasing numbers of intervals, like (3, 5); got {grids!r}."
        )
    if not whole(seed, 0):
        raise TrainingError(f"A seed is a whole number from 0 on, got {seed!r}.")
    if isinstance(validation, Dataset):
        if validation.x.shape[1] != data.x.shape[1] or validation.y.shape[1] != data.y.shape[1]:
            raise DataError("The validation data need the same columns as the training data.")
        if validation.classes != data.classes:
            found, wanted = (", ".join(dataset.classes) or "none" for dataset in (validation, data))
            raise DataError(f"The validation data need the classes of the training data, {wanted}; got {found}.")
    elif not (not_negative(validation) and validation < 1):
        raise TrainingError(
            "validation is the share of rows to hold out, from 0 to less than 1, or a Dataset of other rows; "
            f"got {validation!r:.60}."
        )
    if smooth != "auto" and not not_negative(smooth):
        raise TrainingError(f'smooth is "auto" or a number of 0 or more, got {smooth!r}.')
