"""Compose trees: powers, sums and products of trees, and substitution of a tree for an input."""

from collections.abc import Sequence
from dataclasses import replace

from kanserve.network.kan import Symbolic
from kanserve.network.powers import power_name
from kanserve.search.trees.nodes import IDENTITY, Curve, Node, Product, Sum, is_plain

_POWERS = {1.0: "x", 2.0: "x^2", 3.0: "x^3", 4.0: "x^4", -1.0: "1/x", -2.0: "1/x^2", 0.5: "sqrt", -0.5: "1/sqrt"}

_LARGEST_WHOLE = 12
POWERS = frozenset(_POWERS.values())
"""The functions that are powers."""


def power(of: "int | Node", exponent: float) -> tuple[Sum, ...]:
    """x^p as factors: x^5 is x^4·x, x^1.5 is x·sqrt(x), x^(5/3) a single one, x^0 none, others exp(p·log x)."""
    if exponent == 0:
        return ()
    if exponent in _POWERS:
        return (_curve(of, _POWERS[exponent]),)
    doubled = 2 * exponent
    if doubled == round(doubled) and abs(exponent) <= (_LARGEST_WHOLE if exponent == round(exponent) else 8):
        first = max((known for known in _POWERS if 0 < known / exponent <= 1), key=abs)
        return (_curve(of, _POWERS[first]), *power(of, exponent - first))
    if name := power_name(exponent):
        return (_curve(of, name),)
    logarithm = Sum((Curve(of, Symbolic("log", 1.0, 0.0, exponent, 0.0), without_constant=True),))
    return (Sum((Curve(logarithm, Symbolic("exp", 1.0, 0.0, 1.0, 0.0), without_constant=True),)),)


def _curve(of: "int | Node", function: str) -> Sum:
    return Sum((Curve(of, Symbolic(function, 1.0, 0.0, 1.0, 0.0), without_constant=True),))


def monomial(columns: Sequence[int], powers: Sequence[float], scale: float = 1.0) -> Node:
    """The tree scale · Π x_i^p_i."""
    factors = [factor for i, p in zip(columns, powers, strict=True) if p != 0 for factor in power(i, p)]
    if not factors:
        return constant(scale, columns[0] if columns else 0)
    return product([_scale_sum(factors[0], scale), *factors[1:]])


def scale(node: Node, scale: float) -> Node:
    """Multiply a tree by a number; its outer curves must be symbolic."""
    if isinstance(node, Product):
        first, *others = node.factors
        return Product((_scale_sum(first, scale), *others), node.bias * scale)
    return _scale_sum(node, scale)


def _scale_sum(summed: Sum, scale: float) -> Sum:
    parts = []
    for curve in summed.parts:
        assert curve.symbolic is not None
        symbolic = replace(curve.symbolic, c=curve.symbolic.c * scale, d=curve.symbolic.d * scale)
        parts.append(replace(curve, symbolic=symbolic))
    return Sum(tuple(parts))


def constant(value: float, column: int) -> Node:
    """A constant, as 0·x_column + value."""
    return Sum((Curve(column, Symbolic("x", 1.0, 0.0, 0.0, value)),))


def product(parts: Sequence[Node]) -> Node:
    """The product of trees; factors of products are joined."""
    factors: list[Sum] = []
    for part in parts:
        inner = part.parts[0].of if isinstance(part, Sum) and is_plain(part) else part
        if isinstance(inner, Product) and inner.bias == 0:
            factors += inner.factors
        else:
            factors.append(part if isinstance(part, Sum) else Sum((_term(part),)))
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def total(parts: Sequence[Node]) -> Node:
    """The sum of trees; terms of sums are joined."""
    terms: list[Curve] = []
    for part in parts:
        if isinstance(part, Sum):
            terms += part.parts
        else:
            terms.append(_term(part))
    return Sum(tuple(terms))


def _term(node: Product) -> Curve:
    return Curve(replace(node, bias=0.0), replace(IDENTITY, d=node.bias))


def linear(columns: Sequence[int], weights: Sequence[float]) -> Node:
    """The tree Σ w_i·x_i."""
    return total([monomial([i], [1.0], weight) for i, weight in zip(columns, weights, strict=True)])


def substitute(node: Node, column: int, by: Node) -> Node:
    if isinstance(node, Product):
        return replace(node, factors=tuple(_substitute_in_sum(factor, column, by) for factor in node.factors))
    return _substitute_in_sum(node, column, by)


def _substitute_in_sum(summed: Sum, column: int, by: Node) -> Sum:
    parts = []
    for curve in summed.parts:
        if curve.of == column:
            parts.append(replace(curve, of=by))
        elif isinstance(curve.of, int):
            parts.append(curve)
        else:
            parts.append(replace(curve, of=substitute(curve.of, column, by)))
    return Sum(tuple(parts))


_INNER = {
    "identity": "x",
    "square": "x^2",
    "reciprocal": "1/x",
    "reciprocal square": "1/x^2",
    "sqrt": "sqrt",
    "log": "log",
    "exp": "exp",
    "sin": "sin",
    "cos": "cos",
}


def inner(column: int, name: str) -> Node:
    """A function of `affine.INNER`, applied to an input."""
    if name == "exp(-x)":
        return Sum((Curve(column, Symbolic("exp", -1.0, 0.0, 1.0, 0.0), without_constant=True),))
    return _curve(column, _INNER[name])
