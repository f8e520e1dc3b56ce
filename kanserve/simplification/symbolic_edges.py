"""Named functions on edges: set them, list the remaining splines, check domains, add up complexity."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from kanserve.network.edge_names import EdgeIndex
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Symbolic
from kanserve.simplification.edge_candidates import EDGE_CANDIDATES_OFFSET_COMPLEXITY, Array, within_domain
from kanserve.train.lm.parameter_vector import carriers

SYMBOLIC_EDGES_SPLINE_COMPLEXITY = 5.0  # complexity of a spline, in units of the table of functions


def name_edges(kan: Kan, names: Mapping[EdgeIndex, Symbolic]) -> Kan:
    layers = []
    for depth, layer in enumerate(kan.layers):
        coefficients, base_weight = np.array(layer.coefficients), np.array(layer.base_weight)
        functions, affine = layer.functions.astype(object), np.array(layer.affine)
        for (at, j, i), symbolic in names.items():
            if at == depth:
                coefficients[j, i], base_weight[j, i] = 0.0, 0.0
                functions[j, i] = symbolic.function
                affine[j, i] = symbolic.a, symbolic.b, symbolic.c, symbolic.d
        changed = replace(
            layer,
            coefficients=coefficients,
            base_weight=base_weight,
            functions=functions.astype(np.str_),
            affine=affine,
        )
        layers.append(changed)
    return replace(kan, layers=tuple(layers))


def splines(kan: Kan) -> list[EdgeIndex]:
    return [
        (depth, int(j), int(i)) for depth, layer in enumerate(kan.layers) for j, i in np.argwhere(layer.spline_mask)
    ]


def domains_hold(kan: Kan, values: Sequence[Array]) -> bool:
    """Whether every named function is finite on the range of its input, given the `activations` of all rows."""
    for layer, v in zip(kan.layers, values, strict=False):
        low, high = v.min(axis=0), v.max(axis=0)
        for j, i in np.argwhere(layer.symbolic_mask):
            a, b = layer.affine[j, i, :2]
            if not within_domain(str(layer.functions[j, i]), a * low[i : i + 1] + b, a * high[i : i + 1] + b)[0]:
                return False
    return True


def price(kan: Kan) -> float:
    """The total complexity of all edges, except those that only pass a value on to the next layer."""
    total = 0.0
    for depth, layer in enumerate(kan.layers):
        total += SYMBOLIC_EDGES_SPLINE_COMPLEXITY * float(layer.spline_mask.sum())
        costs = layer.symbolic_mask & ~carriers(layer)[:, None] if depth + 1 < len(kan.layers) else layer.symbolic_mask
        for j, i in np.argwhere(costs):
            total += FUNCTIONS[str(layer.functions[j, i])].complexity + EDGE_CANDIDATES_OFFSET_COMPLEXITY * float(
                layer.affine[j, i, 3] != 0
            )
    return total
