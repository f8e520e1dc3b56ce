"""A formula is the network: compared on rows of the training range before anybody sees it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import FormulaError
from kanserve.formula.formula import Formula
from kanserve.formula.tree import evaluate_tree
from kanserve.ir import Kan
from kanserve.ranges import finite_rows
from kanserve.reference import activations, edges

Array = NDArray[np.float64]

TOLERANCE = 1e-9  # of the scale of an output
_ROUNDING = 1e-13  # of the size of what is added up to make it
_MOST_ROWS = 1000
_FEWEST_ROWS = 16
_MOST_VALUES = 10_000_000  # edges x outputs x rows: a very wide network is compared on fewer rows


@dataclass(frozen=True, eq=False)
class Expected:
    """Rows x (N, inputs), what the network gives there, and how far from it a formula may be, both (N, outputs)."""

    x: Array
    wanted: Array
    allowed: Array


def verify(kan: Kan, formulas: Sequence[Formula]) -> None:
    """Compare each formula, its tree and its Python, with the network on up to 1000 rows of the training range.

    FormulaError names the output and the row where they differ by more than 1e-9 of the output's scale. The Python
    is run: for formulas made by `formulas`, never for formulas that were read.
    """
    wanted = expected(kan)
    if len(formulas) != len(kan.outputs):
        raise FormulaError(f"{len(kan.outputs)} outputs need as many formulas, got {len(formulas)}.")
    for q, formula in enumerate(formulas):
        require(wanted, q, formula.name, evaluate_tree(formula.tree, formula.tables, wanted.x))
        if formula.python:
            require(wanted, q, formula.name, run(formula, wanted.x))


def expected(kan: Kan) -> Expected:
    """What formulas are compared with: rows of the training range on which the network is finite.

    Allowed is 1e-9 of the scale, the larger of the value and of what 9 of 10 values stay below, and the rounding of
    the last layer, whose terms may be large and cancel.
    """
    values = len(kan.outputs) * sum(layer.subnodes * layer.inputs for layer in kan.layers)
    x = finite_rows(kan, min(_MOST_ROWS, max(_MOST_VALUES // values, _FEWEST_ROWS)))
    on_the_way = activations(kan, x)
    wanted = on_the_way[-1]
    if not len(x):
        return Expected(x, wanted, wanted)
    last = kan.layers[-1]
    added = np.abs(edges(last, on_the_way[-2])).sum(axis=2)
    terms = np.abs(last.subnode_scale) * added + np.abs(last.subnode_bias)
    products = np.multiply.reduceat(terms, np.cumsum(last.arity) - last.arity, axis=1)
    size = np.abs(kan.output_scale) * (np.abs(last.node_scale) * products + np.abs(last.node_bias))
    scale = np.maximum(np.abs(wanted), np.quantile(np.abs(wanted), 0.9, axis=0))
    return Expected(x, wanted, TOLERANCE * scale + _ROUNDING * (size + np.abs(kan.output_shift)))


def differs(wanted: Expected, q: int, got: Array) -> NDArray[np.bool_]:
    """Which rows of output q are further from the network than allowed; NaN is."""
    different: NDArray[np.bool_] = ~(np.abs(got - wanted.wanted[:, q]) <= wanted.allowed[:, q])
    return different


def require(wanted: Expected, q: int, name: str, got: Array) -> None:
    """FormulaError where the values differ from the network's."""
    different = differs(wanted, q, got)
    if different.any():
        row = int(np.argmax(different))
        raise FormulaError(
            f"The formula of output {name!r} differs from the network at {wanted.x[row].tolist()}: "
            f"wanted {float(wanted.wanted[row, q])!r}, got {float(got[row])!r}. Please report this network."
        )


def run(formula: Formula, x: Array) -> Array:
    """The values (N,) of the Python of a formula that we have just written, at rows x; never of one that was read."""
    names = {"np": np, "__builtins__": {}} | dict(formula.tables)
    columns = {name: x[:, column] for name, column in zip(formula.identifiers, formula.columns, strict=True)}
    with np.errstate(all="ignore"):
        value = eval(compile(formula.python, "<formula>", "eval"), names | columns)
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (len(x),))
