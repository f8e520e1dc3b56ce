"""40,000 training rows of 30 inputs: our estimator with its defaults beside boosting by histograms.

Four functions with noise: what boosting is usually judged by (Friedman's), products, a sum of curves, and steps, which
suit trees. R² on 10,000 other rows and CPU seconds of a fit, medians over the draws; the two take turns.

    OMP_NUM_THREADS=1 python benchmarks/many_rows.py [--small]
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import r2_score

from benchmarks._timing import goal, machine, table
from kanserve.estimator import KANRegressor

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
Results = Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]]  # R² and seconds by method, of each function

INPUTS, TRAIN, TEST, DRAWS = 30, 40_000, 10_000, 3
SMALL_TRAIN, SMALL_TEST, SMALL_DRAWS = 300, 1000, 1
MOST_TIMES = 15.0
METHODS: dict[str, Callable[[int], KANRegressor | HistGradientBoostingRegressor]] = {
    "ours": lambda seed: KANRegressor(random_state=seed),
    "boosting": lambda seed: HistGradientBoostingRegressor(random_state=seed),
}
HEAD = ("", "ours R²", "boosting R²", "ours CPU s", "boosting CPU s", "times")


def _friedman(x: Array) -> Array:
    return 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]


def _products(x: Array) -> Array:
    pairs = 2 * x[:, :12] - 1
    result: Array = 3 * (pairs[:, 0::2] * pairs[:, 1::2]).sum(1) + np.sin(6 * x[:, 12])
    return result


def _curves(x: Array) -> Array:
    result: Array = np.sin(x * np.linspace(2, 9, x.shape[1])).sum(1)
    return result


def _steps(x: Array) -> Array:
    result: Array = 2.0 * (x[:, 0] > 0.3) + 1.5 * (x[:, 1] > 0.6) - 2.0 * (x[:, 2] > 0.5) * (x[:, 3] > 0.4)
    return result


# Each function and the standard deviation of its noise
FUNCTIONS: dict[str, tuple[Function, float]] = {
    "Friedman's function": (_friedman, 1.0),
    "six products, one sine": (_products, 1.0),
    "a sum of 30 curves": (_curves, 0.7),
    "steps": (_steps, 0.3),
}


def main(arguments: Sequence[str]) -> None:
    small = "--small" in arguments
    print(head(SMALL_TRAIN if small else TRAIN))
    results = {name: measured(name, small) for name in FUNCTIONS}
    print(f"{report(results)}\n\n{verdict(results)}")


def head(rows: int) -> str:
    """What is compared, and on which machine."""
    return (
        f"{rows} training rows of {INPUTS} inputs, our defaults and boosting by histograms\n"
        f"{machine('kanserve', 'scikit-learn', 'numpy', 'torch')}\n"
    )


def rows(name: str, count: int, generator: np.random.Generator) -> tuple[Array, Array]:
    """Inputs in [0, 1] (count, 30) and noisy answers (count,) of a function."""
    function, noise = FUNCTIONS[name]
    x = generator.uniform(size=(count, INPUTS))
    return x, function(x) + noise * generator.normal(size=count)


def measured(name: str, small: bool) -> tuple[dict[str, float], dict[str, float]]:
    """The median R² and the median CPU seconds of each method."""
    train, test, draws = (SMALL_TRAIN, SMALL_TEST, SMALL_DRAWS) if small else (TRAIN, TEST, DRAWS)
    scores: dict[str, list[float]] = {method: [] for method in METHODS}
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    for draw in range(draws):
        generator = np.random.default_rng(draw)
        x, y = rows(name, train, generator)
        unseen, answers = rows(name, test, generator)
        for method, make in METHODS.items():
            begun = time.process_time()
            model = make(draw).fit(x, y)
            seconds[method].append(time.process_time() - begun)
            scores[method].append(float(r2_score(answers, model.predict(unseen))))
    return (
        {method: float(np.median(values)) for method, values in scores.items()},
        {method: float(np.median(values)) for method, values in seconds.items()},
    )


def report(results: Results) -> str:
    """The table, a row for each function."""
    return table(
        HEAD,
        [
            [
                name,
                *(f"{scores[method]:.3f}" for method in METHODS),
                *(f"{seconds[method]:.1f}" for method in METHODS),
                f"{seconds['ours'] / seconds['boosting']:.1f}x",
            ]
            for name, (scores, seconds) in results.items()
        ],
    )


def verdict(results: Results) -> str:
    """Whether each goal is met."""
    slow = [name for name, (_, seconds) in results.items() if seconds["ours"] > MOST_TIMES * seconds["boosting"]]
    worse = [name for name, (scores, _) in results.items() if scores["ours"] < scores["boosting"]]
    return "\n".join(
        [
            goal(not slow, f"at most {MOST_TIMES:g} times boosting's CPU seconds", slow),
            goal(not worse, "no less accurate than boosting", worse),
        ]
    )


if __name__ == "__main__":
    main(sys.argv[1:])
