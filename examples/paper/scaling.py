"""How the error falls with the grid: five functions of the paper's figure 3.1, in 1 to 100 dimensions.

    J0(20x), exp(sin πx + y²), xy, exp(Σ sin²(πx_i/2)/100) in 100 dimensions,
    exp(½(sin π(x1² + x2²) + sin π(x3² + x4²)))

Cubic splines on G intervals should have an error of about G^-4, whatever the dimension. Perceptrons have at least the
CPU seconds of our finest network, and at least three. Cubic splines represent xy exactly on any grid, so there only
the fit errs.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks._training_goals import slope
from examples.paper._baselines import Baseline, by_gradient, by_levenberg, perceptrons
from examples.paper._claims import Claim, Study, median, spread
from kanserve import Dataset, evaluate, fit
from kanserve.train.lm.parameter_vector import parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

LEAST_SECONDS = 3.0


@dataclass(frozen=True)
class Problem:
    """A function of rows (N, inputs) in [-1, 1], and our network for it. In 100 dimensions one start is enough."""

    function: Callable[[Array], Array]
    shape: tuple[int, ...]
    rows: int
    grids: tuple[int, ...] = (3, 5, 10, 20, 50)
    starts: int = 8

    def sample(self, rows: int, seed: int) -> Dataset:
        x = np.random.default_rng(seed).uniform(-1, 1, (rows, self.shape[0]))
        return Dataset(x, self.function(x))


def _squares(x: Array) -> Array:
    return np.asarray(np.exp(0.5 * sum(np.sin(np.pi * (x[:, i] ** 2 + x[:, i + 1] ** 2)) for i in (0, 2))))


HELLO = Problem(lambda x: np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2), (2, 1, 1), 3000)
BESSEL = Problem(lambda x: special.j0(20 * x[:, 0]), (1, 1), 1000, (3, 5, 10, 20, 50, 100))
PRODUCT = Problem(lambda x: x[:, 0] * x[:, 1], (2, 2, 1), 1000)
HUNDRED = Problem(lambda x: np.exp((np.sin(np.pi * x / 2) ** 2).mean(axis=1)), (100, 1, 1), 4000, (3, 5, 10), 1)
FOUR = Problem(_squares, (4, 4, 2, 1), 3000)
SHALLOW = Problem(_squares, (4, 9, 1), 3000, (3, 5, 10))


@dataclass(frozen=True)
class Run:
    """Root mean squared and median absolute error on 10,000 new rows, CPU seconds, parameters."""

    error: float
    middle: float
    seconds: float
    parameters: int


def measure(problem: Problem, grid: int, seed: int) -> Run:
    """Our network on grids up to `grid`; seeds are of the network, the rows are the same."""
    data, test = problem.sample(problem.rows, 0), problem.sample(10_000, 1)
    grids = [size for size in problem.grids if size <= grid]
    begun = time.process_time()
    kan = fit(
        problem.shape,
        data,
        grid=grids,
        validation=0.0,
        noise_free=True,
        optimizer="lm",
        seed=seed,
        starts=problem.starts,
    )
    seconds = time.process_time() - begun
    off = np.abs(evaluate(kan, test.x) - test.y)
    return Run(float(np.sqrt((off**2).mean())), float(np.median(off)), seconds, parameters(kan))


def baselines(problem: Problem, most: int, seconds: float, size: int) -> tuple[Baseline, Baseline]:
    """The best perceptron by LBFGS with up to `most` parameters, and the best by LM with about `size`."""
    data, test = problem.sample(problem.rows, 0), problem.sample(10_000, 1)
    seconds = max(seconds, LEAST_SECONDS)
    gradient = by_gradient(perceptrons(problem.shape[0], most), data, test, seconds)
    return gradient, by_levenberg(size, data, test, seconds)


Runs = dict[int, list[Run]]  # by the number of intervals


def _runs(problem: Problem, seeds: Sequence[int], grids: Sequence[int]) -> Runs:
    return {grid: [measure(problem, grid, seed) for seed in seeds] for grid in grids}


def _errors(runs: Runs, grid: int) -> list[float]:
    return [run.error for run in runs[grid]]


def study(small: bool = False) -> Study:
    """All five; `small` only the second, with one seed."""
    seeds = (0,) if small else (0, 1, 2, 3, 4)
    hello = _runs(HELLO, seeds, HELLO.grids)
    claims = _hello(hello)
    curves = {"exp(sin πx + y²)": hello}
    if not small:
        bessel = _runs(BESSEL, seeds, BESSEL.grids)
        product = _runs(PRODUCT, seeds, PRODUCT.grids[:4])
        four, shallow = _runs(FOUR, seeds[:3], FOUR.grids[2:3]), _runs(SHALLOW, seeds[:2], SHALLOW.grids[2:])
        four |= _runs(FOUR, seeds[:1], (3, 5, 20))
        hundred = _runs(HUNDRED, seeds[:1], (5, 10))
        claims += [_curve("J0(20x)", bessel, (20, 50, 100)), _product(product)]
        claims += [_hundred(hundred), _four(four, shallow)]
        curves |= {"J0(20x)": bessel, "xy": product, "4 dimensions": four, "100 dimensions": hundred}
    return Study(claims, partial(_draw, curves))


def _hello(runs: Runs) -> list[Claim]:
    grids = (5, 10, 20)
    of_median = slope(grids, [median([run.middle for run in runs[grid]]) for grid in grids])
    of_mean = slope(grids, [median(_errors(runs, grid)) for grid in grids])
    seconds = sum(run.seconds for grid in runs.values() for run in grid)
    ten, fifty = median(_errors(runs, 10)), median(_errors(runs, 50))
    gradient, levenberg = baselines(HELLO, 400, runs[50][0].seconds, runs[50][0].parameters)
    name = "exp(sin πx + y²)"
    return [
        Claim(
            f"{name}: error ~ G^-3.5 or steeper, G = 5 to 20; of RMSE G^-3",
            f"{of_median:.2f}, {of_mean:.2f}",
            of_median <= -3.5 and of_mean <= -3,
            paper="G^-4",
        ),
        Claim(
            f"{name}: RMSE ≤ 4.7e-4 at G = 10, in all ≤ 20 CPU s",
            f"{spread(_errors(runs, 10))}, {seconds:.1f} s",
            ten <= 4.7e-4 and seconds <= 20,
            pykan="4.7e-4, 72 s",
        ),
        Claim(
            f"{name}: RMSE ≤ 1e-6 at G = 50, an MLP of ≤ 400 parameters ≥ 10x worse",
            spread(_errors(runs, 50)),
            fifty <= 1e-6 and gradient.error >= 10 * fifty,
            mlp=f"LBFGS {gradient}; LM {levenberg}",
        ),
    ]


def _curve(name: str, runs: Runs, grids: Sequence[int]) -> Claim:
    found = slope(grids, [median([run.middle for run in runs[grid]]) for grid in grids])
    wanted = f"{name}: error ~ G^-3.5 or steeper, G = {grids[0]} to {grids[-1]}"
    return Claim(wanted, f"{found:.2f}; {spread(_errors(runs, grids[-1]))}", found <= -3.5, paper="G^-4")


def _product(runs: Runs) -> Claim:
    errors = _errors(runs, 10)
    wanted = "xy, [2,2,1], which splines represent exactly: RMSE ≤ 1e-5 at G = 10"
    return Claim(wanted, spread(errors), median(errors) <= 1e-5)


def _hundred(runs: Runs) -> Claim:
    ten = runs[10][0]
    gradient = by_gradient(
        perceptrons(100, 20_000, (5, 32)), HUNDRED.sample(4000, 0), HUNDRED.sample(10_000, 1), ten.seconds
    )
    return Claim(
        "100 dimensions, [100,1,1]: RMSE ≤ 1e-3 at G = 10, best MLP ≥ 5x worse",
        f"{ten.error:.1e}, {ten.seconds:.0f} s",
        ten.error <= 1e-3 and gradient.error >= 5 * ten.error,
        paper="G^-4 too",
        mlp=f"LBFGS {gradient}",
        why=f"RMSE {ten.error:.1e}; the best MLP has {gradient.error:.1e}.",
    )


def _four(deep: Runs, shallow: Runs) -> Claim:
    own, other = median(_errors(deep, 10)), min(_errors(shallow, 10))
    seconds = deep[10][0].seconds
    gradient, levenberg = baselines(FOUR, 5000, seconds, deep[10][0].parameters)
    return Claim(
        "4 dimensions, [4,4,2,1]: RMSE ≤ 1e-4 by G = 10, [4,9,1] ≥ 10x worse",
        f"{spread(_errors(deep, 10))}; [4,9,1] {other:.1e}",
        own <= 1e-4 and other >= 10 * own,
        paper="deep beats shallow",
        pykan="3.8e-5",
        mlp=f"LBFGS {gradient}; LM {levenberg}",
    )


def _draw(curves: Mapping[str, Runs]) -> "Figure":
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4.5), layout="constrained")
    for name, runs in curves.items():
        grids = sorted(runs)
        axes.loglog(grids, [median(_errors(runs, grid)) for grid in grids], "o-", label=name)
    guide = np.array([5, 50])
    axes.loglog(guide, 0.3 * (guide / 5.0) ** -4, "--", color="0.5", label="G^-4")
    axes.set_xlabel("intervals G")
    axes.set_ylabel("RMSE on new rows")
    axes.legend()
    return figure
