"""Powers of a shifted input with a real exponent: y = c·(±x + b)^p + d, without noise. c and d follow by least squares
for each b and p; the best points of a grid of b and p are refined, all four constants together."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.least_squares import ROUNDING, root_mean_square
from kanserve.search.regression.term_sums import TERM_ROWS
from kanserve.search.structure.factors import round_to_fraction

Array = NDArray[np.float64]

PLACES = 14  # zeros of the base of c·(x + b)^p + d on the grid, on either side of the data
EXPONENTS = (-3.4, -2.4, -1.6, -0.8, -0.3, 0.3, 0.7, 1.4, 1.7, 2.4, 3.3, 4.6)  # exponents on the grid
STARTS = 4  # points of the grid from which the constants are fitted
STEPS = 60  # steps of such a fit


@dataclass(frozen=True)
class ShiftedPower:
    """The law y = factor·(sign·x + shift)^exponent + constant."""

    sign: float
    shift: float
    exponent: float
    factor: float
    constant: float


def power_of_a_sum(x: Array, y: Array) -> ShiftedPower | None:
    """y (N,) as a power of shifted x (N,) with a non-integer exponent, if that is exact, else None."""
    if len(y) < 6 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    limit = ROUNDING * float(y.std())
    starts = sorted(_starts(x, y))[:STARTS]
    for _, sign, shift, exponent in starts:
        with np.errstate(all="ignore"):
            found = _refine(sign * x, y, shift, exponent)
            if found is None:
                continue
            shift, exponent, error = found
            if not error < limit:
                continue
            exponent = round_to_fraction(exponent, ROUNDING, ROUNDING)
            if exponent == round(exponent):
                continue
            c, d, _ = _linear(sign * x + shift, y, exponent)
        return ShiftedPower(sign, shift, exponent, c, d)
    return None


def _starts(x: Array, y: Array) -> Iterator[tuple[float, float, float, float]]:
    """The error, sign, shift and exponent at each grid point."""
    step = max(1, len(x) // TERM_ROWS)
    x, y = x[::step], y[::step]
    half = float(np.ptp(x)) / 2
    for sign in (1.0, -1.0):
        least = float((sign * x).min())
        shifts = half * np.geomspace(1e-3, 10, PLACES) - least
        for shift in [*shifts.tolist(), *([0.0] if least >= 0 else []), -least]:
            for exponent in EXPONENTS:
                with np.errstate(all="ignore"):
                    error = _linear(sign * x + shift, y, exponent)[2]
                if np.isfinite(error):
                    yield error, sign, shift, exponent


def power_and_constant(t: Array, y: Array, constant: bool = True) -> tuple[float, float] | None:
    """The exponent p of the best fit c·t^p + d (or c·t^p) for t ≥ 0, and its error; None if there is none."""
    with np.errstate(all="ignore"):
        started = [(_linear(t, y, exponent, constant)[2], exponent) for exponent in EXPONENTS]
        _, exponent = min(started)
        found = _refine(t, y, 0.0, exponent, moves=False, constant=constant)
    return None if found is None or not np.isfinite(found[2]) else found[1:]


def _linear(base: Array, y: Array, exponent: float, constant: bool = True) -> tuple[float, float, float]:
    """c and d of the best fit c·base^exponent + d, and its error."""
    values = np.power(np.maximum(base, 0.0), exponent)
    centred = values - values.mean() if constant else values
    size = float(centred @ centred)
    if not 0 < size < np.inf:
        return 0.0, 0.0, np.inf
    c = float(centred @ y) / size
    d = float(y.mean() - c * values.mean()) if constant else 0.0
    return c, d, root_mean_square(c * values + d - y)


def _refine(
    x: Array, y: Array, shift: float, exponent: float, *, moves: bool = True, constant: bool = True
) -> tuple[float, float, float] | None:
    """Refine shift and exponent by damped Gauss-Newton steps that keep the base ≥ 0; also returns the error."""
    least = float(x.min())
    error, damping = _linear(x + shift, y, exponent, constant)[2], 1e-3
    for _ in range(STEPS):
        base = x + shift
        c, d, _ = _linear(base, y, exponent, constant)
        positive = base > 0
        values = np.power(np.maximum(base, 0.0), exponent)
        slopes = np.zeros((len(x), 4))
        slopes[positive, 0] = c * values[positive] * np.log(base[positive])
        slopes[positive, 1] = c * exponent * np.power(base[positive], exponent - 1)
        slopes[:, 2], slopes[:, 3] = values, 1.0
        slopes = slopes[:, [True, moves, True, constant]]
        size = np.linalg.norm(slopes, axis=0)
        if not np.isfinite(size).all() or (size == 0).any():
            return None
        u, s, vt = np.linalg.svd(slopes / size, full_matrices=False)
        along = u.T @ (y - c * values - d)
        for _ in range(8):
            step = (vt.T @ (along * s / (s * s + damping))) / size
            moved = max(shift + float(step[1]), -least) if moves else shift
            power = exponent + float(step[0])
            trial = _linear(x + moved, y, power, constant)[2]
            if trial < error:
                shift, exponent, damping = moved, power, damping / 10
                gained, error = error - trial, trial
                break
            damping = max(damping * 10, 1e-12)
        else:
            break
        if gained <= 1e-12 * error:
            break
    return shift, exponent, error
