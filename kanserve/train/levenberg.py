"""Levenberg-Marquardt: all free parameters of a network at once, from where it is.

The step solves (J'J + R + μ·D)·s = -g with D = max(diag, 1e-2·max diag): the floor keeps directions in which the
data say nothing from running away, and makes the matrix positive definite for some finite μ. A step is taken only if
the new loss is finite and smaller; so a fit cannot end worse than it began, nor in NaN. The damping follows Nielsen
(Madsen, Nielsen, Tingleff, Methods for non-linear least squares problems, 2004).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import DataError, TrainingError
from kanserve.ir import Kan
from kanserve.reference import as_rows
from kanserve.train import jacobian
from kanserve.train.parameters import gather, penalty, scatter
from kanserve.train.threads import threads_for

Array = NDArray[np.float64]
Report = Callable[[int, float], None]

PATIENCE = 4
MOST_PARAMETERS = 8000  # a step holds three square matrices of this size: 1.5 GB
SMALL_GAIN = 1e-3
FLOOR = 1e-2
MOST_DAMPING = 1e12
LEAST_DAMPING = 1e-15


def refine(
    kan: Kan,
    x: ArrayLike,
    y: ArrayLike,
    *,
    steps: int = 100,
    smooth: float = 0.0,
    ridge: float = 1e-12,
    weights: ArrayLike | None = None,
    patience: int = PATIENCE,
    report: Report | None = None,
) -> Kan:
    """Fit a network to raw features x (N, inputs) and answers y (N, outputs) by least squares, from where it is.

    What is free: `parameters.free_parameters`. The loss is ½·mean ‖(prediction - y)/output_scale‖², rows weighted by
    `weights` (N,), plus ½·ridge·‖θ‖² and `smooth` times the splines' squared second differences. It ends after
    `steps` iterations or when `patience` steps in a row gain less than a thousandth each. A network that is not
    finite on these rows comes back as it is. `report` is told the iteration and the loss after each accepted step.
    """
    rows, answers, shares = _checked(kan, x, y, weights)
    one = jacobian.problem(kan, rows, answers, shares)
    if one.size > MOST_PARAMETERS:
        raise TrainingError(
            f"Levenberg-Marquardt takes at most {MOST_PARAMETERS} parameters, this network has {one.size}. "
            "Prune it, use coarser grids, or fit it with optimizer='lbfgs'."
        )
    start = gather(kan, one.free)
    with threads_for(answers.size * one.size**2):
        before, _ = jacobian.loss(one, start)
        if one.size == 0 or not np.isfinite(before):
            return kan
        found = minimise(one, start, penalty(kan, one.free, ridge, smooth), steps, patience, report)
        after, _ = jacobian.loss(one, found)
    if after > before and smooth == 0:  # the ridge alone may not cost anything
        return kan
    return scatter(kan, one.free, found)


def minimise(
    one: jacobian.Problem, start: Array, matrix: Array, steps: int, patience: int, report: Report | None
) -> Array:
    """The vector with the least loss + ½·θ'Rθ that `steps` iterations find from `start`, where it must be finite."""
    vector = start
    error, state = jacobian.loss(one, vector)
    value = error + 0.5 * float(vector @ matrix @ vector)
    damping, growth, small_gains = 1e-2, 2.0, 0
    normal: Array | None = None
    gradient = diagonal = np.empty(0)
    for step in range(steps):
        if normal is None:
            normal, gradient = jacobian.normal_equations(one, vector, state)
            normal += matrix
            gradient += matrix @ vector
            diagonal = np.maximum(np.diag(normal), FLOOR * np.diag(normal).max())
            if not (np.isfinite(gradient).all() and np.isfinite(diagonal).all()) or not gradient.any():
                break
        change = _solve(normal, damping * diagonal, gradient)
        trial = vector + change
        error, trial_state = jacobian.loss(one, trial)
        new = error + 0.5 * float(trial @ matrix @ trial) if np.isfinite(error) else np.inf
        if not new < value:
            damping *= growth
            growth *= 2
            if damping > MOST_DAMPING:
                break
            continue
        predicted = 0.5 * float(change @ (damping * diagonal * change - gradient))
        ratio = (value - new) / predicted if predicted > 0 else 0.5
        damping = max(damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), LEAST_DAMPING)
        growth = 2.0
        small_gains = small_gains + 1 if value - new < SMALL_GAIN * value else 0
        vector, value, state = trial, new, trial_state
        normal = None
        if report is not None:
            report(step, value)
        if small_gains == patience or value == 0:
            break
    return vector


def _solve(normal: Array, damping: Array, gradient: Array) -> Array:
    """The step, or NaN where the system cannot be solved."""
    damped = normal.copy()
    damped.flat[:: len(damped) + 1] += damping
    try:
        return np.linalg.solve(damped, -gradient).astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        return np.full(len(gradient), np.nan)


def _checked(kan: Kan, x: ArrayLike, y: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array, Array | None]:
    rows = as_rows(kan, x)
    try:
        answers = np.asarray(y, dtype=np.float64)
        shares = None if weights is None else np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError("Answers and weights must be numbers.") from None
    answers = answers[:, None] if answers.ndim == 1 else answers
    if answers.shape != (len(rows), len(kan.outputs)) or len(rows) == 0:
        raise DataError(
            f"{len(rows)} rows for {len(kan.outputs)} outputs need answers of shape "
            f"({len(rows)}, {len(kan.outputs)}) and at least one row, got {answers.shape}."
        )
    if not (np.isfinite(rows).all() and np.isfinite(answers).all()):
        raise DataError("A fit needs finite numbers; x or y holds NaN or infinity. Drop or fill those rows.")
    if shares is not None and (
        shares.shape != (len(rows),) or not np.isfinite(shares).all() or shares.min() < 0 or shares.sum() <= 0
    ):
        raise DataError(f"Weights must be {len(rows)} finite numbers, none negative and not all 0.")
    return rows, answers, shares
