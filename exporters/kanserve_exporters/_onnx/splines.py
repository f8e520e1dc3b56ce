"""The splines of a layer, in the body that suits its grid and width.

- CardinalLinear to CardinalQuintic, on a uniform grid: every basis function is a cardinal B-spline (bump), and all are
  computed (`onnx_cardinal.py`). In small layers, even the parts of the bumps are only added up by the product.
- LocalPolynomials, for any knots and order: the piece with the value is looked up, and its polynomials to all subnodes
  are gathered and multiplied with the powers of the distance t from its origin. It copies (k+1)·O numbers per input.
- LocalBasis, the same for layers with many subnodes: the polynomials of the G + k basis functions are gathered, and a
  matrix product maps these to the subnodes.

`splines.pieces` defines the pieces, those beyond the range included. A piece is found by counting the breaks at or
below the value, so that NaN gets piece 0; on a fine uniform grid by dividing, with the quotient clamped before and
after the cast, since NaN casts to an arbitrary integer. For a value on a break, rounding may find the neighbouring
piece, which is also correct.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Layer
from kanserve.network.splines import about, basis, pieces
from kanserve_exporters._onnx import cardinal as onnx_cardinal
from kanserve_exporters._onnx import costs as onnx_costs
from kanserve_exporters._onnx.body import Body
from kanserve_exporters._onnx.costs import How

Array = NDArray[np.float64]

COUNTED = 16  # breaks up to which counting them is faster than dividing
INT64 = 7  # TensorProto.DataType


@dataclass(frozen=True)
class Splines:
    """The splines as terms of a layer: features with weights for its product, a basis with weights, finished sums."""

    kind: str = ""
    reason: str = ""
    features: tuple[tuple[str, Array], ...] = ()
    basis: str = ""
    weights: Array | None = None
    table: str = "spline_weights"  # the name of these weights
    factor: float = 1.0  # of the product with them
    sums: tuple[str, ...] = ()
    width: int = 0


def splines(body: Body, value: str, layer: Layer, scaled: Callable[[Array], Array], how: How | None = None) -> Splines:
    """Append the splines of a layer at `value`; `scaled` maps weights (..., O) to columns of the layer's product."""
    precision = body.precision
    used = np.flatnonzero((layer.coefficients != 0).any(axis=(0, 2)))
    if not len(used):
        return Splines()
    v = value if len(used) == layer.inputs else body("Gather", value, body.table("spline_inputs", used), axis=1)
    knots = layer.knots[used]
    grid = onnx_cardinal.grids(knots, layer.order, precision)
    weights = scaled(layer.coefficients[:, used].transpose(1, 2, 0))  # (I, G+k, columns)
    even = "uniform" if grid else "non-uniform"
    text = f"{even} grid of {layer.intervals} intervals, order {layer.order}"
    bumps = grid is not None and onnx_cardinal.suits(grid, precision)
    shape = onnx_costs.Shape(len(used), weights.shape[2], layer.intervals, layer.order)
    fine = grid is not None and onnx_cardinal.fine(grid, precision)
    how = how or onnx_costs.cheapest(shape, bumps, fine)
    if grid and how in ("bumps", "parts"):
        return _cardinal(body, v, grid, weights, layer.extrapolation == "linear", text, how)
    found = _pieces(layer, knots, body.dtype)
    place = _find(body, v, found, grid is not None)
    return (_local_polynomials if how == "polynomials" else _local_basis)(body, place, found, weights, text)


def _cardinal(
    body: Body, v: str, grid: onnx_cardinal.Grids, weights: Array, linear: bool, text: str, how: How
) -> Splines:
    found = onnx_cardinal.bumps(body, v, grid, linear, how == "parts")
    multiplied = _flat(weights) * found.factor
    if found.parts:
        body.table("spline_weights", multiplied)  # for a native operator
        multiplied = _flat(np.concatenate([weights * part for part in found.parts], axis=1))
    features: tuple[tuple[str, Array], ...] = ()
    if linear:
        first, last = (_slope(weights, grid.order, value) for value in (0, 1))
        features = tuple(zip(found.beyond, ((first + last) / 2, (last - first) / 2), strict=True))
    kind = f"Cardinal{onnx_cardinal.NAMES[grid.order]}"
    what = "the parts of every bump are" if found.parts else "every bump is"
    return Splines(
        kind=kind,
        reason=f"{kind}: {text}, {'linear' if linear else 'zero'} beyond it; {what} computed",
        features=features,
        basis=found.basis,
        weights=multiplied,
        table="part_weights" if found.parts else "spline_weights",
        factor=1.0 if found.parts else 2.0,
        width=weights.shape[0] * weights.shape[1] * max(1, len(found.parts)),
    )


def _slope(weights: Array, order: int, end: int) -> Array:
    """The derivative (I, columns) of the splines per grid step, at the lower or upper end of the range (`end`)."""
    knots = np.arange(-float(order), weights.shape[1] + 1)
    at = np.array([[0.0], [weights.shape[1] - float(order)]])[end]
    slope: Array = np.einsum("m,imj->ij", basis(at, knots, order, 1)[0], weights)
    return slope


@dataclass(frozen=True)
class _Pieces:
    """The basis functions of each input as local polynomials (I, P, k+1, G+k)."""

    breaks: Array  # (I, P-1)
    origins: Array  # (I, P)
    local: Array


def _pieces(layer: Layer, knots: Array, dtype: np.dtype[np.generic]) -> _Pieces:
    # The inputs of a layer often share their knots; computing each would take seconds for a wide layer.
    distinct, which = np.unique(knots, axis=0, return_inverse=True)
    count = layer.coefficients.shape[2]
    every = np.broadcast_to(np.eye(count)[:, None], (count, len(distinct), count))
    found = pieces(distinct, every, layer.order, layer.extrapolation)
    origins = found.origins.astype(dtype).astype(np.float64)
    local = about(found.coefficients, origins - found.origins)
    return _Pieces(found.breaks[which], origins[which], local.transpose(1, 2, 3, 0)[which])


@dataclass(frozen=True)
class _Place:
    """The location of values: rows (batch, I) of tables with a row per input and piece, and distances (batch, I, 1)."""

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
        # keepdims and a Squeeze, since OpenVINO computes a wrong sum without keepdims.
        index = body("ReduceSum", body("Cast", above, to=INT64), body.integers(2), keepdims=1)
        row = body("Add", body("Squeeze", index, body.integers(2)), body.table("first_rows", first))
    origin = body("Gather", body.table("origins", found.origins.ravel()), row, axis=0)
    return _Place(row, body("Unsqueeze", body("Sub", v, origin), body.integers(2)))


def _local_polynomials(body: Body, place: _Place, found: _Pieces, weights: Array, grid: str) -> Splines:
    inputs, count, powers, _ = found.local.shape
    subnodes = weights.shape[2]
    polynomials = np.einsum("iprm,imj->iprj", found.local, weights)
    table = body.table("polynomials", polynomials.reshape(inputs * count, powers * subnodes))
    shape = body.table("polynomials_shape", np.array([0, inputs * powers, subnodes]))
    gathered = body("Reshape", body("Gather", table, place.row, axis=0), shape)
    # Powers from the second on use a distance clamped to the pieces: beyond the range their coefficients are 0, and 0
    # times an overflowed power would be NaN.
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
