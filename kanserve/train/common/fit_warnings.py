"""Warn of a fit that predicts no better than something simpler, and of data that let few rows decide it."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.train.common.constant_guard import errors, errors_of_constant
from kanserve.train.common.losses import LossFunction
from kanserve.train.common.training_settings import TRAINING

Array = NDArray[np.float64]


class TrainingWarning(UserWarning):
    """A fit has ended, but its network may be of no use; the text says why and what to do.

    Examples
    --------
    Turn it into an error where nobody reads the output, as in a nightly job:

    >>> import kanserve, numpy as np, warnings
    >>> x, noise = np.random.default_rng(0).normal(size=(2, 100, 1))
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", kanserve.train.TrainingWarning)
    ...     kan = kanserve.fit([1, 1], (x, noise), starts=1)
    Traceback (most recent call last):
    kanserve.train.common.fit_warnings.TrainingWarning: The network predicts no better than a constant...
    """


@dataclass(frozen=True, eq=False)
class Fitted:
    """A network that has not seen the validation rows (None: there are none), and what it was fitted to."""

    kan: Kan
    train: Dataset
    held: Dataset | None
    loss: LossFunction
    clips: bool


def warn_of(one: Fitted, stacklevel: int) -> None:
    """One `TrainingWarning` for each thing to say; none of a good fit."""
    for text in (*_tails(one), *_no_better(one)):
        warnings.warn(text, TrainingWarning, stacklevel=stacklevel + 1)


def _tails(one: Fitted) -> list[str]:
    rows = one.train.sample(TRAINING.warnings_rows, 0)
    if len(rows) < TRAINING.warnings_fewest_rows:
        return []
    found = []
    inputs = [] if one.clips else heavy_tailed(rows.x, one.kan.inputs)
    if inputs:
        found.append(
            f"Inputs with heavy tails: {', '.join(inputs)}. Few rows are far from all others, where the splines are "
            "determined by them alone and new rows may be further out. Transform these inputs (ranks, logarithm, "
            "scikit-learn's QuantileTransformer), or pass extrapolation='clip'."
        )
    plain = one.loss.name == "squared" and not one.train.classes
    answers = heavy_tailed(rows.y, one.kan.outputs) if plain else []
    if answers:
        found.append(
            f"Answers with heavy tails: {', '.join(answers)}. Squared errors let few rows decide the fit. Pass "
            "loss='huber' if these are outliers, transform the answers (logarithm), or drop those rows."
        )
    return found


def heavy_tailed(values: Array, variables: tuple[object, ...]) -> list[str]:
    """The names of the columns whose range is many times that of their middle nine tenths."""
    low, high = np.quantile(values, (0.05, 0.95), axis=0)
    with np.errstate(over="ignore"):
        width, whole = high - low, values.max(axis=0) - values.min(axis=0)
        far = (width > 0) & (whole > TRAINING.warnings_tail * width)
    return [str(getattr(variables[i], "name", i)) for i in np.flatnonzero(far)]


def _no_better(one: Fitted) -> list[str]:
    train = one.train.sample(TRAINING.warnings_rows, 0)
    judges = train if one.held is None else one.held.sample(TRAINING.warnings_rows, 0)
    if (np.ptp(train.y, axis=0) == 0).all():
        return []
    own = errors(one.kan, judges, one.loss)
    constant = errors_of_constant(one.kan, train, judges, one.loss)
    where = "its own rows" if one.held is None else f"{len(judges)} held-out rows"
    noise = 0.0 if one.held is None else TRAINING.warnings_certain
    if not _clearly_less(own, constant, judges.shares, noise):
        simple = "the class frequencies" if one.train.classes else "a constant"
        return [
            f"The network predicts no better than {simple}: its error on {where} is {_mean(own, judges):.3g}, that of "
            f"{simple} {_mean(constant, judges):.3g}. The inputs may say nothing about the answers, or the splines are "
            "too coarse (grid=100), the starts too few (starts=32), the rows too few, or outliers rule (loss='huber')."
        ]
    if _mean(own, judges) <= TRAINING.warnings_good * _mean(constant, judges):
        return []
    line = _line(one, train, judges)
    if line is not None and _clearly_less(
        TRAINING.warnings_worse * line, own, judges.shares, TRAINING.warnings_certain
    ):
        shape = [len(one.kan.inputs), len(one.kan.outputs)]
        return [
            f"The network predicts worse than a straight line: its error on {where} is {_mean(own, judges):.3g}, that "
            f"of the line {_mean(line, judges):.3g}. Use fewer or no hidden nodes ({shape}), "
            "fewer inputs, more rows, or a larger smooth."
        ]
    return []


def _line(one: Fitted, train: Dataset, judges: Dataset) -> Array | None:
    """The errors of the least-squares line or plane, on the judging rows; None where there is no such thing."""
    if one.held is None or one.loss.log_link or one.loss.name == "cross_entropy":
        return None
    if len(judges) < TRAINING.warnings_fewest_for_line or train.x.shape[1] * TRAINING.warnings_rows_per_input > len(
        train
    ):
        return None
    rows, new = ((data.x - one.kan.input_shift) / one.kan.input_scale for data in (train, judges))
    weight = np.sqrt(train.shares)[:, None]
    design = np.column_stack([np.ones(len(rows)), rows])
    slopes = np.linalg.lstsq(design * weight, one.loss.answers(one.kan, train.y) * weight, rcond=1e-10)[0]
    u = np.column_stack([np.ones(len(new)), new]) @ slopes
    t = one.loss.answers(one.kan, judges.y)
    result: Array = ((u - t) ** 2).mean(axis=1) if one.loss.name == "squared" else one.loss.values(u, t)
    return result


def _mean(values: Array, rows: Dataset) -> float:
    return float(rows.mean(values))


def _clearly_less(low: Array, high: Array, shares: Array, certain: float) -> bool:
    """Whether the mean of `low` is below that of `high` by so many standard errors of the difference."""
    if not np.isfinite(low).all():
        return False
    gain = high - low
    mean = float(shares @ gain)
    if len(gain) < TRAINING.warnings_fewest_rows:
        certain = 0.0
    return mean > certain * float(np.linalg.norm(shares * (gain - mean)))
