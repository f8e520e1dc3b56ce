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
    """The answer for N rows, as `Client.infer` returns it.

    Parameters
    ----------
    values : ndarray of shape (N, n_outputs)
        The outputs in raw units; the scores of a classifier.
    version : int
        The version that answered.
    outside : int
        The number of rows outside the training range, where the model extrapolates.
    outside_rows : tuple of int
        The first hundred of them (of each request, if many rows were sent in several).
    probabilities : ndarray of shape (N, n_classes), optional
        Of a classifier.
    labels : ndarray of str, shape (N,), optional
        Of a classifier; empty for a row that is not finite.

    Examples
    --------
    >>> answer = client.infer("line", [[0.5], [7.0]])
    >>> answer.values.tolist(), answer.version, answer.outside_rows
    ([[2.0], [15.0]], 1, (1,))
    """

    values: Array
    version: int
    outside: int
    outside_rows: tuple[int, ...]
    probabilities: Array | None = None
    labels: NDArray[np.str_] | None = None


@dataclass(frozen=True)
class ModelStatus:
    """A version in the server's repository, as `Client.models` returns it.

    Parameters
    ----------
    name : str
        The model's name.
    version : int
        Its version.
    ready : bool
        Whether it answers requests.
    reason : str
        Why it is not ready.

    Examples
    --------
    >>> client.models()[0]
    ModelStatus(name='line', version=1, ready=True, reason='')
    """

    name: str
    version: int
    ready: bool
    reason: str


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of a model, as `Client.metadata` returns it.

    Parameters
    ----------
    name : str
        The model's name.
    version : int
        The version that is described.
    versions : tuple of int
        All versions that are ready.
    inputs, outputs, classes : tuple of str
        Names; `classes` is empty for a model that is not a classifier.
    precision : {"double", "float"}
        The type that it computes in.
    backend : str
        What runs it, such as "c_source".
    categories : mapping of str to tuple of str
        Those of each categorical input, whose value in a row is the code of one: 0, 1, and so on.
    may_be_missing : tuple of str
        The inputs that may be NaN.
    intervals : tuple of ConformalInterval
        The half widths of the prediction intervals, for each level, and where they depend on the answer, their scales.

    Examples
    --------
    >>> info = client.metadata("line")
    >>> info.inputs, info.outputs, info.backend
    (('x',), ('y',), 'numpy_source')
    >>> [interval.level for interval in info.intervals]
    [0.8, 0.9, 0.95]
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
    """A count of events, and their total duration.

    Parameters
    ----------
    count : int
        The events.
    seconds : float
        How long they took together.

    Examples
    --------
    >>> from kanserve.client import Counted
    >>> Counted(count=4, seconds=0.002).mean
    0.0005
    """

    count: int
    seconds: float

    @property
    def mean(self) -> float:
        """Seconds per event; 0 if there were none."""
        return self.seconds / self.count if self.count else 0.0


@dataclass(frozen=True)
class ModelStatistics:
    """What a version has answered since the server started, and the time by stage, as `Client.statistics` returns it.

    Parameters
    ----------
    name : str
        The model's name.
    version : int
        Its version.
    last : float or None
        The time of the last answer, in seconds since 1970; None: never.
    rows : int
        The rows that it has answered.
    executions : int
        The runs of the model; one run can answer several requests.
    succeeded, failed : Counted
        Requests.
    queued, decoded, computed, encoded : Counted
        The stages of the requests.

    Examples
    --------
    >>> before = client.statistics("line")[0]
    >>> y = client.predict("line", [[0.0], [0.5]])
    >>> after = client.statistics("line")[0]
    >>> after.rows - before.rows, after.succeeded.count - before.succeeded.count
    (2, 1)
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
    """Another formula of the same output, simpler or more exact: one of `ServedFormula.pareto`.

    Parameters
    ----------
    text, latex : str
        The formula.
    complexity : float
        Its complexity.
    rmse : float
        The root mean square error on training rows.
    validation_rmse : float or None
        That on held-out rows; None without any.
    tree : tuple
        The steps of the formula, as `kanserve.formula.evaluate_tree` takes them.
    tables : mapping of str to Table
        The splines in it.

    Examples
    --------
    >>> from kanserve.client import ServedAlternative
    >>> tree = (("var", 0), ("const", 2.0), ("mul", 1, 0))
    >>> ServedAlternative("2*x", "2 x", 3.0, 0.5, None, tree, {}).evaluate([[1.5]]).tolist()
    [3.0]
    >>> [other.text for other in client.formula("line")[0].pareto]  # a formula that was not searched for has none
    []
    """

    text: str
    latex: str
    complexity: float
    rmse: float
    validation_rmse: float | None
    tree: tuple[tuple[Any, ...], ...]
    tables: Mapping[str, Table]

    def evaluate(self, x: ArrayLike) -> Array:
        """The values of the formula.

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs)
            Raw features, all inputs of the model.

        Returns
        -------
        ndarray of shape (n_samples,)
            NaN where the formula is not finite.

        Examples
        --------
        >>> for other in client.formula("line")[0].pareto:  # those of a formula that was searched for
        ...     other.evaluate([[0.5]])
        """
        return evaluate_tree(self.tree, self.tables, x)


@dataclass(frozen=True, eq=False)
class ServedFormula:
    """The formula of one output, as `Client.formula` returns it, and how well it fits the data of its compilation.

    Whatever the server does not know, or was not asked for, is empty or None.

    Parameters
    ----------
    name : str
        The output.
    text, latex, python, c : str
        The formula in these notations.
    closed_form, shortened : bool
        As in `kanserve.Formula`, as are `variables`, `tree`, `tables` and `domain`.
    variables : tuple of Variable
        The inputs.
    r2, max_error, rmse : float or None
        On the data that it was compiled with.
    tree : tuple
        The steps of the formula.
    tables : mapping of str to Table
        The splines in it.
    domain : tuple of str
        The conditions under which it is finite.
    constants : tuple of Constant
        In the order of the tree's steps: its numbers, with standard errors from those data.
    sigma : float or None
        The residual standard deviation.
    degrees : int or None
        Its degrees of freedom, rows less estimated constants.
    pareto : tuple of ServedAlternative
        The formulas from which this one was chosen, the simplest first.
    functions : mapping of str to str
        The requested functions of all outputs together, by format.

    Examples
    --------
    >>> formula = client.formula("line")[0]
    >>> formula.name, formula.text, formula.sigma
    ('y', '2*x + 1', 0.25)
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
        """The values of the formula.

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs)
            Raw features, all inputs of the model, codes of categories among them.

        Returns
        -------
        ndarray of shape (n_samples,)
            NaN where the formula is not finite.

        Examples
        --------
        >>> client.formula("line")[0].evaluate([[0.0], [0.5]]).tolist()
        [1.0, 2.0]
        """
        if any(map(is_encoded, self.variables)):
            columns = sorted({int(step[1]) for step in self.tree if step[0] == "var"})
            x = encode_columns(np.asarray(x, np.float64), self.variables, columns)
        return evaluate_tree(self.tree, self.tables, x)
