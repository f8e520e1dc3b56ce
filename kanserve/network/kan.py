"""`Kan`, the central type: a trained Kolmogorov-Arnold network as immutable data.

A layer has I inputs, O subnodes and Q nodes, order (degree) k and G intervals per input:

    edge(j,i)(x) = base_weight[j,i]·base(x) + Σ_m coefficients[j,i,m]·B_m,k(x; knots[i])      Spline
                 | c·f(a·x + b) + d                                                           Symbolic
                 | the sum of the two                                                         Sum
                 | 0                                                                          Zero
    z_j = subnode_scale_j·Σ_i edge(j,i)(x_i) + subnode_bias_j
    node_q = node_scale_q·Π_{j in group q} z_j + node_bias_q

Group q holds `arity[q]` consecutive subnodes: one makes a sum node, several a multiplication node (KAN 2.0,
arXiv:2408.10205). Inputs are normalised before the first layer, u = (x - input_shift) / input_scale, and outputs are
scaled after the last, y = output_scale·node + output_shift, so a network takes and returns raw values.

`network.evaluate.evaluate` defines what a network computes, including outside its ranges and for NaN.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import NetworkError
from kanserve.network.kan_checks import Base as Base
from kanserve.network.kan_checks import check_kan, check_layer
from kanserve.network.kan_methods import KanMethods
from kanserve.network.splines import Extrapolation, uniform_knots

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spline:
    """base_weight·base(x) + Σ_m coefficients[m]·B_m(x; knots)."""

    knots: Array
    coefficients: Array
    order: int
    base: Base
    base_weight: float
    extrapolation: Extrapolation


@dataclass(frozen=True)
class Symbolic:
    """c·f(a·x + b) + d, with f named in the table of functions."""

    function: str
    a: float
    b: float
    c: float
    d: float


@dataclass(frozen=True, eq=False)
class Sum:
    """A spline and a symbolic part on one edge, as in some imported networks."""

    spline: Spline
    symbolic: Symbolic


@dataclass(frozen=True)
class Zero:
    """An edge that is 0 everywhere: pruned, or never there."""


Edge = Spline | Symbolic | Sum | Zero


@dataclass(frozen=True)
class Variable:
    """An input or an output: its name, its unit and its training range (infinite if unknown)."""

    name: str
    unit: str = ""
    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        for part in fields(self):
            object.__setattr__(self, part.name, _plain(getattr(self, part.name)))


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer as read-only arrays; make it with `make_layer(...)`, get one edge with `.edge(j, i)`.

    Shapes: knots (I, G+2k+1), coefficients (O, I, G+k), base_weight (O, I), functions (O, I) of names ("" for none),
    affine (O, I, 4) holding a, b, c, d, subnode_scale and subnode_bias (O,), arity, node_scale and node_bias (Q,).
    """

    knots: Array
    coefficients: Array
    base_weight: Array
    functions: NDArray[np.str_]
    affine: Array
    subnode_scale: Array
    subnode_bias: Array
    arity: NDArray[np.int64]
    node_scale: Array
    node_bias: Array
    order: int = 3
    base: Base = "silu"
    extrapolation: Extrapolation = "linear"

    def __post_init__(self) -> None:
        for name in ("knots", "coefficients", "base_weight", "affine"):
            _freeze(self, name, np.float64)
        for name in ("subnode_scale", "subnode_bias", "node_scale", "node_bias"):
            _freeze(self, name, np.float64)
        _freeze(self, "arity", np.int64)
        _freeze(self, "functions", np.str_)
        check_layer(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor, so that unpickled and copied layers are checked and their arrays are read-only.
        return Layer, tuple(getattr(self, part.name) for part in fields(self))

    @property
    def inputs(self) -> int:
        return int(self.coefficients.shape[1])

    @property
    def subnodes(self) -> int:
        return int(self.coefficients.shape[0])

    @property
    def nodes(self) -> int:
        return len(self.arity)

    @property
    def intervals(self) -> int:
        """G, the number of grid intervals of each input."""
        return int(self.coefficients.shape[2]) - self.order

    @property
    def groups(self) -> tuple[range, ...]:
        """The subnodes that each node multiplies."""
        stops = np.cumsum(self.arity)
        return tuple(range(int(stop - size), int(stop)) for stop, size in zip(stops, self.arity, strict=True))

    @property
    def spline_mask(self) -> NDArray[np.bool_]:
        """(O, I): which edges have a spline part, that is, basis functions or a base function."""
        mask: NDArray[np.bool_] = (self.coefficients != 0).any(axis=2)
        return mask | (self.base_weight != 0) if self.base != "zero" else mask

    @property
    def symbolic_mask(self) -> NDArray[np.bool_]:
        """(O, I): which edges have a named function."""
        mask: NDArray[np.bool_] = self.functions != ""
        return mask

    @property
    def alive(self) -> NDArray[np.bool_]:
        """(O, I): which edges are not zero."""
        return self.spline_mask | self.symbolic_mask

    def edge(self, j: int, i: int) -> Edge:
        """The edge from input i to subnode j."""
        spline = Spline(
            self.knots[i],
            self.coefficients[j, i],
            self.order,
            self.base,
            float(self.base_weight[j, i]),
            self.extrapolation,
        )
        symbolic = Symbolic(str(self.functions[j, i]), *(float(v) for v in self.affine[j, i]))
        match bool(self.spline_mask[j, i]), bool(self.symbolic_mask[j, i]):
            case True, True:
                return Sum(spline, symbolic)
            case True, False:
                return spline
            case False, True:
                return symbolic
            case _:
                return Zero()


def make_layer(
    coefficients: ArrayLike | None = None,
    *,
    shape: tuple[int, int] | None = None,
    knots: ArrayLike | None = None,
    order: int = 3,
    base: Base = "silu",
    base_weight: ArrayLike | None = None,
    extrapolation: Extrapolation = "linear",
    functions: ArrayLike | None = None,
    affine: ArrayLike | None = None,
    subnode_scale: ArrayLike | None = None,
    subnode_bias: ArrayLike | None = None,
    arity: ArrayLike | None = None,
    node_scale: ArrayLike | None = None,
    node_bias: ArrayLike | None = None,
) -> Layer:
    """A layer from the given arrays; defaults are neutral (no splines, no functions, scale 1, bias 0, sum nodes).

    `shape` (subnodes, inputs) is needed only without coefficients and functions. A single row of knots is used for
    every input; without knots the grid is uniform on [-1, 1].

    Parameters
    ----------
    coefficients : array_like of shape (subnodes, inputs, intervals + order), optional
        Weights of the basis functions.
    shape : (int, int), optional
        Subnodes and inputs, if no array has them.
    knots : array_like, optional
        One row for all inputs, or one for each.
    order, base, extrapolation
        As in `Layer`.
    base_weight, functions, affine, subnode_scale, subnode_bias, arity, node_scale, node_bias : array_like, optional
        As in `Layer`.

    Returns
    -------
    Layer
        The layer, its arrays read-only.

    Raises
    ------
    NetworkError
        The arrays do not fit together.

    Examples
    --------
    >>> import kanserve
    >>> layer = kanserve.make_layer(functions=[["sin", "x^2"]])
    >>> layer.inputs, layer.subnodes
    (2, 1)
    """
    given: ArrayLike | None = coefficients if coefficients is not None else functions
    if given is None and shape is None:
        raise NetworkError("A layer needs coefficients (O, I, G+k), functions (O, I) or shape=(O, I); got none.")
    dimensions = np.shape(np.asarray(given))[:2] if given is not None else shape or ()
    if len(dimensions) != 2:
        raise NetworkError(f"coefficients must have shape (O, I, G+k), functions (O, I); got {dimensions}.")
    o, i = dimensions
    splines = _array(coefficients, "coefficients", np.zeros((o, i, 1 + order)))
    grid = _array(knots, "knots", uniform_knots(-1, 1, max(splines.shape[-1] - order, 1), order))
    groups = _array(arity, "arity", np.ones(o)).astype(np.int64)
    return Layer(
        knots=np.broadcast_to(grid, (i, grid.shape[-1])) if grid.ndim < 2 else grid,
        coefficients=splines,
        base_weight=_array(base_weight, "base_weight", np.zeros((o, i))),
        functions=np.full((o, i), "") if functions is None else np.asarray(functions, np.str_),
        affine=_array(affine, "affine", np.tile([1.0, 0.0, 1.0, 0.0], (o, i, 1))),
        subnode_scale=_array(subnode_scale, "subnode_scale", np.ones(o)),
        subnode_bias=_array(subnode_bias, "subnode_bias", np.zeros(o)),
        arity=groups,
        node_scale=_array(node_scale, "node_scale", np.ones(len(groups))),
        node_bias=_array(node_bias, "node_bias", np.zeros(len(groups))),
        order=order,
        base=base,
        extrapolation=extrapolation,
    )


@dataclass(frozen=True, eq=False, repr=False)
class Kan(KanMethods):
    """A trained network. `classes` names the outputs of a classifier, which are scores before the softmax."""

    layers: tuple[Layer, ...]
    inputs: tuple[Variable, ...] = ()
    outputs: tuple[Variable, ...] = ()
    input_shift: Array = field(default_factory=lambda: np.empty(0))
    input_scale: Array = field(default_factory=lambda: np.empty(0))
    output_shift: Array = field(default_factory=lambda: np.empty(0))
    output_scale: Array = field(default_factory=lambda: np.empty(0))
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise NetworkError("A network needs at least one layer, got none.")
        n_in, n_out = self.layers[0].inputs, self.layers[-1].nodes
        object.__setattr__(self, "classes", tuple(map(_plain, self.classes)))
        object.__setattr__(self, "inputs", tuple(self.inputs) or tuple(Variable(f"x{i + 1}") for i in range(n_in)))
        object.__setattr__(self, "outputs", tuple(self.outputs) or _default_outputs(n_out, self.classes))
        for name, size, neutral in (("input", n_in, 0.0), ("output", n_out, 0.0)):
            for part, default in ((f"{name}_shift", neutral), (f"{name}_scale", 1.0)):
                if np.size(getattr(self, part)) == 0:
                    object.__setattr__(self, part, np.full(size, default))
                _freeze(self, part, np.float64)
        check_kan(self)

    def __repr__(self) -> str:
        names = ", ".join(variable.name for variable in self.inputs[:4]) + (", …" if len(self.inputs) > 4 else "")
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
        return all(_same(getattr(a, part.name), getattr(b, part.name)) for part in fields(a))
    return bool(a == b)


def _array(given: ArrayLike | None, name: str, neutral: Array) -> Array:
    try:
        return neutral if given is None else np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise NetworkError(f"{name} must be numbers: {error}.") from None


def _default_outputs(count: int, classes: tuple[str, ...]) -> tuple[Variable, ...]:
    if len(classes) == count:
        return tuple(Variable(name) for name in classes)
    return (Variable("y"),) if count == 1 else tuple(Variable(f"y{q + 1}") for q in range(count))


def _plain(value: Any) -> Any:  # NumPy's scalars have another repr than the Python values they equal
    return value.item() if isinstance(value, np.generic) else value


def _freeze(owner: object, name: str, dtype: Any) -> None:
    # A copy, so that changing the caller's array does not change the network; in C order, so that equal networks give
    # equal bits: the rounding of a product depends on the layout of its factors.
    try:
        array = np.array(getattr(owner, name), dtype=dtype, order="C")
    except (TypeError, ValueError) as error:
        raise NetworkError(f"{name} must be an array of {np.dtype(dtype).name}: {error}.") from None
    array.flags.writeable = False
    object.__setattr__(owner, name, array)
