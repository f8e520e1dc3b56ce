"""A KAN against a perceptron (MLP), both trained by Levenberg-Marquardt: which architecture approximates better?

Ten functions with 2000 exact rows, 400 of them held out for validation; both then train on all rows. Ours: the shape of
the formula if there is one, else one or two hidden layers; two or three runs of `fit` with grid refinement; the best on
the held-out rows. The MLP: one or two hidden layers, tanh or SiLU, with half, the same and twice the number of
parameters of our chosen network. For each size, the four variants first run for a quarter of the CPU seconds of all our
runs together; the best on the held-out rows continues for all of these seconds, at least one second.

Ours computes in C and the perceptron in NumPy, so equal seconds favour ours; for an MLP with half the parameters they
are plenty.

    OMP_NUM_THREADS=1 python benchmarks/against_mlp.py [--small]
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks._perceptron import Activation, Perceptron, trained
from benchmarks._timing import machine, table
from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.train import fit, refine
from kanserve.train.lm.parameter_vector import parameters

Array = NDArray[np.float64]
Shape = tuple[int, ...]

ROWS, HELD, TEST_ROWS, RUNS = 2000, 0.2, 10_000, 3
GRIDS = (3, 5, 10, 20)
LAST_STEPS, LEAST_SECONDS = 100, 1.0
LEVEL = 1.25  # a smaller ratio of two errors is a draw


@dataclass(frozen=True)
class Problem:
    """A function of columns with these ranges, and shapes of our networks."""

    name: str
    ranges: tuple[tuple[float, float], ...]
    function: Callable[[Array], Array]
    shapes: tuple[Shape, ...]

    def rows(self, count: int, seed: int) -> Dataset:
        low, high = np.array(self.ranges).T
        x = np.random.default_rng(seed).uniform(low, high, (count, len(self.ranges)))
        return Dataset(x, self.function(x.T))


SQUARE = ((-1.0, 1.0), (-1.0, 1.0))
FORMULA, UNKNOWN = ((2, 2, 1),), ((2, 5, 1), (2, 5, 2, 1))
PROBLEMS = (
    Problem("exp(sin πx + y²)", SQUARE, lambda x: np.exp(np.sin(np.pi * x[0]) + x[1] ** 2), ((2, 5, 1),)),
    Problem(
        "exp(½ sin π(x²+y²) + ½ sin π(z²+w²))",
        SQUARE * 2,
        lambda x: np.exp(sum(np.sin(np.pi * (x[i] ** 2 + x[i + 1] ** 2)) for i in (0, 2)) / 2),
        ((4, 4, 2, 1),),
    ),
    Problem("I.12.11: 1 + a sin θ", ((-1, 1), (0, 2 * np.pi)), lambda x: 1 + x[0] * np.sin(x[1]), FORMULA),
    Problem("I.16.6: (a+b)/(1+ab)", ((-0.9, 0.9),) * 2, lambda x: (x[0] + x[1]) / (1 + x[0] * x[1]), FORMULA),
    Problem("II.2.42: (a-1)b", SQUARE, lambda x: (x[0] - 1) * x[1], FORMULA),
    Problem("Legendre P_ν(x)", ((0, 4), (-0.95, 0.95)), lambda x: special.lpmv(0, *x), UNKNOWN),
    Problem("Bessel J_ν(x)", ((0, 3), (0, 10)), lambda x: special.jv(*x), UNKNOWN),
    Problem("elliptic F(φ, m)", ((0, 1.4), (0, 0.9)), lambda x: special.ellipkinc(*x), UNKNOWN),
    Problem("Bessel K_ν(x)", ((0, 3), (1, 5)), lambda x: special.kv(*x), UNKNOWN),
    Problem(
        "harmonic Re Y₁₁(θ, φ)", ((0, np.pi), (0, 2 * np.pi)), lambda x: special.sph_harm_y(1, 1, *x).real, UNKNOWN
    ),
)


@dataclass(frozen=True)
class Result:
    """The test error relative to the answers' standard deviation, the parameters, and all CPU seconds spent."""

    error: float
    parameters: int
    seconds: float
    what: str


Results = Mapping[str, Sequence[Result]]  # of OURS and of each of SIZES, one a seed
OURS, SIZES = "ours", {"MLP, half": 0.5, "MLP": 1.0, "MLP, twice": 2.0}


def main(arguments: list[str]) -> None:
    small = "--small" in arguments
    problems, seeds = (PROBLEMS[4:5], 1) if small else (PROBLEMS, 3)
    print(
        report({problem.name: measure(problem, range(seeds), 0.05 if small else LEAST_SECONDS) for problem in problems})
    )


