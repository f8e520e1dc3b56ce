"""`Layer`, a layer of a network as read-only arrays; its edges; and `make_layer`, which fills in what is neutral.

A layer has I inputs, O subnodes and Q nodes, order (degree) k and G intervals per input:

    edge(j,i)(x) = base_weight[j,i]·base(x) + Σ_m coefficients[j,i,m]·B_m,k(x; knots[i])      Spline
                 | c·f(a·x + b) + d                                                           Symbolic
                 | the sum of the two                                                         Sum
                 | 0                                                                          Zero
    z_j = subnode_scale_j·Σ_i edge(j,i)(x_i) + subnode_bias_j
    node_q = node_scale_q·Π_{j in group q} z_j + node_bias_q

Group q holds `arity[q]` consecutive subnodes: one makes a sum node, several a multiplication node (KAN 2.0,
arXiv:2408.10205).
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import NetworkError
from kanserve.network.kan_checks import Base, check_layer
from kanserve.network.splines import Extrapolation, uniform_knots

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spline:
    """A spline edge: base_weight·base(x) + Σ_m coefficients[m]·B_m(x; knots)."""

    knots: Array
    coefficients: Array
    order: int
    base: Base
    base_weight: float
    extrapolation: Extrapolation


@dataclass(frozen=True)
class Symbolic:
    """A symbolic edge c·f(a·x + b) + d, where f is a name in the table of functions."""

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


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer as read-only arrays; make it with `make_layer(...)`, get one edge with `.edge(j, i)`.

    It has I inputs, O subnodes (sums of edges) and Q nodes (products of subnodes; KAN 2.0, arXiv:2408.10205). Its
    splines have order k and G intervals for each input. The arrays are copied.

    Parameters
    ----------
    knots : array_like of shape (I, G + 2k + 1)
        The knots of each input, in the units of the layer's inputs; they do not decrease.
    coefficients : array_like of shape (O, I, G + k)
        Weights of the basis functions.
    base_weight : array_like of shape (O, I)
        Weights of the base function.
    functions : array_like of str of shape (O, I)
        Named functions; "" where an edge has none.
    affine : array_like of shape (O, I, 4)
        a, b, c and d of the named functions, c·f(a·x + b) + d.
    subnode_scale, subnode_bias : array_like of shape (O,)
        What each sum of edges is multiplied by, and what is then added.
    arity : array_like of int of shape (Q,)
        How many consecutive subnodes each node multiplies; they add up to O.
    node_scale, node_bias : array_like of shape (Q,)
        What each product is multiplied by, and what is then added.
    order : int, default=3
        The order k of the splines, at least 1; 3 is cubic.
    base : {"silu", "identity", "zero"}, default="silu"
        The base function.
    extrapolation : {"linear", "zero"}, default="linear"
        Whether splines continue straight outside their grid, or fall to zero on the extended knots.

    Raises
    ------
    NetworkError
        The arrays do not fit together, a number is not finite, or a function's name is unknown.

    Examples
    --------
    >>> import kanserve
    >>> layer = kanserve.make_layer([[[0.0, 1.0, 4.0]]], order=1)
    >>> layer.knots.shape, layer.intervals
    ((1, 5), 2)
    >>> kanserve.make_layer(functions=[["sin"]]).edge(0, 0)
    Symbolic(function='sin', a=1.0, b=0.0, c=1.0, d=0.0)
    >>> layer.alive.tolist(), layer.spline_mask.tolist(), layer.symbolic_mask.tolist()
    ([[True]], [[True]], [[False]])
    >>> layer.groups  # of each node the numbers of its subnodes
    (range(0, 1),)
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
            freeze(self, name, np.float64)
        for name in ("subnode_scale", "subnode_bias", "node_scale", "node_bias"):
            freeze(self, name, np.float64)
        freeze(self, "arity", np.int64)
        freeze(self, "functions", np.str_)
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
        """Mask (O, I) of the edges with a spline part: basis functions or a base function."""
        mask: NDArray[np.bool_] = (self.coefficients != 0).any(axis=2)
        return mask | (self.base_weight != 0) if self.base != "zero" else mask

    @property
    def symbolic_mask(self) -> NDArray[np.bool_]:
        """Mask (O, I) of the edges with a named function."""
        mask: NDArray[np.bool_] = self.functions != ""
        return mask

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Mask (O, I) of the edges that are not zero."""
        return self.spline_mask | self.symbolic_mask

    def edge(self, j: int, i: int) -> Edge:
        """The edge from input i to subnode j.

        Parameters
        ----------
        j : int
            The subnode, from 0.
        i : int
            The input of the layer, from 0.

        Returns
        -------
        Spline, Symbolic, Sum or Zero
            What the edge computes; a Sum has a spline and a function.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("exp(-2*t)", ranges={"t": (0, 1)})
        >>> kan.layers[0].edge(0, 0)
        Symbolic(function='exp', a=-2.0, b=0.0, c=1.0, d=0.0)
        """
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
        affine=_array(affine, "affine", neutral_affine(o, i)),
        subnode_scale=_array(subnode_scale, "subnode_scale", np.ones(o)),
        subnode_bias=_array(subnode_bias, "subnode_bias", np.zeros(o)),
        arity=groups,
        node_scale=_array(node_scale, "node_scale", np.ones(len(groups))),
        node_bias=_array(node_bias, "node_bias", np.zeros(len(groups))),
        order=order,
        base=base,
        extrapolation=extrapolation,
    )


def neutral_affine(outputs: int, inputs: int) -> Array:
    """For each edge, the a, b, c, d for which c·f(a·x + b) + d is just f(x)."""
    return np.tile([1.0, 0.0, 1.0, 0.0], (outputs, inputs, 1))


def _array(given: ArrayLike | None, name: str, neutral: Array) -> Array:
    try:
        return neutral if given is None else np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise NetworkError(f"{name} must be numbers: {error}.") from None


def freeze(owner: object, name: str, dtype: Any) -> None:
    """Replace a field of a frozen dataclass by a read-only copy. Raises NetworkError unless it is such an array."""
    # A copy, so that changing the caller's array does not change the network; in C order, so that equal networks give
    # equal bits: the rounding of a product depends on the layout of its factors.
    try:
        array = np.array(getattr(owner, name), dtype=dtype, order="C")
    except (TypeError, ValueError) as error:
        raise NetworkError(f"{name} must be an array of {np.dtype(dtype).name}: {error}.") from None
    array.flags.writeable = False
    object.__setattr__(owner, name, array)
