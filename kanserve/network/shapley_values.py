"""Shapley values of the inputs of a network.

For a row x and a set S of inputs, v(S) is the mean output over background rows in which the inputs of S have the values
of x. The contribution of an input is the mean of v(S with it) - v(S) over all orders in which the inputs may come.
Those of all inputs add up to the prediction minus the mean prediction of the background rows (Shapley, 1953; Lundberg
and Lee, NeurIPS 2017; for this v, Janzing, Minorics and Blöbaum, AISTATS 2020).

The network's structure says which inputs meet in a function of several. Groups that do not meet contribute
independently: in an additive network each input alone, so that its contribution is its curve minus the curve's mean. In
a group of up to MOST_EXACT inputs all sets count. In a larger one, each background row has random orders and their
reverses (Mitchell, Cooper, Frank and Holmes, JMLR 23, 2022), which is exact where no three inputs interact, and the
difference between two such pairs gives the standard error.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError
from kanserve.network.evaluate import activations, as_rows, edges, nodes, subnodes
from kanserve.network.importances import representative_rows
from kanserve.network.kan import Kan, Layer
from kanserve.network.signal_shares import row_shares
from kanserve.network.training_bins import draw_typical_rows

Array = NDArray[np.float64]
Data = Dataset | ArrayLike | None
Groups = tuple[tuple[int, ...], ...]
Terms = set[frozenset[int]]
"""What a value of a network is a sum of: functions of these inputs."""

ROWS = 1000  # of the background, if none are given
MOST_EXACT = 6  # inputs of a group: of seven, all sets would leave a fifth of the background rows that orders do
PAIRS = 2  # of orders for each background row: two give a standard error
EVALUATIONS = 10_000  # for each row, about .1 s with 25 nodes
MOST_ROWS, FEWEST_ROWS = 4000, 100  # of the background, as many as EVALUATIONS allow
VALUES_AT_ONCE = 2_000_000  # 16 MB


class Explainer:
    """Explains rows of a network by one set of background rows (see `analysis.explain`)."""

    def __init__(self, kan: Kan, data: Data = None) -> None:
        self.kan, self._behind, self._groups = kan, Players(kan), meeting_inputs(kan)
        background = background_rows(kan, data, sum(map(_evaluations, self._groups)))
        self._start = self._behind.edges(background)
        self._bottom = self._start.sum(axis=1)[:, None]
        with np.errstate(all="ignore"):
            self.base = self._behind.outputs(self._bottom[:, 0]).mean(axis=0)

    def explain(self, rows: Array) -> tuple[Array, Array]:
        """The contributions for raw rows (N, inputs) and their standard errors, (N, outputs, inputs) each. They are NaN
        in rows for which the network, or a sum of its outputs for the background rows, is not finite."""
        kan, behind, start = self.kan, self._behind, self._start
        values = np.zeros((len(rows), len(self.base), len(kan.inputs)))
        errors = np.zeros_like(values)
        finite = np.flatnonzero(np.isfinite(activations(kan, rows)[-1]).all(axis=1))
        values[np.setdiff1d(np.arange(len(rows)), finite)] = np.nan
        with np.errstate(all="ignore"):
            for row in finite.tolist():
                own = behind.edges(rows[[row]])[0]
                for group in self._groups:
                    game, places = _exact if _is_exact(group) else _sample_orders, list(group)
                    values[row][:, places], errors[row][:, places] = game(
                        behind, self._bottom, own[places] - start[:, places]
                    )
        values[~np.isfinite(values).all(axis=(1, 2))] = np.nan
        return values, errors


def estimate_work(kan: Kan) -> int:
    """How many values of nodes and edges are computed to explain a row by samples of the training range. A value takes
    30 to 250 ns, the less the wider the layers."""
    groups, layers = meeting_inputs(kan), kan.layers[Players(kan).depth :]
    width = sum(layer.subnodes for layer in layers) + sum(layer.subnodes * layer.inputs for layer in layers[1:])
    background = min(_background_count(sum(map(_evaluations, groups))), ROWS)
    return background * width * sum(_evaluations(group) + 2 for group in groups)


def output_names(kan: Kan) -> tuple[str, ...]:
    """The names of the explained quantities: outputs, or scores of classes."""
    if len(kan.classes) == 2:
        return (f"log-odds of {kan.classes[1]}",)
    return tuple(f"score of {name}" for name in kan.classes) or tuple(variable.name for variable in kan.outputs)


def center_scores(kan: Kan, outputs: Array) -> Array:
    """The explained quantities for outputs (N, Q): the outputs themselves; for classes, the scores minus their mean."""
    if len(kan.classes) == 2:
        return outputs[:, 1:] - outputs[:, :1]
    return outputs - outputs.mean(axis=1, keepdims=True) if kan.classes else outputs


def meeting_inputs(kan: Kan) -> Groups:
    """Group the inputs that interact: the outputs are sums of functions of one group each."""
    terms: list[Terms] = [{frozenset([i])} for i in range(len(kan.inputs))]
    for layer in kan.layers:
        sums = [_terms_of_sum(layer, j, terms) for j in range(layer.subnodes)]
        terms = [sums[group[0]] if len(group) == 1 else _unite_inputs(sums[j] for j in group) for group in layer.groups]
    groups: list[frozenset[int]] = []
    for part in set().union(*terms):
        apart = [group for group in groups if not group & part]
        groups = [*apart, part.union(*(group for group in groups if group & part))]
    return tuple(sorted(tuple(sorted(group)) for group in groups))


def _terms_of_sum(layer: Layer, j: int, terms: Sequence[Terms]) -> Terms:
    """The sets of network inputs that interact in a subnode, given those of each layer input. A linear edge passes
    its input's sets on; any other function makes all inputs in them interact, so it unites them."""
    own: Terms = set()
    for i in np.flatnonzero(layer.alive[j]).tolist():
        straight = layer.functions[j, i] == "x" and not layer.spline_mask[j, i]
        own |= terms[i] if straight else _unite_inputs([terms[i]])
    return own


