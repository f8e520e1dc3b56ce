"""The edges of a network with the largest share of the signal, and the network of these alone."""

import numpy as np

from kanserve.network.kan import Kan
from kanserve.network.signal_shares import pushed_back
from kanserve.simplification.activations import Array, signals
from kanserve.simplification.edge_removal import emptied, no_edges

_AT_ONCE = 0.05  # of the edges that are to go: the shares are measured anew after each such part


def kept(kan: Kan, count: int, x: Array) -> Kan:
    """The network with at most `count` edges, on the rows x (N, inputs); the others are replaced by their means.

    Those with the smallest share go first. Shares are measured again as edges go, so that an edge which nothing
    reads any more goes before one that something reads. Nodes stay, so names do not change.
    """
    while (surplus := kan.edges - count) > 0:
        seen = signals(kan, x)
        gone, shares = no_edges(kan), pushed_back(kan, seen.spreads).edges
        places = [(depth, *place) for depth, layer in enumerate(kan.layers) for place in np.argwhere(layer.alive)]
        order = np.argsort([shares[depth][j, i] for depth, j, i in places], kind="stable")
        for number in order[: max(1, min(surplus, int(_AT_ONCE * len(places))))]:
            depth, j, i = places[number]
            gone[depth][j, i] = True
        kan = emptied(kan, gone, seen.means)
    return kan
