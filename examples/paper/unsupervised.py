"""Which variables depend on one another? Section 4.2 of the paper, without a variable that is to be predicted.

    x3 = exp(sin x1 + x2²),  x5 = x4³,  and x6 is free; rows of all six, and the same with each column permuted

A network [6, 1, 1] tells the true rows from the permuted ones; its last function is a fixed Gaussian, so that the sum
is near 0 on true rows only, and the edges to it are a relation g(x1, ..., x6) = 0. Most seeds find a sum of both
relations, in shares that differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from examples.paper._claims import Claim, Study
from kanserve import Dataset, Kan, create, fit
from kanserve.network.signal_shares import signal_shares

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

INPUTS = ("x1", "x2", "x3", "x4", "x5", "x6")
GROUPS = (frozenset({"x1", "x2", "x3"}), frozenset({"x4", "x5"}))


@dataclass(frozen=True)
class Found:
    """The share of each input (inputs,) in the relation of one seed."""

    shares: Array

    @property
    def top(self) -> tuple[str, str]:
        first, second = np.argsort(-self.shares)[:2]
        return INPUTS[first], INPUTS[second]


def sample(rows: int, seed: int) -> Dataset:
    """True rows, for which the answer is 1, and permuted ones, for which it is 0."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1, 1, (rows, 6))
    x[:, 2] = np.exp(np.sin(x[:, 0]) + x[:, 1] ** 2)
    x[:, 4] = x[:, 3] ** 3
    wrong = generator.permuted(x, axis=0)
    return Dataset(np.concatenate([x, wrong]), np.repeat([1.0, 0.0], rows), INPUTS, ("true",))


def network(inputs: int, grid: int, seed: int) -> Kan:
    """[inputs, 1, 1] whose last edge is a Gaussian."""
    first, last = create([inputs, 1, 1], grid=grid, seed=seed).layers
    named = replace(
        last,
        functions=np.full((1, 1), "gaussian"),
        affine=np.array([[[1.0, 0.0, 1.0, 0.0]]]),
        coefficients=np.zeros_like(last.coefficients),
        base_weight=np.zeros_like(last.base_weight),
    )
    return Kan((first, named))


def measure(data: Dataset, seed: int) -> Found:
    kan = fit(network(6, 5, seed), data, grid=(3, 5), starts=1, noise_free=True, validation=0.0, seed=seed)
    return Found(signal_shares(kan, data.x).nodes[0])


def study(small: bool = False) -> Study:
    data = sample(500 if small else 1500, 0)
    found = [measure(data, seed) for seed in range(4 if small else 20)]
    return Study(claims(found), partial(_draw, found))


def claims(found: Sequence[Found]) -> list[Claim]:
    counts = [sum(group.issuperset(run.top) for run in found) for group in GROUPS]
    most = max(run.shares[-1] for run in found)
    free = [seed for seed, run in enumerate(found) if "x6" in run.top]
    return [
        Claim(
            f"each relation has the top two inputs in some of {len(found)} seeds, the free x6 is never among them",
            f"x1, x2, x3 in {counts[0]}; x4, x5 in {counts[1]}; x6 in {len(free)}, share ≤ {most:.1%}",
            min(counts) > 0 and not free,
            paper="both, each by a seed chosen",
            why=f"x6 is among the top two in seeds {free}; groups found {counts}.",
        )
    ]


def _draw(found: Sequence[Found]) -> "Figure":
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    image = axes.imshow(np.array([run.shares for run in found]).T, cmap="Blues", vmin=0, aspect="auto")
    axes.set_yticks(range(6), INPUTS)
    axes.set_xticks(range(len(found)))
    axes.set_xlabel("seed")
    figure.colorbar(image, label="share in the relation")
    return figure
