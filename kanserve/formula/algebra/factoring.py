"""Polynomials as products: factoring with real coefficients. Each function takes an expanded polynomial and returns
another form, or None. Coefficients are equal if they differ by at most 1e-9 of the largest."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.algebra.polynomials import ONE, Algebra, Polynomial, Product, inverse, sum_of, times

Array = NDArray[np.float64]

AGREES = 1e-9  # relative difference up to which a product is the polynomial that it was split from
MOST_ATOMS = 7  # of a polynomial that is split by its atoms: 63 ways
MOST_TERMS = 30  # of a polynomial that is split; longer ones stay sums
MOST_STEPS = 40  # of a polynomial division or square root


def _has_few_terms(polynomial: Polynomial) -> bool:
    return 3 <= len(polynomial) <= MOST_TERMS


def splits(algebra: Algebra, polynomial: Polynomial) -> Iterator[tuple[Polynomial, Polynomial, float]]:
    """(p, q, c) such that the polynomial is p·q + c and p and q share no atom; c is 0 if possible."""
    atoms = atoms_of(polynomial)
    if not 2 <= len(atoms) <= MOST_ATOMS or not _has_few_terms(polynomial):
        return
    for mask in range(1, 2 ** (len(atoms) - 1)):
        first = {atom for n, atom in enumerate(atoms) if mask >> n & 1}
        algebra.spend(len(polynomial))
        found = _split(polynomial, first)
        if found is not None:
            yield found


def _split(polynomial: Polynomial, first: set[int]) -> tuple[Polynomial, Polynomial, float] | None:
    rows: dict[Product, int] = {ONE: 0}
    columns: dict[Product, int] = {ONE: 0}
    entries: list[tuple[int, int, float]] = []
    for product, coefficient in polynomial.items():
        left = tuple(power for power in product if power[0] in first)
        right = tuple(power for power in product if power[0] not in first)
        entries.append((rows.setdefault(left, len(rows)), columns.setdefault(right, len(columns)), coefficient))
    # In a product p·q every term of p meets every term of q; only the added constant may break the pattern.
    matrix = np.zeros((len(rows), len(columns)))
    for i, j, coefficient in entries:
        matrix[i, j] = coefficient
    kept_rows = np.flatnonzero(matrix.any(axis=1))
    kept_columns = np.flatnonzero(matrix.any(axis=0))
    if min(len(kept_rows), len(kept_columns)) < 2:
        return None
    full = len(kept_rows) * len(kept_columns)
    if not len(entries) <= full <= len(entries) + 1:
        return None
    small = matrix[np.ix_(kept_rows, kept_columns)]
    pivots = np.abs(_without_corner(small, kept_rows, kept_columns))
    i, j = divmod(int(np.argmax(pivots)), small.shape[1])
    outer = np.outer(small[:, j], small[i]) / small[i, j]
    difference = small - outer
    constant = 0.0
    if kept_rows[0] == 0 and kept_columns[0] == 0:
        constant, difference[0, 0] = float(difference[0, 0]), 0.0
    size = float(np.abs(small).max())
    if float(np.abs(difference).max()) > AGREES * size:
        return None
    names, others = list(rows), list(columns)
    p = {names[row]: float(c) for row, c in zip(kept_rows, small[:, j], strict=True)}
    q = {others[column]: float(c) for column, c in zip(kept_columns, small[i] / small[i, j], strict=True)}
    return p, q, constant if abs(constant) > AGREES * size else 0.0


def _without_corner(matrix: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Array:
    """The matrix of possible pivots: the row and the column of the constant are zeroed, if it has both."""
    result = matrix.copy()
    if rows[0] == 0 and columns[0] == 0:
        result[0], result[:, 0] = 0.0, 0.0
    return result


def squares(algebra: Algebra, polynomial: Polynomial) -> Iterator[tuple[float, Polynomial, Polynomial]]:
    """Complete the square: (c, s, r) such that the polynomial is c·s² + r, with r at least two terms shorter."""
    if not _has_few_terms(polynomial):
        return
    for square, coefficient in polynomial.items():
        if square == ONE or any(not (exponent / 2).is_integer() for _, exponent in square):
            continue
        root = tuple((atom, exponent / 2) for atom, exponent in square)
        linear = {
            algebra.merge(product, inverse(root)): c / (2 * coefficient)
            for product, c in polynomial.items()
            if product != square and _divides(root, product)
        }
        parts = [linear] if len(linear) < 2 else [linear, *({key: c} for key, c in linear.items())]
        for part in parts:
            base = sum_of([{root: 1.0}, part])
            taken = times(algebra.distribute(base, base), -coefficient)
            rest = sum_of([polynomial, taken])
            rest = _clean(rest, polynomial)
            if len(rest) <= len(polynomial) - 2:
                yield coefficient, base, rest


def quadratic(algebra: Algebra, polynomial: Polynomial) -> tuple[Polynomial, Polynomial] | None:
    """Two factors, if the polynomial is quadratic in an atom and its discriminant is a square."""
    if not _has_few_terms(polynomial):
        return None
    for atom in atoms_of(polynomial):
        parts = by_exponent(polynomial, atom)
        if set(parts) - {0.0, 1.0, 2.0} or 2.0 not in parts or 0.0 not in parts or len(parts[2.0]) != 1:
            continue
        a, b, c = parts[2.0], parts.get(1.0, {}), parts[0.0]
        if not algebra.divides(next(iter(a))):
            continue
        if len(b) ** 2 + len(a) * len(c) > MOST_TERMS:
            continue
        square = sum_of([algebra.distribute(b, b), times(algebra.distribute(a, c), -4.0)])
        root = square_root(algebra, square)
        if not root:
            continue
        twice = algebra.distribute(times(a, 2.0), {((atom, 1.0),): 1.0})
        ((product, coefficient),) = a.items()
        below = {inverse(product): 1 / (4 * coefficient)}
        return sum_of([twice, b, times(root, -1.0)]), algebra.distribute(below, sum_of([twice, b, root]))
    return None


def square_root(algebra: Algebra, polynomial: Polynomial) -> Polynomial | None:
    """The polynomial whose square this is, or None."""
    if not polynomial or len(polynomial) > MOST_TERMS:
        return None
    atoms = atoms_of(polynomial)
    lead = max(polynomial, key=lambda product: _degrees(product, atoms))
    if polynomial[lead] <= 0 or any(not (exponent / 2).is_integer() for _, exponent in lead):
        return None
    first = tuple((atom, exponent / 2) for atom, exponent in lead)
    root: Polynomial = {first: float(np.sqrt(polynomial[lead]))}
    rest = dict(polynomial)
    del rest[lead]
    for _ in range(MOST_STEPS):
        if not rest:
            return root
        highest = max(rest, key=lambda product: _degrees(product, atoms))
        if not _divides(first, highest):
            return None
        term = {algebra.merge(highest, inverse(first)): rest[highest] / (2 * root[first])}
        taken = sum_of([algebra.distribute(times(root, 2.0), term), algebra.distribute(term, term)])
        root = sum_of([root, term])
        before = highest
        rest = _clean(sum_of([rest, times(taken, -1.0)]), polynomial)
        if before in rest:
            return None
    return None


def quotient(algebra: Algebra, polynomial: Polynomial, divisor: Polynomial) -> Polynomial | None:
    """Divide by a polynomial of several terms; None if there is a remainder."""
    if len(divisor) < 2 or max(len(polynomial), len(divisor)) > MOST_TERMS:
        return None
    atoms = atoms_of({**polynomial, **divisor})
    lead = max(divisor, key=lambda product: _degrees(product, atoms))
    result: Polynomial = {}
    rest = polynomial
    for _ in range(MOST_STEPS):
        if not rest:
            return result
        highest = max(rest, key=lambda product: _degrees(product, atoms))
        if not _divides(lead, highest):
            return None
        term = {algebra.merge(highest, inverse(lead)): rest[highest] / divisor[lead]}
        result = sum_of([result, term])
        rest = _clean(sum_of([rest, times(algebra.distribute(divisor, term), -1.0)]), polynomial)
        if highest in rest:
            return None
    return None


def collections(polynomial: Polynomial) -> Iterator[tuple[Product, Polynomial, Polynomial]]:
    """Ways to write the polynomial as f·p + r, where f is a power of an atom that several terms share: tuples (f, p,
    r), most frequent f first."""
    counts: dict[tuple[int, bool], list[Product]] = {}
    for product in polynomial:
        for atom, exponent in product:
            counts.setdefault((atom, exponent > 0), []).append(product)
    shared = [(len(products), atom, positive) for (atom, positive), products in counts.items() if len(products) > 1]
    for _, atom, positive in sorted(shared, key=lambda entry: (-entry[0], entry[1:])):
        products = counts[atom, positive]
        exponents = [dict(product)[atom] for product in products]
        exponent = min(exponents) if positive else max(exponents)
        inside = {_lower(product, atom, exponent): polynomial[product] for product in products}
        rest = {product: c for product, c in polynomial.items() if product not in products}
        yield ((atom, exponent),), inside, rest


def components(polynomial: Polynomial) -> list[Polynomial]:
    """Split the polynomial into parts that share no atom; the constant is a part of its own."""
    groups: list[tuple[set[int], Polynomial]] = []
    for product, coefficient in polynomial.items():
        mine = {atom for atom, _ in product}
        apart = [group for group in groups if not group[0] & mine]
        joined: Polynomial = {product: coefficient}
        for group in groups:
            if group[0] & mine:
                mine = mine | group[0]
                joined = {**group[1], **joined}
        groups = [*apart, (mine, joined)]
    return [group for _, group in groups]


def by_exponent(polynomial: Polynomial, atom: int) -> dict[float, Polynomial]:
    """The coefficients of the powers of an atom."""
    result: dict[float, Polynomial] = {}
    for product, coefficient in polynomial.items():
        exponent = dict(product).get(atom, 0.0)
        rest = tuple(power for power in product if power[0] != atom)
        result.setdefault(exponent, {})[rest] = coefficient
    return result


def atoms_of(polynomial: Polynomial) -> list[int]:
    return sorted({atom for product in polynomial for atom, _ in product})


def _lower(product: Product, atom: int, exponent: float) -> Product:
    return tuple((n, e - exponent if n == atom else e) for n, e in product if n != atom or e != exponent)


def _divides(divisor: Product, product: Product) -> bool:
    exponents = dict(product)
    return all(exponents.get(atom, 0.0) >= exponent for atom, exponent in divisor)


def _degrees(product: Product, atoms: Sequence[int]) -> tuple[float, ...]:
    """The sort key of the lexicographic monomial order."""
    exponents = dict(product)
    return tuple(exponents.get(atom, 0.0) for atom in atoms)


def _clean(polynomial: Polynomial, original: Polynomial) -> Polynomial:
    """Drop terms that are only rounding errors."""
    size = max(abs(c) for c in original.values())
    return {product: c for product, c in polynomial.items() if abs(c) > AGREES * size}
