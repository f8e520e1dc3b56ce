"""KAN trees: networks in which every node feeds one edge, so that a shape is an expression. A node is a sum of curves,
or a product of such sums with a bias. A curve is a function of an input or a node: a spline, or a named function
c·f(a·z + b) + d. For fitting and everything after, trees are converted to a `Kan` (`to_network`)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Symbolic
from kanserve.simplification.edge_candidates import EDGE_CANDIDATES_OFFSET_COMPLEXITY
from kanserve.simplification.symbolic_edges import SYMBOLIC_EDGES_SPLINE_COMPLEXITY

Array = NDArray[np.float64]

IDENTITY = Symbolic("x", 1.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Curve:
    """A function of one variable; if `symbolic` is None, a spline: knots (G+2k+1,), coefficients (G+k,) once fitted."""

    of: "int | Sum | Product"
    symbolic: Symbolic | None = None
    knots: Array | None = None
    coefficients: Array | None = None
    without_constant: bool = False
    """Whether d stays 0, so that a factor's constant cannot be traded for that of another term."""


@dataclass(frozen=True, eq=False)
class Sum:
    parts: tuple[Curve, ...]


@dataclass(frozen=True, eq=False)
class Product:
    factors: tuple[Sum, ...]
    bias: float = 0.0


Node = Sum | Product


def curves(node: Node) -> Iterator[Curve]:
    """Every curve of a tree in pre-order: a curve comes before those inside it."""
    sums = (node,) if isinstance(node, Sum) else node.factors
    for total in sums:
        for curve in total.parts:
            yield curve
            if not isinstance(curve.of, int):
                yield from curves(curve.of)


def map_curves(node: Node, change: Callable[[Curve], Curve]) -> Node:
    """Apply `change` to every curve, including those inside changed ones, in the order of `curves`."""
    if isinstance(node, Sum):
        return _map_sum(node, change)
    return replace(node, factors=tuple(_map_sum(factor, change) for factor in node.factors))


def _map_sum(total: Sum, change: Callable[[Curve], Curve]) -> Sum:
    parts = []
    for curve in total.parts:
        new = change(curve)
        if new.of is curve.of and not isinstance(curve.of, int):
            new = replace(new, of=map_curves(curve.of, change))
        parts.append(new)
    return Sum(tuple(parts))


def exchange(node: Node, old: Curve, new: Curve) -> Node:
    """Replace one curve of a tree by another."""
    return map_curves(node, lambda curve: new if curve is old else curve)


def inputs(node: Node) -> set[int]:
    return {curve.of for curve in curves(node) if isinstance(curve.of, int)}


def rename_inputs(node: Node, columns: tuple[int, ...]) -> Node:
    """Rename input i to `columns[i]`."""
    return map_curves(node, lambda curve: replace(curve, of=columns[curve.of]) if isinstance(curve.of, int) else curve)


def price(node: Node) -> float:
    """The complexity of a tree's named functions, with their offsets, and of its splines."""
    total = 0.0
    for curve in curves(node):
        if curve.symbolic is None:
            total += SYMBOLIC_EDGES_SPLINE_COMPLEXITY
        else:
            total += FUNCTIONS[curve.symbolic.function].complexity + EDGE_CANDIDATES_OFFSET_COMPLEXITY * (
                curve.symbolic.d != 0
            )
    return total


def is_symbolic(node: Node) -> bool:
    return all(curve.symbolic is not None for curve in curves(node))


def is_plain(total: Sum) -> bool:
    """Whether a sum is just a single node."""
    return len(total.parts) == 1 and total.parts[0].symbolic == IDENTITY and not isinstance(total.parts[0].of, int)


def text(node: Node) -> str:
    """A short description: digits are inputs, s(..) is a spline."""
    if isinstance(node, Product):
        return "*".join(text(factor) if len(factor.parts) == 1 else f"({text(factor)})" for factor in node.factors)
    return " + ".join(_curve_text(part) for part in node.parts)


def _curve_text(curve: Curve) -> str:
    inner = str(curve.of) if isinstance(curve.of, int) else text(curve.of)
    if curve.symbolic is None:
        return f"s({inner})"
    return inner if curve.symbolic.function == "x" else f"{curve.symbolic.function}({inner})"
