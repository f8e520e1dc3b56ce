"""Variable projection: fit sums Σ c_k·f_k(a_k·x + b_k), with the c by least squares for each a and b. Only a and b are
searched for, by Levenberg-Marquardt with Kaufman's Jacobian (BIT 15, 1975). A wave is a sine and a cosine, which gives
it any phase, and may have a rate: exp(r·x)·sin(a·x + b)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.data.row_weights import square_roots
from kanserve.network.functions import FUNCTIONS

Array = NDArray[np.float64]
Constant = Literal["factor", "shift", "rate"]

SCALED_STEPS = 25  # steps of the fit
SCALED_DAMPING = 1e-3  # of its first step, relative to the diagonal of the normal matrix
SCALED_MOST_DAMPING = 1e4  # the fit ends when a step with more damping gains nothing
SCALED_LEAST_GAIN = 1e-4  # relative: a smaller gain of a step ends the fit


@dataclass(frozen=True)
class Scaled:
    """A term f(factor·x_i + shift)·exp(rate·x_i), and which of its constants are fitted. A wave's shift is not: it
    follows from the coefficients of its sine and cosine."""

    i: int
    function: str
    factor: float
    shift: float = 0.0
    rate: float = 0.0
    free: tuple[Constant, ...] = ()


def fit_terms(
    terms: Sequence[Scaled], x: Array, y: Array, beside: Array, weights: Array | None = None
) -> tuple[Sequence[Scaled], Array, float]:
    """Fit the free constants of the terms. Returns the terms, all coefficients, those of `beside` (N, k) first, and the
    error. With weights (N,), squared residuals are weighted."""
    roots = None if weights is None else square_roots(weights)[:, None]
    with np.errstate(all="ignore"):
        return _fit_by_projection(terms, x, y, beside, roots)


def _fit_by_projection(
    terms: Sequence[Scaled], x: Array, y: Array, beside: Array, roots: Array | None
) -> tuple[Sequence[Scaled], Array, float]:
    damping = SCALED_DAMPING
    coefficients, residuals, basis = _solve_linear(terms, x, y, beside, roots)
    error = float(residuals @ residuals)
    for _ in range(SCALED_STEPS if any(term.free for term in terms) else 0):
        slopes = _slopes(terms, x, coefficients[beside.shape[1] :])
        slopes = slopes if roots is None else slopes * roots
        slopes = slopes - basis @ (basis.T @ slopes)
        normal, gradient = slopes.T @ slopes, slopes.T @ residuals
        if not np.isfinite(normal).all():
            break
        step = np.linalg.lstsq(normal + damping * np.diag(np.diagonal(normal) + 1e-300), gradient, rcond=1e-15)[0]
        moved = _move_terms(terms, step.tolist())
        found, left, other = _solve_linear(moved, x, y, beside, roots)
        size = float(left @ left)
        if size < error:
            gained = error - size
            terms, coefficients, residuals, basis, error = moved, found, left, other, size
            damping = max(damping / 10, 1e-12)
            if gained < SCALED_LEAST_GAIN * error:
                break
        elif damping > SCALED_MOST_DAMPING:
            break
        else:
            damping *= 10
    return terms, coefficients, float(np.sqrt(error / len(y)))


def _solve_linear(
    terms: Sequence[Scaled], x: Array, y: Array, beside: Array, roots: Array | None
) -> tuple[Array, Array, Array]:
    """Least-squares coefficients, and the residuals and an orthonormal basis of the columns, both times `roots`."""
    design = np.column_stack([beside, *(column for term in terms for column in _values(term, x))])
    if roots is not None:
        design, y = design * roots, y * roots[:, 0]
    if not np.isfinite(design).all():
        return np.zeros(design.shape[1]), np.full(len(y), np.inf), np.zeros_like(design)
    sizes = np.abs(design).max(axis=0)
    sizes[sizes == 0] = 1.0
    basis, triangle = np.linalg.qr(design / sizes)
    if np.abs(np.diagonal(triangle)).min() < 1e-13 * np.sqrt(len(y)):
        return np.zeros(design.shape[1]), np.full(len(y), np.inf), np.zeros_like(design)
    coefficients = np.linalg.solve(triangle, basis.T @ y) / sizes
    return coefficients, y - design @ coefficients, basis


def _values(term: Scaled, x: Array) -> tuple[Array, ...]:
    """The columns (N,) of a term."""
    u, growth = term.factor * x[:, term.i] + term.shift, np.exp(term.rate * x[:, term.i])
    if term.function == "sin":
        return np.sin(u) * growth, np.cos(u) * growth
    return (FUNCTIONS[term.function].numpy(u),)


def _slopes(terms: Sequence[Scaled], x: Array, coefficients: Array) -> Array:
    """The derivatives (N, constants) of the sum with respect to its terms' constants, in the order of `_move_terms`."""
    columns: list[Array] = []
    own = iter(coefficients.tolist())
    for term in terms:
        z = x[:, term.i]
        if term.function == "sin":
            sine, cosine = next(own), next(own)
            s, c = _values(term, x)
            moves = {"factor": z * (sine * c - cosine * s), "rate": z * (sine * s + cosine * c)}
        else:
            slope = next(own) * FUNCTIONS[term.function].derivative(term.factor * z + term.shift)
            moves = {"factor": z * slope, "shift": slope}
        columns += [moves[constant] for constant in term.free]
    return np.stack(columns, axis=1)


def _move_terms(terms: Sequence[Scaled], step: Sequence[float]) -> list[Scaled]:
    moves = iter(step)
    return [
        replace(term, **{constant: getattr(term, constant) + next(moves) for constant in term.free}) for term in terms
    ]
