"""The formulas stored in an artifact, if the network is small enough for them to be readable."""

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.expressions.formula import Formula
from kanserve.formula.from_network.formulas import formulas
from kanserve.network.kan import Kan, Layer

Reached = NDArray[np.bool_]  # (outputs, nodes of a layer): which nodes each output depends on

MOST_BYTES = 2_000_000  # of all formulas of an artifact, estimated; those of a larger network are not written
BYTES_AN_EDGE = 300  # for each output, of an edge that leads to it: in its texts and in its tree
BYTES_A_NUMBER = 20  # of a spline's table


def formulas_to_store(kan: Kan) -> tuple[Formula, ...]:
    """One formula per output, like `formulas(kan, strict=False)`. If the network is too large: only the name and
    whether it is in closed form, with an empty tree and texts and `shortened` true."""
    if estimate_bytes(kan) <= MOST_BYTES:
        return formulas(kan, strict=False)
    return tuple(
        Formula(output.name, "", "", "", "", not spline, (), (), (), {}, shortened=True)
        for output, spline in zip(kan.outputs, _depends_on_spline(kan), strict=True)
    )


def estimate_bytes(kan: Kan) -> int:
    """Estimate the memory in bytes of all formulas. An edge that leads to several outputs is counted once for each."""
    edges = sum(
        int((after[:, _nodes(layer)] @ layer.alive.sum(axis=1)).sum())
        for layer, after in zip(kan.layers, _reach(kan)[1:], strict=True)
    )
    numbers: int = sum(
        int(layer.spline_mask.sum()) * layer.coefficients.shape[2] * (layer.order + 2) for layer in kan.layers
    )
    return edges * BYTES_AN_EDGE + numbers * BYTES_A_NUMBER


def _reach(kan: Kan) -> list[Reached]:
    """Which inputs, and then which nodes of each layer, each output depends on."""
    reached = [np.eye(len(kan.outputs), dtype=np.bool_)]
    for layer in reversed(kan.layers):
        reached.insert(0, (reached[0][:, _nodes(layer)].astype(np.int64) @ layer.alive) > 0)
    return reached


def _depends_on_spline(kan: Kan) -> list[bool]:
    found = np.zeros(len(kan.outputs), np.bool_)
    for layer, after in zip(kan.layers, _reach(kan)[1:], strict=True):
        splines = (layer.coefficients != 0).any(axis=(1, 2))
        found |= (after[:, _nodes(layer)] & splines).any(axis=1)
    return [bool(reached) for reached in found]


def _nodes(layer: Layer) -> NDArray[np.int64]:
    """The node that each subnode belongs to."""
    return np.repeat(np.arange(layer.nodes), layer.arity)
