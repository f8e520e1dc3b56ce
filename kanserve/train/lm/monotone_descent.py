"""Fits that keep the outputs monotone in some inputs: constraints on the signs of edges, and a descent within them.

A spline whose coefficients do not decrease does not decrease anywhere, also where it goes on straight outside its grid.
So every edge from an input with a sign has coefficients that rise or fall, every edge behind it has rising ones up to
the last layer, and these edges have no base function, as SiLU falls below -1.28. Since a hidden node may be
turned over with all its edges, rising ones behind the first layer lose nothing.

The descent is Levenberg-Marquardt in the first coefficient of each such edge and its steps, which are at least 0. In
each step those that would become negative are set to 0 and the others solved again (a projected Newton method;
Bertsekas, SIAM J. Control and Optimization 20, 1982).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import TrainingError
from kanserve.network.edge_names import edge_names
from kanserve.network.kan import Kan, Layer
from kanserve.train.lm.damped_solve import solve_damped
from kanserve.train.lm.jacobian import LeastSquaresProblem
from kanserve.train.lm.parameter_vector import Free, Penalty
from kanserve.train.lm.reweighted_squares import ReweightedProblem

Array = NDArray[np.float64]
Signs = tuple[NDArray[np.int64], ...]

SOLVES = 4  # of one step: between them the steps between coefficients that became negative are set to 0
"""For each layer (O, I): 1 where an edge may not fall, -1 where it may not rise, 0 where it is free."""


def edge_signs(kan: Kan, monotonic: Sequence[int]) -> Signs:
    """The signs of all edges that make the outputs follow the inputs' signs. A classifier's two scores go opposite
    ways, so that the second class's probability follows. Raises TrainingError if no signs do."""
    carried = np.array(monotonic, np.int64)
    found = []
    for index, layer in enumerate(kan.layers):
        signs = np.where(layer.alive, carried[None, :], 0)
        _check(kan, index, signs)
        depends = (signs != 0).any(axis=1)
        found.append(signs)
        carried = np.logical_or.reduceat(depends, np.cumsum(layer.arity) - layer.arity).astype(np.int64)
    if kan.classes:
        found[-1] = found[-1] * np.array([[-1], [1]])
    return tuple(found)


def _check(kan: Kan, index: int, signs: NDArray[np.int64]) -> None:
    layer = kan.layers[index]
    constrained = (signs != 0).any(axis=1)
    if (constrained & np.repeat(layer.arity > 1, layer.arity)).any():
        raise TrainingError("A product of nodes that depend on a monotone input is not monotone. Use sums alone.")
    named = np.argwhere((signs != 0) & layer.symbolic_mask)
    if len(named):
        edge = edge_names(kan)[index, int(named[0][0]), int(named[0][1])]
        raise TrainingError(f"Edge {edge!r} is a named function, and monotone inputs need splines there.")
    if layer.extrapolation != "linear" and constrained.any():
        raise TrainingError("Splines that fall to 0 outside their grid are not monotone; use extrapolation='linear'.")
    scales = np.repeat(layer.node_scale, layer.arity) * layer.subnode_scale
    if (scales[constrained] < 0).any():
        raise TrainingError("A network with negative scales of nodes is not fitted with monotone inputs.")


def monotone(kan: Kan, signs: Signs) -> Kan:
    """Replace the coefficients by nearly the nearest that satisfy the signs; these edges lose their base function."""
    return replace(kan, layers=tuple(map(_monotone, kan.layers, signs)))


def _monotone(layer: Layer, signs: NDArray[np.int64]) -> Layer:
    turned = layer.coefficients * np.where(signs == 0, 1, signs)[:, :, None]
    above = np.maximum.accumulate(turned, axis=2)
    below = np.minimum.accumulate(turned[:, :, ::-1], axis=2)[:, :, ::-1]
    nearest = (above + below) / 2 * signs[:, :, None]
    kept = signs[:, :, None] == 0
    return replace(
        layer,
        coefficients=np.where(kept, layer.coefficients, nearest),
        base_weight=np.where(signs == 0, layer.base_weight, 0.0),
    )


