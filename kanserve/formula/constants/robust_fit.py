"""Robust fits of the constants of a formula: Huber's and Student's t, by iteratively reweighted least squares.

    tree = robust_refit(tree, x, y, "student_t")                     # the constants fitted
    uncertainty(tree, x, pseudo_values(tree, x, y, "student_t"))     # and their standard errors

Least squares of the pseudo-values, in which each residual r is replaced by s·ψ(r/s) / mean(ψ'), has the same solution,
and gives Huber's covariance of the estimates (Huber and Ronchetti, Robust Statistics, 2009, sections 7.6 and 7.8). So
all that works with least squares, as recognising constants does, works with a robust loss too.

The t has the scale and the degrees of freedom of maximum likelihood (Lange, Little and Taylor, Journal of the American
Statistical Association 84, 1989). Huber's scale is that of the median absolute deviation.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.formula.constants.nonlinear_fit import Constants, FitData, all_fitted, check_data, size
from kanserve.formula.expressions.tree import Tree, evaluate_tree

Array = NDArray[np.float64]
FitLoss = Literal["squared", "huber", "student_t"]

HUBER = 1.345  # deviations up to which residuals count as in least squares: 95% as efficient if they are normal (Huber)
DEGREES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0)  # degrees of freedom that a t may have
MOST_STEPS = 50  # of the iteratively reweighted least squares of a loss
SCALE_STEPS = 100  # of the iteration for the scale of a t
SETTLED = 1e-3  # a smaller move, relative to the standard error of a mean, ends the iteration
SCALE_SETTLED = 1e-6  # a smaller relative change ends the iteration for the scale
MOST_ROWS = 20_000  # residuals by which their distribution is known well enough
LEAST_SCALE = 1e-15  # relative to the outputs: residuals below are rounding
LEAST_SLOPE = 0.1  # least mean derivative of the influence of a residual, by which its pseudo-value is divided


@dataclass(frozen=True)
class Noise:
    """The distribution of residuals for a loss: its scale, and the degrees of freedom of a t (else infinite)."""

    loss: FitLoss
    scale: float
    degrees: float = math.inf

    def influence(self, residuals: Array) -> Array:
        """s·ψ(r/s): the residuals (N,) with large ones cut off (Huber) or gradually reduced (t)."""
        if self.loss == "squared":
            return residuals
        return residuals * self.shares(residuals)

    def shares(self, residuals: Array) -> Array:
        """The weights (N,) of residuals in least squares, ψ(z)/z with z = r/s."""
        z = np.abs(residuals) / self.scale
        if self.loss == "huber":
            return np.minimum(1.0, HUBER / np.maximum(z, HUBER))
        return np.asarray((self.degrees + 1) / (self.degrees + z**2))

    def pseudo_residuals(self, residuals: Array) -> Array:
        """s·ψ(r/s) / mean(ψ'): least squares with these gives the standard errors of the robust fit."""
        if self.loss == "squared":
            return residuals
        z = residuals / self.scale
        if self.loss == "huber":
            slopes = np.where(np.abs(z) < HUBER, 1.0, 0.0)
        else:
            slopes = (self.degrees + 1) * (self.degrees - z**2) / (self.degrees + z**2) ** 2
        return self.influence(residuals) / max(float(slopes.mean()), LEAST_SLOPE)


def robust_refit(
    tree: Sequence[Sequence[Any]],
    x: ArrayLike,
    y: ArrayLike,
    loss: FitLoss,
    fixed: Collection[int] = (),
    weights: ArrayLike | None = None,
) -> Tree:
    """Fit the constants to y (N,) at rows x (N, inputs) with a loss, from their current values; those at positions
    `fixed` stay. With weights (N,), a row of weight w has errors 1/sqrt(w) as large. A tree that is not finite on some
    row is returned unchanged."""
    data = check_data(x, y, weights)
    constants = Constants(tree, fixed)
    settled = frozenset(range(len(constants.tree))) - set(constants.places)
    state = all_fitted(constants.tree, data, settled)
    if loss == "squared" or not math.isfinite(state.error):
        return state.tree
    # The likelihood of a t may have several maxima: Huber's fit leads to the right one.
    for step_loss in dict.fromkeys(("huber", loss)):
        for _ in range(MOST_STEPS):
            residuals = data.weight_rows(data.y - evaluate_tree(state.tree, {}, data.x))
            noise = noise_of(residuals, step_loss, size(data.weight_rows(data.y)))
            roots = np.sqrt(noise.shares(residuals))
            own = FitData(data.x, data.y, roots if data.roots is None else roots * data.roots)
            before, state = state.tree, all_fitted(state.tree, own, settled)
            moved = evaluate_tree(state.tree, {}, data.x) - evaluate_tree(before, {}, data.x)
            if not size(data.weight_rows(moved)) > SETTLED * noise.scale / math.sqrt(len(data.y)):
                break
    return state.tree


def noise_of(residuals: Array, loss: FitLoss, large: float = 0.0) -> Noise:
    """The distribution of (weighted) residuals (N,) for a loss, from a sample of many; `large`: the outputs' size."""
    residuals = residuals[:: -(-len(residuals) // MOST_ROWS)]
    least = LEAST_SCALE * max(large, float(np.abs(residuals).max())) or 1.0
    if loss == "squared":
        return Noise(loss, max(size(residuals), least))
    found = Noise("huber", max(1.4826 * float(np.median(np.abs(residuals))), least))
    if loss == "huber":
        return found
    best = -math.inf
    for degrees in DEGREES:
        noise = _student(residuals, degrees, found.scale, least)
        likelihood = log_likelihood(residuals, noise)
        if likelihood < best:  # it has one maximum
            break
        found, best = noise, likelihood
    return found


def log_likelihood(residuals: Array, noise: Noise) -> float:
    """The log-likelihood of residuals (N,) under a t distribution, or a normal one for other losses."""
    z = residuals / noise.scale
    nu = noise.degrees
    if math.isinf(nu):
        return -len(z) * math.log(noise.scale * math.sqrt(2 * math.pi)) - 0.5 * float(z @ z)
    level = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi) - math.log(noise.scale)
    return len(z) * level - (nu + 1) / 2 * float(np.log1p(z**2 / nu).sum())


def tail_evidence(residuals: Array) -> float:
    """Twice the log-likelihood ratio of residuals (N,) between a t and a normal distribution. For normal residuals it
    exceeds 10.8 once in two thousand times (half a chi-squared with one degree of freedom)."""
    if not residuals.any():
        return 0.0
    student, normal = noise_of(residuals, "student_t"), noise_of(residuals, "squared")
    return 2 * (log_likelihood(residuals, student) - log_likelihood(residuals, normal))


def pseudo_values(
    tree: Sequence[Sequence[Any]], x: ArrayLike, y: ArrayLike, loss: FitLoss, weights: ArrayLike | None = None
) -> Array:
    """Outputs (N,) for which (weighted) least squares gives the formula that fits y (N,) at x by this loss."""
    data = check_data(x, y, weights)
    got = evaluate_tree(tree, {}, data.x)
    residuals = data.weight_rows(data.y - got)
    found = noise_of(residuals, loss, size(data.weight_rows(data.y))).pseudo_residuals(residuals)
    return np.asarray(got + (found if data.roots is None else found / data.roots))


def _student(residuals: Array, degrees: float, scale: float, least: float) -> Noise:
    """The t distribution with these degrees of freedom and the maximum-likelihood scale, found by iteration."""
    squares, variance = residuals**2, scale**2
    for _ in range(SCALE_STEPS):
        # By the sum of the weights, not by their number: the solution is the same, and is reached sooner.
        shares = (degrees + 1) / (degrees + squares / variance)
        before, variance = variance, max(float((shares * squares).sum() / shares.sum()), least**2)
        if abs(variance - before) <= SCALE_SETTLED * variance:
            break
    return Noise("student_t", math.sqrt(variance), degrees)
