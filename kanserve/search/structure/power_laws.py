"""Power laws: products of real powers of the inputs, alone or times an exponential of a linear form. They are fitted to
the logarithms by least squares, weighted by |y|, since the errors of y are of equal size. Rows with a 0 have no
logarithm and are left out, but the law must hold on them too."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.network.powers import takes_negative
from kanserve.search.regression.least_squares import ROUNDING, Fit, fit, lack_of_fit, root_mean_square
from kanserve.search.structure.factors import FACTORS_LARGEST_ERROR, SNAP_STANDARD_ERRORS, raise_to, round_to_fraction

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Distance within which the powers of a power law of all inputs are rounded in any case.
POWER_SNAP_DISTANCE = 1e-3
POWER_LAW_ROWS = 0.5  # share of the rows, at least, on which no input and no output is 0, so that they have logarithms
POWER_LAW_ZERO_ERRORS = 5.0  # residual of a row with a 0, at most, in standard deviations of those of the other rows


@dataclass(frozen=True)
class PowerLaw:
    """The law y = scale · Π x_i^powers_i · exp(Σ rates_i·x_i)."""

    scale: float
    powers: tuple[float, ...]
    rates: tuple[float, ...]


def monomial(x: Array, y: Array) -> tuple[float, tuple[float, ...]] | None:
    """c and the exponents p if y = c · x_1^p_1 · x_2^p_2 ..., else None."""
    usable = _with_logarithms(x, y)
    if usable is None:
        return None
    found = _fit_logarithms(np.log(np.abs(x[usable])), y[usable])
    if found is None:
        return None
    log_fit, varying, deviations = found
    powers = np.zeros(x.shape[1])
    powers[varying] = [
        _round_exponent(float(value), float(deviation))
        for value, deviation in zip(log_fit.coefficients[1:, 0], deviations, strict=True)
    ]
    return _check_law(x, y, powers, usable)


def times_exponential(x: Array, y: Array) -> PowerLaw | None:
    """y as powers of the inputs times an exponential, if that is exact; None also if no rate matters."""
    usable = _with_logarithms(x, y)
    if usable is None or (x.min(axis=0) < 0).any():
        return None
    inputs = x.shape[1]
    size = np.abs(x).max(axis=0)
    found = _fit_logarithms(np.concatenate([np.log(x[usable]), x[usable] / size], axis=1), y[usable])
    if found is None or len(found[0].coefficients) != 1 + 2 * inputs:
        return None
    values, deviations = found[0].coefficients[1:, 0], found[2]
    negligible = np.abs(values) <= ROUNDING
    values = np.where(negligible, 0.0, values)
    if negligible[inputs:].all():
        return None
    pairs = zip(values[:inputs], deviations[:inputs], strict=True)
    powers = [_round_exponent(float(value), float(deviation)) for value, deviation in pairs]
    rates = values[inputs:] / size
    with np.errstate(all="ignore"):
        product = _product(x, powers) * np.exp(x @ rates)
        scale = float(product @ y / (product @ product))
        error = root_mean_square(y - scale * product)
    if not error < ROUNDING * root_mean_square(y):
        return None
    return PowerLaw(_without_rounding(scale), tuple(powers), tuple(_without_rounding(rate) for rate in rates.tolist()))


def _without_rounding(value: float) -> float:
    """Round to 14 digits: the last digits of a fit are rounding errors and hide short numbers."""
    return float(f"{value:.14g}")


def _with_logarithms(x: Array, y: Array) -> Mask | None:
    """Mask of the rows without zeros; None if too few rows remain."""
    usable: Mask = (x != 0).all(axis=1) & (y != 0)
    return usable if usable.mean() >= POWER_LAW_ROWS else None


def _fit_logarithms(terms: Array, y: Array) -> tuple[Fit, Mask, Array] | None:
    """Fit log|y| by a constant and the terms that vary. Returns the fit, the mask of these terms and standard errors;
    None if the fit is bad."""
    weight = np.abs(y) / root_mean_square(y)
    varying: Mask = terms.max(axis=0) > terms.min(axis=0)
    design = np.concatenate([np.ones((len(y), 1)), terms[:, varying]], axis=1) * weight[:, None]
    log_fit = fit(design, (np.log(np.abs(y)) * weight)[:, None])
    if root_mean_square(log_fit.left_out[:, 0]) > FACTORS_LARGEST_ERROR:
        return None
    freedom = max(1, len(y) - design.shape[1])
    variance = float(log_fit.residuals[:, 0] @ log_fit.residuals[:, 0]) / freedom
    return log_fit, varying, np.sqrt(variance * np.diagonal(np.linalg.pinv(design.T @ design)))[1:]


def _round_exponent(value: float, deviation: float) -> float:
    error = SNAP_STANDARD_ERRORS * deviation
    return round_to_fraction(value, max(error, POWER_SNAP_DISTANCE), error + ROUNDING)


def _product(x: Array, powers: Array | list[float]) -> Array:
    result: Array = np.prod([raise_to(x[:, i], float(power)) for i, power in enumerate(powers)], axis=0)
    return result


def _check_law(x: Array, y: Array, powers: Array, usable: Mask) -> tuple[float, tuple[float, ...]] | None:
    """The coefficient and the powers, if the law holds on all rows, else None."""
    if not all(takes_negative(float(power)) for power in powers[x.min(axis=0) < 0]):
        return None
    with np.errstate(all="ignore"):
        product = _product(x, powers)
        coefficient = float(product @ y / (product @ product))
        residuals = y - coefficient * product
        error = root_mean_square(residuals)
    found = coefficient, tuple(float(power) for power in powers)
    if error < ROUNDING * root_mean_square(y):
        return found
    if not error <= FACTORS_LARGEST_ERROR * root_mean_square(y):
        return None
    largest = POWER_LAW_ZERO_ERRORS * root_mean_square(residuals[usable])
    if np.abs(residuals[~usable]).max(initial=0.0) > largest:
        return None
    logarithms = np.log(np.abs(x[usable]))
    centred, product, residuals = logarithms - logarithms.mean(axis=0), product[usable], residuals[usable]
    inputs = range(x.shape[1])
    block = np.stack([centred[:, i] * centred[:, j] for i in inputs for j in range(i + 1)], axis=1)
    design = product[:, None] * np.concatenate([np.ones((len(product), 1)), centred], axis=1)
    design = design[:, np.r_[True, x.max(axis=0) > x.min(axis=0)]]
    if lack_of_fit(fit(design, residuals[:, None]).residuals[:, 0], design, block * product[:, None]) >= 1:
        return None
    return found
