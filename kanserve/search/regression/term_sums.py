"""Sums of two terms without free constants inside, and of a low polynomial, from one Gram matrix. A term is a function
of one input, outer(inner(x_i)), or a product of two of these. The residuals of all pairs of several hundred terms
follow from the elements of the Gram matrix, in milliseconds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.rivals import outdoes_polynomials

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

TERMS = 2000  # terms that are tried alone, the simplest first
TERMS_IN_PAIRS = 600  # terms of which all pairs are tried, the simplest: 50 ms
TERM_CANDIDATES = 60  # terms and pairs that are fitted to all rows
TERM_UNEXPLAINED = 1e-8  # share of the variance that a term or pair may leave on the ranked rows
TERM_CHOICE = 1  # constants that the choice among all pairs of terms is worth
TERM_ROUNDING = 1e-9  # relative: smaller differences of a term from a constant, or of two terms, are rounding
TERM_EXACT_ERROR = 1e-10  # relative error up to which a sum is exact
TERM_LARGEST_VALUE = 1e9  # terms with larger values are not tried: the others would be lost to rounding
TERM_ROWS = 300  # rows on which terms are ranked
TERM_DEGREE = 3  # degree of the polynomial beside the terms, at most

INNER: Mapping[str, tuple[float, Function]] = MappingProxyType(
    {
        "x": (0.0, lambda x: x),
        "x^2": (1.0, np.square),
        "x^3": (1.5, lambda x: x**3),
        "x + x^2": (2.0, lambda x: x + x**2),
        "1/x": (1.0, np.reciprocal),
    }
)
OUTER: Mapping[str, tuple[float, Function]] = MappingProxyType(
    {
        "x": (0.0, lambda u: u),
        "x^2": (1.0, np.square),
        "x^3": (1.5, lambda u: u**3),
        "sqrt": (1.2, np.sqrt),
        "1/x": (1.0, np.reciprocal),
        "sin": (1.5, np.sin),
        "cos": (1.5, np.cos),
        "exp": (1.2, np.exp),
        "exp(-x)": (1.3, lambda u: np.exp(-u)),
        "log": (1.2, np.log),
        "log(1+x)": (1.4, np.log1p),
        "arcsinh": (2.2, np.arcsinh),
        "tanh": (2.0, np.tanh),
        "arctan": (2.2, np.arctan),
        "abs": (2.0, np.abs),
    }
)


@dataclass(frozen=True)
class Factor:
    """The function outer(inner(x_i)). With two inputs, x_2 is their difference and x_3 their sum."""

    i: int
    inner: str
    outer: str

    def __call__(self, x: Array) -> Array:
        return OUTER[self.outer][1](INNER[self.inner][1](x[:, self.i]))

    @property
    def price(self) -> float:
        return 1.0 + INNER[self.inner][0] + OUTER[self.outer][0]


@dataclass(frozen=True)
class Term:
    """A product of one or two factors."""

    factors: tuple[Factor, ...]

    def __call__(self, x: Array) -> Array:
        result: Array = np.prod([factor(x) for factor in self.factors], axis=0)
        return result

    @cached_property
    def price(self) -> float:
        return sum(factor.price for factor in self.factors)


@dataclass(frozen=True, eq=False)
class TermSum:
    """A sum constant + Σ coefficient·term + Σ coefficient·x_i^power."""

    constant: float
    terms: tuple[tuple[float, Term], ...]
    powers: tuple[tuple[float, int, int], ...]
    """Coefficient, input and power."""

    @property
    def price(self) -> float:
        return sum(term.price for _, term in self.terms) + sum(1.0 + 0.5 * power for _, _, power in self.powers)


def term_sums(x: Array, y: Array, pairs: bool = True) -> Iterator[TermSum]:
    """Sums that equal y (N,) at rows x (N, d) up to rounding, simplest first: of one or two terms, then with a
    polynomial. Without `pairs`, of one term."""
    scale = float(y.std())
    if not scale:
        return
    inputs = x.shape[1]
    if inputs == 2:
        x = np.column_stack([x, x[:, 0] - x[:, 1], x[:, 0] + x[:, 1]])
    some = np.linspace(0, len(x) - 1, min(TERM_ROWS, len(x))).astype(int)
    known, values = _terms(x[some].tobytes(), inputs)
    for degree in range(TERM_DEGREE + 1):
        found = []
        for chosen in _explaining(values, y[some], _polynomial(x[some, :inputs], degree), pairs):
            made = _exact(x, y, [known[k] for k in chosen], inputs, degree, TERM_EXACT_ERROR * scale)
            if made is not None:
                found.append(made)
        yield from sorted(found, key=lambda candidate: candidate.price)[:3]
        if found:
            return


def is_usable(values: Array) -> bool:
    """Whether a term's values are finite and not so large that the other terms would be lost to rounding."""
    return bool(np.isfinite(values).all() and np.abs(values).max() < TERM_LARGEST_VALUE)


def _polynomial(x: Array, degree: int) -> Array:
    return np.concatenate([np.ones((len(x), 1)), *(x**power for power in range(1, degree + 1))], axis=1)


