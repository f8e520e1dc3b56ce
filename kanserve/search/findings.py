"""What a search has found: formulas from the simplest to the most exact, each a network with its errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import FormulaError
from kanserve.formula import evaluate_tree, formulas
from kanserve.formula.building import trees
from kanserve.formula.complexity import complexity
from kanserve.formula.composing import kan_of
from kanserve.formula.constants import Constant, constants_of, exact_form, known_constants, noisy_form
from kanserve.formula.formula import Formula
from kanserve.formula.tree import Tree
from kanserve.formula.uncertainty import Uncertainty, uncertainty
from kanserve.ir import Kan, Variable
from kanserve.search.networks import network
from kanserve.search.training import EXACT
from kanserve.search.trees import Node
from kanserve.table import Dataset

Array = NDArray[np.float64]


NEARLY_ALL = 0.98


@dataclass(frozen=True, eq=False)
class Found:
    """One formula: its network, its complexity, its root mean square errors and whether it is exact.

    `error` is on the rows that it was fitted to and `validation` on those that were held out, both in units of the
    answers.
    """

    kan: Kan
    complexity: float
    error: float
    validation: float
    exact: bool
    data: Dataset

    @cached_property
    def formula(self) -> Formula:
        return formulas(self.kan, strict=False, named=True)[0]

    @cached_property
    def constants(self) -> tuple[Constant, ...]:
        """The numbers of the formula with their standard errors; those that were recognised have none."""
        return constants_of(self.formula.tree, self.data.x, self.data.y[:, 0])

    @cached_property
    def uncertainty(self) -> Uncertainty:
        tree = self.formula.tree
        return uncertainty(tree, self.data.x, self.data.y[:, 0], known_constants(tree))

    def interval(self, x: ArrayLike, level: float = 0.95) -> tuple[Array, Array]:
        """Where a new answer at rows x (N, inputs) is expected with this probability: low and high, (N,) each."""
        return self.uncertainty.interval(x, level)

    def __str__(self) -> str:
        return f"{self.formula.text}   (complexity {self.complexity:g}, validation error {self.validation:.3g})"


@dataclass(frozen=True, eq=False)
class Findings:
    """`candidates`: none is both more complex and worse than another, the simplest first; `best` is the one to take."""

    candidates: tuple[Found, ...]
    best: Found

    def __str__(self) -> str:
        return "\n".join(f"{'*' if one is self.best else ' '} {one}" for one in self.candidates)


def finished(node: Node, learn: Dataset, held: Dataset) -> Found | None:
    """The tree in its simplest form with its constants recognised; None where that goes wrong.

    On exact data a constant must be what it is recognised as to seven digits, on noisy data within its error.
    """
    x, y = learn.x, learn.y[:, 0]
    low, high = np.minimum(x.min(axis=0), held.x.min(axis=0)), np.maximum(x.max(axis=0), held.x.max(axis=0))
    inputs = [Variable(name, low=float(a), high=float(b)) for name, a, b in zip(learn.inputs, low, high, strict=True)]
    (tree,) = trees(network(node, x.shape[1], 1).kan).trees
    try:
        return _found(_settled(tree, x, y), inputs, learn, held)
    except FormulaError:
        return None


def _settled(tree: Tree, x: Array, y: Array) -> Tree:
    """On the rows where it is finite, if those are nearly all: rounding alone takes arcsin(1 + 1e-16) out of range."""
    finite = np.isfinite(evaluate_tree(tree, {}, x))
    if finite.mean() > NEARLY_ALL:
        x, y = x[finite], y[finite]
    spread = float(y.std()) or 1.0
    exact = _error(tree, x, y) < EXACT * spread
    rule = exact_form if exact else noisy_form
    return rule(tree, x, y)


def _found(tree: Tree, inputs: Sequence[Variable], learn: Dataset, held: Dataset) -> Found | None:
    kan = kan_of(tree, inputs, learn.outputs)
    y = np.concatenate([learn.y[:, 0], held.y[:, 0]])
    error, validation = _error(tree, learn.x, learn.y[:, 0]), _error(tree, held.x, held.y[:, 0])
    if not (math.isfinite(error) and math.isfinite(validation)):
        return None
    spread = float(y.std()) or 1.0
    return Found(kan, complexity(tree), error, validation, max(error, validation) < EXACT * spread, learn)


def _error(tree: Tree, x: Array, y: Array) -> float:
    error = float(np.sqrt(np.mean((evaluate_tree(tree, {}, x) - y) ** 2)))
    return error if math.isfinite(error) else math.inf


def pareto(found: Sequence[Found], settled: Found | None) -> tuple[Found, ...]:
    """Those that no other is both simpler than and better than, the simplest first; what is settled ends the list."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: (one.complexity, one.validation)):
        if one is settled or not kept or one.validation < kept[-1].validation:
            kept.append(one)
        if one is settled:
            break
    return tuple(kept)
