"""Complete training tasks, ours alone, with their goals; with and without the C kernels.

- hello: exp(sin πx + y²) from 1000 rows, fitted as [2,5,1] and pruned
- scaling: the same function as [2,1,1] from 3000 rows, on finer and finer grids
- toys: the smallest shape of five functions, from 1000 rows without a given shape (`discover`)
- Poisson and continual: `examples/poisson.py` and `examples/continual.py`

In the first three each seed also draws its own rows. The rows are the only information about a function.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks._timing import goal, table
from examples import continual, poisson
from kanserve import native
from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.simplification import discover, prune
from kanserve.train import fit

Array = NDArray[np.float64]

SEEDS = tuple(range(100, 110))
PURE_SEEDS = SEEDS[:2]
POISSON_SEEDS = 5
TEST = 10_000
GRIDS = (3, 5, 10, 20, 50)
SCALING = "scaling [2,1,1], G = {}"
SMALL = ("hello: fit [2,5,1], prune", "continual [1,1], G = 200")
AGREE = 1.01
"""A factor: errors of two runs of a task within it are the same result up to rounding."""


@dataclass(frozen=True)
class Toy:
    """A function of rows (N, inputs) drawn from a box, and the smallest network that can represent it."""

    name: str
    function: Callable[[Array], Array]
    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]
    edges: int
    wanted: float
    """Share of the seeds that must find it."""

    def sample(self, rows: int, seed: Sequence[int]) -> Dataset:
        x = np.random.default_rng(seed).uniform(self.low, self.high, (rows, len(self.low)))
        return Dataset(x, self.function(x))


def _distance(x: Array) -> Array:
    return np.hypot(x[:, 0] - x[:, 1], x[:, 2] - x[:, 3])


HELLO = Toy(
    *("exp(sin πx + y²)", lambda x: np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2), (-1, -1), (1, 1)),
    *((2, 1, 1), 3, 1.0),
)
TOYS = (
    HELLO,
    Toy("xy", lambda x: x[:, 0] * x[:, 1], (-1, -1), (1, 1), (2, 2, 1), 6, 1.0),
    Toy("x/y", lambda x: x[:, 0] / x[:, 1], (0.1, 0.5), (1, 2), (2, 1, 1), 3, 1.0),
    Toy("tanh(5(x⁴+y⁴+z⁴-1))", lambda x: np.tanh(5 * ((x**4).sum(axis=1) - 1)), (-1,) * 3, (1,) * 3, (3, 1, 1), 4, 1.0),
    Toy("√((a-b)² + (c-d)²)", _distance, (-1,) * 4, (1,) * 4, (4, 2, 1, 1), 7, 0.9),
)


@dataclass(frozen=True)
class Result:
    """The root mean squared error on fresh rows, CPU seconds, shape, edges, parameters and median absolute error."""

    error: float
    seconds: float
    shape: tuple[int, ...] = ()
    edges: int = 0
    parameters: int = 0
    median: float = 0.0


@dataclass(frozen=True)
class Task:
    """A function to run for each seed, and one that judges the results: lines that say whether the goals are met."""

    name: str
    run: Callable[[int], Result]
    judge: Callable[[Sequence[Result]], list[str]]
    seeds: tuple[int, ...] = SEEDS


def _measured(toy: Toy, seed: int, rows: int, make: Callable[[Dataset], Kan]) -> Result:
    data, test = toy.sample(rows, [seed, 0]), toy.sample(TEST, [seed, 1])
    begun = time.process_time()
    kan = make(data)
    seconds = time.process_time() - begun
    errors = np.abs(evaluate(kan, test.x) - test.y)
    rmse = float(np.sqrt((errors**2).mean()))
    return Result(rmse, seconds, kan.shape, kan.edges, median=float(np.median(errors)))


def hello(seed: int) -> Result:
    def make(data: Dataset) -> Kan:
        # Pruning needs only a coarse grid, and what is left gets the grid that it needs. A network wider than necessary
        # succeeds from most starts.
        wide = fit([2, 5, 1], data, grid=(3, 5), starts=4, noise_free=True, seed=seed)
        return prune(wide, data, seed=seed)

    return _measured(HELLO, seed, 1000, make)


def scaling(intervals: int, seed: int) -> Result:
    grids = [grid for grid in GRIDS if grid <= intervals]
    make = partial(fit, [2, 1, 1], grid=grids, validation=0.0, noise_free=True, seed=seed)
    return _measured(HELLO, seed, 3000, make)


def smallest(toy: Toy, seed: int) -> Result:
    return _measured(toy, seed, 1000, partial(discover, seed=seed))


def equation(seed: int) -> Result:
    found = poisson.kan(poisson.POISSON, seed)
    # The example reports a mean squared error.
    return Result(float(np.sqrt(found.error)), found.seconds, tuple(poisson.POISSON.shape), parameters=found.parameters)


def peaks(_: int) -> Result:
    begun = time.process_time()
    found = continual.ours(continual.PHASES, 0.0)
    seconds = time.process_time() - begun
    errors = [continual.error(run, np.concatenate(continual.PHASES[: phase + 1])) for phase, run in enumerate(found)]
    return Result(max(errors), seconds)


def tasks() -> tuple[Task, ...]:
    return (
        Task(SMALL[0], hello, _judge_hello),
        *(Task(SCALING.format(grid), partial(scaling, grid), lambda _: []) for grid in GRIDS),
        *(Task(f"toy: {toy.name}", partial(smallest, toy), partial(_judge_toy, toy)) for toy in TOYS),
        Task(f"Poisson, {poisson.POISSON.ours}", equation, _judge_poisson, SEEDS[:POISSON_SEEDS]),
        Task(SMALL[1], peaks, _judge_continual, SEEDS[:1]),
    )


def _judge_hello(results: Sequence[Result]) -> list[str]:
    found = sum(result.shape == HELLO.shape and result.error <= 5e-4 for result in results)
    slowest = max(result.seconds for result in results)
    return [
        goal(found == len(results), f"[2,1,1] at RMSE ≤ 5e-4: {found} of {len(results)}"),
        goal(slowest <= 0.5, f"in ≤ 0.5 CPU s: slowest {slowest:.2f} s"),
    ]


def _judge_toy(toy: Toy, results: Sequence[Result]) -> list[str]:
    found = sum(result.shape == toy.shape and result.edges == toy.edges for result in results)
    shape = "[" + ",".join(map(str, toy.shape)) + "]"
    what = f"{toy.name} to {shape}, ≥ {toy.wanted:.0%} of seeds: {found} of {len(results)}"
    return [goal(found >= toy.wanted * len(results), what)]


def _judge_poisson(results: Sequence[Result]) -> list[str]:
    worst, slowest = max(result.error for result in results) ** 2, max(result.seconds for result in results)
    size = max(result.parameters for result in results)
    what = f"Poisson ≤ 1e-7 with ≤ 690 parameters in ≤ 15 CPU s: {worst:.1e}, {size}, {slowest:.1f} s"
    return [goal(worst <= 1e-7 and size <= 690 and slowest <= 15, what)]


def _judge_continual(results: Sequence[Result]) -> list[str]:
    return [goal(results[0].error <= 1e-5, f"continual ≤ 1e-5 in all five phases: {results[0].error:.1e}")]


Results = Mapping[str, Sequence[Result]]


def measure(chosen: Iterable[Task], pure: bool = False, seeds: Sequence[int] | None = None) -> dict[str, list[Result]]:
    """The results of each task for its seeds, or those of them in `seeds`; `pure` is without the C kernels."""
    with native.disable_kernels() if pure else nullcontext():
        fit([2, 1], HELLO.sample(20, [0]), grid=(3,))  # warm-up
        return {task.name: [task.run(seed) for seed in task.seeds if seeds is None or seed in seeds] for task in chosen}


def report(chosen: Sequence[Task], results: Results) -> str:
    body = [
        [
            name,
            str(len(runs)),
            f"{np.median([run.error for run in runs]):.1e}",
            f"{max(run.error for run in runs):.1e}",
            f"{np.median([run.seconds for run in runs]):.2f}",
            f"{max(run.seconds for run in runs):.2f}",
        ]
        for name, runs in results.items()
    ]
    lines = [table(["ours", "seeds", "RMSE", "worst", "CPU s", "slowest"], body), ""]
    for task in chosen:
        lines += task.judge(results[task.name])
    if all(SCALING.format(grid) in results for grid in GRIDS):
        lines += _judge_scaling(results)
    return "\n".join(lines)


def _judge_scaling(results: Results) -> list[str]:
    runs = [results[SCALING.format(grid)] for grid in GRIDS]
    of_median = slope(GRIDS, [float(np.median([result.median for result in run])) for run in runs])
    rmse = [float(np.median([result.error for result in run])) for run in runs]
    return [
        goal(of_median <= -4, f"slope of log median error over log G, G = 3 to 50, ≤ -4: {of_median:.2f}"),
        f"the same of the RMSE: {slope(GRIDS, rmse):.2f}, from G = 5 to 20: {slope(GRIDS[1:4], rmse[1:4]):.2f}",
        goal(rmse[-1] <= 1e-6, f"RMSE at G = 50 ≤ 1e-6: {rmse[-1]:.1e}"),
    ]


def slope(grids: Sequence[int], errors: Sequence[float]) -> float:
    """The exponent of the power law of errors over grid sizes."""
    return float(np.polyfit(np.log(grids), np.log(errors), 1)[0])


def compare(chosen: Sequence[Task], compiled: Results, pure: Results) -> str:
    """The same seeds with and without the kernels: CPU seconds, and whether the results are equal."""
    body, ratios, apart = [], [], []
    for task in chosen:
        with_kernels, without = compiled[task.name], pure[task.name]
        ratios.append(float(np.median([b.seconds / a.seconds for a, b in zip(with_kernels, without, strict=True)])))
        same = all(map(_agree, with_kernels, without))
        apart += [] if same else [task.name]
        errors = [f"{np.median([run.error for run in runs]):.2e}" for runs in (with_kernels, without)]
        body.append([task.name, *errors, f"{ratios[-1]:.1f}x", "yes" if same else "NO"])
    return "\n".join(
        [
            table(["without the C kernels", "RMSE with", "without", "CPU time", "same"], body),
            "",
            goal(max(ratios) <= 20, f"≤ 20x the CPU seconds: {max(ratios):.1f}x"),
            goal(not apart, f"the same shapes, and errors within {AGREE - 1:.0%}", apart),
        ]
    )


def _agree(a: Result, b: Result) -> bool:
    return (a.shape, a.edges) == (b.shape, b.edges) and max(a.error, b.error) <= AGREE * min(a.error, b.error)
