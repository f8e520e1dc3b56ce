"""Simplify a law before any network is tried: irrelevant inputs, and inputs that enter as a factor x^p."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from kanserve.network.powers import LARGEST_DENOMINATOR, real_power, takes_negative
from kanserve.search.regression.bases import coordinate
from kanserve.search.regression.least_squares import ROUNDING, fit, lack_of_fit, root_mean_square
from kanserve.search.regression.surrogates import Surrogate, answer_units, is_exact, surrogates
from kanserve.search.structure.form_test import (
    FORM_TEST_LARGEST_ERROR,
    Block,
    Hypothesis,
    fit_blocks,
    holds,
    of_input,
    plausible,
)

Array = NDArray[np.float64]

LARGEST_POWER = 6.5  # upper bound of |p| for a power x^p that is a factor
LEAST_POWER = 0.1  # lower bound of |p| for a power x^p that is a factor
SNAP_STANDARD_ERRORS = 4.0  # standard errors within which a power is rounded to a simple fraction
SNAP_DISTANCE = 1.5e-2  # distance within which a power of one input is rounded in any case, if the form still holds
FACTORS_LARGEST_ERROR = 0.3  # relative error above which a power law, or the estimate of one power, is rejected
REFINEMENT_TERMS = 80  # terms, at most, of the fits by which a power is refined
POWER_LAW_DIGITS = 3  # decimals of an exponent, at most, to which it is rounded within its error
# Distance from such a number over that between two of them, at most: a larger one may be by chance.
POWER_LAW_CHANCE = 0.05

_DENOMINATORS = (1, 2, 3, 4)


@dataclass(frozen=True)
class PowerFactor:
    """y = x_i^power · (a function of the other inputs). `error` is leave-one-out, relative to y's root mean square."""

    i: int
    power: float
    error: float


def irrelevant(x: Array, y: Array, ranked: Sequence[Surrogate]) -> tuple[int, ...]:
    """Inputs that y does not depend on, least needed first. An input is kept if its low powers or products explain some
    of the residuals, or if the surrogate is too inaccurate. `ranked` are the surrogates of the rows."""
    constant = [i for i in range(x.shape[1]) if x[:, i].min() == x[:, i].max()]
    kept = [i for i in range(x.shape[1]) if i not in constant]
    if not kept:
        return tuple(constant)
    full = (surrogates(x[:, kept], y) if constant else ranked)[0]
    dropped: list[int] = []
    while len(kept) > 1:
        candidate = _find_least_needed(x[:, kept], y, full)
        if candidate is None:
            break
        dropped.append(kept.pop(candidate))
        full = surrogates(x[:, kept], y, links=(full.link,))[0]
    return tuple(sorted([*constant, *(i for i in dropped if not _is_missed(x, y, full, kept, i))]))


def _find_least_needed(x: Array, y: Array, full: Surrogate) -> int | None:
    """The input whose removal harms the fit least, or None if every removal is significant."""
    if full.error > FORM_TEST_LARGEST_ERROR:
        return None
    needs = []
    targets, units = full.link.forward(y), answer_units(full.link, y)
    every = full.basis.design(x)
    for i in range(x.shape[1]):
        others = [j for j in range(x.shape[1]) if j != i]
        design = every[:, full.basis.indices[:, i] == 0]
        reduced = fit(design, targets[:, None])
        error = root_mean_square(reduced.left_out[:, 0] * units)
        if is_exact(error):
            needs.append((0.0, i))
        elif plausible(error, full.error):
            missing = of_input(x, full.coordinates, i, others)
            needs.append((lack_of_fit(reduced.residuals[:, 0], design, missing), i))
    if not needs:
        return None
    need, i = min(needs)
    return i if need < 1 else None


def _is_missed(x: Array, y: Array, full: Surrogate, kept: Sequence[int], i: int) -> bool:
    """Whether input i explains part of the residuals of a fit that uses only the kept inputs."""
    if is_exact(full.error):
        return False
    columns = [*kept, i]
    design = full.basis.design(x[:, list(kept)])
    residuals = fit(design, full.link.forward(y)[:, None]).residuals[:, 0]
    missing = of_input(x[:, columns], (*full.coordinates, coordinate(x[:, i])), len(kept), range(len(kept)))
    return lack_of_fit(residuals, design, missing) >= 1


def power_factors(x: Array, y: Array, ranked: Sequence[Surrogate]) -> tuple[PowerFactor, ...]:
    """Powers of inputs that jointly are factors of the law, so that y / (x_i^p · x_j^q ...) depends on none of these
    inputs: any power for an input of one sign, else an integer ≥ 1. `ranked` are the surrogates of the rows."""
    found: list[PowerFactor] = []
    full = next(surrogate for surrogate in ranked if surrogate.link.name == "identity")
    kept = [i for i in range(x.shape[1]) if x[:, i].min() < x[:, i].max()]
    weight = np.ones(len(y))
    for i, power in _guesses(x, y, full, kept):
        others = [j for j in kept if j != i]
        factor = _with_power(x, y, full, weight, i, power, others)
        if factor is not None:
            weight = weight * raise_to(x[:, i], factor.power)
            kept = others
            found.append(factor)
    return tuple(sorted(found, key=lambda factor: factor.error))


