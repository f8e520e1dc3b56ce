"""The unknown function u that a residual is called with: the network's values and derivatives, as dual numbers.

    def burgers(x, u):
        return u * u.d(0) - 0.1 * u.dd(0, 0)

`u` is the value, `u.d(i)` the derivative by input i and `u.dd(i, j)` the second derivative, each with one entry per
point. They are dual numbers whose seeds are the entries of the jet, so any expression in them carries its derivatives.
Unpack the outputs of a network with several: `u, v = fields`, or `fields[0]`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError
from kanserve.network.dual_numbers import Dual

Array = NDArray[np.float64]
Derivative = tuple[int, ...]
"""() for the value, (i,) for a first derivative, (i, j) with i ≤ j for a second one."""

Seed = tuple[int, Derivative]
Read = Callable[[int, Derivative], Array]


@dataclass(frozen=True, eq=False)
class Field(Dual):
    """One output at the points of a residual: a dual number with derivatives by the inputs.

    A residual's function gets it as `u`, and computes with it as with an array.

    Parameters
    ----------
    primal, partials : ndarray, mapping
        The values, of shape (n_points,), and their derivatives, which `Dual` has.
    output : int
        The number of the output.
    names : tuple of str
        The inputs, by which `d` and `dd` derive.
    read : callable
        Gives the derivatives.

    Examples
    --------
    >>> import kanserve.pde as pde
    >>> def decay(x, u):  # u' = -2u
    ...     return u.d(0) + 2 * u
    >>> start = pde.Residual(lambda x, u: u.value - 1, [[0.0]])
    >>> kan = pde.solve([1, 1], [pde.Residual(decay, [[n / 50] for n in range(51)]), start])
    >>> round(float(kan([[1.0]])[0, 0]), 3)
    0.135
    """

    output: int
    names: tuple[str, ...]
    read: Read

    @property
    def value(self) -> Dual:
        """The output itself, a Dual of shape (n_points,)."""
        return Dual(self.primal, self.partials)

    def d(self, i: int | str) -> Dual:
        """The first derivative, at each point.

        Parameters
        ----------
        i : int or str
            The input to derive by: its number from 0, or its name.

        Returns
        -------
        Dual
            Of shape (n_points,).

        Raises
        ------
        DataError
            Unknown input.

        Examples
        --------
        >>> import kanserve, kanserve.pde as pde
        >>> kan = kanserve.from_formula("exp(-2*t)", ranges={"t": (0, 1)})
        >>> decay = pde.Residual(lambda t, u: u.d("t") + 2 * u, [[0.25], [0.5]])
        >>> pde.defects(kan, decay).round(9).tolist()
        [[0.0, 0.0]]
        """
        return self._derivative((self._input(i),))

    def dd(self, i: int | str, j: int | str) -> Dual:
        """The second derivative, at each point.

        Parameters
        ----------
        i, j : int or str
            The inputs to derive by, as in `d`.

        Returns
        -------
        Dual
            Of shape (n_points,).

        Raises
        ------
        DataError
            Unknown input.

        Examples
        --------
        >>> import kanserve, kanserve.pde as pde
        >>> kan = kanserve.from_formula("x*y^2", ranges={"x": (0, 1), "y": (0, 1)})
        >>> mixed = pde.Residual(lambda x, u: u.dd("x", "y") - 2 * x[:, 1], [[0.25, 0.5], [0.5, 1.0]])
        >>> pde.defects(kan, mixed).round(9).tolist()
        [[0.0, 0.0]]
        """
        first, second = sorted((self._input(i), self._input(j)))
        return self._derivative((first, second))

    def _derivative(self, derivative: Derivative) -> Dual:
        values = self.read(self.output, derivative)
        return Dual(values, {(self.output, derivative): np.ones_like(values)})

    def _input(self, i: int | str) -> int:
        if isinstance(i, str) and i in self.names:
            return self.names.index(i)
        if isinstance(i, int | np.integer) and 0 <= i < len(self.names):
            return int(i)
        raise DataError(
            f"The function has no input {i!r} to derive by. Take a number from 0 to {len(self.names) - 1} or a name: "
            f"{', '.join(self.names)}."
        )


@dataclass(frozen=True, eq=False)
class Fields(np.lib.mixins.NDArrayOperatorsMixin):
    """The outputs of a network that has several, each a `Field`: `u[0]`, or `u, v = fields`.

    Using it as one array, or its `value`, `d` or `dd`, raises DataError.

    Parameters
    ----------
    each : tuple of Field
        In the order of the outputs.

    Examples
    --------
    >>> import kanserve.pde as pde
    >>> def oscillator(t, both):
    ...     place, speed = both
    ...     return [place.d(0) - speed, speed.d(0) + place]
    >>> start = pde.Residual(lambda t, both: [both[0].value, both[1].value - 1], [[0.0]])
    >>> times = [[n / 20] for n in range(41)]
    >>> kan = pde.solve([1, 2], [pde.Residual(oscillator, times), start], outputs=["place", "speed"])
    >>> bool(abs(kan([[1.0]])[0, 0] - 0.84147) < 1e-3)  # sin(1)
    True
    """

    each: tuple[Field, ...]

    def __len__(self) -> int:
        return len(self.each)

    def __getitem__(self, q: int) -> Field:
        return self.each[q]

    def __iter__(self) -> Iterator[Field]:
        return iter(self.each)

    def __getattr__(self, name: str) -> Any:
        if name in ("value", "d", "dd"):
            raise DataError(self._many())
        raise AttributeError(name)

    def __array_ufunc__(self, *_: Any, **__: Any) -> Any:
        raise DataError(self._many())

    def _many(self) -> str:
        return f"The network has {len(self.each)} outputs: a residual takes them apart first, as in `u, v = fields`."


def fields(outputs: int, names: tuple[str, ...], read: Read) -> Field | Fields:
    """The argument u of a residual; `read(q, derivative)` gives the values (N,) of output q."""
    each = []
    for q in range(outputs):
        values = read(q, ())
        each.append(Field(values, {(q, ()): np.ones_like(values)}, q, names, read))
    return each[0] if outputs == 1 else Fields(tuple(each))
