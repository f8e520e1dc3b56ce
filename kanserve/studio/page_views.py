"""What the page draws, as plain data: nodes with their densities, edges, measures, the map of a large network."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.analysis.contributions import explain
from kanserve.data.dataset import Dataset
from kanserve.editing import Session, Snapshot, Suggestion
from kanserve.editing.edge_constants import units
from kanserve.editing.session_data import of_numbers
from kanserve.editing.snapshot import shares_of
from kanserve.errors import KanserveError
from kanserve.formula import formulas
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.names import latex_name
from kanserve.network.edge_names import node_name, place_of, subnode_names
from kanserve.network.evaluate import activations, edge, jacobian, softmax
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Spline, Sum, Variable
from kanserve.network.own_functions import OWN
from kanserve.network.splines import span
from kanserve.network.training_range import outside, ranges
from kanserve.simplification.activations import values
from kanserve.train import score
from kanserve.train.lm.blas_threads import threads_for

Array = NDArray[np.float64]

CURVE_POINTS = 97  # of each edge's curve: about 1 KB
ALL_TILES = 500  # a network with at most so many edges is sent whole
# Edges of a larger one that are sent, those with the largest share; of the others there is a map of shares.
MOST_TILES = 200
MAP_CELLS = 64  # rows and columns of such a map, each cell the largest share of its edges
DENSITY_BINS = 32  # of the histogram of a variable
MOST_ROWS = 2000  # rows that are sent, sampled by ROWS_SEED
ROWS_SEED = 0
MOST_RESPONSES = 12  # inputs whose curves of response are drawn
RESPONSE_POINTS = 41  # of each
MAP_POINTS = 33  # of each of two inputs
BEYOND = 0.15  # how far an edge is drawn beyond its range on either side, as a share of the range
LEAST_LOSS = 1e-20  # a loss below it is rounding: what changes it by a factor says nothing
COVERAGE = 0.95  # of the interval around a prediction: this share of the held-out rows is within it


@dataclass(frozen=True)
class NodeView:
    """An input, a hidden node or an output. `density` is a histogram between `low` and `high`, the largest bin 1.

    `knots` are the breaks of the splines that read it, in its units; `trained` the training range of an input, or None
    if it is unknown; `middle` its median on the rows. `categories` are the names of an input's categories, each with
    the number that the network sees for it, and `missing` is the number that it sees where the value is missing.
    """

    name: str
    latex: str
    unit: str
    low: float
    high: float
    middle: float
    density: tuple[float, ...]
    knots: tuple[float, ...] = ()
    trained: tuple[float, float] | None = None
    share: float = 0.0
    categories: tuple[tuple[str, float], ...] = ()
    missing: float | None = None


@dataclass(frozen=True)
class Measure:
    """How well a network fits the held-out rows: "RMSE" in the unit of the output, or "cross-entropy"; R² of each
    output, and the accuracy of a classifier."""

    kind: str
    value: float
    r2: tuple[float, ...]
    accuracy: float | None = None


@dataclass(frozen=True)
class LayerMap:
    """The largest share of the edges in each cell of a map of a layer: rows are sums, columns inputs."""

    inputs: int
    sums: int
    cells: tuple[tuple[float, ...], ...]


Affine = tuple[float, float]
"""A scale and an offset."""


@dataclass(frozen=True)
class AffineView:
    """What a layer does with the sums of its edges, in the units of the edges' constants: a sum becomes scale·sum +
    offset, and a product of several of them likewise. Of a node with one sum the product's are 1 and 0."""

    sums: tuple[Affine, ...]
    products: tuple[Affine, ...]