def raise_to(values: Array, power: float) -> Array:
    """x^p, with real roots of negative numbers if the denominator of p is odd; otherwise |x|^p."""
    if power == round(power):
        return values ** int(power) if power > 0 else 1 / values ** int(-power)
    return real_power(values if takes_negative(power) else np.abs(values), power)


def _guesses(x: Array, y: Array, full: Surrogate, kept: Sequence[int]) -> list[tuple[int, float]]:
    """Estimate powers from x·dy/dx = p·y; best supported first."""
    slopes = full.gradient_of_link(x)
    answers = full.link_values(x)
    size = float(answers @ answers)
    guesses = []
    for i in kept:
        scaled = x[:, i] * slopes[:, i]
        power = float(scaled @ answers) / size
        spread = root_mean_square(scaled - power * answers) / np.sqrt(size / len(y))
        if _in_range(power) and spread < max(FACTORS_LARGEST_ERROR, 30 * full.error) * max(1, abs(power)):
            guesses.append((spread, i, power))
    return [(i, power) for _, i, power in sorted(guesses)]


def _in_range(power: float) -> bool:
    return LEAST_POWER < abs(power) < LARGEST_POWER


def _with_power(
    x: Array, y: Array, full: Surrogate, weight: Array, i: int, power: float, others: Sequence[int]
) -> PowerFactor | None:
    signed = x[:, i].min() < 0 < x[:, i].max()
    if signed:
        power = float(round(power))
        if power < 1:
            return None
    elif power < 0 and np.abs(x[:, i]).min() == 0:
        return None
    units = np.full(len(y), 1 / (root_mean_square(y) or 1.0))

    def form_of(candidate: float, most: int) -> Hypothesis:
        joint = weight * raise_to(x[:, i], candidate)
        coordinates = tuple(full.coordinates[j] for j in others)
        return fit_blocks(x, y, [Block(tuple(others), coordinates, joint)], units, most)

    for candidate in (power,) if signed else _refine_power(x[:, i], power, form_of):
        if _in_range(candidate):
            form = form_of(candidate, len(y))
            missing = of_input(x, full.coordinates, i, others) * (weight * raise_to(x[:, i], candidate))[:, None]
            if holds(form, full.error, missing):
                return PowerFactor(i, candidate, form.error)
    return None


def _refine_power(values: Array, power: float, form_of: Callable[[float, int], Hypothesis]) -> tuple[float, ...]:
    """Refine the power by Gauss-Newton. Returns the simple number it may be, then the refined value."""
    logarithms = np.log(np.maximum(np.abs(values), 1e-300))
    spread = 0.0
    for _ in range(5):
        form = form_of(power, REFINEMENT_TERMS)
        trend = logarithms * (form.design @ form.fit.coefficients[:, 0])
        joint = fit(np.concatenate([form.design, trend[:, None]], axis=1), form.residuals[:, None])
        step = float(joint.coefficients[-1, 0])
        beyond = fit(form.design, trend[:, None]).residuals[
            :, 0
        ]  # the part of the trend that the other columns cannot explain
        spread = root_mean_square(joint.residuals[:, 0]) / (float(np.linalg.norm(beyond)) or 1.0)
        if not math.isfinite(step) or abs(step) > 1:
            break
        power += step
        if abs(step) < spread / 10 + 1e-12:
            break
    return tuple(
        dict.fromkeys(
            (
                round_to_fraction(
                    power, max(SNAP_STANDARD_ERRORS * spread, SNAP_DISTANCE), SNAP_STANDARD_ERRORS * spread + ROUNDING
                ),
                power,
            )
        )
    )


def round_to_fraction(value: float, tolerance: float, sharp: float = 0.0) -> float:
    """The fraction with the smallest denominator within the tolerance, else the value. `sharp`: longer numbers such as
    0.7, 2/7 and 0.425 are accepted within this distance, where they are rare enough not to match by chance."""
    for denominator in _DENOMINATORS:
        candidate = round(value * denominator) / denominator
        if abs(candidate - value) <= min(tolerance, 0.2 / denominator):
            return candidate
    fraction = Fraction(value).limit_denominator(LARGEST_DENOMINATOR)
    longer = [(round(value, digits), 10.0**-digits) for digits in range(1, POWER_LAW_DIGITS + 1)]
    longer.insert(1, (float(fraction), 1 / fraction.denominator**2))
    for candidate, step in longer:
        if abs(candidate - value) <= min(sharp, POWER_LAW_CHANCE * step):
            return candidate
    return value
