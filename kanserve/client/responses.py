"""The results of a client: a server's messages as plain, immutable data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.formula.expressions.formula import Constant
from kanserve.formula.expressions.tree import Table, evaluate_tree
from kanserve.network.conformal_intervals import ConformalInterval
from kanserve.network.encoding import encode_columns, is_encoded
from kanserve.network.kan import Variable

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for N rows: `values` (N, outputs); for a classifier also `probabilities` and `labels`.

    `outside` is the number of rows outside the training range, where the model extrapolates, and `outside_rows` the
    first hundred of them (of each request, if many rows were sent in several). `labels` is empty for a row that is not
    finite.
    """

    values: Array
    version: int
    outside: int
    outside_rows: tuple[int, ...]
    probabilities: Array | None = None
    labels: NDArray[np.str_] | None = None


@dataclass(frozen=True)
class ModelStatus:
    """A version in the server's repository; `reason` says why it is not ready."""

    name: str
    version: int
    ready: bool
    reason: str


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of a model: names of its features, outputs and classes, versions, and its backend.

    `categories` has those of each categorical input, whose value in a row is the code of one: 0, 1, and so on.
    `may_be_missing` names the inputs that may be NaN. `intervals` has the half widths of the prediction intervals.
    """

    name: str
    version: int
    versions: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    precision: str
    backend: str
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    may_be_missing: tuple[str, ...] = ()
    intervals: tuple[ConformalInterval, ...] = ()


@dataclass(frozen=True)
class Counted:
    """A count of events, and their total duration."""

    count: int
    seconds: float

    @property
    def mean(self) -> float:
        """Seconds per event; 0 if there were none."""
        return self.seconds / self.count if self.count else 0.0


@dataclass(frozen=True)
class ModelStatistics:
    """The requests that a version has answered since the server started, their rows, and the time by stage.

    `last` is the time of the last answer, in seconds since 1970; None: never.
    """

    name: str
    version: int
    last: float | None
    rows: int
    executions: int
    succeeded: Counted
    failed: Counted
    queued: Counted
    decoded: Counted
    computed: Counted
    encoded: Counted


@dataclass(frozen=True, eq=False)
class ServedAlternative:
    """Another formula of the same output, its complexity, and its RMSE on training rows and on held-out rows (None
    without any)."""

    text: str
    latex: str
    complexity: float
    rmse: float
    validation_rmse: float | None
    tree: tuple[tuple[Any, ...], ...]
    tables: Mapping[str, Table]

    def evaluate(self, x: ArrayLike) -> Array:
        """The values (N,) of the formula at raw features x (N, all inputs of the model)."""
        return evaluate_tree(self.tree, self.tables, x)


@dataclass(frozen=True, eq=False)
class ServedFormula:
    """The formula of one output, as `kanserve.Formula`, and how well it fits the data that it was compiled with.

    `constants`, in the order of the tree's steps, are its numbers with standard errors from those data; `sigma` is the
    residual standard deviation and `degrees` its degrees of freedom, rows less estimated constants. `pareto` has the
    formulas from which this one was chosen, the simplest first. `functions` has the requested functions of all outputs
    together, by format. Whatever the server does not know, or was not asked for, is empty or None.
    """

    name: str
    text: str
    latex: str
    python: str
    c: str
    closed_form: bool
    shortened: bool
    variables: tuple[Variable, ...]
    r2: float | None
    max_error: float | None
    rmse: float | None
    tree: tuple[tuple[Any, ...], ...]
    tables: Mapping[str, Table]
    domain: tuple[str, ...] = ()
    constants: tuple[Constant, ...] = ()
    sigma: float | None = None
    degrees: int | None = None
    pareto: tuple[ServedAlternative, ...] = ()
    functions: Mapping[str, str] = field(default_factory=dict)

    def evaluate(self, x: ArrayLike) -> Array:
        """The values (N,) of the formula at raw features x (N, all inputs of the model), codes of categories among
        them."""
        if any(map(is_encoded, self.variables)):
            columns = sorted({int(step[1]) for step in self.tree if step[0] == "var"})
            x = encode_columns(np.asarray(x, np.float64), self.variables, columns)
        return evaluate_tree(self.tree, self.tables, x)


@dataclass(frozen=True, eq=False)
class Edge:
    """An edge from a node of the previous layer (or an input) to a subnode, with its curve in the layer's units.

    `kind` is "spline", "symbolic", "sum" or "zero"; `affine` is a, b, c, d of c·function(a·x + b) + d.
    """

    source: int
    target: int
    kind: str
    function: str
    affine: tuple[float, float, float, float]
    share: float
    x: Array
    y: Array


@dataclass(frozen=True)
class Node:
    """scale · (the product of its subnodes) + bias."""

    name: str
    subnodes: tuple[int, ...]
    scale: float
    bias: float


@dataclass(frozen=True)
class NetworkLayer:
    """The edges of a layer, and the nodes that they lead to; each subnode is (scale, bias)."""

    nodes: tuple[Node, ...]
    subnodes: tuple[tuple[float, float], ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """A network for drawing: names, ranges, layers, and the affine maps (shift, scale) of inputs and outputs."""

    name: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    input_variables: tuple[Variable, ...]
    output_variables: tuple[Variable, ...]
    layers: tuple[NetworkLayer, ...]
    input_affine: tuple[Array, Array]
    output_affine: tuple[Array, Array]

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The edges of all layers."""
        return tuple(edge for layer in self.layers for edge in layer.edges)
