"""Splines on a uniform grid as sums of cardinal B-splines ("bumps"), all of which are computed.

The cardinal B-spline of order (degree) k is, at a distance of d steps from its center, with w_r = (k + 1)/2 - r,

    B(d) = Σ_{r ≤ k/2} (-1)^r · C(k+1, r)·max(0, w_r - |d|)^k / k!          (truncated powers, from the nearer end)
         = a·Σ_r (-1)^r · clip(c_r·(1 - |d|/w_r), 0, 1)^k,   a = w_0^k / k!,   a·c_r^k = C(k+1, r)·w_r^k / k!

so that a part is one HardSigmoid (in float) and a power. The table `spline_weights` holds the coefficients times a/2:
the product with it has a factor 2. Distances come from one matrix product: the values as a column, times the row
1/step, minus the row of centers. If the inputs have different grids, they are first converted to steps from the grid's
center.

Linear extrapolation: the value is clamped to the range, and the excess e enters the layer's product as e and |e|, in
steps, with the mean and half the difference of the slopes at the two ends as weights.

Far from 0, in steps, float needs care: 25 steps are rounded by 1e-6 of a step, which would dominate the error. There
the center of the grid is subtracted before the division. On a fine grid, whose ends are far from its center, the values
stay as they are next to a column of ones, and the product subtracts the leading part of each bump's center, which is
exact where it matters, and then the rest.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.network.export_options import Precision
from kanserve_exporters._onnx.body import Body

Array = NDArray[np.float64]

# The allowed deviation of knots from a uniform grid, in steps: below the rounding errors of the precision.
UNIFORM = {"double": 1e-13, "float": 5e-7}
HIGHEST = 5  # order: cancellation between the parts of a bump grows with it
FINE = 20  # intervals beyond which float needs care
LAST = 6  # factor on REACH for the last layer
REACH = {"double": 1000.0, "float": 10.0}  # steps from 0 within which no care is needed
DIAGONAL = 64  # inputs up to which a diagonal matrix costs less than two operators
NAMES = {1: "Linear", 2: "Quadratic", 3: "Cubic", 4: "Quartic", 5: "Quintic"}


@dataclass(frozen=True)
class Grids:
    """Uniform grids: the ends (I,) of their ranges, intervals, order, and whether all inputs share one grid."""

    low: Array
    high: Array
    intervals: int
    order: int
    shared: bool

    @property
    def step(self) -> Array:
        return (self.high - self.low) / self.intervals

    @property
    def offsets(self) -> Array:
        """The centers (G+k,) of the bumps, in steps from the center of the range."""
        bumps = self.intervals + self.order
        offsets: Array = np.arange(bumps, dtype=np.float64) - (bumps - 1) / 2
        return offsets


@dataclass(frozen=True)
class Bumps:
    """All bumps, or all their parts: values for a product, features for extrapolation, and the factors of the table
    (`spline_weights` are coefficients times `factor`). The values are (batch, I, parts, G+k) with `parts`, else (batch,
    I, G+k), the bumps divided by a."""

    basis: str
    beyond: tuple[str, ...]
    factor: float
    parts: tuple[float, ...] = ()


def grids(knots: Array, order: int, precision: Precision) -> Grids | None:
    """The grids of inputs with knots (I, G+2k+1) if all are uniform within the precision, else None."""
    steps = np.linspace(0.0, 1.0, knots.shape[1])
    width = knots[:, -1:] - knots[:, :1]
    allowed = UNIFORM[precision] * width
    if (np.abs(knots - (knots[:, :1] + width * steps)) * (knots.shape[1] - 1) > allowed).any():
        return None
    shared = bool((np.abs(knots - knots[:1]) * (knots.shape[1] - 1) <= allowed).all())
    return Grids(knots[:, order], knots[:, -order - 1], knots.shape[1] - 2 * order - 1, order, shared)


def fine(grid: Grids, precision: Precision) -> bool:
    """Whether values in steps would lose too much precision."""
    return precision == "float" and grid.intervals > FINE


def suits(grid: Grids, precision: Precision) -> bool:
    """Whether the bumps are exact enough on this grid."""
    return grid.order <= HIGHEST and (grid.shared or not fine(grid, precision))


def bumps(body: Body, v: str, grid: Grids, linear: bool, apart: bool = False) -> Bumps:
    """Append all bumps at values v (batch, I); with `apart`, their parts, which the product then adds up."""
    half = grid.intervals / 2
    # A native operator needs all of these tables, even if this body does not.
    middle, step = _halve(body, "middles", (grid.low + grid.high) / 2), _halve(body, "steps", grid.step)
    ends = (body.table("lowest", -half), body.table("highest", half)) if linear else None
    small = len(grid.low) <= DIAGONAL
    near = np.abs([grid.low, grid.high]).max() <= REACH[body.precision] * (LAST if body.last else 1) * grid.step.min()
    halves = np.array([(grid.order + 1) / 2 - r for r in range(grid.order // 2 + 1)] if apart else [1.0])
    if grid.shared:
        if linear:
            ends = body.table("low", grid.low[0]), body.table("high", grid.high[0])
        inside, beyond = _clamp(body, v, ends)
        beyond = body("Div", beyond, step) if beyond else ""
        distance = (_distances_on_one_grid if near else _exact)(body, inside, grid, halves)
    else:
        if near and small:
            shift = body.table("grid_shifts", -(grid.low + grid.high) / 2 / grid.step)
            u = body("Gemm", v, body.table("grid_scales", np.diag(1 / grid.step)), shift)
        else:
            u = body("Div", body("Sub", v, middle), step)
        inside, beyond = _clamp(body, u, ends)
        spread = body.table("spread", np.repeat(1 / halves, len(grid.offsets))[None])
        distance = body("Gemm", _columns(body, inside, 1), spread, body.table("centers", _outer(-grid.offsets, halves)))
    distance = body("Abs", distance)
    value = _power(body, _fading(body, distance, 1.0), grid.order) if apart else parts(body, distance, grid.order)
    columns = len(grid.low) * len(grid.offsets) * len(halves)
    shares = [_share(grid.order, r) * (-1) ** r * _first(grid.order) for r in range(len(halves))]
    return Bumps(
        basis=body("Reshape", value, body.table("flat", np.array([-1, columns]))),
        beyond=(beyond, body("Abs", beyond)) if linear else (),
        factor=factor(grid.order),
        parts=tuple(shares) if apart else (),
    )


def _halve(body: Body, name: str, values: Array) -> str:
    """Add a table, and in float also one of its rounding errors: 50 steps away, these are a large part of a step."""
    body.table(name, values)
    if body.precision == "float":
        body.table(f"{name}_rest", values - values.astype(np.float32))
    return name


def factor(order: int) -> float:
    """The factor a/2 on the coefficients in `spline_weights`."""
    return _first(order) / 2


def _outer(offsets: Array, halves: Array) -> Array:
    """Offsets in steps, converted for each part to units of its half width."""
    return (offsets / halves[:, None]).ravel()


def _clamp(body: Body, value: str, ends: tuple[str, str] | None) -> tuple[str, str]:
    """Clamp a value to the ends. Returns it, and the excess."""
    if ends is None:
        return value, ""
    inside = body("Clip", value, *ends)
    return inside, body("Sub", value, inside)


def _columns(body: Body, value: str, count: int) -> str:
    return body("Reshape", value, body.integers(-1, count))


def _distances_on_one_grid(body: Body, v: str, grid: Grids, halves: Array) -> str:
    """The distances (batch·I, parts·(G+k)) in half widths, or in steps, on one grid for all inputs."""
    step = grid.step[0]
    offset = -(grid.low + grid.high)[0] / 2 / step - grid.offsets
    spread = body.table("spread", np.repeat(1 / (step * halves), len(offset))[None])
    return body("Gemm", _columns(body, v, 1), spread, body.table("centers", _outer(offset, halves)))


def _exact(body: Body, v: str, grid: Grids, halves: Array) -> str:
    """Like `_distances_on_one_grid` where steps would lose too much precision: ((v - leading part) - rest) / step."""
    inputs, step = len(grid.low), grid.step[0]
    middles = np.tile((grid.low + grid.high)[0] / 2 + grid.offsets * step, len(halves))
    leading = middles.astype(body.dtype).astype(np.float64)
    pair = _columns(body, _beside_ones(body, v, inputs), 2)
    spread = body.table("spread", np.stack([np.ones_like(leading), -leading]))
    apart = body("Gemm", pair, spread, body.table("centers", leading - middles))
    return body("Mul", apart, body.table("inverse", np.repeat(1 / (step * halves), len(grid.offsets))))


def _beside_ones(body: Body, v: str, inputs: int) -> str:
    """Each value followed by a 1, in any shape."""
    if inputs <= DIAGONAL:
        pairs = np.zeros((inputs, inputs, 2))
        pairs[np.arange(inputs), np.arange(inputs), 0] = 1
        ones = body.table("ones", np.tile([0.0, 1.0], inputs))
        return body("Gemm", v, body.table("pairs", pairs.reshape(inputs, -1)), ones)
    column = body("Unsqueeze", v, body.integers(2))
    return body("Concat", column, body("Clip", column, body.number(1), body.number(1)), axis=2)


def parts(body: Body, distance: str, order: int) -> str:
    """The alternating sum of the parts of the bumps at distances in steps, divided by a."""
    total = ""
    for r in range(order // 2 + 1):
        part = _part(body, distance, order, r)
        total = body("Sub" if r % 2 else "Add", total, part) if total else part
    return total


def _part(body: Body, distance: str, order: int, r: int) -> str:
    half, share = (order + 1) / 2 - r, _share(order, r)
    if body.precision == "float":
        size = share ** (1 / order)
        return _power(body, body("HardSigmoid", distance, alpha=-size / half, beta=size), order)
    power = _power(body, _fading(body, distance, half), order)
    return power if r == 0 else body("Mul", power, body.number(share))


def _fading(body: Body, distance: str, half: float) -> str:
    """max(0, 1 - distance/half). HardSigmoid only in float: for double, runtimes lack it or round its attributes."""
    if body.precision == "float":
        return body("HardSigmoid", distance, alpha=-1 / half, beta=1.0)
    near = distance if half == 1 else body("Mul", distance, body.number(1 / half))
    return body("Clip", body("Sub", body.number(1), near), body.number(0))


def _share(order: int, r: int) -> float:
    """The size of a part at the center, relative to the first."""
    half = (order + 1) / 2 - r
    return math.comb(order + 1, r) * half**order / math.factorial(order) / _first(order)


def _first(order: int) -> float:
    """The constant a of the module's docstring."""
    return float(((order + 1) / 2) ** order / math.factorial(order))


def _power(body: Body, value: str, order: int) -> str:
    """value^order, by products where a runtime would use logarithms."""
    if order == 1:
        return value
    if order in (2, 3):
        return body("Pow", value, body.number(order))
    square = body("Mul", value, value)
    fourth = body("Mul", square, square)
    return fourth if order == 4 else body("Mul", fourth, value)
