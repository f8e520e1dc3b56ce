"""Residuals: functions to make zero, with points and weights; for differential equations, boundaries and data."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError
from kanserve.network.dual_numbers import Dual
from kanserve.pde.unknown_function import Derivative, Read, Seed, fields

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residual:
    """What should be 0 at all points: an equation, or a condition. Its loss is ½·weight·its mean square.

    Parameters
    ----------
    function : callable
        `function(x, u)`: x is the array of points, u the network there: `u` or `u.value`, `u.d(i)` and `u.dd(i, j)`;
        with several outputs `u[0].d(i)` and so on. It returns one number for each point, (n_points,), or a sequence of
        such arrays for several equations. It may use NumPy's arithmetic and elementwise functions, and must use the
        same derivatives at each call.
    points : array_like of shape (n_points, n_inputs)
        In raw units.
    weight : float or array_like of shape (n_points,), default=1.0
        Its share of the loss.

    Raises
    ------
    DataError
        The points or the weight are not finite numbers of such a shape.

    Examples
    --------
    >>> import kanserve.pde as pde
    >>> edge = pde.Residual(lambda x, u: u.value - 1, [[0.0]], weight=10.0)
    >>> len(edge.points)
    1
    """

    function: Callable[[Array, Any], Any]
    points: ArrayLike
    weight: ArrayLike = 1.0

    def __post_init__(self) -> None:
        try:
            points = np.array(self.points, np.float64)
            weight = np.array(self.weight, np.float64)
        except (TypeError, ValueError):
            raise DataError("The points and the weight of a residual must be numbers.") from None
        if points.ndim != 2 or len(points) == 0 or not np.isfinite(points).all():
            raise DataError(
                "The points of a residual must be finite numbers of shape (N, inputs), at least one row; "
                f"got shape {points.shape}{'' if np.isfinite(points).all() else ' with NaN or infinity'}."
            )
        if weight.shape not in ((), (len(points),)) or not (np.isfinite(weight) & (weight >= 0)).all():
            raise DataError(
                f"The weight of a residual is a number ≥ 0 or one for each of the {len(points)} points; "
                f"got {weight if weight.ndim == 0 else f'shape {weight.shape}'}."
            )
        for name, array in (("points", points), ("weight", weight)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)


@dataclass(frozen=True, eq=False)
class Linearised:
    """Equations at N points: values (E, N), and the derivatives (N,) of each with respect to u and its derivatives."""

    values: Array
    slopes: tuple[dict[Seed, Array], ...]

    def at(self, chosen: NDArray[np.intp]) -> "Linearised":
        """The values and derivatives at a subset of the points; `chosen` are their indices."""
        slopes = tuple({seed: slope[chosen] for seed, slope in layer_slopes.items()} for layer_slopes in self.slopes)
        return Linearised(self.values[:, chosen], slopes)


def linearise(residual: Residual, outputs: int, names: tuple[str, ...], read: Read) -> Linearised:
    """Linearise a residual; `read(q, derivative)` gives the network's values and derivatives at its points."""
    points = np.asarray(residual.points)
    given = residual.function(points, fields(outputs, names, read))
    equations = tuple(given) if isinstance(given, Sequence) else (given,)
    if not equations:
        raise DataError("A residual must give at least one equation, got an empty sequence.")
    values = np.empty((len(equations), len(points)))
    slopes = []
    for e, equation in enumerate(equations):
        value = _value(equation, len(points))
        values[e] = value
        slopes.append({seed: np.broadcast_to(slope, value.shape) for seed, slope in equation.partials.items()})
    return Linearised(values, tuple(slopes))


def _value(equation: Any, count: int) -> Array:
    if not isinstance(equation, Dual):
        raise DataError(
            "A residual must depend on u, by its value or a derivative, and give one number a point; got "
            f"{type(equation).__name__}. Is it made with a function that is not NumPy's, or of np.asarray(u)?"
        )
    value = np.asarray(equation.primal, np.float64)
    if value.shape != (count,):
        raise DataError(
            f"A residual at {count} points must have shape ({count},), got {value.shape}. "
            "Does it mix u with a column of shape (N, 1)? Columns of x are x[:, 0]."
        )
    return value


def find_derivatives(residual: Residual, outputs: int, names: tuple[str, ...]) -> set[Derivative]:
    """The derivatives that a residual uses, found by calling it once."""
    asked: set[Derivative] = set()

    def read(_: int, derivative: Derivative) -> Array:
        asked.add(derivative)
        return np.ones(len(np.asarray(residual.points)))

    with np.errstate(all="ignore"):
        linearise(residual, outputs, names, read)
    return asked


def check(residuals: Residual | Iterable[Residual], inputs: int) -> tuple[Residual, ...]:
    """The residuals as a tuple. Raises DataError for none, other objects, and points of another dimension."""
    every = (residuals,) if isinstance(residuals, Residual) else tuple(residuals)
    if not every or not all(isinstance(residual, Residual) for residual in every):
        raise DataError("Give at least one Residual(function, points), e.g. for the inside and for the boundary.")
    for residual in every:
        if np.asarray(residual.points).shape[1] != inputs:
            raise DataError(
                f"A network of {inputs} inputs needs points of shape (N, {inputs}), "
                f"got {np.asarray(residual.points).shape}."
            )
    return every
