"""NumPy's arithmetic over an input, written as a tree: the same expression gives values, slopes and a formula.

x = Written.input(0)
(2.0 * np.exp(-0.5 * x) + 1.0).node                       # the tree of 2*exp(-x/2) + 1
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kanserve.network.kan import Symbolic
from kanserve.network.own_functions import Elementwise
from kanserve.network.powers import power_name
from kanserve.search.trees import compose
from kanserve.search.trees.nodes import Curve, Node, Product, Sum, curves

_FUNCTIONS = {
    np.exp: "exp",
    np.log: "log",
    np.sin: "sin",
    np.cos: "cos",
    np.tanh: "tanh",
    np.sinh: "sinh",
    np.cosh: "cosh",
    np.tan: "tan",
    np.arctan: "arctan",
    np.arcsin: "arcsin",
    np.arctanh: "arctanh",
    np.arcsinh: "arcsinh",
    np.sqrt: "sqrt",
    np.absolute: "abs",
}


@dataclass(frozen=True, eq=False)
class Written(np.lib.mixins.NDArrayOperatorsMixin):
    """An input or a node, with a factor and an offset: factor·of + offset."""

    of: int | Node
    factor: float = 1.0
    offset: float = 0.0

    @property
    def node(self) -> Node:
        """The tree, with factor and offset merged into its curves, so that a fit does not see them twice."""
        if isinstance(self.of, int):
            return Sum((Curve(self.of, Symbolic("x", 1.0, 0.0, self.factor, self.offset)),))
        node = self.of if self.factor == 1 else compose.scale(self.of, self.factor)
        if not self.offset:
            return node
        if isinstance(node, Product):
            return replace(node, bias=node.bias + self.offset)
        first, *others = node.parts
        assert first.symbolic is not None
        moved = replace(first.symbolic, d=first.symbolic.d + self.offset)
        return Sum((replace(first, symbolic=moved, without_constant=False), *others))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *arguments: Any, **options: Any) -> "Written":
        assert method == "__call__" and not options
        if ufunc in _FUNCTIONS:
            return _apply(_FUNCTIONS[ufunc], arguments[0])
        first, *others = arguments
        match ufunc, [first, *others]:
            case np.negative, [Written() as one]:
                return _scale(one, -1.0)
            case np.add, [one, other]:
                return _plus(one, other)
            case np.subtract, [one, Written() as other]:
                return _plus(_scale(other, -1.0), one)
            case np.subtract, [Written() as one, other]:
                return one.shift(-float(other))
            case np.multiply, [one, other]:
                return _times(one, other)
            case np.divide, [one, Written() as other]:
                return _times(_power(other, -1.0), one)
            case np.divide, [one, other]:
                return _scale(one, 1.0 / float(other))
            case np.power, [Written() as one, exponent]:
                return _power(one, float(exponent))
            case np.maximum, [Written() as one, level] if round(level, 9) == 0:
                return _scale(_plus(one, _apply("abs", one)), 0.5)
        raise NotImplementedError(ufunc.__name__)

    def __array_function__(self, function: Any, _types: Any, arguments: Any, _options: Any) -> "Written":
        if isinstance(function, Elementwise):
            return _apply(function.name, *arguments)
        raise NotImplementedError(function.__name__)

    def shift(self, by: float) -> "Written":
        return replace(self, offset=self.offset + by)


def _plus(value: "Written | float", other: "Written | float") -> Written:
    if isinstance(value, Written) and isinstance(other, Written):
        total = compose.total([replace(value, offset=0.0).node, replace(other, offset=0.0).node])
        return Written(total, offset=value.offset + other.offset)
    if isinstance(value, Written):
        return value.shift(float(other))  # type: ignore[arg-type]  # it is a number
    return _plus(other, value)


def _times(value: "Written | float", other: "Written | float") -> Written:
    if isinstance(value, Written) and isinstance(other, Written):
        return Written(compose.product([value.node, other.node]))
    if isinstance(value, Written):
        return _scale(value, float(other))  # type: ignore[arg-type]  # it is a number
    return _times(other, value)


def _scale(written: Written, by: float) -> Written:
    return replace(written, factor=written.factor * by, offset=written.offset * by)


def _apply(function: str, written: Written) -> Written:
    symbolic = Symbolic(function, written.factor, written.offset, 1.0, 0.0)
    return Written(Sum((Curve(written.of, symbolic, without_constant=True),)))


def _power(written: Written, exponent: float) -> Written:
    """(factor·u + offset)^exponent. Without an offset the factor is moved outside, where a fit sees it once."""
    if exponent == 1:
        return written
    factor = written.factor if written.offset == 0 and written.factor > 0 else 1.0
    base = written if factor == 1 else replace(written, factor=1.0)
    plain = base.factor == 1 and base.offset == 0
    inside: int | Node = base.of if plain and isinstance(base.of, int) else base.node
    name = power_name(exponent)
    simple = exponent == round(exponent) or name in compose.POWERS
    if simple:
        return _scale(Written(compose.product(list(compose.power(inside, exponent)))), factor**exponent)
    if name is not None and _reaches_zero(base):
        curve = Curve(inside, Symbolic(name, 1.0, 0.0, 1.0, 0.0), without_constant=True)
        return _scale(Written(Sum((curve,))), factor**exponent)
    logarithm = _apply("log", base)
    return _scale(_apply("exp", _scale(logarithm, exponent)), factor**exponent)


def _reaches_zero(written: Written) -> bool:
    """Whether the value is 0 on many rows, as max(x, 0) is, so that its logarithm cannot be used for powers."""
    if isinstance(written.of, int):
        return False
    return any(curve.symbolic is not None and curve.symbolic.function == "abs" for curve in curves(written.of))
