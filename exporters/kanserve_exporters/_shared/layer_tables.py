"""A layer for the source exporters: splines as tables of local polynomials, symbolic edges as terms."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import ExportError
from kanserve.network.export_options import Precision
from kanserve.network.kan import Base, Kan, Layer, Symbolic
from kanserve.network.splines import pieces
from kanserve_exporters._shared.expressions import constants

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Splines:
    """The splines of a layer, dense, for the inputs and subnodes that have any: I inputs, O subnodes, P pieces. Input i
    at x lies in piece p, the number of breaks[i] ≤ x; subnode j then gets Σ_r coefficients[i, p, r, j]·(x - origins[i,
    p])^r + base_weight[i, j]·base(x)."""

    inputs: NDArray[np.int64]  # (I,) of the layer's inputs
    subnodes: NDArray[np.int64]  # (O,) of the layer's subnodes
    breaks: Array  # (I, P-1), finite
    origins: Array  # (I, P)
    coefficients: Array  # (I, P, k+1, O)
    base: Base  # "zero" when no edge has a base weight
    base_weight: Array  # (I, O)
    widest: float  # no inner piece is wider than this

    @property
    def steps(self) -> Array | None:
        """1 / h (I,) for inputs with equally spaced breaks; None if those of any input are not."""
        first, last = self.breaks[:, :1], self.breaks[:, -1:]
        even = first + (last - first) * np.linspace(0, 1, self.breaks.shape[1])
        step = (last - first) / (self.breaks.shape[1] - 1)
        if not (step > 0).all() or (np.abs(self.breaks - even) > 0.25 * step).any():
            return None
        per_step: Array = 1 / step.ravel()
        return per_step


@dataclass(frozen=True, eq=False)
class Parts:
    """A layer in parts: z_j = subnode_scale_j·(constants_j + splines_j + Σ terms_j) + subnode_bias_j."""

    constants: Array  # (O,), the d of all symbolic edges
    splines: Splines | None
    terms: tuple[tuple[int, int, Symbolic], ...]  # (subnode, input, edge), in order


def parts(layer: Layer, largest: float) -> Parts:
    """Split a layer into parts; `largest` is the largest finite number of the type it will be written in."""
    terms = tuple(
        (int(j), int(i), _plain(Symbolic(str(layer.functions[j, i]), *layer.affine[j, i].tolist())))
        for j, i in np.argwhere(layer.symbolic_mask)
    )
    rows: list[list[Symbolic]] = [[] for _ in range(layer.subnodes)]
    for j, _, edge in terms:
        rows[j].append(edge)
    return Parts(constants(rows), _splines(layer, largest), terms)


def functions_of(layers: Sequence[Parts]) -> set[str]:
    names = {edge.function for part in layers for _, _, edge in part.terms} - {"x"}
    return names | {"silu" for part in layers if part.splines and part.splines.base == "silu"}


def _plain(edge: Symbolic) -> Symbolic:
    """A linear function as c·x + d: two constants instead of four. It has no domain that this could change."""
    slope, start = edge.c * edge.a, edge.c * edge.b + edge.d
    if edge.function != "x" or not (math.isfinite(slope) and math.isfinite(start)):
        return edge
    return Symbolic("x", 1.0, 0.0, slope, start)


def _splines(layer: Layer, largest: float) -> Splines | None:
    mask = layer.spline_mask
    if not mask.any():
        return None
    inputs, subnodes = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    chosen = np.ix_(subnodes, inputs)
    local = pieces(layer.knots[inputs], layer.coefficients[chosen], layer.order, layer.extrapolation)
    weights = np.ascontiguousarray(layer.base_weight[chosen].T)
    # Unused breaks are the largest number, which no value exceeds; infinity has no literal.
    breaks = np.minimum(local.breaks, largest)
    widths = np.diff(np.where(np.isfinite(local.breaks), local.breaks, np.nan), axis=1)
    return Splines(
        inputs=inputs,
        subnodes=subnodes,
        breaks=breaks,
        origins=local.origins,
        coefficients=np.ascontiguousarray(local.coefficients.transpose(1, 2, 3, 0)),
        base=layer.base if weights.any() else "zero",
        base_weight=weights,
        widest=float(np.nanmax(widths)),
    )


def refuse_underflow(kan: Kan, precision: Precision) -> None:
    """Raise ExportError if all numbers of one table of a layer, or of the inputs or outputs, become 0 in float. (Single
    ones are negligible next to numbers of ordinary size.)"""
    if precision == "double":
        return
    for name, values in _tables(kan):
        with np.errstate(all="ignore"):
            vanished = values.any() and not values.astype(np.float32).any()
        if vanished:
            raise ExportError(
                f"The {name} of the network are too small for float: all become 0, the largest of which is "
                f'{np.abs(values).max():.3g}. Export with precision="double".'
            )


def _tables(kan: Kan) -> Iterator[tuple[str, Array]]:
    yield "input_scale", kan.input_scale
    yield "output_scale and output_shift", np.concatenate([kan.output_scale, kan.output_shift])
    for number, layer in enumerate(kan.layers):
        edges = (layer.coefficients, layer.base_weight, layer.affine[layer.symbolic_mask][:, 2:])
        bias = layer.subnode_bias
        yield f"coefficients and weights of layer {number}", np.concatenate([*(edge.ravel() for edge in edges), bias])
        yield f"subnode_scale and subnode_bias of layer {number}", np.concatenate([layer.subnode_scale, bias])
        yield f"node_scale and node_bias of layer {number}", np.concatenate([layer.node_scale, layer.node_bias])
