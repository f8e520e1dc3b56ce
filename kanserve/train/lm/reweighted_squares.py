"""Other losses by iteratively reweighted least squares: each step solves the least-squares problem with the loss's
gradient and curvature at the present point. Steps and damping are those of Levenberg-Marquardt; a step is accepted by
the loss itself."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Kan
from kanserve.train.lm import jacobian
from kanserve.train.lm.compiled_descent import Compiled
from kanserve.train.lm.parameter_vector import Free, Penalty
from kanserve.train.losses import LossFunction

Array = NDArray[np.float64]


class CompiledReweighted(Compiled):
    """A compiled `levenberg_marquardt.Descent` for other losses than squares, by reweighted least squares."""

    def __init__(
        self,
        loss: LossFunction,
        kan: Kan,
        free: tuple[Free, ...],
        penalty: Penalty,
        x: Array,
        y: Array,
        row_weights: Array | None = None,
    ) -> None:
        self._trial_scores = np.zeros(y.shape)
        super().__init__(kan, free, penalty, x, y, row_weights, predicted=self._trial_scores)
        self._loss, self._answers, self._shares = loss, loss.answers(kan, y), _shares(y, row_weights)
        alone = self.value - self.error
        self._scores = self._trial_scores.copy()
        self.error = self._measure()
        self.value = self.error + alone

    def _measure(self) -> float:
        return float(self._shares @ self._loss.values(self._trial_scores, self._answers))

    def linearise(self, floor: float) -> bool:
        self.roots[...], self.wanted[...] = _squares(self._loss, self._scores, self._answers, self._shares)
        return super().linearise(floor)

    def attempt(self, damping: float) -> tuple[float, float]:
        value, predicted = super().attempt(damping)
        if not np.isfinite(value):
            return np.inf, predicted
        self._results[0] = self._measure()
        return float(self._results[0] + self._results[1]), predicted

    def accept(self) -> None:
        super().accept()
        self._scores[...] = self._trial_scores


class ReweightedProblem:
    """A `levenberg_marquardt.Problem` for a loss other than squares, in NumPy."""

    def __init__(
        self, loss: LossFunction, kan: Kan, free: tuple[Free, ...], x: Array, y: Array, row_weights: Array | None
    ) -> None:
        self._loss, self._answers, self._shares = loss, loss.answers(kan, y), _shares(y, row_weights)
        self._one = jacobian.problem(kan, x, y, None, free)
        self.size = self._one.size
        self._set(np.ones(y.shape), np.zeros(y.shape))

    def _set(self, roots: Array, wanted: Array) -> None:
        start = 0
        for block in self._one.blocks:
            rows = slice(start, start + block.v.shape[1])
            block.weight[...], block.wanted[...] = roots[rows].T, wanted[rows].T
            start = rows.stop

    def loss(self, vector: Array) -> tuple[float, Any]:
        scores = jacobian.scores(self._one, vector)
        return float(self._shares @ self._loss.values(scores, self._answers)), scores

    def normal_equations(self, vector: Array, state: Any) -> tuple[Array, Array]:
        self._set(*_squares(self._loss, state, self._answers, self._shares))
        found = jacobian.normal_equations(self._one, vector, [])
        self._set(np.ones(state.shape), np.zeros(state.shape))
        return found


def _shares(y: Array, row_weights: Array | None) -> Array:
    return np.full(len(y), 1 / len(y)) if row_weights is None else row_weights / row_weights.sum()


def _squares(loss: LossFunction, scores: Array, answers: Array, shares: Array) -> tuple[Array, Array]:
    """The weighted least-squares problem that has the loss's gradient and curvature at these scores: square roots of
    the weights, and working targets (N, Q)."""
    slope, curvature = loss.slopes(scores, answers)
    return np.sqrt(shares[:, None] * curvature), scores - slope / curvature
