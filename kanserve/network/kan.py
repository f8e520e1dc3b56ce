"""`Kan`, the central type: a trained Kolmogorov-Arnold network as immutable data.

A network is layers in a row (`network.layer` says what each computes). Inputs are normalised before the first layer,
u = (x - input_shift) / input_scale, and outputs are scaled after the last, y = output_scale·node + output_shift, so a
network takes and returns raw values.

`network.evaluate.evaluate` defines what a network computes, including outside its ranges and for NaN.
"""

import os
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.data.near_names import first_names
from kanserve.errors import InputError, NetworkError
from kanserve.network.kan_checks import Base as Base
from kanserve.network.kan_checks import check_kan
from kanserve.network.kan_methods import KanMethods
from kanserve.network.layer import Edge as Edge
from kanserve.network.layer import Layer as Layer
from kanserve.network.layer import Spline as Spline
from kanserve.network.layer import Sum as Sum
from kanserve.network.layer import Symbolic as Symbolic
from kanserve.network.layer import Zero as Zero
from kanserve.network.layer import freeze
from kanserve.network.layer import make_layer as make_layer

Array = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Variable:
    """An input or an output of a network: its name, its unit and its training range; of an input also its categories.

    `Kan` checks names, ranges and categories: it raises NetworkError if two inputs or two outputs have one name, or a
    name is empty, or a range has low > high.

    Parameters
    ----------
    name : str
        The name.
    unit : str, default=""
        The unit of its values, such as "m/s". It is shown and exported; no number is converted.
    low, high : float, default=-inf and inf
        The training range, in that unit; infinite if unknown. Of a categorical input the range of its codes, 0 to the
        number of categories - 1, which is set if it is not given.
    fill_value : float, optional
        The number that the network sees where this input is missing (NaN) or no known category; learned in training,
        in the unit of the numbers that it sees. By default a missing value makes the outputs NaN.
    categories : sequence of str, optional
        The categories of a categorical input. Its raw value is the code of a category: 0, 1, and so on.
    category_values : sequence of float, optional
        The number that the network sees for each category, learned in training.
    bin_edges : sequence of float, optional
        The edges between up to ten bins of the raw values, which hold about equally many training rows. A value equal
        to an edge is in the bin above it.
    bin_counts : sequence of int, optional
        The training rows in each bin, and last those in which the value is missing; of at most 10,000 rows. A server
        compares the rows that it answers with them. They are no part of what the network computes, and `equal` passes
        them over.

    Examples
    --------
    >>> import kanserve
    >>> kanserve.Variable("speed", "m/s", 0.0, 30.0)
    Variable(name='speed', unit='m/s', low=0.0, high=30.0)
    >>> kanserve.Variable("colour", categories=("red", "blue"), category_values=(0.3, -1.2)).high
    1.0
    """

    name: str
    unit: str = ""
    low: float = -np.inf
    high: float = np.inf
    fill_value: float | None = None
    categories: tuple[str, ...] = ()
    category_values: tuple[float, ...] = ()
    bin_edges: tuple[float, ...] = field(default=(), compare=False)
    bin_counts: tuple[int, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for part in fields(self):
            object.__setattr__(self, part.name, _plain(getattr(self, part.name)))
        for name in ("categories", "category_values", "bin_edges", "bin_counts"):
            object.__setattr__(self, name, tuple(map(_plain, getattr(self, name))))
        if self.categories and (self.low, self.high) == (-np.inf, np.inf):
            object.__setattr__(self, "low", 0.0)
            object.__setattr__(self, "high", len(self.categories) - 1.0)

    def __repr__(self) -> str:
        optional = ("fill_value", "categories", "category_values")
        compared = [part for part in fields(self) if part.compare]
        parts = [part for part in compared if part.name not in optional or getattr(self, part.name) != part.default]
        return f"Variable({', '.join(f'{part.name}={getattr(self, part.name)!r}' for part in parts)})"


@dataclass(frozen=True, eq=False, repr=False)
class Kan(KanMethods):
    """A trained network, as immutable data; call it with samples to get its outputs.

    It takes and returns raw values: inputs are normalised before the first layer, u = (x - input_shift) / input_scale,
    and outputs are scaled after the last, y = output_scale·node + output_shift.

    Parameters
    ----------
    layers : sequence of Layer
        At least one; each has as many inputs as the one before has nodes.
    inputs, outputs : sequence of Variable, optional
        Names, units and training ranges. By default inputs are x1, x2 and so on; outputs are the classes, y, or y1, y2
        and so on.
    input_shift, input_scale : array_like of shape (n_inputs,), optional
        In the raw units of the inputs; 0 and 1 by default. No scale is 0.
    output_shift, output_scale : array_like of shape (n_outputs,), optional
        In the raw units of the outputs; 0 and 1 by default.
    classes : sequence of str, optional
        The names of a classifier's outputs, which are then scores before the softmax.
    fitted_rows : array_like of int, optional
        Hashes of the rows that the network was fitted to, sorted, at most 4096 (`kanserve.network.fitted_rows`).
        `compile` asks them whether its rows are new to the network. They are no part of what the network computes, and
        `equal` passes them over.
    members : sequence of Kan, optional
        Of a mean of several networks (`kanserve.average`) these networks. `kanserve.report` draws how far their curves
        lie apart. They are no part of what the network computes either; a network that is changed loses them.

    Raises
    ------
    NetworkError
        Layers, variables and classes do not fit together, or a number is not finite.

    Examples
    --------
    >>> import kanserve
    >>> layer = kanserve.make_layer(functions=[["sin", "x^2"]])
    >>> kan = kanserve.Kan((layer,), inputs=(kanserve.Variable("a"), kanserve.Variable("b", "m")))
    >>> kan
    Kan(2-1, 2 edges, inputs a, b)
    >>> kan([[0.0, 3.0]]).tolist()
    [[9.0]]
    >>> kan.shape, kan.edges, kan.symbolic
    ((2, 1), 2, True)
    """

    layers: tuple[Layer, ...]
    inputs: tuple[Variable, ...] = ()
    outputs: tuple[Variable, ...] = ()
    input_shift: Array = field(default_factory=lambda: np.empty(0))
    input_scale: Array = field(default_factory=lambda: np.empty(0))
    output_shift: Array = field(default_factory=lambda: np.empty(0))
    output_scale: Array = field(default_factory=lambda: np.empty(0))
    classes: tuple[str, ...] = ()
    fitted_rows: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64), compare=False)
    members: tuple["Kan", ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise NetworkError("A network needs at least one layer, got none.")
        n_in, n_out = self.layers[0].inputs, self.layers[-1].nodes
        object.__setattr__(self, "classes", tuple(map(_plain, self.classes)))
        object.__setattr__(self, "members", tuple(self.members))
        object.__setattr__(self, "inputs", tuple(self.inputs) or tuple(Variable(f"x{i + 1}") for i in range(n_in)))
        object.__setattr__(self, "outputs", tuple(self.outputs) or _default_outputs(n_out, self.classes))
        for name, size, neutral in (("input", n_in, 0.0), ("output", n_out, 0.0)):
            for part, default in ((f"{name}_shift", neutral), (f"{name}_scale", 1.0)):
                if np.size(getattr(self, part)) == 0:
                    object.__setattr__(self, part, np.full(size, default))
                freeze(self, part, np.float64)
        freeze(self, "fitted_rows", np.uint64)
        check_kan(self)

    def __repr__(self) -> str:
        names = first_names([variable.name for variable in self.inputs], 4, ", …")
        return f"Kan({'-'.join(map(str, self.shape))}, {self.edges} edges, inputs {names})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Kan, tuple(getattr(self, part.name) for part in fields(self))  # as of Layer

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of inputs, then of nodes in each layer."""
        return (self.layers[0].inputs, *(layer.nodes for layer in self.layers))

    @property
    def edges(self) -> int:
        """The number of edges that are not zero."""
        return int(sum(layer.alive.sum() for layer in self.layers))

    @property
    def symbolic(self) -> bool:
        """Whether no edge has a spline part."""
        return not any(layer.spline_mask.any() for layer in self.layers)


def require_kan(kan: object) -> None:
    """Raise InputError, with a hint how to get a network, unless `kan` is one."""
    if isinstance(kan, Kan):
        return
    raise InputError(f"This takes a network, a Kan, and got {type(kan).__name__} {kan!r:.60}.{way_to_kan(kan)}")


def way_to_kan(value: object) -> str:
    """For a path or an estimator, the end of an error message: how to get the network from it. Otherwise ""."""
    if isinstance(value, str | os.PathLike):
        return " kanserve.load reads one from a file."
    return " The network of an estimator is its kan_." if hasattr(value, "get_params") else ""


def equal(a: Kan, b: Kan) -> bool:
    """Whether two networks are the same data, bit for bit (arrays hold no NaN).

    Parameters
    ----------
    a, b : Kan
        Two networks.

    Returns
    -------
    bool
        Whether all of their numbers, names and classes are the same.

    Examples
    --------
    >>> import kanserve
    >>> kanserve.equal(kanserve.create([2, 1], seed=1), kanserve.create([2, 1], seed=2))
    False
    """
    return _same(a, b)


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return bool(a.shape == b.shape and a.dtype.kind == b.dtype.kind and a.tolist() == b.tolist())
    if isinstance(a, tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Kan | Layer | Variable):
        return all(_same(getattr(a, part.name), getattr(b, part.name)) for part in fields(a) if part.compare)
    return bool(a == b)


def _default_outputs(count: int, classes: tuple[str, ...]) -> tuple[Variable, ...]:
    if len(classes) == count:
        return tuple(Variable(name) for name in classes)
    return (Variable("y"),) if count == 1 else tuple(Variable(f"y{q + 1}") for q in range(count))


def _plain(value: Any) -> Any:  # NumPy's scalars have another repr than the Python values they equal
    return value.item() if isinstance(value, np.generic) else value