def _unite_inputs(parts: Iterable[Terms]) -> Terms:
    """One set with all inputs of these; empty if they have none."""
    together = frozenset[int]().union(*(term for part in parts for term in part))
    return {together} if together else set()


class Players:
    """The part of a network from the layer in which inputs first interact, as a function of sums of edges."""

    def __init__(self, kan: Kan) -> None:
        self.kan, self.depth, each = kan, 0, np.eye(len(kan.inputs))
        self.of_input = each
        for layer in kan.layers[:-1]:  # such as those that clip each input to its range
            reached = layer.alive @ self.of_input > 0
            if (layer.arity > 1).any() or (reached.sum(axis=1) > 1).any():
                break
            self.of_input, self.depth = each[reached.argmax(axis=1)], self.depth + 1

    @property
    def layer(self) -> Layer:
        return self.kan.layers[self.depth]

    def edges(self, rows: Array) -> Array:
        """What each input adds to each subnode (N, I, O)."""
        found = edges(self.layer, activations(self.kan, rows)[self.depth]) @ self.of_input
        return np.ascontiguousarray(np.moveaxis(found, 2, 1))

    def outputs(self, sums: Array) -> Array:
        """The explained quantities (..., Q), from the sums of edges (..., O)."""
        flat = sums.reshape(-1, sums.shape[-1])
        rest = self.kan.layers[self.depth + 1 :]
        size = max([self.layer.subnodes, *(layer.subnodes * layer.inputs for layer in rest)])
        cuts = [*range(0, len(flat), max(1, VALUES_AT_ONCE // size)), len(flat)]
        found = np.concatenate([self._outputs(flat[low:high]) for low, high in pairwise(cuts)])
        return found.reshape(*sums.shape[:-1], -1)

    def _outputs(self, sums: Array) -> Array:
        with np.errstate(all="ignore"):
            values = nodes(self.layer, self.layer.subnode_scale * sums + self.layer.subnode_bias)
            for layer in self.kan.layers[self.depth + 1 :]:
                values = nodes(layer, subnodes(layer, edges(layer, values)))
            return center_scores(self.kan, self.kan.output_scale * values + self.kan.output_shift)


def _is_exact(group: tuple[int, ...]) -> bool:
    """Whether all subsets of a group's inputs are evaluated."""
    return len(group) <= MOST_EXACT


def _evaluations(group: tuple[int, ...]) -> int:
    """The network evaluations for one background row and one group of inputs, without the empty and full subsets."""
    return 2 ** len(group) - 2 if _is_exact(group) else 2 * PAIRS * (len(group) - 1)


def _background_count(evaluations: int) -> int:
    return int(np.clip(EVALUATIONS // max(evaluations, 1), FEWEST_ROWS, MOST_ROWS))


def background_rows(kan: Kan, data: Data, evaluations: int) -> Array:
    """The background rows (B, I), on all of which the network is finite."""
    most = _background_count(evaluations)
    rows = draw_typical_rows(kan, min(most, ROWS)) if data is None else as_rows(kan, data)
    shares = row_shares(data.weights if isinstance(data, Dataset) else None, len(rows))
    if len(rows) > 2 * MOST_ROWS:  # the network on 200,000 rows takes .7 s, as often as a slider of the studio moves
        some = representative_rows(shares, 2 * MOST_ROWS)
        rows, shares = rows[some], row_shares(None, len(some))
    counted = shares * np.isfinite(activations(kan, rows)[-1]).all(axis=1)
    picked = representative_rows(counted, most)
    if not len(picked):
        raise DataError("The network is finite on none of the background rows.")
    return rows[picked]


def _exact(behind: Players, bottom: Array, change: Array) -> tuple[Array, float]:
    """The contributions (Q, G) of a group from all of its subsets; `bottom` (B, 1, O) are the sums of all edges of the
    background rows, `change` (B, G, O) what the group's edges of the explained row add to them."""
    count = change.shape[1]
    sets = (np.arange(2**count)[:, None] >> np.arange(count) & 1).astype(np.float64)
    sums = bottom + np.einsum("sg,bgo->bso", sets, change)
    values = behind.outputs(sums).mean(axis=0)
    orders = np.array([factorial(k) * factorial(count - 1 - k) / factorial(count) for k in range(count)])
    size = sets.sum(axis=1).astype(int)
    weights = np.where(sets == 1, orders[size - 1][:, None], -orders[size % count][:, None])
    return (weights.T @ values).T, 0.0


def _sample_orders(behind: Players, bottom: Array, change: Array) -> tuple[Array, Array]:
    """The contributions (Q, G) of a group and their standard errors, from random orders and their reverses."""
    random, count = np.random.default_rng(0), change.shape[1]
    found = []
    for _ in range(PAIRS):
        order = random.permuted(np.tile(np.arange(count), (len(bottom), 1)), axis=1)
        pair = [_along(behind, bottom, change, way) for way in (order, order[:, ::-1])]
        found.append((pair[0] + pair[1]) / 2)
    mean = np.mean(found, axis=(0, 1))
    errors = np.sqrt((np.var(found, axis=0, ddof=1) / PAIRS).sum(axis=0)) / len(bottom)
    return mean.T, errors.T


def _along(behind: Players, bottom: Array, change: Array, order: NDArray[np.int64]) -> Array:
    """The change (B, G, Q) caused by each input of a group, when they are changed in an order (B, G)."""
    steps = np.take_along_axis(change, order[:, :, None], axis=1).cumsum(axis=1)
    values = behind.outputs(np.concatenate([bottom, bottom + steps], axis=1))
    result = np.empty((*order.shape, values.shape[-1]))
    np.put_along_axis(result, np.broadcast_to(order[:, :, None], result.shape), np.diff(values, axis=1), axis=1)
    return result
