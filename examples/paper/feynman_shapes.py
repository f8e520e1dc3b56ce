"""The 27 laws of the paper's table 2: the smallest network that is found without being told a shape.

`kanserve.discover` chooses the shape. The paper's is the smallest of its pruned networks with an error below 1e-2
(column "pruned KAN shape"), all of whose edges count. Rows are 1000 of each law in dimensionless form; the perceptrons
have the CPU seconds of the search. The error is the lesser one of the network found and of its shape on finer grids.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from examples.paper._baselines import Baseline, by_gradient, by_levenberg, perceptrons
from examples.paper._claims import Claim, Study, listed, median
from kanserve import Dataset, discover, evaluate, fit, from_formula
from kanserve.data.datasets import Equation, load_equations
from kanserve.train.lm.parameter_vector import parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

TURN = (0.0, 2 * np.pi)
SHAPES = {
    **dict.fromkeys(("I.6.2", "I.12.11", "I.13.12", "I.16.6", "I.18.4", "I.26.2", "I.37.4", "I.40.1"), (2, 2, 1)),
    **dict.fromkeys(("I.44.4", "II.2.42"), (2, 2, 1)),
    **dict.fromkeys(("I.15.3x", "I.27.6", "I.30.5", "II.11.27", "II.35.18", "II.38.3", "III.10.19"), (2, 1, 1)),
    "I.6.2b": (3, 4, 1),
    "I.9.18": (6, 4, 1, 1),
    "I.29.16": (3, 2, 2, 1),
    "I.30.3": (2, 4, 3, 1),
    "I.50.26": (2, 3, 1),
    "II.6.15a": (3, 2, 1, 1),
    "II.11.7": (3, 3, 1, 1),
    "II.36.38": (3, 2, 1),
    "III.9.52": (3, 3, 2, 1),
    "III.17.37": (3, 3, 1),
}
# Laws of the paper's table that the package's own does not have.
MORE = (
    Equation("I.9.18", "a/((b-1)^2+(c-d)^2+(e-f)^2)", {"a": (0, 1), "b": (2, 3), **dict.fromkeys("cdef", (0.0, 1.0))}),
    Equation("I.30.3", "sin(n*t/2)^2/sin(t/2)^2", {"n": (0.0, 3.0), "t": (0.5, 5.5)}),
    Equation("I.50.26", "cos(a)+al*cos(a)^2", {"a": TURN, "al": (0.0, 1.0)}),
    Equation("III.9.52", "a*sin((b-c)/2)^2/((b-c)/2)^2", {"a": (0.0, 1.0), "b": TURN, "c": TURN}),
)
SMALL = ("I.27.6", "II.38.3")


@dataclass(frozen=True)
class Found:
    """The shape and edges that were found, their error, the error on finer grids, and the perceptrons."""

    name: str
    shape: tuple[int, ...]
    edges: int
    error: float
    finer: float
    gradient: Baseline
    levenberg: Baseline
    seconds: float

    @property
    def small_enough(self) -> bool:
        """Whether the error is below 1e-2 with no more edges than the paper's network."""
        return self.best < 1e-2 and self.edges <= sum(a * b for a, b in pairwise(SHAPES[self.name]))

    @property
    def best(self) -> float:
        return min(self.error, self.finer)

    @property
    def won(self) -> bool:
        return self.best < self.gradient.error


def equations() -> list[Equation]:
    known = {equation.name: equation for equation in (*load_equations(), *MORE)}
    return [known[name] for name in SHAPES]


def measure(equation: Equation) -> Found:
    law = from_formula(equation.formula, inputs=list(equation.ranges), ranges=equation.ranges)
    low, high = np.array(list(equation.ranges.values())).T
    data, test = (_rows(law.predict, low, high, rows, seed) for rows, seed in ((1000, 0), (5000, 1)))
    begun = time.process_time()
    kan = discover(data, seed=0)
    finer = fit(kan, data, grid=(3, 5, 10, 20), noise_free=True, starts=4, seed=0)
    seconds = time.process_time() - begun
    error, other = (float(np.sqrt(np.mean((evaluate(one, test.x) - test.y) ** 2))) for one in (kan, finer))
    gradient = by_gradient(perceptrons(len(low), 3000, (5, 32)), data, test, seconds)
    levenberg = by_levenberg(max(parameters(finer), 20), data, test, seconds / 2)
    return Found(equation.name, kan.shape, kan.edges, error, other, gradient, levenberg, seconds)


def _rows(law: Callable[[Array], Array], low: Array, high: Array, rows: int, seed: int) -> Dataset:
    x = np.random.default_rng(seed).uniform(low, high, (rows, len(low)))
    return Dataset(x, law(x))


def study(small: bool = False) -> Study:
    found = [measure(equation) for equation in equations() if not small or equation.name in SMALL]
    return Study(claims(found), partial(_draw, found))


def claims(found: Sequence[Found]) -> list[Claim]:
    fitting = [one for one in found if one.small_enough]
    wins = sum(one.won for one in found)
    hard = sum(one.best < one.levenberg.error for one in found)
    enough, ahead = -(-24 * len(found) // 27), -(-16 * len(found) // 27)
    names = [one.name for one in found if not one.small_enough]
    short = f", not {listed(names)}" if names else ""
    missed = [f"{one.name} {list(one.shape)} {one.best:.1e}" for one in found if not one.small_enough]
    return [
        Claim(
            f"RMSE < 1e-2 with no more edges than the paper's shape, by itself, on ≥ {enough} of {len(found)}",
            f"{len(fitting)}{short}; median {median([one.seconds for one in found]):.1f} CPU s a law",
            len(fitting) >= enough,
            paper="shapes of table 2, pruned by hand-set thresholds",
            pykan="8-12 CPU s a law",
            why=f"Missed on {listed(missed)}.",
        ),
        Claim(
            f"better than the best MLP by LBFGS on ≥ {ahead} of {len(found)}",
            str(wins),
            wins >= ahead,
            paper="comparable on average, 16-18 of 27",
            mlp=f"by LM of equal size: ours better on {hard}",
            why=f"Better on {wins} only.",
        ),
    ]


def _draw(found: Sequence[Found]) -> "Figure":
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 4.5), layout="constrained")
    names = [f"{one.name}\n{list(one.shape)}" for one in found]
    axes.semilogy(names, [one.error for one in found], "o", label="the network found")
    axes.semilogy(names, [one.finer for one in found], "o", label="on finer grids", fillstyle="none")
    axes.semilogy(names, [one.gradient.error for one in found], "s", color="#b03030", label="MLP by LBFGS")
    axes.semilogy(names, [one.levenberg.error for one in found], "^", color="#b03030", label="MLP by LM")
    axes.axhline(1e-2, color="0.6", linestyle="--")
    axes.tick_params(axis="x", labelrotation=90, labelsize=8)
    axes.set_ylabel("RMSE on new rows")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