@dataclass(frozen=True, eq=False)
class Steps:
    """Maps parameters θ (P,) to variables u (P,) with constraints u ≥ 0. For an edge with sign s, u are its first
    coefficient (free) and s times the steps between coefficients."""

    places: NDArray[np.intp]  # (E, G + k), of each such edge; edges of several layers are padded with -1
    signs: Array  # (E, 1)

    @classmethod
    def of(cls, free: Sequence[Free], signs: Signs) -> "Steps":
        width = max(layer.functions for layer in free)
        rows, found = [], []
        start = 0
        for layer, own in zip(free, signs, strict=True):
            for e, (j, i) in enumerate(layer.edges.tolist()):
                if own[j, i]:
                    places = start + e * layer.functions + np.arange(layer.functions)
                    rows.append(np.append(places, np.full(width - layer.functions, -1)))
                    found.append(float(own[j, i]))
            start += layer.size
        return cls(np.array(rows, np.intp).reshape(-1, width), np.array(found)[:, None])

    @property
    def bounded(self) -> NDArray[np.intp]:
        """The indices of the variables that must not be negative."""
        inner = self.places[:, 1:]
        return inner[inner >= 0]

    def numbers(self, vector: Array) -> Array:
        result = vector.copy()
        for places, sign in self._edges():
            result[places[1:]] = sign * np.diff(vector[places])
        return result

    def vector(self, numbers: Array) -> Array:
        result = numbers.copy()
        for places, sign in self._edges():
            result[places[1:]] = numbers[places[0]] + sign * np.cumsum(numbers[places[1:]])
        return result

    def slopes(self, rows: Array) -> Array:
        """Convert derivatives (.., P) with respect to the parameters to those with respect to the steps."""
        result = rows.copy()
        for places, sign in self._edges():
            sums = np.cumsum(rows[..., places[::-1]], axis=-1)[..., ::-1]
            result[..., places[0]] = sums[..., 0]
            result[..., places[1:]] = sign * sums[..., 1:]
        return result

    def _edges(self) -> Iterator[tuple[NDArray[np.intp], float]]:
        for places, sign in zip(self.places, self.signs[:, 0].tolist(), strict=True):
            yield places[places >= 0], sign


class MonotonePoint:
    """A `levenberg_marquardt.Descent` in which the coefficients of edges with signs rise or fall monotonically."""

    def __init__(
        self, problem: LeastSquaresProblem | ReweightedProblem, penalty: Penalty, vector: Array, steps: Steps
    ) -> None:
        self._problem: Any = problem
        self._penalty, self._steps = penalty, steps
        self._bounded = np.zeros(len(vector), bool)
        self._bounded[steps.bounded] = True
        numbers = steps.numbers(vector)
        self._numbers = np.where(self._bounded, np.maximum(numbers, 0), numbers)
        self.vector = steps.vector(self._numbers)
        self._state: Any
        self.error, self._state = self._problem.loss(self.vector)
        self.value = self.error + penalty.value(self.vector)
        self._trial: tuple[Array, Array, float, float, Any] = (self._numbers, self.vector, 0.0, 0.0, None)
        self._normal = self._gradient = self._diagonal = np.empty(0)

    def linearise(self, floor: float) -> bool:
        normal, gradient = self._problem.normal_equations(self.vector, self._state)
        self._penalty.add_to(normal, gradient, self.vector)
        self._normal = self._steps.slopes(self._steps.slopes(normal).T)
        self._gradient = self._steps.slopes(gradient)
        diagonal = self._normal.diagonal()
        self._diagonal = np.maximum(diagonal, floor * diagonal.max())
        return bool(np.isfinite(self._gradient).all() and np.isfinite(self._diagonal).all() and self._gradient.any())

    def attempt(self, damping: float) -> tuple[float, float]:
        change = self._change(damping * self._diagonal)
        numbers = self._numbers + change
        numbers[self._bounded] = np.maximum(numbers[self._bounded], 0.0)
        change = numbers - self._numbers
        vector = self._steps.vector(numbers)
        error, state = self._problem.loss(vector)
        value = error + self._penalty.value(vector) if np.isfinite(error) else np.inf
        self._trial = numbers, vector, error, value, state
        with np.errstate(all="ignore"):
            predicted = -float(change @ (self._gradient + self._normal @ change / 2))
        return value, predicted

    def _change(self, added: Array) -> Array:
        """The damped step. Variables that would become negative are set to 0, and the others are solved for again."""
        change = np.zeros(len(self._numbers))
        held = self._bounded & (self._numbers <= 0) & (self._gradient > 0)
        for _ in range(SOLVES):
            free = np.flatnonzero(~held)
            right = -(self._gradient + self._normal @ np.where(held, change, 0.0))[free]
            change[free] = solve_damped(self._normal[np.ix_(free, free)], added[free], right)
            beyond = self._bounded & ~held & (self._numbers + change < 0)
            if not beyond.any() or not np.isfinite(change).all():
                break
            change[beyond] = -self._numbers[beyond]
            held |= beyond
        return change

    def accept(self) -> None:
        self._numbers, self.vector, self.error, self.value, self._state = self._trial
