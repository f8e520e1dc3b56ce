"""Piecewise polynomials of one input: kinks and steps, when the rows show exactly where one piece ends. From the
smallest x on, the longest run of rows that a low polynomial fits exactly is a piece; the next begins after it. Pieces
that meet form a kink: y = P₁ + Σ q_k·(x - b_k + |x - b_k|)/2; others a step: y = P₁ + Σ D_k·(1 + sign(x - b_k))/2, with
b_k the shortest number between the rows on its sides."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from kanserve.formula.expressions.numbers import shortest_between
from kanserve.search.regression.sparse_polynomial import POLYNOMIAL_EXACT_ERROR

Array = NDArray[np.float64]

PIECES = 6  # pieces at most
PIECE_DEGREE = 3  # degree of a piece, at most
PIECE_ROWS = 8  # rows of a piece, at least
PIECE_SHARE = 0.02  # share of the rows in a piece, at least: any smooth law is a polynomial on few neighbours
PIECE_ROUNDING = 1e-14  # relative error of a polynomial at the ends of the rows of its fit


@dataclass(frozen=True)
class Break:
    """A term factor·|x - at| or factor·sign(x - at). `factor` has a polynomial's coefficients, the constant first."""

    at: float
    function: str
    factor: tuple[float, ...]


@dataclass(frozen=True)
class Piecewise:
    """A polynomial (coefficients from the constant on), and the terms that change it at each break."""

    polynomial: tuple[float, ...]
    breaks: tuple[Break, ...]


def piecewise_polynomial(x: Array, y: Array) -> Piecewise | None:
    """The piecewise polynomial that equals y (N,) at x (N,) up to rounding; None if there is none with two pieces."""
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    limit = POLYNOMIAL_EXACT_ERROR * float(np.abs(y - y.mean()).max())
    fewest = max(PIECE_ROWS, math.ceil(PIECE_SHARE * len(x)))
    pieces: list[Polynomial] = []
    starts: list[int] = []
    start = 0
    while len(x) - start >= fewest and len(pieces) < PIECES:
        found = _piece(x[start:], y[start:], fewest, limit)
        if found is None:
            return None
        polynomial, count = found
        pieces.append(polynomial)
        starts.append(start)
        start += count
    if start < len(x) or len(pieces) < 2:
        return None
    plain = [piece.convert(domain=(-1, 1), window=(-1, 1)) for piece in pieces]
    total, breaks = plain[0], []
    for before, after, at in zip(plain, plain[1:], starts[1:], strict=False):
        change, found_break = _break(after - before, x[at - 1], x[at], limit)
        total += change
        breaks.append(found_break)
    return Piecewise(_coefficients(total, limit), tuple(breaks))


def _piece(x: Array, y: Array, fewest: int, limit: float) -> tuple[Polynomial, int] | None:
    """The lowest-degree polynomial that fits the first rows exactly, and how many rows it fits."""
    for degree in range(PIECE_DEGREE + 1):
        polynomial = _fit_polynomial(x[:fewest], y[:fewest], degree)
        if np.abs(polynomial(x[:fewest]) - y[:fewest]).max() > limit:
            continue
        count = fewest
        while True:  # a fit to more rows reaches further
            off = np.abs(polynomial(x) - y) > np.maximum(limit, _rounding(polynomial, x))
            reached = int(np.argmax(off)) if off.any() else len(x)
            if reached <= count:
                return polynomial, count
            count = reached
            polynomial = _fit_polynomial(x[:count], y[:count], degree)
    return None


def _fit_polynomial(x: Array, y: Array, degree: int) -> Polynomial:
    if x[0] == x[-1]:
        return Polynomial([float(y.mean())])
    found: Polynomial = Polynomial.fit(x, y, degree, full=True)[0]  # which does not warn of fewer different x
    return found


def _rounding(polynomial: Polynomial, x: Array) -> Array:
    """The rounding error of a polynomial outside the rows of its fit, where it grows with the variable's powers."""
    low, high = polynomial.domain
    t = np.abs(2 * (x - low) / (high - low) - 1) if high > low else np.ones_like(x)
    size = float(np.abs(polynomial.coef).sum())
    grown: Array = PIECE_ROUNDING * size * np.maximum(t, 1.0) ** polynomial.degree()
    return grown


def _break(change: Polynomial, low: float, high: float, limit: float) -> tuple[Polynomial, Break]:
    """The term that turns one piece into the next, its break in (low, high], and its part in the first polynomial."""
    margin = 1e-6 * (high - low)
    roots = np.asarray(change.trim(limit).roots(), complex)
    near = roots.real[(roots.imag == 0) & (low - margin <= roots.real) & (roots.real <= high + margin)]
    if len(near):
        at = float(near[0])
        quotient = change // Polynomial([-at, 1.0])
        return quotient * Polynomial([-at, 1.0]) / 2, Break(at, "abs", _coefficients(quotient / 2, limit))
    return change / 2, Break(shortest_between(low, high), "sign", _coefficients(change / 2, limit))


def _coefficients(polynomial: Polynomial, limit: float) -> tuple[float, ...]:
    """The coefficients from the constant on; those within rounding of 0 become 0."""
    return tuple(value if abs(value) > limit else 0.0 for value in polynomial.coef.tolist())
