"""Layers around a trained network: the exponential of a log link behind it, and inputs clipped to their range before.

Both are ordinary symbolic edges, so every exporter, the formula and the derivatives have them without a word about
links or clipping. Training sees the network between them.
"""

from dataclasses import replace

import numpy as np

from kanserve.network.kan import Kan, Layer
from kanserve.network.layer import make_layer


def with_exponential(kan: Kan) -> Kan:
    """The network whose outputs are the exponentials of this one's."""
    count = len(kan.outputs)
    diagonal = np.eye(count, dtype=bool)
    affine = np.zeros((count, count, 4))
    affine[diagonal, 0] = kan.output_scale
    affine[diagonal, 1] = kan.output_shift
    affine[diagonal, 2] = 1.0
    last = make_layer(functions=np.where(diagonal, "exp", ""), affine=affine)
    return replace(kan, layers=(*kan.layers, last), output_shift=np.zeros(count), output_scale=np.ones(count))


def without_exponential(kan: Kan) -> Kan:
    """The network of splines before its last layer, if that only takes exponentials, else the network itself."""
    last = kan.layers[-1]
    if len(kan.layers) < 2 or not kan.layers[-2].spline_mask.any() or not _diagonal(last, "exp"):
        return kan
    scale, shift = np.diagonal(last.affine[..., 0]), np.diagonal(last.affine[..., 1])
    return replace(kan, layers=kan.layers[:-1], output_scale=scale, output_shift=shift)


def with_clipped_inputs(kan: Kan) -> Kan:
    """The network of inputs clipped to the range [-1, 1] of its first grids: z becomes (|z + 1| - |z - 1|)/2."""
    count = kan.layers[0].inputs
    diagonal = np.eye(count, dtype=bool)
    sides = []
    for shift in (1.0, -1.0):
        affine = np.zeros((count, count, 4))
        affine[diagonal] = (1.0, shift, 1.0, 0.0)
        sides.append(affine)
    first = make_layer(functions=np.tile(np.where(diagonal, "abs", ""), (2, 1)), affine=np.concatenate(sides))
    both = np.concatenate([diagonal, diagonal], axis=1)
    halves = np.zeros((count, 2 * count, 4))
    halves[both, 0] = 1.0
    halves[:, :count][diagonal, 2] = 0.5
    halves[:, count:][diagonal, 2] = -0.5
    second = make_layer(functions=np.where(both, "x", ""), affine=halves)
    return replace(kan, layers=(first, second, *kan.layers))


def without_clipped_inputs(kan: Kan) -> Kan:
    """The network behind the layers of `with_clipped_inputs`, if it has them, else the network itself."""
    count = kan.layers[0].inputs
    if len(kan.layers) < 3 or kan.layers[0].subnodes != 2 * count or kan.layers[1].subnodes != count:
        return kan
    diagonal = np.eye(count, dtype=bool)
    functions = np.tile(np.where(diagonal, "abs", ""), (2, 1))
    if kan.layers[0].spline_mask.any() or not (kan.layers[0].functions == functions).all():
        return kan
    return replace(kan, layers=kan.layers[2:])


def _diagonal(layer: Layer, name: str) -> bool:
    """Whether each node is this function of one input, in their order."""
    wanted = np.where(np.eye(layer.inputs, dtype=bool), name, "")
    return (
        layer.functions.shape == wanted.shape
        and bool((layer.functions == wanted).all())
        and not bool(layer.spline_mask.any())
    )
