"""The splines of a layer, in the body that suits its grid and width.

- CardinalCubic, for order 3 on a uniform grid, up to 20 intervals or in a wide layer: every basis function is one bump,
  B(d) = 2/3·(2·p³ - q³) with p = max(0, 1 - |d|/2), q = max(0, 1 - |d|) and d the distance from the middle of the
  bump in steps. Linear beyond the range: the value is clamped into it, and what was cut off, e, enters the layer's
  product as e and |e|, with the mean and half the difference of the slopes at the two ends as weights.
- LocalPolynomials, for any knots and order: the piece that holds the value is found, its polynomials to all subnodes
  are gathered and multiplied with the powers of the distance t from its origin. It copies (k+1)·O numbers an input.
- LocalBasis, the same for layers with many subnodes: what is gathered is the polynomials of the G + k basis functions,
  and a matrix product goes from these to the subnodes.

`splines.pieces` defines the pieces, those beyond the range included. A piece is found by counting the breaks that are
not above the value, so that NaN finds piece 0; on a fine uniform grid by dividing, and there the quotient is clamped
before and after it is cast, since the integer that NaN becomes is no row of a table. Rounding may find the
neighbouring piece for a value on a break; both are right there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.ir import Layer
from kanserve.options import Precision
from kanserve.splines import pieces
from kanserve_exporters._onnx_body import Body

Array = NDArray[np.float64]

DENSE = 20  # intervals up to which computing every bump beats looking one piece up
COUNTED = 16  # breaks up to which counting them beats dividing
PRODUCT = 8  # multiplications of a matrix product that cost as much as copying one number
INT64 = 7  # TensorProto.DataType
# How far a knot may be from its place on a uniform grid, in steps: below what the precision itself costs.
UNIFORM = {"double": 1e-13, "float": 5e-7}


@dataclass(frozen=True)
class Splines:
    """Splines as terms of a layer: features with weights for its product, a basis with weights, finished sums."""

    kind: str = ""
    reason: str = ""
    features: tuple[tuple[str, Array], ...] = ()
    basis: str = ""
    weights: Array | None = None
    sums: tuple[str, ...] = ()
    width: int = 0


def splines(body: Body, layer: Layer, scaled: Callable[[Array], Array], precision: Precision) -> Splines:
    """Append the splines of a layer; `scaled` makes columns of the layer's product of weights (..., O)."""
    used = np.flatnonzero((layer.coefficients != 0).any(axis=(0, 2)))
    if not len(used):
        return Splines()
    v = "v" if len(used) == layer.inputs else body("Gather", "v", body.table("spline_inputs", used), axis=1)
    knots = layer.knots[used]
    weights = scaled(layer.coefficients[:, used].transpose(1, 2, 0))  # (I, G+k, columns)
    uniform = is_uniform(knots, precision)
    grid = f"{'uniform' if uniform else 'non-uniform'} grid of {layer.intervals} intervals, order {layer.order}"
    functions, subnodes = weights.shape[1:]
    # Copying (k+1)·O numbers an input, against (k+1)·(G+k) and a product with G + k rows of the weights.
    narrow = (layer.order + 1) * subnodes <= (layer.order + 1) * functions + functions * subnodes / PRODUCT
    if uniform and layer.order == 3 and (layer.intervals <= DENSE or not narrow):
        return _cardinal_cubic(body, v, knots, weights, layer.extrapolation == "linear", grid)
    found = _pieces(layer, knots)
    place = _find(body, v, found, uniform)
    return (_local_polynomials if narrow else _local_basis)(body, place, found, weights, grid)


def is_uniform(knots: Array, precision: Precision) -> bool:
    """Whether every row of knots (I, T) is equally spaced, as nearly as the precision can tell."""
    steps = np.linspace(0.0, 1.0, knots.shape[1])
    width = knots[:, -1:] - knots[:, :1]
    off = np.abs(knots - (knots[:, :1] + width * steps)) * (knots.shape[1] - 1)
    return bool((off <= UNIFORM[precision] * width).all())


def _cardinal_cubic(body: Body, v: str, knots: Array, weights: Array, linear: bool, grid: str) -> Splines:
    intervals = knots.shape[1] - 7
    low, high = knots[:, 3], knots[:, -4]
    middle, step = body.table("middles", (low + high) / 2), body.table("steps", (high - low) / intervals)
    u = body("Div", body("Sub", v, middle), step)
    features: tuple[tuple[str, Array], ...] = ()
    if linear:
        inside = body("Clip", u, body.table("lowest", -intervals / 2), body.table("highest", intervals / 2))
        beyond = body("Sub", u, inside)
        first, last = (weights[:, 2] - weights[:, 0]) / 2, (weights[:, -1] - weights[:, -3]) / 2
        features = ((beyond, (first + last) / 2), (body("Abs", beyond), (last - first) / 2))
        u = inside
    centers = body.table("centers", np.arange(intervals + 3) - intervals / 2 - 1)
    distance = body("Abs", body("Sub", body("Unsqueeze", u, body.integers(2)), centers))
    three = body.number(3)
    p = body("Pow", body("HardSigmoid", distance, alpha=-0.5, beta=1.0), three)
    q = body("Pow", body("HardSigmoid", distance, alpha=-1.0, beta=1.0), three)
    bumps = body("Sub", body("Add", p, p), q)
    return Splines(
        kind="CardinalCubic",
        reason=f"CardinalCubic: {grid}, {'linear' if linear else 'zero'} beyond it; every bump is computed",
        features=features,
        basis=body("Flatten", bumps, axis=1),
        weights=_flat(weights) * (2 / 3),
        width=weights.shape[0] * weights.shape[1],
    )


