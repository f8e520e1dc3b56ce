"""Candidates for removal from a network: hidden nodes and edges, least share of the signal first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kanserve.network.kan import Kan
from kanserve.network.signal_shares import propagate_back
from kanserve.simplification.activations import Array, Signals
from kanserve.simplification.edge_removal import empty, no_edges, without_dead_nodes


@dataclass(frozen=True)
class Removal:
    """The edges from node `source` of a layer (layer 0: the inputs) to one subnode of the next layer, or to all."""

    share: float
    name: str
    layer: int
    source: int
    subnode: int | None = None


def nodes(kan: Kan, seen: Signals) -> list[Removal]:
    """Hidden nodes, except the only one of a layer."""
    shares = propagate_back(kan, seen.spreads).nodes
    return _ascending(
        Removal(float(shares[depth][q]), f"node {q + 1} of layer {depth}", depth, q)
        for depth in range(1, len(kan.layers))
        for q in range(kan.layers[depth].inputs if kan.layers[depth].inputs > 1 else 0)
    )


def edges(kan: Kan, seen: Signals) -> list[Removal]:
    shares = propagate_back(kan, seen.spreads).edges
    return _ascending(
        Removal(float(shares[depth][j, i]), _edge_name(kan, depth, j, i), depth, i, j)
        for depth, layer in enumerate(kan.layers)
        for j, i in zip(*(indices.tolist() for indices in layer.alive.nonzero()), strict=True)
    )


def without(kan: Kan, removals: Sequence[Removal], means: tuple[Array, ...]) -> Kan:
    """Replace these edges by their means, and remove the nodes that are then dead."""
    gone = no_edges(kan)
    for removal in removals:
        subnodes = slice(None) if removal.subnode is None else removal.subnode
        gone[removal.layer][subnodes, removal.source] = kan.layers[removal.layer].alive[subnodes, removal.source]
    return without_dead_nodes(empty(kan, gone, means))


def _ascending(found: Iterable[Removal]) -> list[Removal]:
    return sorted(found, key=lambda removal: removal.share)


def _edge_name(kan: Kan, depth: int, j: int, i: int) -> str:
    source = kan.inputs[i].name if depth == 0 else f"node {i + 1} of layer {depth}"
    return f"the edge from {source} to node {j + 1} of layer {depth + 1}"
