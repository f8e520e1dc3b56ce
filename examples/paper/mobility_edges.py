"""Anderson localisation (section 4.4 of the paper): which states of three quasiperiodic chains are localised.

    mosaic  V = 2λ cos(2πbn + φ) on every second site; edge |λE| = 1
    GAAM    V = 2λ cos(..)/(1 - α cos(..)); edge αE = 2(1 - λ); see examples/anderson.py
    MAAM    hops exp(-p(|n - n'| - 1)) between all sites, V = λ cos(..); edge λ cosh p = E + exp(p)

A state is localised if its fractal dimension is below a half. Accuracies are on chains that no network has seen.
For MAAM the form of the edge is a formula with other constants at first, which the states correct.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh, eigh_tridiagonal

from examples import anderson
from examples.paper._claims import Claim, Study, median
from kanserve import Dataset, Kan, evaluate, fit, from_formula
from kanserve.train import refine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Labels = NDArray[np.bool_]

FORM = "0.5 + 0.5*tanh(k*(lam*cosh(b*p) - c*E - d*exp(f*p)))"
GUESS = {"k": 0.3, "b": 0.9, "c": 0.7, "d": 0.8, "f": 0.9}
GAAM = anderson.Study(learned=100, judged=30, seeds=(0, 1, 2))


@dataclass(frozen=True)
class Chain:
    """Energies and states of one chain: columns before the energy, and which of its states are localised."""

    inputs: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    solve: Callable[[Array, Array], tuple[Array, Array]]
    theory: Callable[[Array], Labels]
    sites: int

    def sample(self, count: int, seed: int) -> Dataset:
        generator = np.random.default_rng(seed)
        x, y = [], []
        for _ in range(count):
            chosen = generator.uniform(self.low, self.high)
            angle = 2 * np.pi * anderson.GOLDEN * np.arange(1, self.sites + 1) + generator.uniform(0, 2 * np.pi)
            energies, vectors = self.solve(chosen, np.cos(angle))
            x.append(np.column_stack([np.tile(chosen, (self.sites, 1)), energies]))
            y.append(-np.log((vectors**4).sum(axis=0)) / np.log(self.sites) < 0.5)
        return Dataset(np.concatenate(x), np.concatenate(y).astype(float), (*self.inputs, "E"), ("localised",))


def _mosaic(chosen: Array, wave: Array) -> tuple[Array, Array]:
    potential = 2 * chosen[0] * wave * (np.arange(len(wave)) % 2)
    energies, vectors = eigh_tridiagonal(potential, np.ones(len(wave) - 1))
    return energies, vectors


def _long_hops(chosen: Array, wave: Array) -> tuple[Array, Array]:
    strength, decay = chosen
    apart = np.abs(np.subtract.outer(np.arange(len(wave)), np.arange(len(wave))))
    matrix = np.where(apart > 0, np.exp(-decay * (apart - 1.0)), 0.0) + np.diag(strength * wave)
    energies, vectors = eigh(matrix)
    return energies, vectors


MOSAIC = Chain(("lam",), (0.2,), (2.0,), _mosaic, lambda x: np.abs(x[:, 0] * x[:, 1]) > 1, 987)
MAAM = Chain(
    ("lam", "p"),
    *((1.0, 1.0), (3.0, 4.0)),
    _long_hops,
    lambda x: x[:, 0] * np.cosh(x[:, 1]) > x[:, 2] + np.exp(x[:, 1]),
    610,
)


@dataclass(frozen=True)
class Found:
    """Accuracies of the theory, and of a network of splines; rows and labels for the picture, and the formula's."""

    theory: float
    splines: float
    test: Dataset
    kan: Kan
    form: float = 0.0
    constants: str = ""


def _accuracy(kan: Kan, rows: Dataset) -> float:
    return float(((evaluate(kan, rows.x)[:, 0] > 0.5) == (rows.y[:, 0] > 0.5)).mean())


