"""The importance of each input: how much the outputs change when its values are shuffled among the rows. If shuffling
input i turns the rows x into x', its importance is proportional to E[(f(x) - f(x'))²], the numerator of Sobol's total
index (Jansen, 1999), with the other inputs as in the data. scikit-learn's `permutation_importance` on the training rows
has the same shares, but needs targets and more time. Inputs that depend on each other share their importance."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError
from kanserve.network.evaluate import activations, as_rows, edges, nodes, single_input, softmax, subnodes
from kanserve.network.kan import Kan
from kanserve.network.signal_shares import find_used_inputs, row_shares

Array = NDArray[np.float64]

PAIRS = (
    4000  # of rows for each input: the standard error of a share is about .005, and twice the pairs take twice as long
)
FEWEST_PAIRS = 200  # for a large network, of whose hundreds of inputs each has a small share
EDGE_VALUES = 20_000_000  # computed in about two seconds: a network with more inputs or edges gets fewer pairs
ROUNDING = 1e-14  # relative to the largest output: with a smaller deviation an output is constant


def input_importances(kan: Kan, x: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """The importances (inputs,) on rows x (N, inputs), with optional weights (N,). They sum to 1, or are all 0 for a
    constant network. Outputs count equally, relative to their variance (for a classifier the probabilities); rows with
    NaN do not count."""
    inputs = np.flatnonzero(find_used_inputs(kan))
    pairs = _pair_count(kan, len(inputs))
    rows = as_rows(kan, x)
    rows = rows[representative_rows(row_shares(weights, len(rows)), pairs)]
    values = activations(kan, rows)
    v = values[0][np.isfinite(values[-1]).all(axis=1)]
    if not len(v):
        raise DataError("The network is not finite on any of these rows, so its inputs have no importances.")
    sums = _first_sums(kan, v)
    before = _answers(kan, sums)
    largest = np.abs(before).max(axis=0)
    unit = np.where((largest == 0) | bool(kan.classes), 1.0, largest)  # so that no square overflows
    variances = (before / unit).var(axis=0)
    varies = variances > ROUNDING**2
    weights_of_outputs = varies / np.where(varies, variances, 1.0) if not kan.classes else varies.astype(np.float64)
    receivers, donors = _shuffle_pairs(len(v), pairs)
    moved = np.zeros(len(kan.inputs))
    for i in inputs.tolist():
        own = edges(single_input(kan.layers[0], i), v[:, [i]])[:, :, 0]
        after = _answers(kan, sums[receivers] + (own[donors] - own[receivers]))
        with np.errstate(all="ignore"):
            changes = ((after - before[receivers]) / unit) ** 2 @ weights_of_outputs
        changes = changes[np.isfinite(changes)]
        moved[i] = changes.mean() if len(changes) else 0.0
    total = moved.sum()
    return moved / total if total > 0 else moved


def _pair_count(kan: Kan, inputs: int) -> int:
    """How many pairs of rows to compare for each input."""
    each = kan.layers[0].subnodes + sum(layer.subnodes * layer.inputs for layer in kan.layers[1:])
    return int(np.clip(EDGE_VALUES // (each * max(inputs, 1)), FEWEST_PAIRS, PAIRS))


def representative_rows(counted: Array, pairs: int) -> NDArray[np.int64]:
    """The positions of at most `pairs` rows, each repeated in proportion to its weight."""
    there = np.flatnonzero(counted)
    if not len(there):
        return there
    if (counted[there] == counted[there[0]]).all():
        return there if len(there) <= pairs else there[np.linspace(0, len(there) - 1, pairs).astype(np.int64)]
    ends = np.cumsum(counted)
    positions: NDArray[np.int64] = np.searchsorted(ends, (np.arange(pairs) + 0.5) / pairs * ends[-1])
    return positions


def _shuffle_pairs(rows: int, pairs: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """About this many pairs of a row and the one whose value it gets: whole shuffles in which no row keeps its own."""
    order = np.random.default_rng(0).permutation(rows)
    shifts = range(1, min(-(-pairs // rows), rows - 1) + 1)
    donors = [np.roll(order, shift) for shift in shifts]
    return np.tile(order, len(donors)), np.concatenate([order[:0], *donors])


def _first_sums(kan: Kan, v: Array) -> Array:
    """The sums (N, O) of the edges into each subnode of the first layer, by input: all edges may not fit in memory."""
    sums = np.zeros((len(v), kan.layers[0].subnodes))
    for i in range(len(kan.inputs)):
        sums += edges(single_input(kan.layers[0], i), v[:, [i]])[:, :, 0]
    return sums


def _answers(kan: Kan, first_sums: Array) -> Array:
    """The outputs (N, Q) in units of their scales, or a classifier's probabilities; NaN if not finite."""
    first = kan.layers[0]
    with np.errstate(all="ignore"):
        values = nodes(first, first.subnode_scale * first_sums + first.subnode_bias)
        for layer in kan.layers[1:]:
            values[~np.isfinite(values).all(axis=1)] = np.nan
            values = nodes(layer, subnodes(layer, edges(layer, values)))
        if kan.classes:
            return softmax(kan.output_scale * values + kan.output_shift)
    return values
