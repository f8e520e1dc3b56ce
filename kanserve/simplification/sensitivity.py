"""Represent edges as weighted points; the weights are the outputs' sensitivities to the edge's value."""

import numpy as np

from kanserve.network.evaluate import activations, edge, edge_slopes, edges, subnodes
from kanserve.network.kan import Kan
from kanserve.simplification.edge_candidates import Array, Samples

EDGE_CANDIDATES_POINTS = 160  # points, at most, that represent an edge
ROWS = 2000  # rows, at most, on which sensitivities are computed
LEAST_WEIGHT = 1e-6  # least weight of a point, relative to the largest weight of its edge


def samples(
    kan: Kan, x: Array, spread: Array, only: tuple[int, int, int] | None = None
) -> dict[tuple[int, int, int], Samples]:
    """Up to 160 points that represent each spline edge (layer, subnode, input) on rows x, or `only` one. A point's
    weight is the mean square derivative of the outputs in units of `spread`, so that weighted edge errors are output
    errors."""
    values = activations(kan, x)
    keep = np.isfinite(values[-1]).all(axis=1)
    found = {}
    chosen = np.flatnonzero(keep)
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), ROWS)).astype(int)] if len(chosen) else chosen
    first = 0 if only is None else only[0]
    weights = _square_sensitivities(kan, [v[chosen] for v in values], spread, first)
    for depth, layer in enumerate(kan.layers):
        v = values[depth]
        wanted = np.argwhere(layer.spline_mask)
        if only is not None:
            wanted = wanted[(wanted == only[1:]).all(axis=1)] if depth == only[0] else wanted[:0]
        if not len(wanted):
            continue
        given = edges(layer, v[chosen]) if only is None else None
        for j, i in wanted:
            natural = -kan.input_shift[i] / kan.input_scale[i] if depth == 0 else 0.0
            # The range is that of all rows: a function must not leave its domain on a row that was not sampled.
            low, high = float(v[keep, i].min(initial=0.0)), float(v[keep, i].max(initial=0.0))
            if keep.any():
                low, high = float(v[keep, i].min()), float(v[keep, i].max())
            own = edge(layer, j, i, v[chosen, i]) if given is None else given[:, j, i]
            points = _quantiles(v[chosen, i], own, weights[depth - first][:, j])
            found[depth, int(j), int(i)] = Samples(*points, low, high, float(natural))
    return found


def _quantiles(z: Array, values: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Sort the points by z and reduce them to 160: the middle point of each group, with the group's mean weight."""
    order = np.argsort(z, kind="stable")
    groups = [group for group in np.array_split(order, min(EDGE_CANDIDATES_POINTS, max(len(order), 1))) if len(group)]
    middle = np.array([group[len(group) // 2] for group in groups], np.int64)
    if len(middle) > 1:
        middle[0], middle[-1] = order[0], order[-1]
    weight = np.array([weights[group].mean() for group in groups])
    floor = LEAST_WEIGHT * weight.max(initial=0.0) + np.finfo(np.float64).tiny
    return z[middle], values[middle], np.maximum(weight, floor)


def _square_sensitivities(kan: Kan, values: list[Array], spread: Array, first: int) -> list[Array]:
    """Σ over the outputs of (dy/dedge / spread)² for each layer from `first` (N, O), equal for a subnode's edges."""
    rows = len(values[0])
    # (N, outputs, nodes): the derivatives of the outputs with respect to the nodes of the current layer.
    backward = np.broadcast_to(np.diag(kan.output_scale / spread), (rows, len(spread), len(spread)))
    found: list[Array] = []
    for depth in reversed(range(first, len(kan.layers))):
        layer, v = kan.layers[depth], values[depth]
        z = subnodes(layer, edges(layer, v))
        others = np.empty_like(z)
        for q, group in enumerate(layer.groups):
            for n, j in enumerate(group):
                others[:, j] = layer.node_scale[q] * np.prod(np.delete(z[:, list(group)], n, axis=1), axis=1)
        of_subnodes = np.repeat(backward, layer.arity, axis=2) * (others * layer.subnode_scale)[:, None, :]
        found.append((of_subnodes**2).sum(axis=1))
        if depth > first:
            backward = of_subnodes @ edge_slopes(layer, v)
    return found[::-1]