def _usable_factors(x: Array, inputs: int) -> list[Factor]:
    """The usable factors of terms at rows x, simplest first; columns after the inputs only as absolute values."""
    every = [Factor(i, inner, outer) for i in range(inputs) for inner in INNER for outer in OUTER]
    every += [Factor(i, "x", "abs") for i in range(inputs, x.shape[1])]
    with np.errstate(all="ignore"):
        return sorted((factor for factor in every if is_usable(factor(x))), key=lambda factor: factor.price)


@lru_cache(maxsize=2)
def _terms(rows: bytes, inputs: int) -> tuple[list[Term], Array]:
    """The simplest terms that are finite, not constant and distinct on the rows, and their values (N, M); cached for
    the last rows, since each link of a law uses the same."""
    x = np.frombuffer(rows).reshape(-1, inputs if inputs != 2 else 4)
    usable = _usable_factors(x, inputs)
    single = [Term((factor,)) for factor in usable]
    double = [Term(pair) for pair in combinations(usable, 2)]
    ordered = sorted([*single, *double], key=lambda term: term.price)
    table = {factor: factor(x) for factor in usable}
    kept: list[Term] = []
    columns: list[Array] = []
    seen: set[bytes] = set()
    for term in ordered:
        column = table[term.factors[0]] if len(term.factors) == 1 else table[term.factors[0]] * table[term.factors[1]]
        centred = column - column.mean()
        size = float(np.sqrt(centred @ centred))
        if size <= TERM_ROUNDING * float(np.abs(column).max()) * len(x) ** 0.5:
            continue
        unit = centred / size
        key = np.round(unit * np.sign(unit[np.argmax(np.abs(unit))]), 9).tobytes()
        if key in seen:
            continue
        seen.add(key)
        kept.append(term)
        columns.append(column)
        if len(kept) == TERMS:
            break
    return kept, np.stack(columns, axis=1)


def _explaining(values: Array, y: Array, beside: Array, pairs: bool) -> Iterator[tuple[int, ...]]:
    """The terms and pairs of terms that, with a polynomial, may explain all of y; a fit on all rows decides."""
    q = np.linalg.qr(beside)[0]
    centred = values - q @ (q.T @ values)
    target = y - q @ (q.T @ y)
    whole = float(np.sqrt(target @ target))
    if whole <= TERM_ROUNDING * float(np.sqrt(y @ y)):
        return
    sizes = np.sqrt((centred**2).sum(axis=0))
    index = np.flatnonzero(sizes > 1e-7 * np.sqrt((values**2).sum(axis=0)))
    unit = centred[:, index] / sizes[index]
    t = unit.T @ target / whole
    for k in np.flatnonzero(t**2 >= 1 - TERM_UNEXPLAINED)[:TERM_CANDIDATES]:
        yield (int(index[k]),)
    if not pairs:
        return
    t, unit = t[:TERMS_IN_PAIRS], unit[:, :TERMS_IN_PAIRS]
    gram = unit.T @ unit
    with np.errstate(all="ignore"):
        explained = (t[:, None] ** 2 - 2 * gram * np.outer(t, t) + t**2) / (1 - gram**2)
    explained[1 - gram**2 < 1e-10] = 0
    first, second = np.triu_indices(len(t), 1)
    of_pair = explained[first, second]
    count = min(TERM_CANDIDATES, len(of_pair))
    best = np.argpartition(-of_pair, count - 1)[:count]
    for k in best[np.argsort(-of_pair[best])]:
        if of_pair[k] < 1 - TERM_UNEXPLAINED:
            return
        yield int(index[first[k]]), int(index[second[k]])


def _exact(x: Array, y: Array, terms: list[Term], inputs: int, degree: int, limit: float) -> TermSum | None:
    """Fit the terms on all rows and drop those that add nothing; None if the fit is not exact."""
    powers = [(i, power) for power in range(1, degree + 1) for i in range(inputs)]
    with np.errstate(all="ignore"):
        columns = [np.ones(len(x)), *(term(x) for term in terms), *(x[:, i] ** power for i, power in powers)]
    design = np.stack(columns, axis=1)
    if not np.isfinite(design).all():
        return None
    kept = list(range(design.shape[1]))
    sizes = np.sqrt(np.mean(design**2, axis=0))
    coefficients, error = _solve(design, sizes, y, kept)
    constants = design.shape[1] + TERM_CHOICE
    if error > limit or not outdoes_polynomials(x[:, :inputs], y, constants, error):
        return None
    while len(kept) > 1:
        smallest = min(kept, key=lambda k: abs(coefficients[k]) * sizes[k])
        rest = [k for k in kept if k != smallest]
        found, left = _solve(design, sizes, y, rest)
        if left > limit:
            break
        kept, coefficients = rest, found
    count = 1 + len(terms)
    return TermSum(
        float(coefficients[0]) if 0 in kept else 0.0,
        tuple((float(coefficients[k]), terms[k - 1]) for k in kept if 1 <= k < count),
        tuple((float(coefficients[k]), *powers[k - count]) for k in kept if k >= count),
    )


def _solve(design: Array, sizes: Array, y: Array, which: list[int]) -> tuple[Array, float]:
    scaled = design[:, which] / sizes[which]
    first = np.linalg.lstsq(scaled, y, rcond=1e-15)[0]
    first += np.linalg.lstsq(scaled, y - scaled @ first, rcond=1e-15)[0]
    coefficients = np.zeros(design.shape[1])
    coefficients[which] = first / sizes[which]
    return coefficients, float(np.sqrt(np.mean((y - scaled @ first) ** 2)))
