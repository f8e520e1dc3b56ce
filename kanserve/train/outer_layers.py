"""Layers around a trained network: the exponential of a log link after it; logarithmic scales and clipping of inputs
before it. All are ordinary symbolic edges, so that exporters, formulas and derivatives need no special cases."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Kan, Layer, equal
from kanserve.network.layer import make_layer

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OuterLayers:
    """Which outer layers a network has."""

    arcsinh_scales: tuple[float, ...] = ()
    """The scale of each input (`with_arcsinh_inputs`); () without such a layer."""
    clips: bool = False
    exponential: bool = False

    def around(self, kan: Kan) -> Kan:
        """Add these layers to the network."""
        kan = with_exponential(kan) if self.exponential else kan
        kan = with_clipped_inputs(kan) if self.clips else kan
        return with_arcsinh_inputs(kan, self.arcsinh_scales) if self.arcsinh_scales else kan


def without_outer_layers(kan: Kan) -> tuple[Kan, OuterLayers]:
    """Strip the outer layers (arcsinh inputs, clipped inputs, exponential output). Returns the inner network and a
    record of what was removed."""
    scales, inner = arcsinh_scales(kan), without_arcsinh_inputs(kan)
    unclipped = without_clipped_inputs(inner)
    core = without_exponential(unclipped)
    return core, OuterLayers(scales, unclipped is not inner, core is not unclipped)


def with_exponential(kan: Kan) -> Kan:
    """Append a layer that takes the exponential of each output."""
    count = len(kan.outputs)
    diagonal = np.eye(count, dtype=bool)
    affine = np.zeros((count, count, 4))
    affine[diagonal, 0] = kan.output_scale
    affine[diagonal, 1] = kan.output_shift
    affine[diagonal, 2] = 1.0
    last = make_layer(functions=np.where(diagonal, "exp", ""), affine=affine)
    return replace(kan, layers=(*kan.layers, last), output_shift=np.zeros(count), output_scale=np.ones(count))


def without_exponential(kan: Kan) -> Kan:
    """Remove a last layer that only takes exponentials, if there is one."""
    last = kan.layers[-1]
    if len(kan.layers) < 2 or not kan.layers[-2].spline_mask.any() or not _diagonal(last, "exp"):
        return kan
    scale, shift = (np.diagonal(last.affine[..., part]) for part in (0, 1))
    return replace(kan, layers=kan.layers[:-1], output_scale=scale, output_shift=shift)


def with_clipped_inputs(kan: Kan) -> Kan:
    """Clip the inputs to the range [-1, 1] of the first grids: z becomes (|z + 1| - |z - 1|)/2."""
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
    """Remove the layers of `with_clipped_inputs`, if there are any."""
    count = kan.layers[0].inputs
    if len(kan.layers) < 3 or kan.layers[0].subnodes != 2 * count or kan.layers[1].subnodes != count:
        return kan
    diagonal = np.eye(count, dtype=bool)
    functions = np.tile(np.where(diagonal, "abs", ""), (2, 1))
    if kan.layers[0].spline_mask.any() or not (kan.layers[0].functions == functions).all():
        return kan
    return replace(kan, layers=kan.layers[2:])


def with_arcsinh_inputs(kan: Kan, scales: Sequence[float]) -> Kan:
    """Replace x by arcsinh(x/scale) for each input whose scale is not 0: a line up to about the scale and a logarithm
    beyond it, also below 0. Names and ranges stay."""
    chosen = np.array(scales) > 0
    first = _arcsinh_layer(chosen, 1 / kan.input_scale, -kan.input_shift / kan.input_scale)
    return replace(
        kan,
        layers=(first, *kan.layers),
        input_shift=np.where(chosen, 0.0, kan.input_shift),
        input_scale=np.where(chosen, scales, kan.input_scale),
    )


def without_arcsinh_inputs(kan: Kan) -> Kan:
    """Remove the layer of `with_arcsinh_inputs`, if there is one."""
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
    """The scales that `with_arcsinh_inputs` used, 0 for unchanged inputs; () if the network has no such layer."""
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
    """A layer that maps chosen inputs to times·arcsinh(u) + plus, and leaves the others unchanged."""
    diagonal = np.eye(len(chosen), dtype=bool)
    affine = np.zeros((*diagonal.shape, 4))
    affine[diagonal, 0] = 1.0
    affine[diagonal, 2] = np.where(chosen, times, 1.0)
    affine[diagonal, 3] = np.where(chosen, plus, 0.0)
    return make_layer(functions=np.where(diagonal, np.where(chosen, "arcsinh", "x"), ""), affine=affine)


def _outside(layer: Layer) -> tuple[Array, Array]:
    """The outer factors c and offsets d of a diagonal layer's functions."""
    return np.diagonal(layer.affine[..., 2]), np.diagonal(layer.affine[..., 3])


def _diagonal(layer: Layer, name: str) -> bool:
    """Whether node i is this function of input i alone, for every i."""
    wanted = np.where(np.eye(layer.inputs, dtype=bool), name, "")
    return (
        layer.functions.shape == wanted.shape
        and bool((layer.functions == wanted).all())
        and not bool(layer.spline_mask.any())
    )
