"""What a client gives: the messages of a server as plain, immutable data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.formula.expressions.formula import Constant
from kanserve.formula.expressions.tree import Table, evaluate_tree
from kanserve.network.kan import Variable

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for N rows: `values` (N, outputs), and what a classifier adds, `probabilities` and `labels`.

    `outside` is how many rows lie outside the training range, where the model extrapolates, and `outside_rows` the
    first hundred of them (of each part in which many rows travelled). `labels` has the empty text for a row that is
    not finite.
    """

    values: Array
    version: int
    outside: int
    outside_rows: tuple[int, ...]
    probabilities: Array | None = None
    labels: NDArray[np.str_] | None = None


@dataclass(frozen=True)
class ModelStatus:
    """A version in the server's repository; the reason says why one is not ready."""

    name: str
    version: int
    ready: bool
    reason: str


@dataclass(frozen=True)
class ModelInfo:
    """What a server says of a model: names of its features, outputs and classes, versions, and what computes it."""

    name: str
    version: int
    versions: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    precision: str
    backend: str


@dataclass(frozen=True)
class Counted:
    """How often something happened, and how long it took in all."""

    count: int
    seconds: float

    @property
    def mean(self) -> float:
        """Seconds; 0 where it never happened."""
        return self.seconds / self.count if self.count else 0.0


@dataclass(frozen=True)
class ModelStatistics:
    """What a version has answered since the server began: requests, the rows in them, and where the time went.

    `last` is when it answered last, in seconds since 1970; None: never.
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
    """Another formula of the same output, its complexity, and its errors (RMSE) on the rows that it was fitted to and
    on rows that were held out; None where there were none."""

    text: str
    latex: str
    complexity: float
    rmse: float
    validation_rmse: float | None
    tree: tuple[tuple[Any, ...], ...]
    tables: Mapping[str, Table]

    def evaluate(self, x: ArrayLike) -> Array:
        """What the formula gives, (N,), at raw features x (N, all inputs of the model)."""
        return evaluate_tree(self.tree, self.tables, x)


@dataclass(frozen=True, eq=False)
class ServedFormula:
    """The formula of one output, as `kanserve.Formula`, and how well it fits the data that it was compiled with.

    `constants`, in the order of the tree's steps, are what those data say about its numbers; `sigma` is the standard
    deviation of the data's errors and `degrees` the rows less the constants that were estimated. `pareto` are the
    formulas from which this one was chosen, the simplest first. `functions` are the functions of all outputs together
    that were asked for, by their format. What the server does not know, or was not asked for, is empty or None.
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
        """What the formula gives, (N,), at raw features x (N, all inputs of the model)."""
        return evaluate_tree(self.tree, self.tables, x)


@dataclass(frozen=True, eq=False)
class Edge:
    """From a node of the layer before (or an input) to a subnode of this one, with its curve in the layer's units.

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
    """The edges from one row of nodes to the next, and that next row; each subnode is (scale, bias)."""

    nodes: tuple[Node, ...]
    subnodes: tuple[tuple[float, float], ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """A network as it can be drawn: names, ranges, layers, and the affines (shift, scale) at both ends."""

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
        """Those of all layers."""
        return tuple(edge for layer in self.layers for edge in layer.edges)