def measure(problem: Problem, seeds: Sequence[int], least_seconds: float = LEAST_SECONDS) -> Results:
    """Both in turn, seed by seed, on the same rows."""
    results: dict[str, list[Result]] = {name: [] for name in (OURS, *SIZES)}
    test = problem.rows(TEST_ROWS, 10_000)
    for seed in seeds:
        every = problem.rows(ROWS, seed)
        ours = _ours(problem, every, test, seed)
        results[OURS].append(ours)
        for name, share in SIZES.items():
            size = round(share * ours.parameters)
            results[name].append(_perceptron(size, every, test, max(least_seconds, ours.seconds), seed))
    return results


def _ours(problem: Problem, every: Dataset, test: Dataset, seed: int) -> Result:
    train, held = every.split(HELD, seed)
    begun = time.process_time()
    runs: list[tuple[float, Kan]] = []
    for shape in problem.shapes:
        for run in range(RUNS // len(problem.shapes)):
            kan = fit(shape, train, grid=GRIDS, validation=held, noise_free=True, seed=100 * seed + run)
            runs.append((_error(evaluate(kan, held.x)[:, 0], held), kan))
    best = min(runs, key=lambda run: run[0])[1]
    best = refine(best, every.x, every.y, steps=LAST_STEPS, ridge=1e-13)
    seconds = time.process_time() - begun
    widths = [len(best.inputs), *(layer.nodes for layer in best.layers)]
    what = f"{'-'.join(map(str, widths))} G{best.layers[0].intervals}"
    return Result(_error(evaluate(best, test.x)[:, 0], test), parameters(best), seconds, what)


def _perceptron(size: int, every: Dataset, test: Dataset, seconds: float, seed: int) -> Result:
    train, held = every.split(HELD, seed)
    begun = time.process_time()
    best = trained(candidates(size, every.x.shape[1]), train, held, every, seconds, seed)
    spent = time.process_time() - begun
    what = f"{'-'.join(map(str, best.net.widths))} {best.net.activation}"
    return Result(_error(best.run(test.x), test), best.net.size, spent, what)


def candidates(size: int, inputs: int) -> list[Perceptron]:
    """Perceptrons with about `size` parameters."""
    one = round((size - 1) / (inputs + 2))
    linear = inputs + 3  # h² + (inputs + 3)·h + 1 parameters of two layers
    two = round((math.sqrt(linear**2 + 4 * (size - 1)) - linear) / 2)
    activations: tuple[Activation, ...] = ("tanh", "silu")
    shapes = ((inputs, max(1, one), 1), (inputs, max(1, two), max(1, two), 1))
    return [Perceptron(shape, activation) for shape in shapes for activation in activations]


def _error(answers: Array, rows: Dataset) -> float:
    return float(np.sqrt(((answers - rows.y[:, 0]) ** 2).mean()) / rows.y.std())


def report(results: Mapping[str, Results]) -> str:
    """The table, and the number of functions on which each is ahead."""
    head = ["function", OURS, "P", "error", "s"]
    for name in SIZES:
        head += [name, "error", "s"]
    rows, ratios = [], {}
    for problem, found in results.items():
        ratio = min(_median(found[name]) for name in SIZES) / _median(found[OURS])
        ratios[problem] = ratio
        cells = [problem]
        for name in (OURS, *SIZES):
            middle = sorted(found[name], key=lambda run: run.error)[len(found[name]) // 2]
            cells += [middle.what, *([str(middle.parameters)] if name == OURS else []), _errors(found[name])]
            cells.append(f"{np.median([result.seconds for result in found[name]]):.1f}")
        rows.append([*cells, f"{ratio:.2g}"])
    seeds = len(next(iter(results.values()))[OURS])
    ahead = [problem for problem, ratio in ratios.items() if ratio > LEVEL]
    behind = [problem for problem, ratio in ratios.items() if ratio < 1 / LEVEL]
    level = len(ratios) - len(ahead) - len(behind)
    return "\n".join(
        [
            f"KAN and MLP, both by Levenberg-Marquardt: test RMSE over deviation, median (worst) of {seeds} seeds",
            machine("kanserve", "numpy", "scipy"),
            "The last column is the best MLP's error over ours; shapes are those of the median run.",
            "",
            table([*head, "MLP/ours"], rows),
            "",
            f"ours ahead on {len(ahead)} of {len(ratios)}, level (within {LEVEL}x) on {level}, behind on {len(behind)}"
            + (f": {', '.join(behind)}" if behind else ""),
        ]
    )


def _median(results: Sequence[Result]) -> float:
    return float(np.median([result.error for result in results]))


def _errors(results: Sequence[Result]) -> str:
    return f"{_median(results):.1e} ({max(result.error for result in results):.1e})"


if __name__ == "__main__":
    main(sys.argv[1:])
