"""Shares of the signal: how much of it goes through each node and edge, propagated back from the outputs. The outputs
share 1 equally. A node passes its share to its subnodes in equal parts, a subnode to its edges in proportion to the
standard deviation of their values, and an edge to the node that it comes from. So the shares of a layer's edges add up
to 1, except those of constant nodes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError
from kanserve.network.evaluate import activations, edges
from kanserve.network.kan import Kan

Array = NDArray[np.float64]
_LARGE = 1e150  # whose square could overflow


@dataclass(frozen=True, eq=False)
class SignalShares:
    """Shares of the signal: of the edges (O, I) and subnodes (O,) of each layer, and of all nodes, inputs first."""

    edges: tuple[Array, ...]
    subnodes: tuple[Array, ...]
    nodes: tuple[Array, ...]


def signal_shares(kan: Kan, x: ArrayLike) -> SignalShares:
    """The shares on rows x (N, inputs) on which the network is not NaN. `nodes[0]` are the shares of the inputs."""
    values = activations(kan, x)
    counted = np.isfinite(values[-1]).all(axis=1)
    if not counted.any():
        raise DataError("The network is not finite on any of these rows, so its edges have no shares.")
    spreads = []
    for layer, v in zip(kan.layers, values, strict=False):
        given = edges(layer, v[counted])
        size = np.abs(given).max(axis=(0, 2), keepdims=True)  # only ratios of a subnode's edges count
        given /= np.where(size > _LARGE, size, 1.0)
        spreads.append(given.std(axis=0))
    return propagate_back(kan, spreads)


def propagate_back(kan: Kan, spreads: Sequence[Array]) -> SignalShares:
    """The shares, from the standard deviations (O, I) of the edge values in each layer."""
    nodes = [np.full(len(kan.outputs), 1 / len(kan.outputs))]
    subnodes, shares = [], []
    for layer, spread in reversed(list(zip(kan.layers, spreads, strict=True))):
        total = spread.sum(axis=1, keepdims=True)
        relative = np.divide(spread, total, out=np.zeros_like(spread), where=total > 0)
        subnodes.append(np.repeat(nodes[-1] / layer.arity, layer.arity))
        shares.append(subnodes[-1][:, None] * relative)
        nodes.append(shares[-1].sum(axis=0))
    return SignalShares(tuple(reversed(shares)), tuple(reversed(subnodes)), tuple(reversed(nodes)))


def find_used_inputs(kan: Kan) -> NDArray[np.bool_]:
    """Mask (inputs,) of the inputs that the outputs depend on through unpruned edges."""
    used: NDArray[np.bool_] = np.ones(len(kan.outputs), np.bool_)
    for layer in reversed(kan.layers):
        used = np.array((layer.alive & np.repeat(used, layer.arity)[:, None]).any(axis=0))
    return used


def row_shares(weights: ArrayLike | None, rows: int) -> Array:
    """The weights (rows,) divided by the largest; all 1 without weights. Raises DataError if they are not valid."""
    if weights is None:
        return np.full(rows, 1.0)
    try:
        shares = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("Weights must be numbers.") from None
    if shares.shape != (rows,) or not np.isfinite(shares).all() or (shares < 0).any():
        raise DataError(f"Weights must be {rows} finite numbers, none negative; got an array of shape {shares.shape}.")
    largest = shares.max(initial=0.0)
    return shares / largest if largest > 0 else shares
