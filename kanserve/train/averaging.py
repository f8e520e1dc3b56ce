"""average(kans) -> Kan: the mean of several networks as one network. Hidden nodes of all networks stand side by side,
and the last layer adds them up. Networks without hidden nodes keep their shape: on a grid with all of their knots, the
mean of the splines has the mean coefficients."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import NetworkError
from kanserve.network.evaluate import evaluate
from kanserve.network.fitted_rows import record_rows
from kanserve.network.kan import Kan, Layer, Variable
from kanserve.network.layer import make_layer, neutral_affine
from kanserve.train.grids import with_interior_knots
from kanserve.train.outer_layers import without_outer_layers

Array = NDArray[np.float64]
COMPARED = ("name", "unit", "fill_value", "categories", "category_values")  # of an input of all networks
SAME_KNOT = 1e-9  # of the range, by which knots that are equal may differ
SAME = 1e-6  # of the range of outputs, by which a mean may differ from that of its members by rounding


def average(kans: Sequence[Kan]) -> Kan:
    """The network whose outputs are the mean of those of several networks, such as fits from different seeds.

    Noise and held-out rows that differ from fit to fit cancel out in the mean. Its layers have the nodes of all
    networks; the shape stays [n_inputs, n_outputs] without hidden nodes. It is a network like any other: to export,
    plot, simplify and serve. Of a classifier the scores are averaged. With a log link, as of loss="poisson", the mean
    is that of the logarithms.

    Parameters
    ----------
    kans : sequence of Kan
        Networks with as many layers each, whose inputs have the same names, normalisation and numbers for categories:
        fitted to the same rows.

    Returns
    -------
    Kan
        The mean; its training ranges span those of all networks, which are its `members`.

    Raises
    ------
    NetworkError
        No network is given, or they do not fit together, or outputs are products or different named functions.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    >>> fits = [kanserve.fit([2, 3, 1], (x, x[:, 0] * x[:, 1]), seed=seed, starts=1) for seed in range(2)]
    >>> both = kanserve.average(fits)
    >>> both.shape
    (2, 6, 1)
    >>> bool(np.allclose(both(x), (fits[0](x) + fits[1](x)) / 2))
    True
    """
    kans = tuple(kans)
    if not kans:
        raise NetworkError("An average needs at least one network, got none.")
    if len(kans) == 1:
        return kans[0]
    inner, around = zip(*map(without_outer_layers, kans), strict=True)
    if len(set(around)) > 1:
        raise NetworkError(
            "Some of these networks have layers that clip inputs, take exponentials or take logarithms of inputs, and "
            "some do not, or others."
        )
    for other in inner[1:]:
        _check(inner[0], other)
    result: Kan = around[0].around(record_rows(_mean(inner), *(kan.fitted_rows for kan in kans)))
    return replace(result, members=tuple(replace(kan, fitted_rows=np.empty(0, np.uint64), members=()) for kan in kans))


def members_of_mean(kan: Kan, rows: Array) -> tuple[Kan, ...]:
    """The networks of which `kan` is the mean, with its inputs. Empty if it is none, or not on these rows."""
    members = tuple(replace(member, inputs=kan.inputs) for member in kan.members)
    if len(members) < 2:
        return ()
    try:
        mean = average(members)
    except NetworkError:
        return ()
    outputs = evaluate(kan, rows)
    return members if np.allclose(evaluate(mean, rows), outputs, atol=SAME * np.ptp(outputs), equal_nan=True) else ()


def _check(kan: Kan, other: Kan) -> None:
    same = len(kan.layers) == len(other.layers) and kan.classes == other.classes
    for a, b in zip((kan.inputs, kan.outputs), (other.inputs, other.outputs), strict=True):
        same = same and [_compared_values(each) for each in a] == [_compared_values(each) for each in b]
    same = same and np.array_equal(kan.input_shift, other.input_shift)
    same = same and np.array_equal(kan.input_scale, other.input_scale)
    if not same or [_kind(layer) for layer in kan.layers] != [_kind(layer) for layer in other.layers]:
        raise NetworkError(
            "An average takes networks of equal depth and order, with the same inputs, outputs and classes, fitted to "
            f"the same rows; {kan!r} and {other!r} differ."
        )


def _compared_values(variable: Variable) -> list[object]:
    return [getattr(variable, name) for name in COMPARED]


def _kind(layer: Layer) -> tuple[int, str, str]:
    return layer.order, layer.base, layer.extrapolation


def _mean(kans: Sequence[Kan]) -> Kan:
    first, last = kans[0], len(kans[0].layers) - 1
    if any((kan.layers[last].arity > 1).any() for kan in kans):
        raise NetworkError("Outputs that are products cannot be averaged within a layer.")
    layers = [_beside([kan.layers[n] for kan in kans], shared=n == 0) for n in range(last)]
    shares, shift = [], np.zeros(len(first.outputs))
    for kan in kans:
        layer = kan.layers[last]
        scale = kan.output_scale * layer.node_scale / len(kans)
        shares.append(scale * layer.subnode_scale / first.output_scale)
        shift += scale * layer.subnode_bias + (kan.output_scale * layer.node_bias + kan.output_shift) / len(kans)
    layers.append(_add([kan.layers[last] for kan in kans], shares, shared=last == 0))
    return replace(
        first,
        layers=tuple(layers),
        output_shift=shift,
        inputs=_spanning([kan.inputs for kan in kans]),
        outputs=_spanning([kan.outputs for kan in kans]),
    )


def _spanning(every: Sequence[tuple[Variable, ...]]) -> tuple[Variable, ...]:
    """Merge the variables of several networks: each range runs from the lowest `low` to the highest `high`."""
    return tuple(
        replace(same[0], low=min(variable.low for variable in same), high=max(variable.high for variable in same))
        for same in zip(*every, strict=True)
    )


def _beside(layers: Sequence[Layer], shared: bool) -> Layer:
    """Stack the nodes of several layers in one layer. Their inputs are shared, or stacked too."""
    rows = _places([layer.subnodes for layer in layers])
    combined = _combine(layers, rows, [np.ones(layer.subnodes) for layer in layers], shared)
    return replace(
        combined,
        subnode_scale=np.concatenate([layer.subnode_scale for layer in layers]),
        subnode_bias=np.concatenate([layer.subnode_bias for layer in layers]),
        arity=np.concatenate([layer.arity for layer in layers]),
        node_scale=np.concatenate([layer.node_scale for layer in layers]),
        node_bias=np.concatenate([layer.node_bias for layer in layers]),
    )


def _add(layers: Sequence[Layer], shares: Sequence[Array], shared: bool) -> Layer:
    """One layer whose nodes are weighted sums of the layers' nodes, with weights `shares` (O,); biases are ignored."""
    return _combine(layers, [slice(0, layer.subnodes) for layer in layers], shares, shared)


