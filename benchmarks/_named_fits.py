"""Fits that could fail quietly, for `robustness.py`: 46 kinds of data, with default settings or those a warning names.

A fit is good if its score on fresh samples is near what the noise allows (R² or accuracy), or near the better one of a
linear model and gradient boosting of scikit-learn. A fit that is not good must have warned (`TrainingWarning`) or have
raised an error. What is neither is bad and silent.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks._timing import goal, table
from kanserve.errors import KanserveError
from kanserve.network.evaluate import evaluate
from kanserve.train import TrainingWarning, fit

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
Draw = Callable[[np.random.Generator, int], Array]

SEED = 20
NEW = 4000
NEAR = 0.9
"""Share of the reachable score from which on a fit is good."""
SMALL = ("smooth", "sin(60 x)", "2 % outliers", "2 % outliers, huber", "noise alone", "one class")


@dataclass(frozen=True)
class Case:
    """Inputs, what is to be learned of them, and the noise on the training answers."""

    name: str
    draw: Draw
    function: Function
    noise: Callable[[np.random.Generator, Array], Array] = lambda _, clean: clean
    rows: int = 1000
    hidden: tuple[int, ...] = (5,)
    options: dict[str, Any] = field(default_factory=dict)
    classes: bool = False


@dataclass(frozen=True)
class Result:
    """Scores on fresh samples: R², or the accuracy of a classifier."""

    name: str
    ours: float
    ceiling: float
    linear: float
    boosting: float
    seconds: float
    warned: str

    @property
    def good(self) -> bool:
        reachable = max(min(self.ceiling, max(self.linear, self.boosting)), 0.0)
        return self.ours >= NEAR * reachable and self.ours > 0.05

    @property
    def silent(self) -> bool:
        return not self.good and not self.warned


def _box(columns: int, low: float = -1.0, high: float = 1.0) -> Draw:
    return lambda generator, rows: generator.uniform(low, high, (rows, columns))


def _hello(x: Array) -> Array:
    return np.asarray(np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2))


def _gaussian(share: float) -> Callable[[np.random.Generator, Array], Array]:
    return lambda generator, clean: clean + share * clean.std() * generator.normal(size=len(clean))


def _outliers(share: float, size: float) -> Callable[[np.random.Generator, Array], Array]:
    def noise(generator: np.random.Generator, clean: Array) -> Array:
        where = generator.random(len(clean)) < share
        return np.asarray(clean + where * generator.choice([-1, 1], len(clean)) * size * clean.std())

    return noise


def _scaled(unit: float, offset: float = 0.0) -> Draw:
    return lambda generator, rows: offset + unit * generator.uniform(-1, 1, (rows, 2))


def _unscaled(unit: float, offset: float = 0.0) -> Function:
    return lambda x: _hello((x - offset) / unit)


def _times(unit: float) -> Function:
    return lambda x: np.asarray(unit * _hello(x))


def _collinear(generator: np.random.Generator, rows: int) -> Array:
    x = generator.uniform(-1, 1, (rows, 2))
    return np.column_stack([x, x.sum(axis=1), x[:, 0] + 1e-9 * generator.normal(size=rows)])


def _constant_column(generator: np.random.Generator, rows: int) -> Array:
    return np.column_stack([generator.uniform(-1, 1, (rows, 2)), np.full(rows, 7.0)])


def _cauchy(generator: np.random.Generator, rows: int) -> Array:
    return generator.standard_cauchy((rows, 2))


def _rank_like(x: Array) -> Array:
    return np.asarray(np.tanh(x[:, 0]) + np.cos(x[:, 1] / (1 + np.abs(x[:, 1]))))


def _lognormal(generator: np.random.Generator, rows: int) -> Array:
    return np.asarray(np.exp(2 * generator.normal(size=(rows, 2))))


def _integers(generator: np.random.Generator, rows: int) -> Array:
    return np.asarray(generator.integers(0, 6, (rows, 2)), dtype=np.float64)


def _with_rare_dummies(generator: np.random.Generator, rows: int) -> Array:
    return np.column_stack([generator.uniform(-1, 1, (rows, 2)), generator.random((rows, 3)) < 0.02])


def _many(columns: int) -> Draw:
    return lambda generator, rows: generator.normal(size=(rows, columns))


def _sparse_signal(x: Array) -> Array:
    return np.asarray(x[:, 0] + np.sin(2 * x[:, 1]) + x[:, 2] ** 2 / 2 + x[:, 3] * x[:, 4])


def _ring(x: Array) -> Array:
    return np.asarray((x**2).sum(axis=1) < 0.6, dtype=np.float64)


def _counts(generator: np.random.Generator, clean: Array) -> Array:
    return generator.poisson(clean).astype(float)


def _flipped(share: float) -> Callable[[np.random.Generator, Array], Array]:
    return lambda generator, clean: np.where(generator.random(len(clean)) < share, 1 - clean, clean)


CASES = (
    Case("smooth", _box(2), _hello),
    *(Case(f"inputs in units of {unit:g}", _scaled(unit), _unscaled(unit)) for unit in (1e-12, 1e12)),
    *(Case(f"answers in units of {unit:g}", _box(2), _times(unit)) for unit in (1e-12, 1e12)),
    Case("inputs around 1e6", _scaled(1.0, 1e6), _unscaled(1.0, 1e6)),
    Case("answers around 1e6", _box(2), lambda x: 1e6 + _hello(x)),
    Case("answers around 1e12", _box(2), lambda x: 1e12 + _hello(x)),
    Case("Cauchy inputs", _cauchy, _rank_like),
    Case("Cauchy inputs, clip", _cauchy, _rank_like, options={"extrapolation": "clip"}),
    Case("log-normal inputs", _lognormal, lambda x: np.log(x[:, 0]) + np.tanh(x[:, 1])),
    Case("log-normal answers", _many(2), lambda x: np.exp(2 * x[:, 0] + x[:, 1])),
    Case("2 % outliers", _box(2), _hello, _outliers(0.02, 100)),
    Case("2 % outliers, huber", _box(2), _hello, _outliers(0.02, 100), options={"loss": "huber"}),
    Case("5 % outliers of 5 deviations", _box(2), _hello, _outliers(0.05, 5)),
    Case("noise of Student's t, 1 degree", _box(2), _hello, lambda g, y: y + 0.1 * g.standard_t(1, len(y))),
    Case("steps", _box(2), lambda x: np.sign(x[:, 0]) + (x[:, 1] > 0.3)),
    Case("a ramp of x and its fractional part", _box(1, 0, 4), lambda x: x[:, 0] % 1),
    Case("one jump of 1e6 in a smooth answer", _box(1), lambda x: np.sin(3 * x[:, 0]) + 1e6 * (x[:, 0] > 0.99)),
    Case("a pole, 1/|x|", _box(1), lambda x: 1 / (np.abs(x[:, 0]) + 1e-4)),
    Case("sin(60 x)", _box(1), lambda x: np.sin(60 * x[:, 0]), rows=2000, hidden=()),
    Case("sin(60 x) + y²", _box(2), lambda x: np.sin(60 * x[:, 0]) + x[:, 1] ** 2, rows=3000, hidden=()),
    Case("sin(300 x)", _box(1), lambda x: np.sin(300 * x[:, 0]), rows=2000),
    Case("few rows: 8", _box(1), lambda x: np.sin(3 * x[:, 0]), rows=8, hidden=()),
    Case("few rows: 15 of 3 columns", _box(3), lambda x: x[:, 0] + x[:, 1] ** 2, rows=15),
    Case("2 rows of 3 columns", _box(3), lambda x: x[:, 0] + x[:, 1] ** 2, rows=2),
    Case("5 rows of 200 columns", _many(200), lambda x: x[:, 0] - x[:, 1], rows=5),
    Case("12 rows of 8 columns", _many(8), lambda x: x[:, 0] * x[:, 1], _gaussian(0.5), rows=12),
    Case("60 rows of a smooth law", _box(2), _hello, rows=60),
    Case("30 rows of 10 columns", _many(10), lambda x: x[:, 0] - x[:, 1], _gaussian(0.3), rows=30),
    Case("all rows five times", lambda g, n: np.repeat(_box(2)(g, n // 5), 5, axis=0), _hello),
    Case("a constant column", _constant_column, _hello),
    Case("collinear columns", _collinear, _hello),
    Case("integer columns", _integers, lambda x: x[:, 0] * x[:, 1] - x[:, 0]),
    Case("rare dummy columns", _with_rare_dummies, lambda x: _hello(x) + 3 * x[:, 2] - 2 * x[:, 4]),
    Case("tiny signal: 2 % of the variance", _box(2), _hello, _gaussian(7.0)),
    Case("noise: half of the variance", _box(2), _hello, _gaussian(1.0)),
    Case("noise alone", _box(3), lambda x: np.zeros(len(x)), lambda g, y: g.normal(size=len(y))),
    Case("exactly linear", _many(5), lambda x: x @ np.arange(1.0, 6.0), _gaussian(0.3)),
    Case("500 columns, 5 of use", _many(500), _sparse_signal, _gaussian(0.05), rows=2000),
    Case("counts, poisson", _box(2), lambda x: 3 * _hello(x), _counts, options={"loss": "poisson"}),
    Case("a ring", _box(2), _ring, classes=True),
    Case("imbalanced classes, 1 %", _box(2), lambda x: (x.sum(axis=1) > 1.72).astype(float), classes=True, rows=2000),
    Case("labels at random", _box(2), _ring, _flipped(0.5), classes=True),
    Case("one label in five wrong", _box(2), _ring, _flipped(0.2), classes=True),
    Case("one class", _box(2), lambda x: np.zeros(len(x)), classes=True),
)


def cases(small: bool) -> list[Case]:
    return [one for one in CASES if not small or one.name in SMALL]


def measure(one: Case) -> Result:
    """Fit a case, score it on fresh samples beside a linear model and boosting."""
    generator = np.random.default_rng(SEED)
    x = one.draw(generator, one.rows)
    y = one.noise(generator, one.function(x))
    new = one.draw(generator, NEW)
    clean = one.function(new)
    wanted = one.noise(generator, clean)
    score = _accuracy if one.classes else _r2
    judged = wanted if one.classes else clean
    begun, said, ours = time.process_time(), "", -np.inf
    outputs = max(2, len(np.unique(y))) if one.classes else 1
    labels = np.array(["a", "b"])[y.astype(int)] if one.classes else y
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            kan = fit([x.shape[1], *one.hidden, outputs], (x, labels), seed=SEED, **one.options)
            found = evaluate(kan, new)
            ours = score(found.argmax(axis=1).astype(float) if one.classes else found[:, 0], judged)
        except KanserveError as error:
            said = f"error: {error}"
    seconds = time.process_time() - begun
    texts = [str(entry.message) for entry in heard if issubclass(entry.category, TrainingWarning)]
    linear, boosting = (score(predicted, judged) for predicted in _peers(one, x, y, new))
    return Result(one.name, ours, score(clean, judged), linear, boosting, seconds, said or " / ".join(texts))


def _peers(one: Case, x: Array, y: Array, new: Array) -> tuple[Array, Array]:
    if one.classes and len(np.unique(y)) == 1:
        return np.full(len(new), y[0]), np.full(len(new), y[0])
    models = (
        (LogisticRegression(), HistGradientBoostingClassifier(random_state=0))
        if one.classes
        else (LinearRegression(), HistGradientBoostingRegressor(random_state=0))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [make_pipeline(StandardScaler(), model).fit(x, y).predict(new) for model in models]
    return found[0], found[1]


def _r2(found: Array, wanted: Array) -> float:
    unit = max(float(np.abs(wanted).max()), np.finfo(np.float64).tiny)
    with np.errstate(all="ignore"):
        error, spread = np.square((found - wanted) / unit).mean(), (wanted / unit).var()
    return float(1 - error / spread) if spread > 0 else 0.0


def _accuracy(found: Array, wanted: Array) -> float:
    """Balanced: the mean over the classes, less what a constant would reach, as a share of what is left."""
    each = [float((found[wanted == label] == label).mean()) for label in np.unique(wanted)]
    least = 1 / len(each)
    return float(np.mean(each) - least) / (1 - least) if len(each) > 1 else float(np.mean(each))


def report(results: list[Result]) -> str:
    rows = [
        [
            one.name,
            *(f"{value:.3f}" if value > -100 else f"{value:.0e}" for value in (one.ours, one.ceiling)),
            *(f"{value:.3f}" if value > -100 else f"{value:.0e}" for value in (one.linear, one.boosting)),
            f"{one.seconds:.1f}",
            f"yes: {one.warned[:40]}" if one.warned else "no",
            "BAD" if one.silent else "good" if one.good else "said",
        ]
        for one in results
    ]
    head = ["case", "ours", "ceiling", "linear", "boosting", "CPU s", "warned?", ""]
    silent = [one.name for one in results if one.silent]
    return "\n".join(
        [
            "Kinds of data: R² on fresh samples without noise; of classes the balanced accuracy, 0 at chance",
            table([*head], rows),
            "",
            goal(not silent, f"{len(results)} cases, none bad and silent", silent),
        ]
    )
