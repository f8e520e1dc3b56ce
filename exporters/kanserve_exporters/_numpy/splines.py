"""The splines of a layer in NumPy: the choice of the fastest of three forms, its table and its call.

even    Equal intervals and many outputs: the k + 1 basis functions at each value are scattered into a row of zeros, for
        one product with the coefficients.
sparse  The local polynomials of each value's piece are gathered and multiplied with its powers.
dense   Other grids and many outputs: the powers are scattered into a row of zeros, for a product with all polynomials.

If the steps of a grid are very small or large, its inputs are multiplied by a power of 2 that brings the step near 1,
so that no power of a step overflows, and nothing is rounded.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import ExportError
from kanserve.network.export_options import Precision
from kanserve.network.kan import Layer
from kanserve.network.splines import about, pieces
from kanserve_exporters._shared.expressions import Dialect, decimals
from kanserve_exporters._shared.layer_tables import Parts, Splines, parts

Array = NDArray[np.float64]
Table = Array | float | None
Form = Literal["even", "sparse", "dense"]

_DENSE_OUTPUTS, _DENSE_PIECES = 8, 16  # least outputs and most pieces for which a product with many zeros is faster
# Measured nanoseconds per value: to scatter it over columns, and to gather polynomials for outputs.
_SPREAD, _A_COLUMN, _A_PRODUCT = 30.0, 0.55, 0.04
_COLLECT, _AN_OUTPUT, _BEYOND_THE_CACHE = 27.0, 1.4, 2.0
_CACHE = 2**21  # bytes
_ORDINARY = {"double": 100, "float": 40}  # the largest |log2| of the k-th power of a step without rescaling
_LARGEST_UNIT = {"double": 1000, "float": 120}  # as a power of 2


@dataclass(frozen=True, eq=False)
class Plan:
    """How a layer's splines are coded: the form, its tables, and how many numbers a row needs at a time."""

    form: Form
    tables: tuple[Table, ...]
    row: int
    units: Array | None = None  # (I,), by which the inputs are multiplied first


def units(layer: Layer, precision: Precision) -> Array | None:
    """Powers of 2 (I,) that bring the steps of a layer's grids near 1; None if they are near enough."""
    used, count = layer.spline_mask.any(axis=0), layer.knots.shape[1] - 1
    exponents = np.frexp(layer.knots[:, -1] / count - layer.knots[:, 0] / count)[1] * used
    if (np.abs(exponents) * layer.order <= _ORDINARY[precision]).all():
        return None
    largest = _LARGEST_UNIT[precision]
    powers: Array = np.ldexp(1.0, np.clip(-exponents, -largest, largest))
    return powers


def tabulate(layer: Layer, unit: Array | None, number: int, precision: Precision) -> tuple[Layer, Parts]:
    """A layer with its grids in units, and its parts with origins rounded to the module's type."""
    dtype = np.float32 if precision == "float" else np.float64
    layer = layer if unit is None else replace(layer, knots=layer.knots * unit[:, None])
    with np.errstate(all="ignore"):
        found = parts(layer, float(np.finfo(dtype).max))
        splines = found.splines and _round(found.splines, dtype)
    if splines and not np.isfinite(splines.coefficients).all():
        advice = "Export onnx_graph or c_source, which hold the coefficients themselves."
        advice = 'Export with precision="double".' if precision == "float" else advice
        raise ExportError(
            f"Layer {number} has coefficients so large or knots so far from 1 or so uneven that its polynomials "
            f"overflow in {precision}. {advice}"
        )
    return layer, replace(found, splines=splines)


def _round(splines: Splines, dtype: type[np.floating]) -> Splines:
    origins = splines.origins.astype(dtype).astype(np.float64)
    origins = np.where(np.isfinite(origins), origins, splines.origins)
    moved = about(splines.coefficients.transpose(3, 0, 1, 2), origins - splines.origins)
    return replace(splines, origins=origins, coefficients=np.ascontiguousarray(moved.transpose(1, 2, 3, 0)))


