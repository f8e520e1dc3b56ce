"""Underflow in float32: a network whose numbers all become 0 would silently be exported as a constant."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import ExportError
from kanserve.network.export_options import Precision
from kanserve.network.kan import Kan

Array = NDArray[np.float64]


def refuse_underflow(kan: Kan, precision: Precision) -> None:
    """ExportError when all numbers of one table of a layer, or of the inputs or outputs, become 0 in float.

    Single numbers may: beside numbers of ordinary size they are negligible.
    """
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
