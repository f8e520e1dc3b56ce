"""Fifteen special functions: error against parameters, KANs beside perceptrons (section 3.2 of the paper).

Ranges are where each function is finite and of size one or so. Ours: [2,3,1] and [2,5,1] on grids of 3, 10 and 20
intervals; the perceptrons have as many parameters as we do or up to 500, and the CPU seconds of all our networks
together, by LBFGS as in the paper, and by our own Levenberg-Marquardt (LM).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import special

from examples.paper._baselines import Baseline, by_gradient, by_levenberg, perceptrons
from examples.paper._claims import Claim, Study, listed, median
from kanserve import Dataset, evaluate, fit
from kanserve.train.lm.parameter_vector import parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Box = tuple[tuple[float, float], tuple[float, float]]

HALF_TURN, TURN = (0.0, np.pi), (0.0, 2 * np.pi)
MOST = 500


def _legendre(m: int) -> Callable[[Array, Array], Array]:
    return lambda degree, x: np.asarray(special.lpmv(m, degree, x))


def _harmonic(degree: int, m: int) -> Callable[[Array, Array], Array]:
    return lambda polar, azimuth: np.asarray(special.sph_harm_y(degree, m, polar, azimuth).real)


FUNCTIONS: dict[str, tuple[Callable[[Array, Array], Array], Box]] = {
    "ellipj": (lambda u, m: special.ellipj(u, m)[0], ((0.0, 8.0), (0.0, 0.95))),
    "ellipkinc": (special.ellipkinc, ((0.0, 1.4), (0.0, 0.9))),
    "ellipeinc": (special.ellipeinc, ((0.0, 1.4), (0.0, 0.9))),
    "jv": (special.jv, ((0.0, 3.0), (0.0, 10.0))),
    "yv": (special.yv, ((0.0, 2.0), (1.0, 10.0))),
    "kv": (special.kv, ((0.0, 3.0), (1.0, 5.0))),
    "iv": (special.iv, ((0.0, 3.0), (0.0, 4.0))),
    "lpmv, m = 0": (_legendre(0), ((0.0, 4.0), (-0.95, 0.95))),
    "lpmv, m = 1": (_legendre(1), ((0.0, 4.0), (-0.95, 0.95))),
    "lpmv, m = 2": (_legendre(2), ((0.0, 4.0), (-0.95, 0.95))),
    **{f"sph_harm {n}{m}": (_harmonic(n, m), (HALF_TURN, TURN)) for n, m in ((1, 0), (1, 1), (2, 0), (2, 1), (2, 2))},
}
SHAPES, GRIDS = ((2, 3, 1), (2, 5, 1)), ((3,), (3, 5, 10), (3, 5, 10, 20))


@dataclass(frozen=True)
class Found:
    """Our front, as (parameters, error) pairs, and the best perceptron by each trainer."""

    front: Sequence[tuple[int, float]]
    gradient: Baseline
    levenberg: Baseline
    seconds: float

    @property
    def error(self) -> float:
        return min(error for size, error in self.front if size <= MOST)

    @property
    def ratio(self) -> float:
        """How many times larger the error of the best perceptron by LBFGS is."""
        return self.gradient.error / self.error


def measure(name: str, shapes: Sequence[Sequence[int]], grids: Sequence[Sequence[int]]) -> Found:
    function, box = FUNCTIONS[name]
    data, test = (_sample(function, box, rows, seed) for rows, seed in ((2000, 0), (5000, 1)))
    begun = time.process_time()
    front = []
    for widths in shapes:
        for ladder in grids:
            kan = fit(widths, data, grid=ladder, validation=0.0, noise_free=True, starts=2, seed=0)
            error = float(np.sqrt(np.mean((evaluate(kan, test.x) - test.y) ** 2)))
            front.append((parameters(kan), error))
    seconds = time.process_time() - begun
    size = min((error, size) for size, error in front if size <= MOST)[1]
    gradient = by_gradient(perceptrons(2, MOST, (10, 19)), data, test, seconds)
    return Found(front, gradient, by_levenberg(size, data, test, seconds / 2), seconds)


def _sample(function: Callable[[Array, Array], Array], box: Box, rows: int, seed: int) -> Dataset:
    low, high = np.array(box).T
    x = np.random.default_rng(seed).uniform(low, high, (rows, 2))
    return Dataset(x, function(x[:, 0], x[:, 1]))


def study(small: bool = False) -> Study:
    names = ["ellipkinc", "sph_harm 11"] if small else list(FUNCTIONS)
    found = {name: measure(name, SHAPES[-1:] if small else SHAPES, GRIDS[:2] if small else GRIDS) for name in names}
    return Study(claims(found), partial(_draw, found))


def claims(found: Mapping[str, Found]) -> list[Claim]:
    ratios = {name: one.ratio for name, one in found.items()}
    ahead = [name for name, ratio in ratios.items() if ratio >= 2]
    behind = [name for name, ratio in ratios.items() if ratio < 1 / 1.5]
    hard = {name: one.levenberg.error / one.error for name, one in found.items()}
    wins = sum(ratio > 1 for ratio in hard.values())
    wanted = -(-2 * len(found) // 3)
    return [
        Claim(
            f"≤ {MOST} parameters: ≥ 2x better than the best MLP by LBFGS on {wanted} of {len(found)}, "
            "nowhere 1.5x worse",
            f"on {len(ahead)}, median {median(list(ratios.values())):.1f}x",
            len(ahead) >= wanted and not behind,
            paper="better on 15 of 15, median 5.5x",
            mlp=f"by LM of equal size: ours better on {wins}, median {median(list(hard.values())):.2g}x",
            why=f"Less than twice as good: {listed([name for name in found if name not in ahead])}; "
            f"worse: {listed(behind) or 'none'}.",
        )
    ]


def _draw(found: Mapping[str, Found]) -> "Figure":
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(3, 5, figsize=(13, 7), sharex=True, layout="constrained")
    for axes, (name, one) in zip(grid.flat, found.items(), strict=False):
        sizes, errors = zip(*sorted(one.front), strict=True)
        axes.loglog(sizes, errors, "o", markersize=3, color="#1f5fbf", label="KAN")
        axes.step(sizes, np.minimum.accumulate(errors), where="post", color="#1f5fbf")
        for baseline, marker in ((one.gradient, "s"), (one.levenberg, "^")):
            label = "MLP by LBFGS" if marker == "s" else "MLP by LM"
            axes.loglog(baseline.parameters, baseline.error, marker, color="#b03030", label=label)
        axes.set_title(name)
        axes.minorticks_off()
        axes.set_xticks((50, 100, 200, 400), ("50", "100", "200", "400"))
    grid.flat[0].legend(fontsize=8)
    figure.supxlabel("parameters")
    figure.supylabel("RMSE on new rows")
    return figure