def affine_of(kan: Kan, depth: int) -> AffineView:
    """The scales and offsets of a layer's sums and products."""
    layer, last = kan.layers[depth], depth == len(kan.layers) - 1
    sums, products = [], []
    for q, group in enumerate(layer.groups):
        scale, offset = float(layer.node_scale[q]), float(layer.node_bias[q])
        if last:
            scale, offset = kan.output_scale[q] * scale, kan.output_scale[q] * offset + kan.output_shift[q]
        several = [(float(layer.subnode_scale[j]), float(layer.subnode_bias[j])) for j in group]
        if len(several) == 1:
            ((own, bias),) = several
            factor = units(kan, (depth, group[0], 0)).factor  # which the constants have already
            whole = 1.0 if math.isclose(own * scale, factor) else own * scale / factor
            several, scale, offset = [(float(whole), float(scale * bias + offset))], 1.0, 0.0
        sums += several
        products.append((float(scale), float(offset)))
    return AffineView(tuple(sums), tuple(products))


@dataclass(frozen=True)
class CandidateView:
    """A suggestion with its complexity, its values along the curve of the edge (in the network's own unit), and the
    relative change of the held-out RMSE, or of a classifier's cross-entropy; None where that is rounding."""

    suggestion: Suggestion
    complexity: float
    change: float | None
    curve: tuple[float, ...]
    formula: str = ""


@dataclass(frozen=True)
class Tried:
    """How well a network fits, and what it predicts for the rows of the page."""

    measure: Measure
    prediction: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class PageView:
    """The state of a session as the page shows it; `revision` is the base of the next step."""

    revision: int
    snapshot: Snapshot
    nodes: tuple[tuple[NodeView, ...], ...]
    arity: tuple[tuple[int, ...], ...]
    affine: tuple[AffineView, ...]
    measure: Measure
    first: Measure
    interval: tuple[float, ...]
    edges: int
    possible_edges: int
    shown_share: float
    complexity: float | None
    maps: tuple[LayerMap, ...]
    python: str


def page_view(session: Session, revision: int) -> PageView:
    with threads_for(session.rows.work(session.kan)):
        return _page_view(session, revision)


def _page_view(session: Session, revision: int) -> PageView:
    rows = session.rows
    first, kan = of_numbers(session.first), of_numbers(session.kan)
    now = measure(kan, rows.held)
    shares = shares_of(kan, rows.judge.x)
    snapshot = session.snapshot(CURVE_POINTS, None if kan.edges <= ALL_TILES else MOST_TILES, shares=shares)
    every = sum(float(share.sum()) for share in shares)
    seen = {(view.place[0], view.place[2]) for view in snapshot.edges}
    return PageView(
        revision=revision,
        snapshot=snapshot,
        nodes=_nodes(kan, session.kan.inputs, rows.judge.x, shares, seen),
        arity=tuple(tuple(layer.arity.tolist()) for layer in kan.layers),
        affine=tuple(affine_of(kan, depth) for depth in range(len(kan.layers))),
        measure=now,
        first=now if session.kan is session.first else measure(first, rows.held),
        interval=_interval(kan, rows.held),
        edges=kan.edges,
        possible_edges=sum(layer.subnodes * layer.inputs for layer in kan.layers),
        shown_share=sum(view.share for view in snapshot.edges) / every if every else 0.0,
        complexity=_complexity(kan),
        maps=tuple(map(_map, shares)) if len(snapshot.edges) < kan.edges else (),
        python=session.as_python(),
    )


def measure(kan: Kan, held: Dataset) -> Measure:
    """How well a network fits rows."""
    found = score(kan, held)
    if kan.classes:
        return Measure("cross-entropy", found.loss, found.r2, found.accuracy)
    return Measure("RMSE", math.sqrt(sum(value**2 for value in found.rmse) / len(found.rmse)), found.r2)


def _complexity(kan: Kan) -> float | None:
    """The complexity of the one formula of a small network."""
    if kan.edges > MOST_TILES or len(kan.outputs) > 1:
        return None
    try:
        return complexity(formulas(kan, limit=1, strict=False)[0].tree)
    except KanserveError:
        return None


