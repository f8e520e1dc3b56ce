"""Warn of a fit that predicts no better than a simpler model, and of data in which few rows decide the result."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import mean_difference
from kanserve.errors import TrainingError
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.train.constant_guard import errors, errors_of_constant
from kanserve.train.input_warnings import describe_inputs, missing_codes
from kanserve.train.losses import LossFunction

Array = NDArray[np.float64]

WARNINGS_ROWS = 20_000  # enough to judge a fit and its data by
FEWEST_ROWS = 20  # with fewer rows tails are not judged, nor standard errors computed
FEWEST_FOR_LINE = 5  # held-out rows with fewer of which a network is not compared with a line
GOOD = 1e-3  # of the error of a constant: with less a fit is good, whatever a line does
WORSE = 1.05  # factor to a line's error from which on a network is worse, however certain the difference is
# Times the range of the middle nine tenths: 2 for a normal distribution, 300 for Cauchy's, of 1000 rows each.
TAIL = 10.0
CERTAIN = 2.0  # standard errors by which the network must be better than a constant, and no worse than a line
ROWS_PER_INPUT = 2  # with fewer a line is not a measure

NEIGHBOURS = 4  # rows, whose mean error shows what the network has not learned: fewer are noise, more are further away
NEIGHBOUR_ROWS, NEIGHBOUR_JUDGES = 4000, 500  # enough to find some, and to see it, in .1 s
ALIKE = 0.25
"""Of the squared error on unseen rows, from which on neighbours explain too much of it. Of sin(15(a + b)) with an R²
of .7 it is .49; of noise it is below 0, and of tables of many inputs too, where no neighbour is near."""
FAIR = 0.05
"""Of the error of a constant: with less a fit is good enough not to be told that it misses structure, as every fit to
rows without noise does a little."""
TIME_UNITS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
TIMES = (9e8, 2.3e9)  # seconds since 1970 of the years 1998 to 2042: nothing else has such numbers in those units

SHOWN = 0.2
"""Of a constant's error on unseen rows: with less, a fit has shown that it generalises, however few these rows are. In
5 to 8 rows of noise it was never below 0.3, in rows of smooth laws mostly below 0.1."""
ONCE_IN_TEN = (3.08, 1.89, 1.64, 1.53, 1.48, 1.44, 1.41, 1.40, 1.38, 1.37)
"""Standard errors that the mean of 2, 3, .. numbers exceeds by chance once in ten times (Student's t). A stricter limit
warns of noisy laws that 60 rows do show."""
STARTS_OF_LEFT_OUT = 2
"""Random starts of each fit that leaves a row out: with the 8 of a fit, warning would take four times its seconds."""


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
    kanserve.train.fit_warnings.TrainingWarning: The network predicts ... better than a constant...
    """


@dataclass(frozen=True, eq=False)
class Fitted:
    """A network fitted without the validation rows, and the data it was fitted to. `held` is None if none are."""

    kan: Kan
    train: Dataset
    raw: Dataset
    """The training rows before inputs were taken on a logarithmic scale."""
    held: Dataset | None
    loss: LossFunction
    clips: bool
    few: bool = False
    """Whether there are no validation rows because there are too few rows."""
    unused: tuple[str, ...] = ()
    """What to say of arguments that were given and had no effect."""
    final: Kan | None = None
    """The network after its last steps on all rows."""
    refit: Callable[[Dataset], Kan] | None = None
    """Fits the same network to other rows; None if the choice of its inputs has seen all rows."""


def warning_texts(fitted: Fitted) -> tuple[str, ...]:
    """The warnings to give; none after a good fit."""
    # Heavy tails are the cause of structure that is missed, and have another remedy.
    judged = [*_tails(fitted), *_no_better(fitted)] or _misses_structure(fitted)
    return (*fitted.unused, *describe_inputs(fitted.raw), *judged)


def _tails(fitted: Fitted) -> list[str]:
    rows = fitted.train.sample(WARNINGS_ROWS, 0)
    if len(rows) < FEWEST_ROWS:
        return []
    found = []
    coded = missing_codes(fitted.raw.sample(WARNINGS_ROWS, 0))  # which have another remedy
    inputs = [] if fitted.clips else [name for name in find_heavy_tails(rows.x, fitted.kan.inputs) if name not in coded]
    if inputs:
        found.append(
            f"Inputs with heavy tails: {', '.join(inputs)}. Few rows are far from all others, where the splines are "
            "determined by them alone and new rows may be further out. Transform these inputs (ranks, logarithm, "
            "scikit-learn's QuantileTransformer), or pass extrapolation='clip'."
        )
    plain = fitted.loss.name == "squared" and not fitted.train.classes
    answers = find_heavy_tails(rows.y, fitted.kan.outputs) if plain else []
    if answers:
        found.append(
            f"Answers with heavy tails: {', '.join(answers)}. Squared errors let few rows decide the fit. Pass "
            "loss='huber' if these are outliers, transform the answers (logarithm), or drop those rows."
        )
    return found


def find_heavy_tails(values: Array, variables: tuple[object, ...]) -> list[str]:
    """The names of the columns whose range is many times the range of the middle 90 %."""
    low, high = np.quantile(values, (0.05, 0.95), axis=0)
    with np.errstate(over="ignore"):
        width, whole = high - low, values.max(axis=0) - values.min(axis=0)
        far = (width > 0) & (whole > TAIL * width)
    return [str(getattr(variables[i], "name", i)) for i in np.flatnonzero(far)]


def _no_better(fitted: Fitted) -> list[str]:
    train = fitted.train.sample(WARNINGS_ROWS, 0)
    judges = train if fitted.held is None else fitted.held.sample(WARNINGS_ROWS, 0)
    if (np.ptp(train.y, axis=0) == 0).all():
        return []
    own = errors(fitted.kan, judges, fitted.loss)
    constant = errors_of_constant(fitted.kan, train, judges, fitted.loss)
    where = "its own rows" if fitted.held is None else f"{len(judges)} held-out rows"
    noise = 0.0 if fitted.held is None else CERTAIN
    if not _clearly_less(own, constant, judges.shares, noise):
        simple = "the class frequencies" if fitted.train.classes else "a constant"
        better = _mean(own, judges) < _mean(constant, judges)
        return [
            f"The network predicts {'not clearly' if better else 'no'} better than {simple}: its error on {where} is "
            f"{_mean(own, judges):.3g}, that of {simple} {_mean(constant, judges):.3g}"
            f"{', which may be chance' if better else ''}. {_times(fitted.raw)}The inputs may say nothing about the "
            "answers, or the splines are too coarse (grid=100), the starts too few (starts=32), the rows too few, or "
            "outliers rule (loss='huber')."
        ]
    if unfitted := _warn_unfitted(fitted, train):
        return unfitted
    if fitted.held is not None and _mean(own, judges) <= GOOD * _mean(constant, judges):
        return []
    line = _line(fitted, train, judges)
    if line is not None and _clearly_less(WORSE * line, own, judges.shares, CERTAIN):
        shape = [len(fitted.kan.inputs), len(fitted.kan.outputs)]
        return [
            f"The network predicts worse than a straight line: its error on {where} is {_mean(own, judges):.3g}, that "
            f"of the line {_mean(line, judges):.3g}. Use fewer or no hidden nodes ({shape}), "
            "fewer inputs, more rows, or a larger smooth."
        ]
    return _too_few(fitted, own, constant, judges)


def _warn_unfitted(fitted: Fitted, train: Dataset) -> list[str]:
    """A warning if the final network, fitted to all rows, does not fit even these."""
    if fitted.final is None or fitted.held is None or len(train) < FEWEST_ROWS:
        return []
    own, constant = (
        errors(fitted.final, train, fitted.loss),
        errors_of_constant(fitted.final, train, train, fitted.loss),
    )
    if _clearly_less(own, constant, train.shares, CERTAIN):
        return []
    simple = "the class frequencies" if fitted.train.classes else "a constant"
    return [
        f"The network does not fit its own rows: its error on {len(train)} of them is {_mean(own, train):.3g}, that "
        f"of {simple} {_mean(constant, train):.3g}. Use more starts (starts=32), fewer hidden nodes or a coarser grid."
    ]


def _misses_structure(fitted: Fitted) -> list[str]:
    """A warning if errors on validation rows can be predicted from those of nearby training rows, beyond chance. Only
    for regression with squared loss."""
    if fitted.held is None or fitted.loss.name != "squared" or fitted.train.classes:
        return []
    train, judges = fitted.train.sample(NEIGHBOUR_ROWS, 0), fitted.held.sample(NEIGHBOUR_JUDGES, 0)
    if len(judges) < FEWEST_ROWS:
        return []
    error = _mean(errors(fitted.kan, judges), judges)
    constant = _mean(errors_of_constant(fitted.kan, train, judges, fitted.loss), judges)
    left, judged = ((rows.y - evaluate(fitted.kan, rows.x)) / fitted.kan.output_scale for rows in (train, judges))
    near, new = ((rows.x - fitted.kan.input_shift) / fitted.kan.input_scale for rows in (train, judges))
    if not (error > FAIR * constant > 0 and all(np.isfinite(values).all() for values in (left, judged, near, new))):
        return []
    distances = (near**2).sum(axis=1) - 2 * new @ near.T
    nearest = np.argsort(distances, axis=1)[:, :NEIGHBOURS]
    own, after = (judged**2).sum(axis=1), ((judged - left[nearest].mean(axis=1)) ** 2).sum(axis=1)
    if not _clearly_less(after, (1 - ALIKE) * own, judges.shares, CERTAIN):
        return []
    share = 1 - _mean(after, judges) / _mean(own, judges)
    return [
        f"The network misses structure: the errors of {NEIGHBOURS} near rows explain {share:.0%} of its squared error "
        f"on {len(judges)} held-out rows, which is {error / constant:.2f} of that of a constant. "
        f"{_times(fitted.raw)}Use finer splines (grid=100), more hidden nodes (hidden=(10,)) or more starts "
        "(starts=32)."
    ]


def _times(train: Dataset) -> str:
    """A sentence about inputs that are times in a small unit, whose periods no grid resolves; "" if none are."""
    names = [
        f"{name!r} is a time in {unit}"
        for name, column in zip(train.inputs, train.x.T, strict=True)
        for unit, each in TIME_UNITS.items()
        if (column.clip(TIMES[0] * each, TIMES[1] * each) == column).all()
    ]
    if not names:
        return ""
    return f"{', '.join(names)}: give what repeats as columns of its own, such as the hour and the weekday. "


def _too_few(fitted: Fitted, own: Array, constant: Array, judges: Dataset) -> list[str]:
    """A warning if there are too few rows to tell whether the network predicts new ones; none with validation=0."""
    rows, shape = len(fitted.train), [len(fitted.kan.inputs), len(fitted.kan.outputs)]
    simpler = ["fewer inputs"] * (shape[0] > 1) + [f"no hidden nodes ({shape})"] * (len(fitted.kan.layers) > 1)
    advice = (
        "Rows that the fit has not seen can tell (validation=(x, y), or kanserve.score). Without more rows, use "
        f"{' or '.join(simpler) or 'a straight line'}."
    )
    if fitted.held is None:
        if not fitted.few:
            return []
        left_out = _errors_on_left_out(fitted)
        if left_out is None:
            return [
                f"{rows} rows of {shape[0]} inputs cannot tell whether the network predicts others: none can be left "
                f"out, and it may have learned its rows by heart. {advice}"
            ]
        own, constant = left_out
        where = f"{rows} rows, each left out in turn,"
    else:
        where = f"{len(judges)} held-out rows"
    if len(own) >= FEWEST_ROWS or _mean(own, judges) <= SHOWN * _mean(constant, judges):
        return []
    if fitted.held is not None and len(own) > 1:
        times = ONCE_IN_TEN[min(len(own) - 1, len(ONCE_IN_TEN)) - 1] * np.sqrt(len(own) / (len(own) - 1))
        if _clearly_less(own, constant, judges.shares, times, 0):
            return []
    return [
        f"Too few rows to tell whether the network predicts others: its error on {where} is {_mean(own, judges):.3g}, "
        f"that of a constant {_mean(constant, judges):.3g}. {advice}"
    ]


def _errors_on_left_out(fitted: Fitted) -> tuple[Array, Array] | None:
    """The errors of each row for a network and a constant fitted without it and its repetitions; None if few."""
    rows = fitted.train
    groups = np.unique(rows.x, axis=0, return_inverse=True)[1].ravel()
    if fitted.refit is None or groups.max() < 2:
        return None
    own, constant = np.empty(len(rows)), np.empty(len(rows))
    for group in range(groups.max() + 1):
        out = np.flatnonzero(groups == group)
        rest, judges = rows.without(out), rows.take(out)
        try:
            own[out] = errors(fitted.refit(rest), judges, fitted.loss)
        except TrainingError:  # no finite network: nothing is predicted
            own[out] = np.inf
        constant[out] = errors_of_constant(fitted.kan, rest, judges, fitted.loss)
    return own, constant


def _line(fitted: Fitted, train: Dataset, judges: Dataset) -> Array | None:
    """The errors of linear regression on the judging rows; None if it does not apply."""
    if fitted.held is None or fitted.loss.log_link or fitted.loss.name == "cross_entropy":
        return None
    if len(judges) < FEWEST_FOR_LINE or train.x.shape[1] * ROWS_PER_INPUT > len(train):
        return None
    rows, new = ((data.x - fitted.kan.input_shift) / fitted.kan.input_scale for data in (train, judges))
    weight = np.sqrt(train.shares)[:, None]
    design = np.column_stack([np.ones(len(rows)), rows])
    slopes = np.linalg.lstsq(design * weight, fitted.loss.answers(fitted.kan, train.y) * weight, rcond=1e-10)[0]
    u = np.column_stack([np.ones(len(new)), new]) @ slopes
    t = fitted.loss.answers(fitted.kan, judges.y)
    result: Array = ((u - t) ** 2).mean(axis=1) if fitted.loss.name == "squared" else fitted.loss.values(u, t)
    return result


def _mean(values: Array, rows: Dataset) -> float:
    return float(rows.mean(values))


def _clearly_less(low: Array, high: Array, shares: Array, certain: float, fewest: int = FEWEST_ROWS) -> bool:
    """Whether the mean of `low` is below that of `high` by more than `certain` standard errors of the difference; with
    fewer than `fewest` rows, whether it is below at all."""
    if not np.isfinite(low).all():
        return False
    gain, error = mean_difference(high, low, shares)
    return gain > (certain * error if len(low) >= fewest else 0.0)
