"""Raw features and answers to numbers near 1, folded into a network's affines: half of why a fit is never NaN.

Inputs go to [-1, 1] by their least and greatest value, answers to mean 0 and standard deviation 1, rows counting by
their weights. A constant input gets half-width 1, a constant answer scale 1 and an output without edges, which is
then right from the start.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError
from kanserve.network.kan import Kan, Layer, Variable

Array = NDArray[np.float64]

AT_ONCE = 2**16  # rows
CONSTANT = 1e-12  # a smaller spread, in units of the greatest absolute value, is rounding


def normalised(kan: Kan, data: Dataset) -> Kan:
    """The network with affines, names and ranges of these data; what is between the affines stays as it is."""
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
    if data.classes:  # scores have no unit: their softmax is what is compared
        return replace(named, output_shift=np.zeros(len(kan.outputs)), output_scale=np.ones(len(kan.outputs)))
    mean, spread, constant = _spread(data)
    wanted = replace(named, output_shift=mean, output_scale=spread)
    return without_edges(wanted, constant)


def without_edges(kan: Kan, outputs: NDArray[np.bool_]) -> Kan:
    """The network in which these outputs (Q,) are their shift, the mean, whatever the inputs are."""
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
    half = high / 2 - low / 2  # so that the ends of float64 do not overflow
    constant = half <= CONSTANT * np.maximum(np.abs(low), np.abs(high))
    return low / 2 + high / 2, np.where(constant, 1.0, half)


def _spread(data: Dataset) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Mean, standard deviation and whether constant, of each column of answers."""
    low, high = data.y.min(axis=0), data.y.max(axis=0)
    largest = np.maximum(np.maximum(np.abs(low), np.abs(high)), np.finfo(np.float64).tiny)
    same: NDArray[np.bool_] = high / largest - low / largest <= CONSTANT
    mean = _mean(data, lambda y: y / largest)
    deviation = np.sqrt(_mean(data, lambda y: (y / largest - mean) ** 2))
    constant = same | (deviation < CONSTANT**2)  # where all but a few rows weigh next to nothing
    return np.where(same, data.y[0], mean * largest), np.where(constant, 1.0, deviation * largest), constant


def _mean(data: Dataset, of: Callable[[Array], Array]) -> Array:
    """The weighted mean of a function of the answers, block by block, since a file of rows may exceed the memory."""
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
