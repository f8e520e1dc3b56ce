"""Compare a formula with its network on rows of the training range before it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import FormulaError
from kanserve.formula.expressions.formula import Formula
from kanserve.formula.expressions.tree import evaluate_tree
from kanserve.network.encoding import without_encoding
from kanserve.network.evaluate import activations
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan
from kanserve.network.own_functions import OWN
from kanserve.network.rounding_error import allow, rounding, scale
from kanserve.network.spellings import SPECIAL
from kanserve.network.training_range import breaking_point, corners, finite_rows, sample

Array = NDArray[np.float64]

CHECKING_TOLERANCE = 1e-9  # of the scale of an output
OVERFLOWING = 1e290  # values beyond this are close to overflow: their rows are not compared
MOST_ROWS = 1000  # rows on which a formula is compared with its network
FEWEST_ROWS = 16  # rows on which a formula is compared with its network, at least
MOST_VALUES = 10_000_000  # edges × outputs × rows; a very wide network is compared on fewer rows


@dataclass(frozen=True, eq=False)
class Expected:
    """Rows x (N, inputs) of the training range with finite network outputs `wanted` (N, outputs), and rows `undefined`
    (M, inputs) on which the network is not finite."""

    kan: Kan
    x: Array
    wanted: Array
    undefined: Array

    @cached_property
    def close(self) -> Array:
        """The tolerance (N, outputs): 1e-9 of the outputs' scale."""
        return CHECKING_TOLERANCE * scale(self.wanted)

    @cached_property
    def allowed(self) -> Array:
        """How far a formula may be from the network (N, outputs): `close`, or the bound of the rounding error."""
        return allow(self.kan, self.x, self.wanted, "double", CHECKING_TOLERANCE)

    @cached_property
    def noise(self) -> NDArray[np.bool_]:
        """Mask (N, outputs): rounding leaves no correct digit, as in tan(1e20·x), so any value is allowed."""
        return self.allowed >= scale(self.wanted)

    @cached_property
    def fragile(self) -> NDArray[np.bool_]:
        """Mask (N, outputs): rounding alone may push the network out of its domain, as for sqrt(x - 1) at 1."""
        return ~np.isfinite(rounding(self.kan, self.x, "double"))


def verify(kan: Kan, formulas: Sequence[Formula]) -> None:
    """Compare each formula, its tree and its Python code, with the network on up to 1000 rows of the training range.

    This runs the Python code: use it for formulas made by `formulas`, never for formulas that were read from outside.

    Parameters
    ----------
    kan : Kan
        The network.
    formulas : sequence of Formula
        One for each output.

    Raises
    ------
    FormulaError
        They differ by more than `expected` allows; the message names the output and the row.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1")
    >>> kanserve.formula.verify(kan, kanserve.formulas(kan))
    """
    wanted = expect(without_encoding(kan))
    if len(formulas) != len(kan.outputs):
        raise FormulaError(f"{len(kan.outputs)} outputs need as many formulas, got {len(formulas)}.")
    for q, formula in enumerate(formulas):
        require(wanted, q, formula.name, evaluate_tree(formula.tree, formula.tables, wanted.x))
        if formula.python:
            require(wanted, q, formula.name, run(formula, wanted.x))


def expect(kan: Kan) -> Expected:
    """The rows and outputs to compare with: 1000 rows of the training range and its corners, fewer for a wide network.
    Raises FormulaError if the network is finite on none of them."""
    numbers = len(kan.outputs) * sum(layer.subnodes * layer.inputs for layer in kan.layers)
    count = min(MOST_ROWS, max(MOST_VALUES // numbers, FEWEST_ROWS))
    x = np.concatenate([sample(kan, count), corners(kan)[:count]])
    values = activations(kan, x)
    undefined = x[~np.isfinite(values[-1]).all(axis=1)]
    fine = _comparable(values)
    if fine.sum() < count:
        x = finite_rows(kan, count)
        values = activations(kan, x)
        fine = _comparable(values) if _comparable(values).any() else np.ones(len(x), bool)
    x, wanted = x[fine], values[-1][fine]
    if not len(x):
        raise FormulaError(
            "The network is finite nowhere in its training range; there is nothing to compare a formula with. "
            + breaking_point(kan)
        )
    return Expected(kan, x, wanted, undefined)


def _comparable(values: Sequence[Array]) -> NDArray[np.bool_]:
    """Mask of the rows on which all values are finite and far from overflow, where the order of factors matters."""
    fine: NDArray[np.bool_] = np.all([(np.abs(value) < OVERFLOWING).all(axis=1) for value in values], axis=0)
    return fine


def differs(wanted: Expected, q: int, got: Array, *, forgiving: bool = True) -> NDArray[np.bool_]:
    """Mask of the rows on which output q differs from the network (NaN counts as different): by more than `allowed`, or
    than `close` if not `forgiving`."""
    error = np.abs(got - wanted.wanted[:, q])
    different: NDArray[np.bool_] = ~(error <= wanted.close[:, q])
    if forgiving and different.any():  # the rounding bound takes several evaluations
        different = ~(error <= wanted.allowed[:, q]) & ~wanted.noise[:, q]
        if np.isnan(got[different]).any():
            different &= ~(np.isnan(got) & wanted.fragile[:, q])
    return different


def require(wanted: Expected, q: int, name: str, got: Array) -> None:
    """Raise FormulaError if the values differ from the network's."""
    different = differs(wanted, q, got)
    if different.any():
        row = int(np.argmax(different))
        raise FormulaError(
            f"The formula of output {name!r} differs from the network at {wanted.x[row].tolist()}: "
            f"wanted {float(wanted.wanted[row, q])!r}, got {float(got[row])!r}. Please report this network."
        )


def run(formula: Formula, x: Array) -> Array:
    """The values (N,) of a formula's Python code at rows x. Only for code that was just generated, never for code that
    was read. NaN everywhere if its constants divide by zero or overflow."""
    names = (
        {"np": np, "__builtins__": {}}
        | dict(formula.tables)
        | {name: FUNCTIONS[name].numpy for name in (*SPECIAL, *OWN)}
    )
    columns = {name: x[:, column] for name, column in zip(formula.identifiers, formula.columns, strict=True)}
    code = compile(formula.python, "<formula>", "eval")
    try:
        with np.errstate(all="ignore"):
            value = eval(code, names | columns)
    except ArithmeticError:
        value = np.nan
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (len(x),))
