"""The toys of the paper's section 4.1: shape and exact formula of five functions, from 1000 rows, by itself.

The shape is what `kanserve.discover` finds. x/y has x from 0.1 to 1, where it is exp(log x - log y). A formula counts
as exact if its relative error is below 1e-6 on rows of a box 1.5 times as wide; `kanserve.find_formulas` finds it from
the same rows.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._equations import EXACT, Law, Setting, by_tree, laws, relative_error, rows, wider
from benchmarks._training_goals import TOYS as SMALLEST
from examples.paper._claims import Claim, Study, median, shape
from kanserve import Kan, discover, find_formulas, plot_network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PYKAN = ("69 CPU s", "125 CPU s, not found", "66 CPU s", "", "")
MOST_SECONDS = 20.0


@dataclass(frozen=True)
class Found:
    """What one seed gave: the network, the formula's text, its relative error, and CPU seconds of both."""

    kan: Kan
    text: str
    error: float
    seconds: float


def measure(law: Law, seed: int) -> Found:
    data = rows(law, Setting("toys"), seed)
    begun = time.process_time()
    kan = discover(data, seed=seed)
    formula = find_formulas(data, seed=seed, max_fits=1000).best.formula
    seconds = time.process_time() - begun
    return Found(kan, formula.text, relative_error(law, by_tree(formula), wider(law)), seconds)


def study(small: bool = False) -> Study:
    chosen = [
        (replace(law, ranges=np.array([toy.low, toy.high]).T), toy.shape, pykan)
        for law, toy, pykan in zip(laws(Setting("toys")), SMALLEST, PYKAN, strict=True)
    ]
    seeds = (0,) if small else (0, 1, 2, 3, 4)
    found = {law.text: [measure(law, seed) for seed in seeds] for law, _, _ in chosen[: 2 if small else None]}
    claims = [claim(law.text, widths, pykan, found[law.text]) for law, widths, pykan in chosen if law.text in found]
    return Study(claims, partial(_draw, [runs[0] for runs in found.values()]))


def claim(text: str, widths: Sequence[int], pykan: str, runs: Sequence[Found]) -> Claim:
    """Whether the paper's shape or a smaller one, and the exact formula, were found in four of five seeds."""
    shaped = sum(sum(run.kan.shape) <= sum(widths) for run in runs)
    exact = sum(run.error < EXACT for run in runs)
    wanted, slowest = -(-4 * len(runs) // 5), max(run.seconds for run in runs)
    wrong = [run.text for run in runs if run.error >= EXACT]
    return Claim(
        f"{text}: {shape(widths)} or smaller, and the exact formula, in ≥ {wanted} of {len(runs)}, ≤ 20 CPU s each",
        f"{shaped} and {exact}, {median([run.seconds for run in runs]):.1f} s, slowest {slowest:.1f}",
        shaped >= wanted and exact >= wanted and slowest <= MOST_SECONDS,
        paper=f"{shape(widths)}, by hand",
        pykan=pykan,
        why=f"Shapes {[list(run.kan.shape) for run in runs]}; not exact: {'; '.join(wrong) or 'none'}.",
    )


def _draw(found: Sequence[Found]) -> "Figure":
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(1, len(found), figsize=(3.2 * len(found), 4), layout="constrained", squeeze=False)
    for axes, one in zip(grid.flat, found, strict=True):
        plot_network(one.kan, ax=axes)
        axes.set_title(one.text, fontsize=8)
    return figure
