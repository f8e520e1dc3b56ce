"""Real data: test scores and CPU seconds of our estimators beside the usual methods for tabular data.

Five data sets from scikit-learn and statsmodels. A quarter of the rows is the test set, drawn anew for each of five
seeds, the same for all methods. Ours are the estimators with their defaults. The peers have standardised columns (the
MLP regressor standardised answers too), and a regularisation strength chosen by cross-validation where scikit-learn has
it. The MLP runs with its defaults (100 hidden nodes) and with early stopping; pykan has our shape and our CPU seconds
(at least 0.5).

The doctor's visits have seven rows with equal inputs on average: the same people in several years. These rows are kept
together on one side of the split, so that the test measures predictions for new people. The result with rows split one
by one, where a method can recognise people, is below the table.

    OMP_NUM_THREADS=1 python benchmarks/real_data.py [--small]
"""

import importlib
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import _pykan
from benchmarks._timing import goal, installed, machine, table
from kanserve.estimator import KANClassifier, KANRegressor

Array = NDArray[np.float64]
Scores = Mapping[str, Mapping[str, Sequence["Result"]]]  # of each data set, of each method, one a seed

OURS, HIDDEN = "ours", {False: (5,), True: (32,)}  # for classes; our defaults
GOAL = 3
PYKAN_SECONDS = 0.5
TEST = 0.25


@dataclass(frozen=True)
class Result:
    """R² or accuracy on the test rows, and the CPU seconds of the fit."""

    score: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs (N, columns), answers (N,), whether these are classes, and the groups of rows (N,), if there are any."""

    x: Array
    y: Array
    classifies: bool
    groups: NDArray[np.int64] | None = None

    def split(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The positions of the training rows, and of the test rows."""
        kind = GroupShuffleSplit if self.groups is not None else ShuffleSplit
        kind = StratifiedShuffleSplit if self.classifies else kind
        rest, test = next(kind(1, test_size=TEST, random_state=seed).split(self.x, self.y, self.groups))
        return rest, test


def _packed(load: Callable[[], Any], classifies: bool) -> Data:
    found = load()
    return Data(found.data.astype(np.float64), found.target.astype(np.float64), classifies)


def _visits(together: bool) -> Data:
    """Doctor's visits in a year (Deb, Trivedi, J. of Health Economics 21, 2002), 20,190 rows."""
    found = importlib.import_module("statsmodels.api").datasets.randhie.load_pandas()
    x, y = found.exog.to_numpy(np.float64), found.endog.to_numpy(np.float64)
    return Data(x, y, False, np.unique(x, axis=0, return_inverse=True)[1] if together else None)


SETS: dict[str, Callable[[], Data]] = {
    "diabetes": lambda: _packed(datasets.load_diabetes, False),
    "breast cancer": lambda: _packed(datasets.load_breast_cancer, True),
    "wine": lambda: _packed(datasets.load_wine, True),
    "digits": lambda: _packed(datasets.load_digits, True),
    "doctor's visits": lambda: _visits(together=True),
}
SMALL = ("diabetes", "wine")
RECOGNISABLE = "doctor's visits, rows drawn one by one"


def _scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


def _mlp(classifies: bool, **options: Any) -> Any:
    if classifies:
        return _scaled(MLPClassifier(**options))
    return TransformedTargetRegressor(_scaled(MLPRegressor(**options)), transformer=StandardScaler())


METHODS: dict[str, Callable[[bool, int], Any]] = {
    OURS: lambda classifies, seed: (KANClassifier if classifies else KANRegressor)(random_state=seed),
    "boosting, histograms": lambda classifies, seed: (
        HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
    )(random_state=seed),
    "boosting": lambda classifies, seed: (GradientBoostingClassifier if classifies else GradientBoostingRegressor)(
        random_state=seed
    ),
    "MLP": lambda classifies, seed: _mlp(classifies, random_state=seed),
    "MLP, early stopping": lambda classifies, seed: _mlp(
        classifies, early_stopping=True, max_iter=1000, random_state=seed
    ),
    "linear": lambda classifies, _: _scaled(
        LogisticRegressionCV(Cs=10, l1_ratios=(0,), use_legacy_attributes=False, scoring="neg_log_loss", max_iter=2000)
        if classifies
        else RidgeCV(np.logspace(-3, 3, 13))
    ),
}
PYKAN = "pykan"


