"""The constants of a named function in the user's units.

An edge holds c·f(a·u + b) + d of the scaled input u = (x - shift)/scale. Constants are shown, set and rounded for raw
inputs x, and, on edges to an output that is a plain sum, for raw outputs. Between hidden nodes and in products there
are only the network's own units.

Redundant constants are neutral: c·f(a·x) of a power, a root, |x| or a logarithm has a = 1 or -1, an exponential has
b = 0, and a straight line is c·x + d.
"""

from dataclasses import asdict, dataclass
from math import exp, isfinite

import numpy as np

from kanserve.errors import InputError
from kanserve.network.edge_names import EdgeIndex, edge_names
from kanserve.network.kan import Kan, Sum, Symbolic, Zero
from kanserve.simplification.edge_candidates import homogeneous
from kanserve.simplification.symbolic_edges import name_edges

MOST_EXPONENT = 30.0  # largest exponent of a constant that is set by hand

NAMES = ("a", "b", "c", "d")


@dataclass(frozen=True)
class Units:
    """The units of an edge: its input is (x - shift)/scale, and its value is multiplied by `factor` for raw units."""

    shift: float = 0.0
    scale: float = 1.0
    factor: float = 1.0

    def to_user_units(self, symbolic: Symbolic) -> Symbolic:
        a = symbolic.a / self.scale
        return neutral(
            Symbolic(
                symbolic.function, a, symbolic.b - a * self.shift, symbolic.c * self.factor, symbolic.d * self.factor
            )
        )

    def to_network_units(self, symbolic: Symbolic) -> Symbolic:
        a, b = symbolic.a * self.scale, symbolic.b + symbolic.a * self.shift
        return neutral(Symbolic(symbolic.function, a, b, symbolic.c / self.factor, symbolic.d / self.factor))


def neutral(symbolic: Symbolic) -> Symbolic:
    """The same function with its redundant constants neutral; unchanged if that would overflow."""
    try:
        result = _neutral(symbolic)
    except OverflowError:
        return symbolic
    return result if _finite(result) else symbolic


def _neutral(symbolic: Symbolic) -> Symbolic:
    name, a, b, c, d = symbolic.function, symbolic.a, symbolic.b, symbolic.c, symbolic.d
    if name == "x":
        return Symbolic(name, 1.0, 0.0, c * a, c * b + d)
    if a != 0 and (scaling := homogeneous(name)):
        factor, offset = scaling(abs(a))
        return Symbolic(name, a / abs(a), b / abs(a), c * factor, d + c * offset)
    if name == "exp" and abs(b) < MOST_EXPONENT:
        return Symbolic(name, a, 0.0, c * exp(b), d)
    return symbolic


def _finite(symbolic: Symbolic) -> bool:
    return all(isfinite(getattr(symbolic, name)) for name in NAMES)


def units(kan: Kan, place: EdgeIndex) -> Units:
    """The user's units at both ends of an edge, relative to the network's."""
    depth, j, i = place
    layer = kan.layers[depth]
    shift, scale = (float(kan.input_shift[i]), float(kan.input_scale[i])) if depth == 0 else (0.0, 1.0)
    factor = 1.0
    if depth == len(kan.layers) - 1:
        q = int(np.searchsorted(np.cumsum(layer.arity), j, side="right"))
        whole = float(layer.subnode_scale[j] * layer.node_scale[q] * kan.output_scale[q])
        factor = whole if layer.arity[q] == 1 and whole != 0 else 1.0
    return Units(shift, scale, factor)


def named_function(kan: Kan, place: EdgeIndex) -> Symbolic | None:
    """The named function of an edge in the user's units; None if it has none."""
    edge = kan.layers[place[0]].edge(*place[1:])
    own = edge.symbolic if isinstance(edge, Sum) else edge
    return units(kan, place).to_user_units(own) if isinstance(own, Symbolic) else None


def with_constants(kan: Kan, place: EdgeIndex, given: dict[str, float]) -> Kan:
    """Set some of a, b, c, d in the user's units; the others stay as shown."""
    edge = kan.layers[place[0]].edge(*place[1:])
    if isinstance(edge, Sum):
        raise InputError(f"The edge {edge_names(kan)[place]} has a spline beside its function; snap or free it first.")
    if not isinstance(edge, Symbolic):
        kind = "zero" if isinstance(edge, Zero) else "a free spline"
        name = edge_names(kan)[place]
        raise InputError(f"The edge {name} is {kind} and has no constants; snap it to a function first.")
    own = units(kan, place)
    result = own.to_network_units(Symbolic(**(asdict(own.to_user_units(edge)) | given)))
    if not _finite(result):
        name = edge_names(kan)[place]
        raise InputError(f"In the network's own units the constants of {name} overflow: {result}.")
    return name_edges(kan, {place: result})
