"""Remove edges and nodes from a network. Inputs and outputs keep their positions."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.network.evaluate import edges
from kanserve.network.kan import Kan, Layer
from kanserve.simplification.activations import signals

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

NEUTRAL = np.array([1.0, 0.0, 1.0, 0.0])


def without_edges(kan: Kan, gone: tuple[Mask, ...], x: Array) -> Kan:
    """Remove the edges in the masks `gone` (O, I), one per layer, replacing each by its mean on rows x. The mean is
    added to the subnode's bias, so that later layers see the same range."""
    return empty(kan, gone, signals(kan, x).means)


def empty(kan: Kan, gone: tuple[Mask, ...], means: tuple[Array, ...]) -> Kan:
    """Like `without_edges`, with known means (O, I) of each layer's edges."""
    layers = (
        _empty(layer, mask, np.where(np.isfinite(mean), mean, 0.0)) if mask.any() else layer
        for layer, mask, mean in zip(kan.layers, gone, means, strict=True)
    )
    return replace(kan, layers=tuple(layers))


def no_edges(kan: Kan) -> tuple[Mask, ...]:
    return tuple(np.zeros((layer.subnodes, layer.inputs), np.bool_) for layer in kan.layers)


def _empty(layer: Layer, mask: Mask, constants: Array) -> Layer:
    return replace(
        layer,
        coefficients=np.where(mask[:, :, None], 0.0, layer.coefficients),
        base_weight=np.where(mask, 0.0, layer.base_weight),
        functions=np.where(mask, "", layer.functions),
        affine=np.where(mask[:, :, None], NEUTRAL, layer.affine),
        subnode_bias=layer.subnode_bias + layer.subnode_scale * np.where(mask, constants, 0.0).sum(axis=1),
    )


def without_dead_nodes(kan: Kan) -> Kan:
    """Remove hidden nodes that are constant or have no outgoing edge, without changing the function. A layer keeps at
    least one node; a constant factor of a product becomes part of its scale."""
    layers = list(kan.layers)
    for depth in range(len(layers)):
        layers[depth] = _fold_constant_factors(layers[depth])
        if depth + 1 < len(layers):
            layers[depth + 1] = _fold_constants(layers[depth], layers[depth + 1])
    for depth in reversed(range(len(layers) - 1)):
        used: Mask = np.array(layers[depth + 1].alive.any(axis=0))
        if not used.any():
            used[0] = True
        layers[depth] = _with_nodes(layers[depth], used)
        layers[depth + 1] = with_inputs(layers[depth + 1], used)
    return replace(kan, layers=tuple(layers))


def _fold_constant_factors(layer: Layer) -> Layer:
    """Move subnodes without edges into the scale of their node, if the node has other subnodes with edges."""
    live: Mask = np.array(layer.alive.any(axis=1))
    keep = np.ones(layer.subnodes, np.bool_)
    scale = np.array(layer.node_scale)
    for q, group in enumerate(layer.groups):
        if any(live[j] for j in group):
            for j in group:
                if not live[j]:
                    scale[q] *= layer.subnode_bias[j]
                    keep[j] = False
    arity = np.array([int(keep[list(group)].sum()) for group in layer.groups])
    return _with_subnodes(layer, keep, arity, scale, layer.node_bias)


def _fold_constants(before: Layer, after: Layer) -> Layer:
    """Remove the edges of `after` that come from constant nodes of `before`, and add their values to its biases."""
    factors = before.subnode_bias
    constant = np.array([not before.alive[list(group)].any() for group in before.groups])
    node = before.node_scale * [np.prod(factors[list(group)]) for group in before.groups] + before.node_bias
    values = edges(after, np.where(constant, node, 0.0)[None])[0]
    mask = after.alive & constant & np.isfinite(values)
    return _empty(after, mask, values)


def _with_subnodes(layer: Layer, keep: Mask, arity: NDArray[np.int64], node_scale: Array, node_bias: Array) -> Layer:
    return replace(
        layer,
        coefficients=layer.coefficients[keep],
        base_weight=layer.base_weight[keep],
        functions=layer.functions[keep],
        affine=layer.affine[keep],
        subnode_scale=layer.subnode_scale[keep],
        subnode_bias=layer.subnode_bias[keep],
        arity=arity,
        node_scale=node_scale,
        node_bias=node_bias,
    )


def _with_nodes(layer: Layer, keep: Mask) -> Layer:
    rows = np.repeat(keep, layer.arity)
    return _with_subnodes(layer, rows, layer.arity[keep], layer.node_scale[keep], layer.node_bias[keep])


def with_inputs(layer: Layer, keep: Mask | list[int]) -> Layer:
    return replace(
        layer,
        knots=layer.knots[keep],
        coefficients=layer.coefficients[:, keep],
        base_weight=layer.base_weight[:, keep],
        functions=layer.functions[:, keep],
        affine=layer.affine[:, keep],
    )
