"""Quantiles of Student's t distribution, by the incomplete beta function."""

import math

from kanserve.errors import InputError

_SMALLEST = 1e-300  # replaces 0 as a divisor
_MOST_TERMS = 10_000
_NORMAL = 1e8  # degrees of freedom from which t is normal up to rounding


def student_quantile(probability: float, degrees: float) -> float:
    """The quantile of Student's t distribution with these degrees of freedom, by bisection to the last digits. Raises
    InputError unless 0 < probability < 1 and degrees > 0."""
    if not (0 < probability < 1 and degrees > 0):
        raise InputError(
            f"A probability between 0 and 1 and degrees of freedom > 0 are needed, got {probability}, {degrees}."
        )
    if probability < 0.5:
        return -student_quantile(1 - probability, degrees)
    if probability == 0.5:
        return 0.0
    low, high = 0.0, 1.0
    while _upper_tail(high, degrees) > 1 - probability:
        low, high = high, 2 * high
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return middle
        low, high = (middle, high) if _upper_tail(middle, degrees) > 1 - probability else (low, middle)


def _upper_tail(t: float, degrees: float) -> float:
    """The probability of a value above t, for t ≥ 0."""
    if degrees >= _NORMAL:
        return math.erfc(t / math.sqrt(2)) / 2
    return incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), 0 ≤ x ≤ 1, by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    # Modified Lentz's algorithm.
    c, d = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _off_zero(1 + term * d)
            c = _off_zero(1 + term / c)
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(front) * fraction / a


def _off_zero(value: float) -> float:
    return value if abs(value) > _SMALLEST else _SMALLEST
