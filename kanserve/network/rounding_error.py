"""The effect of rounding on a network, and so the tolerance between two correct evaluations. Formulas, self-tests and
golden rows (test vectors) use the same tolerance, `allow`; `steady_rows` chooses the rows of the last two."""

import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.network import evaluate
from kanserve.network.encoding import encode
from kanserve.network.export_options import Precision
from kanserve.network.kan import Kan, Layer
from kanserve.network.training_range import finite_rows

Array = NDArray[np.float64]

_GRAIN = {"double": 2.0**-53, "float": 2.0**-24}  # the largest relative rounding error of a number
# Double is measured with coarser perturbations and scaled down, since the measurement itself rounds. The finer one is
# for outputs that change arbitrarily at any perturbation, such as tan(1e20): scaled down, they would seem stable.
_MEASURED = {"double": (2.0**-44, 2.0**-50), "float": (2.0**-24,)}
_DRAWS = 3  # a draw may be small by chance: all three are below a twentieth once in 8,000 times
# An evaluation rounds more often than we perturb (a cubic polynomial alone six times), and in other places.
_MARGIN = 64
_MOST_ROWS = 4096  # evaluated at once


def allow(kan: Kan, x: Array, y: Array, precision: Precision, part: float) -> Array:
    """The tolerance (N, outputs) around y, the network's outputs at x: `part` of the output's scale, or 64 times the
    effect of rounding on that row, whichever is larger. Rows are independent, so one next to a pole does not affect
    others. If rounding may leave the domain, as of acos at 1, only changes inside count."""
    change, _ = _changes(kan, x, precision)
    return np.maximum(part * scale(y), _MARGIN * change)


def scale(y: Array) -> Array:
    """The scale (N, outputs) of an error: the value itself or its output's median, whichever is larger (a sum near 0
    keeps the errors of its terms). Values that are not finite count as 0."""
    size = np.where(np.isfinite(y), np.abs(y), 0.0)
    fine = size[np.isfinite(y).all(axis=1)]
    if not len(fine):
        return size
    # As np.median, which would import numpy.ma: a server that loads a model would start 10 ms later.
    fine = np.sort(fine, axis=0)
    median: Array = (fine[(len(fine) - 1) // 2] + fine[len(fine) // 2]) / 2
    return np.maximum(size, median)


def rounding(kan: Kan, x: Array, precision: Precision) -> Array:
    """How much the outputs (N, outputs) change if every intermediate value is rounded; NaN if not finite. Values are
    perturbed by random parts of the rounding error, a few times in both directions, and the largest change counts. All
    rows get the same perturbations, so they are independent."""
    change, broken = _changes(kan, x, precision)
    return np.where(broken, np.nan, change)


def _changes(kan: Kan, x: Array, precision: Precision) -> tuple[Array, NDArray[np.bool_]]:
    """The largest finite change of each output (N, outputs), and a mask of where a perturbation makes it not finite."""
    wanted = evaluate.evaluate(kan, x)
    change, broken = np.zeros_like(wanted), ~np.isfinite(wanted)
    moves = list(itertools.product(_MEASURED[precision], range(_DRAWS), (1, -1)))
    together = max(1, _MOST_ROWS // max(1, len(x)))
    for start in range(0, len(moves), together):
        some = moves[start : start + together]
        for moved, (grain, _, _) in zip(_move(kan, x, precision, some), some, strict=True):
            with np.errstate(invalid="ignore"):
                moves_by = np.abs(moved - wanted) * (_GRAIN[precision] / grain)
            fine = np.isfinite(moves_by)
            change = np.maximum(change, np.where(fine, moves_by, 0.0))
            broken |= ~fine
    return change, broken


def _move(kan: Kan, x: Array, precision: Precision, moves: list[tuple[float, int, int]]) -> Array:
    """The outputs (moves, N, outputs) with every intermediate value perturbed at random. A move is the relative size,
    the seed and the sign; all rows get the same draws."""
    generators = [np.random.default_rng(draw) for _, draw, _ in moves]
    largest = np.finfo(np.float64 if precision == "double" else np.float32).max

    def move_values(values: Array) -> Array:
        """Perturbed copies of `values` for all moves, one after another (moves * rows, ...)."""
        shape = values.shape[1:]
        parts = [
            side * generator.uniform(-grain, grain, shape)
            for (grain, _, side), generator in zip(moves, generators, strict=True)
        ]
        by_move = values.reshape(len(moves), len(values) // len(moves), *shape)
        result = (by_move * (1 + np.stack(parts)[:, None])).reshape(values.shape)
        return np.where(np.abs(result) > largest, np.copysign(np.inf, result), result)

    with np.errstate(all="ignore"):
        raw = move_values(encode(kan, np.tile(x, (len(moves), 1))))
        shift = move_values(np.tile(kan.input_shift, (len(moves), 1)))
        v = move_values((raw - np.repeat(shift, len(x), axis=0)) / kan.input_scale)
        for layer in kan.layers:
            edges = np.sum([move_values(evaluate.edges(part, v)) for part in _parts(layer)], axis=0)
            z = move_values(evaluate.subnodes(layer, edges))
            v = move_values(evaluate.nodes(layer, z))
        return move_values(kan.output_scale * v + kan.output_shift).reshape(len(moves), len(x), len(kan.outputs))


def _parts(layer: Layer) -> tuple[Layer, ...]:
    """The layer; if edges are sums whose parts may cancel, its splines and its functions as separate layers."""
    if not (layer.spline_mask & layer.symbolic_mask).any():
        return (layer,)
    splines = replace(layer, functions=np.full_like(layer.functions, ""))
    weights = np.zeros_like(layer.base_weight)
    return splines, replace(layer, coefficients=np.zeros_like(layer.coefficients), base_weight=weights)


def steady_rows(kan: Kan, count: int) -> Array:
    """Up to `count` rows of the training range on which the network is finite and least affected by rounding to float,
    out of twice as many: next to a pole or jump, correct evaluations may differ arbitrarily. Rows that rounding makes
    not finite are only used if all are."""
    x = finite_rows(kan, 2 * count)
    change = unsteadiness(kan, x)
    steadiest = np.argsort(change, kind="stable")[: max(1, len(x) // 2)]
    unbroken = steadiest[np.isfinite(change[steadiest])]
    return x[np.sort(unbroken if len(unbroken) else steadiest)]


def unsteadiness(kan: Kan, x: Array) -> Array:
    """The change of each row (N,) when rounding to float, relative to the largest outputs; infinite if not finite."""
    if not len(x):
        return np.zeros(0)
    y = np.abs(evaluate.evaluate(kan, x))
    change = rounding(kan, x, "float") / np.fmax.reduce(y, axis=0, initial=1e-300)
    worst: Array = np.where(np.isfinite(change), change, np.inf).max(axis=1)
    return worst