def main(arguments: list[str]) -> None:
    small = "--small" in arguments
    torch.set_num_threads(1)
    seeds = range(2 if small else 5)
    scores = {name: measure(SETS[name](), seeds) for name in (SMALL if small else SETS)}
    again = None if small else measure(_visits(together=False), seeds, (OURS, "boosting, histograms", "linear"))
    print(report(scores, again))


def measure(data: Data, seeds: Sequence[int], methods: Sequence[str] = (*METHODS, PYKAN)) -> dict[str, list[Result]]:
    """The results of each method, one per seed. Methods take turns, and pykan has the seconds that ours just took."""
    results: dict[str, list[Result]] = {name: [] for name in methods}
    for seed in seeds:
        rest, test = data.split(seed)
        for name in methods:
            if name == PYKAN and not installed("pykan"):
                continue
            budget = max([PYKAN_SECONDS, *(result.seconds for result in results.get(OURS, [])[-1:])])
            begun = time.process_time()
            answers = _fitted(name, data, rest, seed, budget)
            seconds = time.process_time() - begun
            results[name].append(Result(_score(data, answers(data.x[test]), test), seconds))
    return results


def _fitted(name: str, data: Data, rest: NDArray[np.int64], seed: int, seconds: float) -> Callable[[Array], Array]:
    if name == PYKAN:
        hidden, classes = HIDDEN[data.classifies], len(np.unique(data.y)) if data.classifies else 0
        scores = _pykan.trained(data.x[rest], data.y[rest], hidden, classes, seconds, seed)
        return (lambda x: scores(x).argmax(axis=1)) if classes else scores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # by default the MLP ends after 200 epochs
        model = METHODS[name](data.classifies, seed).fit(data.x[rest], data.y[rest])
    answers: Callable[[Array], Array] = model.predict
    return answers


def _score(data: Data, answers: Array, test: NDArray[np.int64]) -> float:
    return float((answers == data.y[test]).mean() if data.classifies else r2_score(data.y[test], answers))


@dataclass(frozen=True)
class Standing:
    """Our score on a data set beside the best method's, with the standard error of the latter."""

    ours: float
    best: str
    score: float
    error: float
    behind: float
    """The mean difference to the best method, split by split; `behind_error` is its standard error."""
    behind_error: float

    @property
    def level(self) -> bool:
        return self.ours >= self.score - self.error


def standing(results: Mapping[str, Sequence[Result]]) -> Standing:
    scores = {name: np.array([result.score for result in every]) for name, every in results.items() if every}
    best = max(scores, key=lambda name: float(scores[name].mean()))
    difference = scores[best] - scores[OURS]
    return Standing(
        float(scores[OURS].mean()),
        best,
        float(scores[best].mean()),
        _standard_error(scores[best]),
        float(difference.mean()),
        _standard_error(difference),
    )


def _standard_error(values: Array) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def report(scores: Scores, again: Mapping[str, Sequence[Result]] | None) -> str:
    """The table, our standing on each data set, and on how many ours is level with the best."""
    names = list(scores)
    methods = list(scores[names[0]])
    rows = [[method, *(_cell(scores[name][method]) for name in names)] for method in methods]
    seeds = len(scores[names[0]][OURS])
    lines = [
        f"Test R² or accuracy (classes), mean ± standard error of {seeds} splits; CPU seconds of a fit",
        machine("kanserve", "scikit-learn", "statsmodels", "pykan", "torch"),
        "",
        table(["", *names], rows),
        "",
    ]
    standings = {name: standing(scores[name]) for name in names}
    for name, place in standings.items():
        what = "level" if place.level else "LOST"
        what = "first" if place.best == OURS else what
        by = "" if place.best == OURS else f", behind by {place.behind:.4f} ± {place.behind_error:.4f} split by split"
        lines.append(
            f"{what}: {name}: ours {place.ours:.4f}, best {place.best} {place.score:.4f} ± {place.error:.4f}{by}"
        )
    if again is not None:
        found = ", ".join(f"{method} {_cell(results)}" for method, results in again.items())
        lines += ["", f"{RECOGNISABLE}: {found}"]
    level = [name for name, place in standings.items() if place.level]
    met = len(level) >= GOAL
    lines += ["", goal(met, f"within one standard error of the best on {len(level)} of {len(names)}, {GOAL} wanted")]
    return "\n".join(lines)


def _cell(results: Sequence[Result]) -> str:
    if not results:
        return "not installed"
    scores = np.array([result.score for result in results])
    seconds = np.mean([result.seconds for result in results])
    return f"{scores.mean():.4f} ± {_standard_error(scores):.4f}, {seconds:.2f} s"


if __name__ == "__main__":
    main(sys.argv[1:])
