"""How much of the signal goes through each node and edge: one number each, pushed back from the outputs.

An output node has an equal share of 1. A node hands its share to its subnodes in equal parts, a subnode to its edges
in proportion to the standard deviation of what they give on the data, and an edge to the node that it comes from. So
the shares of the inputs add up to 1, and those of a layer's edges too, unless a node is constant on the data.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError
from kanserve.ir import Kan
from kanserve.reference import activations, edges

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Importance:
    """Shares of the signal: of the edges (O, I) and subnodes (O,) of each layer, and of all nodes, inputs first."""

    edges: tuple[Array, ...]
    subnodes: tuple[Array, ...]
    nodes: tuple[Array, ...]


def importance(kan: Kan, x: ArrayLike) -> Importance:
    """The shares on the rows x (N, inputs); rows that the network answers with NaN do not count."""
    values = activations(kan, x)
    finite = np.isfinite(values[-1]).all(axis=1)
    if not finite.any():
        raise DataError("The network is not finite on any of these rows, so its edges have no shares.")
    nodes = [np.full(len(kan.outputs), 1 / len(kan.outputs))]
    subnodes, shares = [], []
    for layer, v in reversed(list(zip(kan.layers, values, strict=False))):
        spread = edges(layer, v[finite]).std(axis=0)
        total = spread.sum(axis=1, keepdims=True)
        relative = np.divide(spread, total, out=np.zeros_like(spread), where=total > 0)
        subnodes.append(np.repeat(nodes[-1] / layer.arity, layer.arity))
        shares.append(subnodes[-1][:, None] * relative)
        nodes.append(shares[-1].sum(axis=0))
    return Importance(tuple(reversed(shares)), tuple(reversed(subnodes)), tuple(reversed(nodes)))
