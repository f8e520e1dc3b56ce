"""Formulas of real tables beside the network that scikit-learn's users fit: as good, short, and without poles?

    OMP_NUM_THREADS=1 python benchmarks/real_formulas.py [--seconds 15] [--splits 3] [--only engel diabetes]

The ten tables come with scikit-learn and statsmodels and were chosen before any was searched. A quarter of the rows is
held out. "wild" counts predictions that are not finite, or further from the answers than three times their range, for
20,000 rows within a tenth of the range of the data: a formula with a pole there has some. Every formula of the first
split is printed, and each with wild predictions: whether it is sensible is for a reader to say. Seconds are CPU seconds
of this process.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from benchmarks._timing import machine, table
from benchmarks.noisy_formulas import on_cpu_time
from kanserve.data.dataset import Dataset
from kanserve.estimator import KANRegressor
from kanserve.search import Findings, find_formulas
from kanserve.search.findings.scored_formula import ScoredFormula

Array = NDArray[np.float64]

TEST = 0.25
BEYOND = 0.1  # of the range of each input
CHECKED = 20_000
WILD = 3.0  # ranges of the answers
CLOSE = 0.03  # R² by which a formula may be behind the network
SHORT = 40.0  # complexity, at most


@dataclass(frozen=True, eq=False)
class Result:
    """Of one split: R² of the formula and of the network on held-out rows, and what the search found."""

    formula: float
    network: float
    wild: int
    found: Findings


def _iris() -> Dataset:
    rows = datasets.load_iris().data
    return Dataset(rows[:, :3], rows[:, 3], ("sepal_length", "sepal_width", "petal_length"), ("petal_width",))


def _diabetes() -> Dataset:
    found = datasets.load_diabetes()
    return Dataset(found.data, found.target, tuple(found.feature_names))


def _of_statsmodels(name: str, target: str, inputs: Sequence[str] = ()) -> Callable[[], Dataset]:
    def load() -> Dataset:
        frame = getattr(importlib.import_module("statsmodels.api").datasets, name).load_pandas().data
        frame = frame.select_dtypes("number").dropna()
        columns = list(inputs) or [column for column in frame if column != target]
        return Dataset(frame[columns].to_numpy(float), frame[target].to_numpy(float), tuple(map(str, columns)))

    return load


TABLES: dict[str, Callable[[], Dataset]] = {
    "diabetes": _diabetes,
    "iris": _iris,
    "engel": _of_statsmodels("engel", "foodexp"),
    "grunfeld": _of_statsmodels("grunfeld", "invest", ("value", "capital", "year")),
    "ccard": _of_statsmodels("ccard", "AVGEXP", ("AGE", "INCOME", "OWNRENT")),
    "cancer": _of_statsmodels("cancer", "cancer"),
    "statecrime": _of_statsmodels("statecrime", "murder", ("hs_grad", "poverty", "single", "white", "urban")),
    "fair": _of_statsmodels("fair", "affairs"),
    "sunspots": _of_statsmodels("sunspots", "SUNACTIVITY"),
    "randhie": _of_statsmodels("randhie", "mdvis"),
}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="the limit of each search")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=list(TABLES), choices=list(TABLES))
    chosen = parser.parse_args(arguments)
    results = {}
    for name in chosen.only:
        data = TABLES[name]()
        results[name] = [measured(data, seed, chosen.seconds) for seed in range(chosen.splits)]
        print(f"{_rows({name: results[name]})[0]}: {results[name][0].found.best}", file=sys.stderr, flush=True)
    print(f"{chosen.seconds:g} s for each search, median of {chosen.splits} splits")
    print(machine("kanserve", "numpy", "scikit-learn"))
    print(table(("table", "R² of the formula", "of KANRegressor", "complexity", "wild", "status"), _rows(results)))
    for name, found in results.items():
        print(f"{name}: {found[0].found.best.formula.text}")
        for n, one in enumerate(found):
            if one.wild:
                print(f"{name}, split {n}, {one.wild} wild: {one.found.best.formula.text}")


def measured(data: Dataset, seed: int, seconds: float) -> Result:
    """Search and fit on three quarters of the rows, and judge on the others."""
    rest, test = train_test_split(np.arange(len(data.x)), test_size=TEST, random_state=seed)
    with on_cpu_time():
        found = find_formulas(data.take(rest), seconds=seconds, seed=seed)
    network = KANRegressor(random_state=seed).fit(data.x[rest], data.y[rest, 0])
    x, y = data.x[test], data.y[test, 0]
    return Result(
        float(r2_score(y, np.nan_to_num(found.predict(x)))),
        float(r2_score(y, network.predict(x))),
        wild_predictions(found.best, data, seed),
        found,
    )


def wild_predictions(found: ScoredFormula, data: Dataset, seed: int) -> int:
    """The number of rows near the data for which a formula gives what no answer is like."""
    generator = np.random.default_rng(seed)
    near = data.x[generator.integers(len(data.x), size=CHECKED)]
    near = near + BEYOND * np.ptp(data.x, axis=0) * generator.uniform(-1, 1, near.shape)
    with np.errstate(all="ignore"):
        off = np.abs(found.predict(near) - data.y.mean()) / np.ptp(data.y)
    return int(np.count_nonzero(~(off <= WILD)))


def _rows(results: dict[str, list[Result]]) -> list[list[str]]:
    lines, close = [], 0
    for name, found in results.items():
        formula, network = (median(getattr(one, what) for one in found) for what in ("formula", "network"))
        size, wild = median(one.found.best.complexity for one in found), sum(one.wild for one in found)
        close += formula >= network - CLOSE and size <= SHORT
        statuses = ", ".join(sorted({one.found.status for one in found}))
        lines.append([name, f"{formula:.3f}", f"{network:.3f}", f"{size:g}", str(wild), statuses])
    lines.append(["within .03 and short", f"{close} of {len(results)}", "", "", "", ""])
    return lines


if __name__ == "__main__":
    main(sys.argv[1:])
