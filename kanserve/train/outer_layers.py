"""Layers around a trained network: the exponential of a log link behind it, and before it inputs on a logarithmic
scale, and then clipped to their range.

All are ordinary symbolic edges, so every exporter, the formula and the derivatives have them without a word about
links, clipping or scales. Training sees the network between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Kan, Layer, equal
from kanserve.network.layer import make_layer

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OuterLayers:
    """Which layers are around a network."""

    arcsinh_scales: tuple[float, ...] = ()
    """The scale of each input (`with_arcsinh_inputs`); () without such a layer."""
    clips: bool = False
    exponential: bool = False

    def around(self, kan: Kan) -> Kan:
        """The network with these layers around it."""
        kan = with_exponential(kan) if self.exponential else kan
        kan = with_clipped_inputs(kan) if self.clips else kan
        return with_arcsinh_inputs(kan, self.arcsinh_scales) if self.arcsinh_scales else kan


def without_outer_layers(kan: Kan) -> tuple[Kan, OuterLayers]:
    """The network between its outer layers, and which these are."""
    scales, inner = arcsinh_scales(kan), without_arcsinh_inputs(kan)
    unclipped = without_clipped_inputs(inner)
    core = without_exponential(unclipped)
    return core, OuterLayers(scales, unclipped is not inner, core is not unclipped)


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
    scale, shift = (np.diagonal(last.affine[..., part]) for part in (0, 1))
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


def with_arcsinh_inputs(kan: Kan, scales: Sequence[float]) -> Kan:
    """The network that takes x where this one takes arcsinh(x/scale), of each input whose scale is not 0.

    The function is a line up to about the scale and a logarithm beyond it, also below 0. Names and ranges of the inputs
    stay as they are.
    """
    chosen = np.array(scales) > 0
    first = _arcsinh_layer(chosen, 1 / kan.input_scale, -kan.input_shift / kan.input_scale)
    return replace(
        kan,
        layers=(first, *kan.layers),
        input_shift=np.where(chosen, 0.0, kan.input_shift),
        input_scale=np.where(chosen, scales, kan.input_scale),
    )


def without_arcsinh_inputs(kan: Kan) -> Kan:
    """The network behind the layer of `with_arcsinh_inputs`, if it has one, else the network itself."""
    scales = arcsinh_scales(kan)
    if not scales:
        return kan
    chosen, (times, plus) = np.array(scales) > 0, _outside(kan.layers[0])
    return replace(
        kan,
        layers=kan.layers[1:],
        input_shift=np.where(chosen, -plus / times, kan.input_shift),
        input_scale=np.where(chosen, 1 / times, kan.input_scale),
    )


def arcsinh_scales(kan: Kan) -> tuple[float, ...]:
    """The scales that `with_arcsinh_inputs` gave the inputs, 0 of the others; () if the network has no such layer."""
    layer = kan.layers[0]
    chosen = (layer.functions == "arcsinh").any(axis=0)
    if len(kan.layers) == 1 or layer.subnodes != layer.inputs or not chosen.any():
        return ()
    times, plus = _outside(layer)
    if not (times[chosen].all() and (kan.input_shift == 0)[chosen].all() and (kan.input_scale > 0)[chosen].all()):
        return ()
    if not equal(Kan((layer,)), Kan((_arcsinh_layer(chosen, times, plus),))):
        return ()
    return tuple(np.where(chosen, kan.input_scale, 0.0).tolist())


def _arcsinh_layer(chosen: NDArray[np.bool_], times: Array, plus: Array) -> Layer:
    """The layer of times·arcsinh(u) + plus for the inputs that are chosen, and of u for the others."""
    diagonal = np.eye(len(chosen), dtype=bool)
    affine = np.zeros((*diagonal.shape, 4))
    affine[diagonal, 0] = 1.0
    affine[diagonal, 2] = np.where(chosen, times, 1.0)
    affine[diagonal, 3] = np.where(chosen, plus, 0.0)
    return make_layer(functions=np.where(diagonal, np.where(chosen, "arcsinh", "x"), ""), affine=affine)


def _outside(layer: Layer) -> tuple[Array, Array]:
    """The factors and the terms outside the functions of a diagonal layer."""
    return np.diagonal(layer.affine[..., 2]), np.diagonal(layer.affine[..., 3])


def _diagonal(layer: Layer, name: str) -> bool:
    """Whether each node is this function of one input, in their order."""
    wanted = np.where(np.eye(layer.inputs, dtype=bool), name, "")
    return (
        layer.functions.shape == wanted.shape
        and bool((layer.functions == wanted).all())
        and not bool(layer.spline_mask.any())
    )
