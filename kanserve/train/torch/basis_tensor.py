"""The grids of a layer as one tensor for the operators, and its basis functions in plain torch."""

from math import frexp, ldexp, perm

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import MissingDependencyError
from kanserve.network.kan import Layer
from kanserve.network.splines import span
from kanserve.train.lm.active_basis import active_basis

LEADING = 14  # leading bits of a step: a float holds their product with an interval's number exactly
EQUAL = 1e-13  # of a step: tolerance for a knot of a uniform grid

try:
    import torch
    from torch import Tensor
except ImportError:
    raise MissingDependencyError("torch", "torch") from None

HEAD = 4  # low, step, rest and 1/step of an input's grid


def table_of(layer: Layer) -> NDArray[np.float64]:
    """The layer's grids as a table (I, R) in the layout of native/layer/layer_basis.h."""
    basis = active_basis(layer)
    inputs, active = layer.inputs, layer.order + 1
    pieces = len(basis.origins) // inputs
    table = np.zeros((inputs, HEAD + 3 * pieces - 1 + pieces * active**2))
    for i, breaks in enumerate(basis.breaks):
        own = slice(i * pieces, (i + 1) * pieces)
        padded = np.pad(breaks, (0, pieces - 1 - len(breaks)), constant_values=np.inf)
        polynomials = basis.polynomials[:, :, own].transpose(2, 0, 1).ravel()
        table[i] = np.concatenate([_steps(layer, i), padded, basis.origins[own], basis.first[own], polynomials])
    return table


def _steps(layer: Layer, i: int) -> tuple[float, float, float, float]:
    """For evenly spaced knots, to which the closed form of `layer_basis.h` applies: the first knot, the step in two
    parts (leading bits and rest), and 1/step; else zeros."""
    low, high = span(layer.knots[i], layer.order)
    step = (high - low) / layer.intervals
    places = low + step * np.arange(-layer.order, layer.intervals + layer.order + 1)
    equal = bool((np.abs(layer.knots[i] - places) <= EQUAL * step).all())
    if not equal or layer.order != 3 or layer.extrapolation != "linear":
        return 0.0, 0.0, 0.0, 0.0
    mantissa, exponent = frexp(step)
    leading = ldexp(round(mantissa * 2**LEADING), exponent - LEADING)
    return low, leading, step - leading, 1 / step


def basis(x: Tensor, table: Tensor, order: int, functions: int, derivative: int = 0) -> Tensor:
    """All basis functions at x (I, N), or a derivative of them, in plain torch: (I, G+k, N)."""
    inputs, active, count = len(table), order + 1, pieces(table.shape[1], order)
    ends = np.cumsum([HEAD, count - 1, count, count]).tolist()
    breaks, origins, first, polynomials = torch.tensor_split(table, ends, dim=1)[1:]
    piece = torch.searchsorted(breaks.contiguous(), x.detach().contiguous(), right=True)
    piece = (piece + torch.arange(inputs, device=x.device)[:, None] * count).flatten()
    powers = polynomials.reshape(-1, active, active).permute(1, 2, 0).contiguous()
    offset = x - origins.reshape(-1).index_select(0, piece).view_as(x)
    local = x.new_zeros(active, *x.shape)
    for power in range(order, derivative - 1, -1):
        factor = perm(power, derivative)
        local = local * offset + factor * powers[power].index_select(1, piece).view_as(local)
    places = first.reshape(-1).index_select(0, piece).view_as(x).long()
    places = places + torch.arange(active, device=x.device)[:, None, None]
    return x.new_zeros(inputs, functions, x.shape[1]).scatter(1, places.transpose(0, 1), local.transpose(0, 1))


def pieces(record: int, order: int) -> int:
    """The number of polynomial pieces per input, from the length of a row of the table."""
    return (record - HEAD + 1) // (3 + (order + 1) ** 2)
