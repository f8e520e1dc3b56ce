"""A formula is the network: compared on rows of the training range before anybody sees it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import FormulaError
from kanserve.formula.formula import Formula
from kanserve.formula.tree import evaluate_tree
from kanserve.ir import Kan
from kanserve.ranges import breaking_point, finite_rows
from kanserve.reference import evaluate
from kanserve.rounding import allowed

Array = NDArray[np.float64]

TOLERANCE = 1e-9  # of the scale of an output
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

    FormulaError names the output and the row where they differ by more than `expected` allows. The Python
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

    Allowed is 1e-9 of the output's scale, or what rounding may do to the row (`rounding.allowed`). FormulaError when
    there is no such row: nobody could tell whether a formula is the network.
    """
    values = len(kan.outputs) * sum(layer.subnodes * layer.inputs for layer in kan.layers)
    x = finite_rows(kan, min(_MOST_ROWS, max(_MOST_VALUES // values, _FEWEST_ROWS)))
    if not len(x):
        raise FormulaError(
            "The network is finite nowhere in its training range; there is nothing to compare a formula with. "
            + breaking_point(kan)
        )
    wanted = evaluate(kan, x)
    return Expected(x, wanted, allowed(kan, x, wanted, "double", TOLERANCE))


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
    """The values (N,) of the Python of a formula that we have just written, at rows x; never of one that was read.

    NaN everywhere when Python's own numbers, of which constants are made, divide by zero or overflow.
    """
    names = {"np": np, "__builtins__": {}} | dict(formula.tables)
    columns = {name: x[:, column] for name, column in zip(formula.identifiers, formula.columns, strict=True)}
    code = compile(formula.python, "<formula>", "eval")
    try:
        with np.errstate(all="ignore"):
            value = eval(code, names | columns)
    except ArithmeticError:
        value = np.nan
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (len(x),))