@dataclass(frozen=True)
class _Pieces:
    """The basis functions of each input as local polynomials: local (I, P, k+1, G+k)."""

    breaks: Array  # (I, P-1)
    origins: Array  # (I, P)
    local: Array


def _pieces(layer: Layer, knots: Array) -> _Pieces:
    # The inputs of a layer often share their knots, and a wide one would take seconds.
    distinct, which = np.unique(knots, axis=0, return_inverse=True)
    count = layer.coefficients.shape[2]
    every = np.broadcast_to(np.eye(count)[:, None], (count, len(distinct), count))
    found = pieces(distinct, every, layer.order, layer.extrapolation)
    return _Pieces(found.breaks[which], found.origins[which], found.coefficients.transpose(1, 2, 3, 0)[which])


@dataclass(frozen=True)
class _Place:
    """Where values lie: rows (batch, I) of tables with a row for each input and piece, distances (batch, I, 1)."""

    row: str
    distance: str


def _find(body: Body, v: str, found: _Pieces, uniform: bool) -> _Place:
    inputs, count = found.origins.shape
    first = np.arange(inputs) * count
    if uniform and count - 1 > COUNTED:
        low, high = found.breaks[:, 0], found.breaks[:, -1]
        u = body("Div", body("Sub", v, body.table("lows", low)), body.table("steps", (high - low) / (count - 2)))
        floor = body("Floor", body("Clip", u, body.number(-1), body.table("last", float(count - 2))))
        index = body("Clip", body("Cast", floor, to=INT64), body.integer(-1), body.table("last_row", count - 2))
        row = body("Add", index, body.table("first_rows", first + 1))
    else:
        above = body("GreaterOrEqual", body("Unsqueeze", v, body.integers(2)), body.table("breaks", found.breaks))
        index = body("ReduceSum", body("Cast", above, to=INT64), body.integers(2), keepdims=0)
        row = body("Add", index, body.table("first_rows", first))
    origin = body("Gather", body.table("origins", found.origins.ravel()), row, axis=0)
    return _Place(row, body("Unsqueeze", body("Sub", v, origin), body.integers(2)))


def _local_polynomials(body: Body, place: _Place, found: _Pieces, weights: Array, grid: str) -> Splines:
    inputs, count, powers, _ = found.local.shape
    subnodes = weights.shape[2]
    polynomials = np.einsum("iprm,imj->iprj", found.local, weights)
    table = body.table("polynomials", polynomials.reshape(inputs * count, powers * subnodes))
    shape = body.table("polynomials_shape", np.array([0, inputs * powers, subnodes]))
    gathered = body("Reshape", body("Gather", table, place.row, axis=0), shape)
    # The powers from the second on, of a distance within the pieces: beyond the range their coefficients are 0, and
    # 0 times a power that overflowed would be NaN.
    t = place.distance
    reach = float(np.ptp(found.breaks[np.isfinite(found.breaks)]))
    within = body("Clip", t, body.table("back", -reach), body.table("forth", reach))
    columns = [body("Clip", t, body.number(1), body.number(1)), t]  # the first is 1 for every t
    power = within
    for _ in range(2, powers):
        power = body("Mul", power, within)
        columns.append(power)
    row = body("Unsqueeze", body("Flatten", body("Concat", *columns, axis=2), axis=1), body.integers(1))
    return Splines(
        kind="LocalPolynomials",
        reason=f"LocalPolynomials: {grid}; a piece is looked up, its polynomials to all subnodes are copied",
        sums=(body("Squeeze", body("MatMul", row, gathered), body.integers(1)),),
        width=inputs * powers * subnodes,
    )


def _local_basis(body: Body, place: _Place, found: _Pieces, weights: Array, grid: str) -> Splines:
    inputs, count, powers, functions = found.local.shape
    tables = found.local.reshape(inputs * count, powers, functions)
    value = ""
    for power in reversed(range(powers)):
        coefficient = body("Gather", body.table(f"basis{power}", tables[:, power]), place.row, axis=0)
        value = body("Add", body("Mul", value, place.distance), coefficient) if value else coefficient
    return Splines(
        kind="LocalBasis",
        reason=f"LocalBasis: {grid}; a piece is looked up, the basis functions on it are computed",
        basis=body("Flatten", value, axis=1),
        weights=_flat(weights),
        width=inputs * functions,
    )


def _flat(weights: Array) -> Array:
    """Weights (I, G+k, columns) as a matrix."""
    return weights.reshape(-1, weights.shape[2])