def _nodes(
    kan: Kan, inputs: Sequence[Variable], x: Array, shares: tuple[Array, ...], seen: set[tuple[int, int]]
) -> tuple[tuple[NodeView, ...], ...]:
    """The nodes of each depth; those of a large network that no shown edge reads have no density and no knots."""
    found, trained = [], list(map(_finite, ranges(kan)))
    for depth, v in enumerate(values(kan, x)):
        last = depth == len(kan.layers)
        v = x if depth == 0 else v
        v = v[np.isfinite(v).all(axis=1)]
        count = v.shape[1]
        given = np.full(count, 1 / count) if last else shares[depth].sum(axis=0)
        variables = inputs if depth == 0 else kan.outputs if last else [Variable("")] * count
        nodes = []
        for i, variable in enumerate(variables):
            shown = last or (depth, i) in seen or count <= DENSITY_BINS
            node = _node(node_name(kan, depth, i), variable, v[:, i], shown)
            bent = shown and not last and kan.layers[depth].spline_mask[:, i].any()
            knots = _knots(kan, depth, i) if bent else ()
            nodes.append(replace(node, knots=knots, trained=trained[i] if depth == 0 else None, share=float(given[i])))
        found.append(tuple(nodes))
    return tuple(found)


def _node(name: str, variable: Variable, v: Array, shown: bool) -> NodeView:
    """A node with these finite values (N,); one that is not `shown` has no density."""
    low, high, middle, density = _density(v if shown else v[:0])
    if len(v) and not shown:
        middle = float(v[len(v) // 2])
    elif variable.categories:
        middle = min(variable.category_values, key=lambda value: abs(value - middle))
    return NodeView(
        name=name,
        latex=latex_name(name) if shown else "",
        unit=variable.unit,
        low=low,
        high=high,
        middle=middle,
        density=density,
        knots=(),
        trained=None,
        share=0.0,
        categories=tuple(zip(variable.categories, variable.category_values, strict=True)),
        missing=variable.fill_value,
    )


def _density(v: Array) -> tuple[float, float, float, tuple[float, ...]]:
    """The least, the largest and the middle value, and a histogram whose largest bin is 1; empty without values."""
    if not len(v):
        return 0.0, 1.0, 0.0, ()
    low, high = float(v.min()), float(v.max())
    counts = np.histogram(v, DENSITY_BINS, (low, high if high > low else low + 1))[0]
    return low, high, float(np.median(v)), tuple((counts / max(int(counts.max()), 1)).round(3).tolist())


def _knots(kan: Kan, depth: int, i: int) -> tuple[float, ...]:
    """The breaks of the splines of an input of a layer, within their range, in the units of the node."""
    layer = kan.layers[depth]
    low, high = span(layer.knots[i], layer.order)
    inner = np.unique(layer.knots[i][(layer.knots[i] >= low) & (layer.knots[i] <= high)])
    scale, shift = (kan.input_scale[i], kan.input_shift[i]) if depth == 0 else (1.0, 0.0)
    return tuple(sorted((inner * scale + shift).tolist()))


def _finite(span: Array) -> tuple[float, float] | None:
    low, high = span.tolist()
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _interval(kan: Kan, held: Dataset) -> tuple[float, ...]:
    """For each output of a regression, the absolute error that `STUDIO.coverage` of the held-out rows are within."""
    if kan.classes:
        return ()
    missed = np.abs(activations(kan, held.x)[-1] - held.y)
    missed = missed[np.isfinite(missed).all(axis=1)]
    return tuple(np.quantile(missed, COVERAGE, axis=0).tolist()) if len(missed) else ()


def _map(share: Array) -> LayerMap:
    rows, columns = (
        np.array_split(np.arange(count), min(count, MAP_CELLS)) for count in (share.shape[0], share.shape[1])
    )
    cells = tuple(tuple(round(float(share[np.ix_(r, c)].max()), 6) for c in columns) for r in rows)
    return LayerMap(share.shape[1], share.shape[0], cells)


@dataclass(frozen=True)
class EdgeCurve:
    """An edge at `u`, in the units of its input, which go beyond `low` to `high`, its range on the rows.

    `values` are the network's own; a candidate's c·f(a·u + b) + d is divided by `factor` to compare with them.
    """

    name: str
    source: str
    source_latex: str
    target_latex: str
    unit: str
    u: tuple[float, ...]
    values: tuple[float, ...]
    low: float
    high: float
    knots: tuple[float, ...]
    knot_values: tuple[float, ...]
    intervals: int
    density: tuple[float, ...]
    factor: float
    function: str
    spline: bool = True
    place: tuple[int, int, int] = (0, 0, 0)


def edge_curve(session: Session, name: str) -> EdgeCurve:
    """An edge over its range and a little beyond. NotFoundError for an unknown name."""
    kan, x = of_numbers(session.kan), session.rows.judge.x
    depth, j, i = place = place_of(kan, name)
    layer, own = kan.layers[depth], units(kan, place)
    v = values(kan, x)[depth][:, i]
    low, high, _, density = _density(v[np.isfinite(v)])
    more = BEYOND * ((high - low) or 1.0)
    u = np.linspace(low - more, high + more, CURVE_POINTS)
    knots = np.array(_knots(kan, depth, i) if isinstance(layer.edge(j, i), Spline | Sum) else ())
    node = node_name(kan, depth, i)
    kind = layer.edge(j, i)
    return EdgeCurve(
        name=name,
        source=node,
        source_latex=latex_name(node),
        target_latex=latex_name(subnode_names(kan, depth)[j]),
        unit=kan.inputs[i].unit if depth == 0 else "",
        u=tuple((u * own.scale + own.shift).tolist()),
        values=tuple(edge(layer, j, i, u).tolist()),
        low=low * own.scale + own.shift,
        high=high * own.scale + own.shift,
        knots=tuple(knots.tolist()),
        knot_values=tuple(edge(layer, j, i, (knots - own.shift) / own.scale).tolist()),
        intervals=layer.intervals,
        density=density,
        factor=own.factor,
        function=getattr(kind, "function", "") or getattr(getattr(kind, "symbolic", None), "function", ""),
        spline=isinstance(kind, Spline | Sum),
        place=place,
    )


@dataclass(frozen=True)
class Predicted:
    """A prediction: the outputs (a classifier's probabilities), their exact slopes by each input, which inputs are
    inside the training range, and the values of all nodes. None where not finite."""

    value: tuple[float, ...]
    gradient: tuple[tuple[float, ...], ...]
    inside: tuple[bool, ...]
    nodes: tuple[tuple[float, ...], ...]


def predict_row(kan: Kan, x: Array) -> Predicted:
    """The prediction at one row (inputs,)."""
    row = x[None]
    every = activations(kan, row)
    value, slopes = every[-1], jacobian(kan, row)[0]
    if kan.classes:
        value = softmax(value)
        chances = value[0]
        slopes = (np.diag(chances) - np.outer(chances, chances)) @ slopes
    low, high = ranges(kan).T
    return Predicted(
        value=tuple(value[0].tolist()),
        gradient=tuple(tuple(line) for line in slopes.tolist()),
        inside=tuple(((x >= low) & (x <= high)).tolist()),
        nodes=tuple(tuple(v[0].tolist()) for v in (row, *every[1:])),
    )


@dataclass(frozen=True)
class Responses:
    """The predictions (a classifier's probabilities) over some inputs, those with the largest share: `values` has the
    outputs at each of the values `u` of an input, the others as they are."""

    inputs: tuple[int, ...]
    u: tuple[tuple[float, ...], ...]
    values: tuple[tuple[tuple[float, ...], ...], ...]


def responses_at(kan: Kan, x: Array, nodes: Sequence[NodeView]) -> Responses:
    """The predictions around one row (inputs,)."""
    chosen = sorted((i for i, node in enumerate(nodes) if node.share > 0), key=lambda i: -nodes[i].share)
    chosen = chosen[:MOST_RESPONSES]
    u = [np.linspace(nodes[i].low, nodes[i].high, RESPONSE_POINTS) for i in chosen]
    rows = np.tile(x, (len(chosen), RESPONSE_POINTS, 1))
    for n, i in enumerate(chosen):
        rows[n, :, i] = u[n]
    found = activations(kan, rows.reshape(-1, len(x)))[-1]
    found = softmax(found) if kan.classes else found
    curves = found.reshape(len(chosen), RESPONSE_POINTS, -1).tolist()
    return Responses(
        tuple(chosen), tuple(tuple(one.tolist()) for one in u), tuple(tuple(map(tuple, c)) for c in curves)
    )


def map_at(kan: Kan, x: Array, nodes: Sequence[NodeView], across: int, down: int) -> tuple[Array, ...]:
    """Predictions over two inputs around a row (inputs,): the values of each, and outputs (down, across, outputs)."""
    u, v = (np.linspace(nodes[i].low, nodes[i].high, MAP_POINTS) for i in (across, down))
    rows = np.tile(x, (MAP_POINTS, MAP_POINTS, 1))
    rows[:, :, across], rows[:, :, down] = u[None, :], v[:, None]
    found = activations(kan, rows.reshape(-1, len(x)))[-1]
    found = softmax(found) if kan.classes else found
    return u, v, found.reshape(MAP_POINTS, MAP_POINTS, -1)


@dataclass(frozen=True)
class Explained:
    """How much each input contributes to a prediction (`kanserve.explain`): what is explained, its mean prediction over
    the rows, and for each the contributions of the inputs and their standard errors. None where not finite."""

    outputs: tuple[str, ...]
    base: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    errors: tuple[tuple[float, ...], ...]


def explain_row(kan: Kan, x: Array, rows: Dataset) -> Explained:
    """The contributions at one row (inputs,), as differences from the mean over rows."""
    found = explain(kan, x[None], rows)
    values, errors = (tuple(map(tuple, of[0].tolist())) for of in (found.values, found.errors))
    return Explained(found.outputs, tuple(found.base.tolist()), values, errors)


@dataclass(frozen=True)
class Rows:
    """At most 2000 of the rows, drawn by `seed`: inputs, answers, predictions, and which rows are outside the range."""

    seed: int
    total: int
    x: tuple[tuple[float, ...], ...]
    y: tuple[tuple[float, ...], ...]
    prediction: tuple[tuple[float, ...], ...]
    outside: tuple[bool, ...]


def rows_view(kan: Kan, data: Dataset) -> Rows:
    """Rows and what the network predicts for them; the classes of a classifier as probabilities."""
    some = data.sample(MOST_ROWS, ROWS_SEED)
    given = activations(kan, some.x)[-1]
    given = softmax(given) if kan.classes else given
    return Rows(
        seed=ROWS_SEED,
        total=len(data),
        x=tuple(map(tuple, some.x.tolist())),
        y=tuple(map(tuple, some.y.tolist())),
        prediction=tuple(map(tuple, given.tolist())),
        outside=tuple(outside(kan, some.x).tolist()),
    )


def plain(value: Any) -> Any:
    """Data for JSON: dataclasses as objects, what is not finite as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    return _plain_list(value) if isinstance(value, list | tuple) else value


def _plain_list(values: Sequence[Any]) -> list[Any]:
    if len(values) >= CURVE_POINTS and isinstance(values[0], float):  # drawn, so seven digits are enough
        return [float(f"{v:.7g}") if v is not None and math.isfinite(v) else None for v in values]
    if values and type(values[0]) is float and all(map(math.isfinite, filter(None, values))):
        return list(values)
    return [plain(item) for item in values]


def candidate_views(session: Session, name: str, found: Sequence[Suggestion]) -> tuple[CandidateView, ...]:
    """The suggestions for an edge, in the same order."""
    curve, now = edge_curve(session, name), session.loss
    views = []
    for suggestion in found:
        (a, b, c, d), row = suggestion.constants, FUNCTIONS[suggestion.function]
        with np.errstate(all="ignore"):
            values = (c * row.numpy(a * np.array(curve.u) + b) + d) / curve.factor
            root = 1.0 if session.kan.classes else 0.5
            change = float((suggestion.loss / now) ** root - 1) if now > LEAST_LOSS else None
        formula = OWN[suggestion.function].formula if suggestion.function in OWN else ""
        views.append(CandidateView(suggestion, row.complexity, change, tuple(values.tolist()), formula or ""))
    return tuple(views)