def measure(chain: Chain, widths: Sequence[int | tuple[int, int]], learned: int, judged: int, rows: int) -> Found:
    data, test = chain.sample(learned, 0).sample(rows, 0), chain.sample(judged, 1)
    kan = fit(widths, data, seed=0, starts=4)
    theory = float((chain.theory(test.x) == (test.y[:, 0] > 0.5)).mean())
    form, text = 0.0, ""
    if chain is MAAM:
        ranges = dict(zip(test.inputs, zip(test.x.min(axis=0), test.x.max(axis=0), strict=True), strict=True))
        guess = from_formula(FORM, parameters=GUESS, inputs=test.inputs, ranges=ranges)
        fitted = refine(guess, data.x, data.y, steps=200, ridge=0.0)
        form, text = _accuracy(fitted, test), fitted.formula().text
    return Found(theory, _accuracy(kan, test), test, kan, form, text)


def _gaam(one: anderson.Study) -> tuple[float, list[anderson.Result]]:
    """The theory's accuracy, and the network of straight lines for each seed."""
    x, localised = anderson.chains(one.judged, one.sites, 10_000)
    learned, labels = anderson.chains(one.learned, one.sites, 0)
    data = Dataset(learned, labels.astype(float), anderson.INPUTS, ("localised",))
    results = []
    for seed in one.seeds:
        kan = anderson.lines(data, seed)
        accuracy = float(((evaluate(kan, x)[:, 0] > 0.5) == localised).mean())
        results.append(anderson.Result(accuracy, 0.0, *anderson.edge(kan)))
    return float((anderson.theory(x) == localised).mean()), results


def study(small: bool = False) -> Study:
    found = {"mosaic": measure(MOSAIC, [2, (0, 1), 1], *((20, 5, 4000) if small else (60, 20, 10_000)))}
    claims = [spline_claim("mosaic, |λE| = 1", found["mosaic"], "found")]
    if not small:
        claims += gaam_claims(*_gaam(GAAM))
        found["MAAM"] = measure(MAAM, anderson.WITH_PRODUCT, 50, 15, 15_000)
        claims += [form_claim(found["MAAM"])]
    return Study(claims, partial(_draw, found))


def spline_claim(name: str, one: Found, paper: str) -> Claim:
    return Claim(
        f"{name}: accuracy on unseen chains ≥ theory - 1 point",
        f"{one.splines:.1%}, theory {one.theory:.1%}",
        one.splines >= one.theory - 0.01,
        paper=paper,
    )


def form_claim(one: Found) -> Claim:
    return Claim(
        "MAAM's form λ cosh p = E + exp(p), trained from other constants: accuracy ≥ 96 %",
        f"{one.form:.1%}; splines {one.splines:.1%}, theory {one.theory:.1%}",
        one.form >= 0.96,
        paper="97.1 %, theory 98.6 %",
        why=f"The form found is {one.constants}.",
    )


def gaam_claims(theory: float, runs: Sequence[anderson.Result]) -> list[Claim]:
    least = min(run.accuracy for run in runs)
    off = max(anderson._off(run) for run in runs)
    edges = [run.edge or {} for run in runs]
    told = {name: median([edge.get(name, np.nan) for edge in edges]) for name in anderson.THEORY}
    text = " ".join(f"{value:+.3f}{name.strip('1')}" for name, value in told.items())
    return [
        Claim(
            "GAAM: accuracy on unseen chains ≥ theory - 1 point in every seed",
            f"{least:.1%}, theory {theory:.1%}",
            least >= theory - 0.01,
            paper="98.7-99.0 %, theory 99.2 %",
        ),
        Claim(
            "GAAM: its edge αE + 2λ - 2 = 0, coefficients within 5 % in every seed",
            f"{text}; worst {off:.1%} off",
            off <= 0.05,
            paper="by hand from the network's formula",
            why=f"The worst seed is {off:.1%} off.",
        ),
    ]


def _draw(found: Mapping[str, Found]) -> "Figure":
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(2, len(found), figsize=(5 * len(found), 6), layout="constrained", squeeze=False)
    for column, (name, one) in zip(grid.T, found.items(), strict=True):
        told = evaluate(one.kan, one.test.x)[:, 0] > 0.5
        for axes, labels, what in zip(column, (one.test.y[:, 0], told), ("localised", "the network"), strict=True):
            axes.scatter(one.test.x[:, 0], one.test.x[:, -1], c=labels, s=1, cmap="coolwarm", rasterized=True)
            axes.set_title(f"{name}: {what}")
            axes.set_ylabel("E")
        column[-1].set_xlabel("λ")
    return figure