def _combine(layers: Sequence[Layer], rows: Sequence[slice], shares: Sequence[Array], shared: bool) -> Layer:
    """One layer with the edges of all layers, times `shares` (O,), in the given rows; edges at one place add up."""
    first, grids = layers[0], _on_one_grid(layers, shared)
    columns = [slice(0, first.inputs)] * len(layers) if shared else _places([layer.inputs for layer in layers])
    knots = grids[0].knots if shared else np.concatenate([grid.knots for grid in grids])
    size = (max(row.stop for row in rows), len(knots))
    coefficients = np.zeros((*size, grids[0].coefficients.shape[2]))
    base_weight = np.zeros(size)
    functions, affine = np.full(size, "", dtype=object), neutral_affine(*size)
    for grid, row, column, share in zip(grids, rows, columns, shares, strict=True):
        coefficients[row, column] += share[:, None, None] * grid.coefficients
        base_weight[row, column] += share[:, None] * grid.base_weight
        named = grid.functions != ""
        both = named & (functions[row, column] != "")
        inner_differs = (affine[row, column, :2] != grid.affine[..., :2]).any(axis=2)
        if (both & ((functions[row, column] != grid.functions) | inner_differs)).any():
            raise NetworkError("An edge has different named functions in these networks, which have no hidden nodes.")
        own = np.concatenate([grid.affine[..., :2], share[:, None, None] * grid.affine[..., 2:]], axis=2)
        own[both, 2:] += affine[row, column][both, 2:]
        affine[row, column] = np.where(named[..., None], own, affine[row, column])
        functions[row, column] = np.where(named, grid.functions, functions[row, column])
    return make_layer(
        coefficients,
        knots=knots,
        order=first.order,
        base=first.base,
        base_weight=base_weight,
        extrapolation=first.extrapolation,
        functions=functions.astype(np.str_),
        affine=affine,
    )


def _on_one_grid(layers: Sequence[Layer], shared: bool) -> list[Layer]:
    """Refine the layers' grids to the same number of intervals; for shared inputs to the same knots."""
    interiors = [[row[layer.order : -layer.order] for row in layer.knots] for layer in layers]
    if shared:
        together = [_union(rows) for rows in zip(*interiors, strict=True)]
        interiors = [together for _ in layers]
    intervals = max(len(row) - 1 for rows in interiors for row in rows)
    return [with_interior_knots(layer, rows, intervals) for layer, rows in zip(layers, interiors, strict=True)]


def _union(rows: Sequence[Array]) -> Array:
    """Merge interior knots; knots that are equal up to rounding count once."""
    low, high = rows[0][0], rows[0][-1]
    rounding = SAME_KNOT * (high - low)
    if any(abs(row[0] - low) > rounding or abs(row[-1] - high) > rounding for row in rows):
        raise NetworkError("The grids of an input have different ranges in these networks: fit them to the same rows.")
    every = np.unique(np.concatenate(rows))
    inner = every[(every > low + rounding) & (every < high - rounding)]
    kept = inner[np.diff(inner, prepend=low) > rounding]
    return np.concatenate([[low], kept, [high]])


def _places(counts: Sequence[int]) -> list[slice]:
    """Consecutive slices of these sizes."""
    stops = np.cumsum(counts).tolist()
    return [slice(stop - count, stop) for stop, count in zip(stops, counts, strict=True)]
