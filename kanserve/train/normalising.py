"""Normalisation of inputs and targets, stored in the network's shifts and scales. Inputs are scaled to [-1, 1] by their
minimum and maximum, targets to mean 0 and standard deviation 1, with weighted rows. A constant input gets half-width 1;
a constant target gets scale 1 and an output without edges."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError
from kanserve.network.kan import Kan, Layer, Variable
from kanserve.train.losses import LossFunction, robust_spread

Array = NDArray[np.float64]

AT_ONCE = 2**16  # rows
CONSTANT = 1e-12  # a smaller spread, relative to the largest absolute value, is rounding


def normalise(kan: Kan, data: Dataset, loss: LossFunction | None = None) -> Kan:
    """Set the shifts, scales, names and ranges for these data; layers stay. Outputs get mean 0 and standard deviation 1
    (robust losses: median and middle half; log links: the logarithm of target / mean)."""
    if (data.x.shape[1], data.y.shape[1]) != (len(kan.inputs), len(kan.outputs)):
        raise DataError(
            f"A network from {len(kan.inputs)} inputs to {len(kan.outputs)} outputs cannot learn data with "
            f"{data.x.shape[1]} and {data.y.shape[1]}. Change its shape or the columns."
        )
    units = {variable.name: variable.unit for variable in (*kan.inputs, *kan.outputs)}
    low, high = data.x.min(axis=0), data.x.max(axis=0)
    shift, scale = _centre(low, high)
    named = replace(
        kan,
        inputs=_variables(data.inputs, low, high, units),
        outputs=_variables(data.outputs, data.y.min(axis=0), data.y.max(axis=0), units),
        input_shift=shift,
        input_scale=scale,
        classes=tuple(data.classes),
    )
    if data.classes:  # scores have no unit: the loss compares their softmax
        return replace(named, output_shift=np.zeros(len(kan.outputs)), output_scale=np.ones(len(kan.outputs)))
    mean, spread, constant = _spread(data)
    if loss is not None and loss.log_link:
        mean, spread = np.log(mean), np.ones(len(mean))
    elif loss is not None and loss.robust:
        rows = data.sample(AT_ONCE, 0)
        for q in np.flatnonzero(~constant):
            middle, deviation = robust_spread(rows.y[:, q], rows.weights)
            if deviation > 0:
                mean[q], spread[q] = middle, deviation
    wanted = replace(named, output_shift=mean, output_scale=spread)
    return without_edges(wanted, constant)


def without_edges(kan: Kan, outputs: NDArray[np.bool_]) -> Kan:
    """Make these outputs (Q,) constant, equal to their shift (the mean)."""
    if not outputs.any():
        return kan
    last = kan.layers[-1]
    gone = np.repeat(outputs, last.arity)
    layer: Layer = replace(
        last,
        coefficients=np.where(gone[:, None, None], 0.0, last.coefficients),
        base_weight=np.where(gone[:, None], 0.0, last.base_weight),
        functions=np.where(gone[:, None], "", last.functions),
        subnode_bias=np.where(gone, 0.0, last.subnode_bias),
        node_bias=np.where(outputs, 0.0, last.node_bias),
    )
    return replace(kan, layers=(*kan.layers[:-1], layer))


def _centre(low: Array, high: Array) -> tuple[Array, Array]:
    half = high / 2 - low / 2  # in this order, so that the largest floats do not overflow
    return low / 2 + high / 2, np.where(_are_same(low, high), 1.0, half)


def _are_same(low: Array, high: Array) -> NDArray[np.bool_]:
    """Whether the ends of ranges differ only by rounding."""
    largest = np.maximum(np.maximum(np.abs(low), np.abs(high)), np.finfo(np.float64).tiny)
    same: NDArray[np.bool_] = high / largest - low / largest <= CONSTANT
    return same


def _spread(data: Dataset) -> tuple[Array, Array, NDArray[np.bool_]]:
    """The mean and standard deviation of each target column, and whether it is constant."""
    low, high = data.y.min(axis=0), data.y.max(axis=0)
    largest = np.maximum(np.maximum(np.abs(low), np.abs(high)), np.finfo(np.float64).tiny)
    same = _are_same(low, high)
    mean = _mean(data, lambda y: y / largest)
    deviation = np.sqrt(_mean(data, lambda y: (y / largest - mean) ** 2))
    constant = same | (deviation < CONSTANT**2)  # all but a few rows have a negligible weight
    return np.where(same, data.y[0], mean * largest), np.where(constant, 1.0, deviation * largest), constant


def _mean(data: Dataset, of: Callable[[Array], Array]) -> Array:
    """The weighted mean of a function of the targets, computed in blocks, since a file of rows may exceed memory."""
    total, weight = np.zeros(data.y.shape[1]), 0.0
    largest = 1.0 if data.weights is None else data.weights.max()  # so that a sum of huge weights does not overflow
    for start in range(0, len(data), AT_ONCE):
        block = of(data.y[start : start + AT_ONCE])
        if data.weights is None:
            total, weight = total + block.sum(axis=0), weight + len(block)
        else:
            weights = data.weights[start : start + AT_ONCE] / largest
            total, weight = total + weights @ block, weight + float(weights.sum())
    return total / weight


def _variables(names: tuple[str, ...], low: Array, high: Array, units: dict[str, str]) -> tuple[Variable, ...]:
    return tuple(
        Variable(name, units.get(name, ""), float(least), float(most))
        for name, least, most in zip(names, low, high, strict=True)
    )
