"""How much each input contributes to a prediction: Shapley values.

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
from dataclasses import dataclass
from itertools import pairwise
from math import factorial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kanserve.analysis.samples import ROWS, Data
from kanserve.data.dataset import Dataset
from kanserve.errors import DataError, InputError
from kanserve.network.evaluate import Rows, activations, as_rows, edges, nodes, subnodes
from kanserve.network.importances import representative_rows
from kanserve.network.kan import Kan, Layer, Variable
from kanserve.network.signal_shares import row_shares
from kanserve.network.training_bins import draw_typical_rows
from kanserve.plot.contribution_bars import Bar, contribution_bars
from kanserve.plot.matplotlib_scene import colours, draw, pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kanserve.plot.matplotlib_scene import Width
    from kanserve.plot.palette import Theme

Array = NDArray[np.float64]
Groups = tuple[tuple[int, ...], ...]
Terms = set[frozenset[int]]
"""What a value of a network is a sum of: functions of these inputs."""

MOST_EXACT = 6  # inputs of a group: of seven, all sets would leave a fifth of the background rows that orders do
PAIRS = 2  # of orders for each background row: two give a standard error
EVALUATIONS = 10_000  # for each row, about .1 s with 25 nodes
MOST_ROWS, FEWEST_ROWS = 4000, 100  # of the background, as many as EVALUATIONS allow
VALUES_AT_ONCE = 2_000_000  # 16 MB
SHOWN_ROWS, SHOWN_INPUTS = 3, 12  # in a text


@dataclass(frozen=True, eq=False)
class Contributions:
    """How much each input contributes to predictions, and what they are without: `base` plus `values` is a prediction.

    Parameters
    ----------
    inputs : tuple of Variable
        The I inputs of the network.
    outputs : tuple of str
        What is explained: the Q outputs; of two classes the log-odds of the second; of more each class's score minus
        the mean score of all classes.
    x : ndarray of shape (N, I)
        The rows, of categorical inputs the codes.
    base : ndarray of shape (Q,)
        The mean prediction of the background rows.
    values : ndarray of shape (N, Q, I)
        The contributions, in the units of the outputs. NaN where the network is not finite on a row, or on one that has
        some of its values and others of a background row.
    errors : ndarray of shape (N, Q, I)
        Standard errors; 0 where nothing is sampled.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("x*y + 2*z", ranges={"x": (0, 1), "y": (0, 1), "z": (0, 1)})
    >>> print(kan.explain([[1.0, 1.0, 0.5]], [[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]))
    y = 2: 1 on average, and
      +0.75  y = 1
      +0.25  x = 1
      0      z = 0.5
    """

    inputs: tuple[Variable, ...]
    outputs: tuple[str, ...]
    x: Array
    base: Array
    values: Array
    errors: Array

    @property
    def predictions(self) -> Array:
        """What is explained, (N, Q): the base plus all contributions.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*x", ranges={"x": (0, 1)})
        >>> kan.explain([[1.0]], [[0.0], [0.5]]).predictions.tolist()
        [[2.0]]
        """
        result: Array = self.base + self.values.sum(axis=2)
        return result

    def __str__(self) -> str:
        lines = []
        for row in range(min(len(self.x), SHOWN_ROWS)):
            for output, name in enumerate(self.outputs):
                first = f"{name} = {self.predictions[row, output]:.6g}: {self.base[output]:.6g} on average, and"
                written = [(bar.text, bar.label) for bar in bars(self, row, output)]
                wide = max(len(text) for text, _ in written)
                lines += [first, *(f"  {text:{wide}}  {label}" for text, label in written)]
        rest = len(self.x) - SHOWN_ROWS
        return "\n".join([*lines, *([f"and {rest} more rows"] if rest > 0 else [])])

    def plot(
        self,
        row: int = 0,
        output: int | str = 0,
        ax: "Axes | None" = None,
        *,
        theme: "Theme" = "auto",
        width: "Width" = None,
    ) -> "Axes":
        """Draw the contributions to one prediction as bars, from the base to the prediction.

        Parameters
        ----------
        row : int, default=0
            The row's number.
        output : str or int, default=0
            The name or the index of one of `outputs`.
        ax, theme, width : optional
            As in `kanserve.plot_network`.

        Returns
        -------
        Axes
            Matplotlib's.

        Raises
        ------
        InputError
            The row or output does not exist.
        MissingDependencyError
            Matplotlib is not installed.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("x*y + z")
        >>> axes = kan.explain([[1.0, 0.5, 0.0]]).plot()
        """
        if not 0 <= row < len(self.x):
            raise InputError(f"There are rows 0 to {len(self.x) - 1}, got {row}.")
        q = self.outputs.index(output) if output in self.outputs else output
        if not isinstance(q, int) or not 0 <= q < len(self.outputs):
            raise InputError(f"What is explained is {', '.join(self.outputs)}; got {output!r:.80}.")
        scene = contribution_bars(self.outputs[q], float(self.base[q]), bars(self, row, q), pixels(width))
        return draw(scene, colours(theme, ax), ax, width)


def explain(kan: Kan, x: Rows, data: Data = None) -> Contributions:
    """How much each input contributes to each prediction: Shapley values, which add up to it.

    A contribution says how much the output changes from its mean over background rows since the input has the value it
    has. Of inputs that act together each has its part, the mean over all orders in which they may come. In an additive
    network it is the input's curve minus its mean. The network is explained, not the world: an input that only goes
    along with a cause has the contribution that the network gives it.

    Parameters
    ----------
    kan : Kan
        The network.
    x : array_like of shape (n_samples, n_inputs), DataFrame or Dataset
        The rows to explain, in raw units.
    data : Dataset or array_like of shape (n_rows, n_inputs), optional
        Background rows, such as the training rows: contributions are differences from their mean prediction. By default
        1000 samples in which each input is spread as in the training rows, which a fitted network knows in ten bins, or
        evenly over its range; that inputs go along with each other is lost. Up to 4000 rows count, by their weights:
        100 to 500 where many inputs interact.

    Returns
    -------
    Contributions
        `base` of shape (n_outputs,), and `values` and their standard `errors` of shape (n_samples, n_outputs,
        n_inputs). The errors are 0 in networks where no more than six inputs meet in one function. It prints as a few
        lines and has `.plot()`.

    Raises
    ------
    DataError
        The data are of another shape, or the network is finite on none of the background rows.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("x*y + 2*z", ranges={"x": (0, 1), "y": (0, 1), "z": (0, 1)})
    >>> found = kanserve.explain(kan, [[1.0, 1.0, 0.5]], [[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    >>> found.base.tolist(), found.values.tolist()
    ([1.0], [[[0.25, 0.75, 0.0]]])
    """
    return Explainer(kan, data).explain(as_rows(kan, x))


class Explainer:
    """Explains rows of a network by one set of background rows (see `explain`)."""

    def __init__(self, kan: Kan, data: Data = None) -> None:
        self.kan, self._behind, self._groups = kan, Players(kan), meeting_inputs(kan)
        background = background_rows(kan, data, sum(map(_evaluations, self._groups)))
        self._start = self._behind.edges(background)
        self._bottom = self._start.sum(axis=1)[:, None]
        self.base = self._behind.outputs(self._bottom[:, 0]).mean(axis=0)

    def explain(self, rows: Array) -> Contributions:
        """The contributions for raw rows (N, inputs)."""
        kan, behind, start = self.kan, self._behind, self._start
        values = np.zeros((len(rows), len(self.base), len(kan.inputs)))
        errors = np.zeros_like(values)
        finite = np.flatnonzero(np.isfinite(activations(kan, rows)[-1]).all(axis=1))
        values[np.setdiff1d(np.arange(len(rows)), finite)] = np.nan
        for row in finite.tolist():
            own = behind.edges(rows[[row]])[0]
            for group in self._groups:
                game, places = _exact if _is_exact(group) else _sample_orders, list(group)
                values[row][:, places], errors[row][:, places] = game(
                    behind, self._bottom, own[places] - start[:, places]
                )
        return Contributions(kan.inputs, output_names(kan), rows, self.base, values, errors)


def estimate_work(kan: Kan) -> int:
    """How many values of nodes and edges are computed to explain a row by samples of the training range. A value takes
    30 to 250 ns, the less the wider the layers."""
    groups, layers = meeting_inputs(kan), kan.layers[Players(kan).depth :]
    width = sum(layer.subnodes for layer in layers) + sum(layer.subnodes * layer.inputs for layer in layers[1:])
    background = min(_background_count(sum(map(_evaluations, groups))), ROWS)
    return background * width * sum(_evaluations(group) + 2 for group in groups)


def bars(found: Contributions, row: int, output: int) -> list[Bar]:
    """The contributions to one prediction, largest first; those after the first SHOWN_INPUTS are summed in one bar."""
    values, errors = found.values[row, output], found.errors[row, output]
    order = np.argsort(-np.abs(values), kind="stable").tolist()
    names = [f"{v.name} = {format_value(v, float(value))}" for v, value in zip(found.inputs, found.x[row], strict=True)]
    made = [Bar(names[i], float(values[i]), float(errors[i])) for i in order[:SHOWN_INPUTS]]
    if rest := order[SHOWN_INPUTS:]:
        made.append(Bar(f"{len(rest)} more inputs", float(values[rest].sum()), float(np.hypot.reduce(errors[rest]))))
    return made


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


def format_value(variable: Variable, value: float) -> str:
    """A raw value of an input as text; a category by its name."""
    if np.isnan(value):
        return "missing"
    if variable.categories:
        return variable.categories[int(value)] if value in range(len(variable.categories)) else "unknown"
    return f"{value:.4g}"


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
    """The part of a network from the layer in which inputs first interact, as a function of the sums of the inputs'
    edges."""

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
    """The number of network evaluations for one background row and one group of inputs, not counting the empty and
    the full subset."""
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