def plan(layer: Layer, splines: Splines, unit: Array | None, *, small: bool) -> Plan:
    """The plan for a layer's splines; in a small network the form is always sparse."""
    unit = None if unit is None else unit[splines.inputs]
    inputs, count, width, outputs = splines.coefficients.shape
    even = is_even(layer.knots[splines.inputs])
    if even and not small and _spread_is_faster(layer, splines):
        tables = _even_tables(layer, splines)
        return Plan("even", tables, len(tables[5]), unit)  # type: ignore[arg-type]  # the matrix
    wide = outputs >= _DENSE_OUTPUTS and count <= _DENSE_PIECES
    form: Form = "dense" if wide and not (even or small) else "sparse"
    table = splines.coefficients.reshape(inputs * count, width, outputs)
    row = inputs * width * (count if form == "dense" else outputs)
    per_step = splines.steps if even else None
    steps = None if per_step is None else per_step[:, None]
    return Plan(form, (splines.breaks, steps, splines.origins, splines.widest, table), row, unit)


def is_even(knots: Array) -> bool:
    """Whether the knots (I, T) are equally spaced, up to rounding."""
    even = np.linspace(knots[:, 0], knots[:, -1], knots.shape[1], axis=1)
    size = np.abs(knots[:, [0, -1]]).max(axis=1, keepdims=True)
    return bool((np.abs(knots - even) <= 16 * np.finfo(np.float64).eps * size).all())


def write_tables(number: int, chosen: Plan, dialect: Dialect) -> str:
    """The tables of a layer as a tuple."""
    lines = [f"    {_table(table, dialect)},\n" for table in chosen.tables]
    return f"_SPLINES_{number} = (\n{''.join(lines)})"


def array(values: Array, dialect: Dialect) -> str:
    """The code of an array in the module's type."""
    numbers = ", ".join(decimals(values, dialect.precision))
    return f"numpy.array([{numbers}], DTYPE).reshape({values.shape})"


def _table(value: Table, dialect: Dialect) -> str:
    if isinstance(value, np.ndarray):
        return array(value, dialect)
    return dialect.literal(value) if isinstance(value, float) else repr(value)


def _spread_is_faster(layer: Layer, splines: Splines) -> bool:
    inputs, count, width, outputs = splines.coefficients.shape
    columns = layer.coefficients.shape[2] + (layer.order if layer.extrapolation == "zero" else 0)
    spread = _SPREAD + columns * (_A_COLUMN + _A_PRODUCT * outputs)
    beyond = 8 * inputs * count * width * outputs > _CACHE
    collect = _COLLECT + outputs * _AN_OUTPUT * (_BEYOND_THE_CACHE if beyond else 1)
    return bool(spread < collect)


def _even_tables(layer: Layer, splines: Splines) -> tuple[Table, ...]:
    """First knot and reciprocal step of each input, all knots, the last interval, the basis, the matrix, and whether
    extrapolation is linear. With zero extrapolation, splines fall to 0 on k more intervals on either side, where
    missing basis functions have rows of zeros, which adjacent inputs share."""
    order, straight = layer.order, layer.extrapolation == "linear"
    knots = layer.knots[splines.inputs]
    knots = knots[:, order:-order] if straight else knots
    coefficients = layer.coefficients[np.ix_(splines.subnodes, splines.inputs)].transpose(1, 2, 0)
    if not straight:
        coefficients = np.pad(coefficients, ((0, 0), (0, order), (0, 0)))
    table = coefficients.reshape(-1, len(splines.subnodes))
    if not straight:
        table = np.pad(table, ((order, 0), (0, 0)))
    steps = (knots.shape[1] - 1) / (knots[:, -1] - knots[:, 0])
    # The k + 1 basis functions on one interval of width 1 of a uniform grid, as polynomials.
    basis = pieces(np.arange(2.0 * order + 2)[None], np.eye(order + 1)[:, None], order, "linear").coefficients[:, 0, 1]
    return (knots[:, 0], steps, knots[:, :-1], knots.shape[1] - 2, basis, table, straight)
