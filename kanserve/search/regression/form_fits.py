"""Fits of many forms with free constants at once, by variable projection from several starts. The constants inside a
form are fitted by Levenberg-Marquardt with Kaufman's Jacobian (BIT 15, 1975), its factors by least squares. Forms
with equal numbers of columns and constants are fitted together: their small normal equations are solved in one call.
Fits begin on means over bins of the input, except for fast waves; the best starts and forms continue, at last on all
rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.network.dual_numbers import Dual
from kanserve.search.regression import budget
from kanserve.search.regression.one_input_forms import Form, beside_powers

Array = NDArray[np.float64]

BINS = 120  # means that stand for the rows in first fits: as many as a curve with eight constants could need
WAVE_ROWS = 1000  # rows, at most, that waves are fitted to at first
STARTS = 8  # starts of a form with two constants inside or more, half as many with a single one
FIRST_STEPS, SECOND_STEPS, LAST_STEPS = 6, 12, 30  # steps from all starts, from the best three, and on all rows
KEPT_STARTS = 3  # starts that go on: minima that look alike after a few steps
# A form goes on if its criterion is within so many nats, a row of the bins, of the least; 0.35 is twice its squares.
KEPT_PER_ROW = 0.35
# Forms that are fitted to all rows, at most: so many that describe the bins best for their length, and as many of those
# that the bins alone leave within NEAR_FORMS nats. Where noise is large, all smooth curves are near.
MOST_KEPT = 96
NEAR_FORMS = 8.0
FIRST_DAMPING, MOST_DAMPING = 1e-2, 1e4
SMALLEST_LENGTH = 1e-300  # added to that of a column, which may be 0
RIDGE = 1e-11  # added to scaled normal equations: columns that are alike to more digits cannot be told apart
EXACT_ROWS = 200  # rows, at most, that exact forms are fitted to
MOST_EXACT = 6  # exact forms, at most, that are fitted further: the law's is far closer than others after a few steps
DEPENDENT = 1e-12  # of a column of length 1 beside the others, which is rounding
LEAST_SQUARE = 1e-200  # of the slopes by a constant: a constant with less changes nothing
LEAST_GAIN = 1e-6  # relative gain of a step on all rows below which a fit ends
FEWEST_PAIRS = 10  # neighbours in |x| without which rows are called neither even nor odd
# Mean square by which mirrored rows may differ more than others: noise of 300 rows gives 1.65 once in a thousand.
ASYMMETRY = 2.0
PEAKS = 6  # frequencies from which waves start, at most
LOW_FREQUENCIES = (1.5, 4.0)  # a quarter and two thirds of a period in the range: no peak of a periodogram shows them
SIGNIFICANT = 4.0  # height of a peak, relative to the logarithm of the frequencies, that noise hardly ever reaches
BINS_PER_PERIOD = 10  # fewer bins in a period change a wave
OVERSAMPLING = 4  # frequencies of the periodogram in the width of a peak
ROWS_PER_PERIOD = 4  # rows in a period of the fastest wave, on average: noise has a peak somewhere beyond


Price = Callable[[Form, bool], float]
"""What the length of a form costs in nats, with a constant beside or without."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Samples of one input: x (N,), y (N,) and weights (N,) with mean 1."""

    x: Array
    y: Array
    weights: Array

    def bin_rows(self, most: int) -> "Curve":
        """Average the samples in bins of about equal size; each bin gets the sum of its weights."""
        if len(self.x) <= most:
            return self
        order = np.argsort(self.x, kind="stable")
        edges = np.linspace(0, len(order), most + 1).astype(int)[:-1]
        weights, x, y = self.weights[order], self.x[order], self.y[order]
        total = np.add.reduceat(weights, edges)
        x, y = (np.add.reduceat(weights * values, edges) / total for values in (x, y))
        return Curve(x, y, total / total.mean())

    def some(self, most: int) -> "Curve":
        if len(self.x) <= most:
            return self
        rows = np.linspace(0, len(self.x) - 1, most).astype(int)
        return Curve(self.x[rows], self.y[rows], self.weights[rows] / self.weights[rows].mean())

    def starts_of(self, form: Form, count: int, frequencies: Array) -> Array:
        """The starts (count, constants) of a form."""
        return _starts(form.roles, np.abs(self.x) if form.parity else self.x, count, frequencies)

    @cached_property
    def parities(self) -> tuple[str, ...]:
        """Which of "even" and "odd", about 0 and beside a constant, the rows may be.

        Rows of nearly the same |x| with different signs of x then differ no more than those with the same sign.
        """
        order = np.argsort(np.abs(self.x), kind="stable")
        y, positive = self.y[order], self.x[order] > 0
        across = positive[1:] != positive[:-1]
        if min(across.sum(), (~across).sum()) < FEWEST_PAIRS:
            return ()
        differences, sums = np.diff(y), y[1:] + y[:-1]
        allowed = ASYMMETRY * float(np.mean(differences[~across] ** 2))
        squares = {"even": np.mean(differences[across] ** 2), "odd": np.var(sums[across])}
        return tuple(parity for parity, square in squares.items() if square <= allowed)

    def can_be(self, form: Form) -> bool:
        """Whether a form has values at all rows, and the rows its symmetry about 0."""
        return (not form.positive or bool(self.x.min() > 0)) and (not form.parity or form.parity in self.parities)


@dataclass(frozen=True, eq=False)
class FittedForm:
    """A form with its constants, factors, additive constant and error. `criterion` is the Bayesian information
    criterion N·log(error) + log(N)/2 per number, without a price for length; lower is better."""

    form: Form
    constants: tuple[float, ...]
    factors: tuple[float, ...]
    constant: float | None
    error: float
    criterion: float

    @property
    def numbers(self) -> int:
        return len(self.constants) + len(self.factors) + (self.constant is not None)

    def values(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            columns = self.form(x, self.constants)
            total = sum(factor * column for factor, column in zip(self.factors, columns, strict=True))
        return np.asarray(total + (self.constant or 0.0) + np.zeros(len(x)))


def free(form: Form, constant: bool) -> float:
    """A price function for `fit_forms` under which longer forms cost nothing."""
    return 0.0


def fit_forms(
    forms: Iterable[Form], x: Array, y: Array, weights: Array | None = None, price: Price = free
) -> list[FittedForm]:
    """The forms that fit y (N,) at x (N,) best, with and without an additive constant, best first. Only forms that are
    best by criterion plus price, or near the best by the criterion, are fitted to all rows."""
    shares = np.ones(len(x)) if weights is None else weights / weights.mean()
    rows = Curve(x, y, shares)
    applicable = [form for form in forms if rows.can_be(form)]
    bins, some = rows.bin_rows(BINS), rows.some(WAVE_ROWS)
    frequencies = peaks(some)
    if frequencies.max() * np.ptp(x) / len(bins.x) < 2 * np.pi / BINS_PER_PERIOD:
        some = bins
    with np.errstate(all="ignore"):
        first = [
            fit
            for waves, curve in ((False, bins), (True, some))
            for fit in _first_fits([form for form in applicable if form.waves is waves], curve, frequencies)
        ]
        kept = _best(first, len(bins.x), price)
        return sorted(_on_all_rows(kept, rows), key=lambda fit: fit.criterion)


def fit_exactly(forms: Iterable[Form], x: Array, y: Array, limit: float) -> Iterator[FittedForm]:
    """Fit y (N,) at x (N,) as f(x)·(a + b·x) + c + d·x + e·x² for each form f. Yields those with an error below
    `limit`, with the fewest terms that reach it."""
    rows = Curve(x, y, np.ones(len(x))).some(EXACT_ROWS)
    frequencies = peaks(rows)
    applicable = [form for form in forms if rows.can_be(form)]
    fits: list[tuple[FittedForm, Form]] = []
    with np.errstate(all="ignore"):
        for shape, own in groupby(sorted(applicable, key=_shape), key=_shape):
            budget.count_fit()
            plain = {beside_powers(form): form for form in own}
            wide = list(plain)
            starts = np.array([rows.starts_of(form, STARTS if shape[0] else 1, frequencies) for form in wide])
            few = _Fits(wide, rows, True, exact=True).run(starts, FIRST_STEPS).best(KEPT_STARTS)
            fitted = _Fits(wide, rows, True, exact=True).run(few, SECOND_STEPS).list_fitted()
            fits += ((fit, plain[fit.form]) for fit in fitted)
        for fit, form in sorted(fits, key=lambda pair: pair[0].error)[:MOST_EXACT]:
            shorter = (_fit_sum(form, rows, fit, *terms) for terms in _SUMS)
            if _fit_sum(form, rows, fit, (1, 2), (0, 1), True).error < limit:
                yield next(found for found in shorter if found.error < limit)


_SUMS = sorted(
    product(((), (1,), (2,), (1, 2)), ((0,), (1,), (0, 1)), (False, True)),
    key=lambda terms: len(terms[0]) + len(terms[1]) + terms[2],
)
"""The powers beside a function, those that multiply it, and whether a constant is beside; the fewest terms first."""


def _fit_sum(
    form: Form, rows: Curve, near: FittedForm, powers: Sequence[int], factors: Sequence[int], constant: bool
) -> FittedForm:
    fits = _Fits([beside_powers(form, powers, factors)], rows, constant, exact=True)
    found = fits.run(np.array(near.constants)[None, None, :], LAST_STEPS).list_fitted()
    return next(found, replace(near, error=np.inf))


def _first_fits(forms: Sequence[Form], rows: Curve, frequencies: Array) -> Iterator[FittedForm]:
    groups = sorted(forms, key=_shape)
    for shape, own in groupby(groups, key=_shape):
        alike = list(own)
        budget.count_fit()  # they are one problem of linear algebra
        inside = shape[0]
        count = 1 if not inside else STARTS // 2 if inside == 1 else STARTS
        starts = np.array([rows.starts_of(form, count, frequencies) for form in alike])
        with_constant = _Fits(alike, rows, True).run(starts, FIRST_STEPS)
        few = with_constant.best(KEPT_STARTS)
        with_constant = _Fits(alike, rows, True).run(few, SECOND_STEPS)
        yield from with_constant.list_fitted()
        second = np.concatenate([starts[:, : count // 2], with_constant.best(KEPT_STARTS)], axis=1)
        without = _Fits(alike, rows, False).run(second, FIRST_STEPS)
        yield from _Fits(alike, rows, False).run(without.best(KEPT_STARTS), SECOND_STEPS).list_fitted()


def _shape(form: Form) -> tuple[int, int]:
    """The numbers of constants and columns of a form; forms that agree in both are fitted together."""
    return len(form.roles), len(form(np.array([1.0]), np.ones(len(form.roles))))


def _best(fits: Sequence[FittedForm], rows: int, price: Price) -> list[FittedForm]:
    least = min((fit.criterion for fit in fits), default=np.inf)
    usable = sorted(
        (fit for fit in fits if fit.criterion <= least + KEPT_PER_ROW * rows), key=lambda fit: fit.criterion
    )
    near = [fit for fit in usable if fit.criterion <= least + NEAR_FORMS][:MOST_KEPT]
    by_length = sorted(usable, key=lambda fit: fit.criterion + price(fit.form, fit.constant is not None))[:MOST_KEPT]
    return [fit for fit in usable if fit in near or fit in by_length]


def _on_all_rows(fits: Sequence[FittedForm], rows: Curve) -> Iterator[FittedForm]:
    for fit in fits:
        starts = np.array(fit.constants)[None, None, :]
        yield from _Fits([fit.form], rows, fit.constant is not None).run(starts, LAST_STEPS).list_fitted()


@dataclass(eq=False)
class _State:
    """The state for F forms and S starts: constants (F, S, q), factors (F, S, m), squares (F, S), and the reduced
    normal matrix and gradient of the constants."""

    constants: Array
    factors: Array
    squares: Array
    normal: Array
    gradient: Array


class _Fits:
    """Levenberg-Marquardt for several forms of equal shape from several starts at once. `exact` orthogonalises the
    columns, which is slower but keeps all digits."""

    def __init__(self, forms: Sequence[Form], rows: Curve, constant: bool, *, exact: bool = False) -> None:
        self.forms, self.rows, self.constant, self.exact = forms, rows, constant, exact
        self.roots = np.sqrt(rows.weights)
        self.y = rows.y * self.roots
        self.state: _State

    def run(self, starts: Array, steps: int) -> "_Fits":
        state = self._state(starts)
        damping = np.full(state.squares.shape, FIRST_DAMPING)
        for _ in range(steps if starts.shape[-1] else 0):
            moved = state.constants + _step(state, damping)
            new = self._state(moved)
            better = new.squares < state.squares
            gained = np.where(better, state.squares - new.squares, 0.0)
            slow = (gained <= LEAST_GAIN * state.squares) & (better | (damping >= MOST_DAMPING))
            state = _State(
                np.where(better[..., None], new.constants, state.constants),
                np.where(better[..., None], new.factors, state.factors),
                np.where(better, new.squares, state.squares),
                np.where(better[..., None, None], new.normal, state.normal),
                np.where(better[..., None], new.gradient, state.gradient),
            )
            damping = np.clip(np.where(better, damping / 8, damping * 6), 1e-12, MOST_DAMPING)
            if slow.all():
                break
        self.state = state
        return self

    def best(self, count: int) -> Array:
        """The constants (F, count, q) of the best starts."""
        order = np.argsort(self.state.squares, axis=1)[:, :count]
        return np.take_along_axis(self.state.constants, order[..., None], axis=1)

    def list_fitted(self) -> Iterator[FittedForm]:
        best = np.argmin(self.state.squares, axis=1)
        rows = len(self.y)
        for form, start, constants, factors, squares in zip(
            self.forms, best, self.state.constants, self.state.factors, self.state.squares, strict=True
        ):
            least = float(squares[start])
            own = tuple(factors[start].tolist())
            numbers = len(form.roles) + len(own)
            if not np.isfinite(least) or numbers >= rows:
                continue
            error = max(np.sqrt(least / rows), 1e-300)
            criterion = rows * np.log(error) + 0.5 * np.log(rows) * numbers
            beside = own[-1] if self.constant else None
            plain = own[:-1] if self.constant else own
            yield FittedForm(form, tuple(constants[start].tolist()), plain, beside, float(error), float(criterion))

    def _state(self, constants: Array) -> _State:
        columns, slopes = self._columns(constants)
        finite = np.asarray(np.isfinite(columns).all(axis=(2, 3)) & np.isfinite(slopes).all(axis=(2, 3, 4)))
        columns = np.where(finite[..., None, None], columns, 0.0)
        slopes = np.where(finite[..., None, None, None], slopes, 0.0)
        if self.exact:
            return self._orthogonal_state(constants, columns, slopes, finite)
        gram = columns @ columns.swapaxes(-1, -2)
        inverse = _inverse(gram)
        factors = (inverse @ (columns @ self.y)[..., None])[..., 0]
        residuals = self.y - (factors[..., None, :] @ columns)[..., 0, :]
        squares = np.where(finite, np.einsum("fsn,fsn->fs", residuals, residuals), np.inf)
        moves = (factors[..., None, None, :] @ slopes)[..., 0, :]
        across = moves @ columns.swapaxes(-1, -2)
        normal = moves @ moves.swapaxes(-1, -2) - across @ inverse @ across.swapaxes(-1, -2)
        gradient = (moves @ residuals[..., None])[..., 0]
        return _State(constants, factors, squares, normal, gradient)

    def _orthogonal_state(self, constants: Array, columns: Array, slopes: Array, finite: NDArray[np.bool_]) -> _State:
        sizes = np.sqrt(np.einsum("fsmn,fsmn->fsm", columns, columns)) + SMALLEST_LENGTH
        basis, triangle = np.linalg.qr((columns / sizes[..., None]).swapaxes(-1, -2))
        told = finite & (np.abs(np.diagonal(triangle, axis1=-2, axis2=-1)).min(axis=-1) > DEPENDENT)
        triangle = np.where(told[..., None, None], triangle, np.eye(triangle.shape[-1]))
        across = basis.swapaxes(-1, -2)
        along = across @ self.y
        factors = np.linalg.solve(triangle, along[..., None])[..., 0] / sizes
        residuals = self.y - (basis @ along[..., None])[..., 0]
        squares = np.where(told, np.einsum("fsn,fsn->fs", residuals, residuals), np.inf)
        moves = (factors[..., None, None, :] @ slopes)[..., 0, :]
        moves = moves - (moves @ basis) @ across
        normal = moves @ moves.swapaxes(-1, -2)
        return _State(constants, factors, squares, normal, (moves @ residuals[..., None])[..., 0])

    def _columns(self, constants: Array) -> tuple[Array, Array]:
        """The columns (F, S, m, N) and their derivatives (F, S, q, m, N), both times the roots of the weights."""
        forms, starts, inside = constants.shape
        x, count = self.rows.x, len(self.rows.x)
        width = _shape(self.forms[0])[1] + self.constant
        columns = np.empty((forms, starts, width, count))
        slopes = np.zeros((forms, starts, inside, width, count))
        if self.constant:
            columns[:, :, -1] = 1.0
        ones = np.ones((starts, 1))
        for n, form in enumerate(self.forms):
            own = [Dual(constants[n, :, k : k + 1], {k: ones}) for k in range(inside)]
            place: Any
            for m, column in enumerate(form(x, own)):
                if isinstance(column, Dual):
                    columns[n, :, m] = column.primal
                    for place, slope in column.partials.items():
                        slopes[n, :, place, m] = slope
                else:
                    columns[n, :, m] = column
        return columns * self.roots, slopes * self.roots


def _inverse(gram: Array) -> Array:
    """The inverses of normal matrices (..., m, m), scaled and with a ridge."""
    sizes = np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1), 1e-300))
    scales = sizes[..., None] * sizes[..., None, :]
    return np.asarray(np.linalg.inv(gram / scales + RIDGE * np.eye(gram.shape[-1])) / scales)


def _step(state: _State, damping: Array) -> Array:
    """Damped Newton steps for the constants, scaled against singular matrices. Those without effect do not move."""
    normal = np.where(np.isfinite(state.normal), state.normal, 0.0)
    diagonal = np.diagonal(normal, axis1=-2, axis2=-1)
    sizes = np.where(diagonal > LEAST_SQUARE, np.sqrt(np.abs(diagonal)), np.inf)
    scaled = np.clip(normal / sizes[..., None] / sizes[..., None, :], -1.0, 1.0)
    own = np.eye(normal.shape[-1], dtype=bool)
    damped = np.where(own, 1.0 + damping[..., None, None], scaled)
    gradient = np.nan_to_num(state.gradient / sizes)
    return np.asarray(np.linalg.solve(damped, gradient[..., None])[..., 0] / sizes)


def peaks(rows: Curve) -> Array:
    """Starting frequencies for waves: the highest peaks of the periodogram after subtracting a parabola, found one by
    one while they rise above the noise; then some low frequencies."""
    width = float(np.ptp(rows.x)) or 1.0
    u, roots = (rows.x - rows.x.min()) / width, np.sqrt(rows.weights)
    periods = np.arange(0.5, max(len(u) / ROWS_PER_PERIOD, 4.0), 1 / OVERSAMPLING)
    waves = np.exp(2j * np.pi * periods[:, None] * u)
    waves = np.stack([waves.real, waves.imag]) * roots
    design = np.stack([np.ones_like(u), u, u * u], axis=1) * roots[:, None]
    found: list[float] = []
    while len(found) < PEAKS:
        basis = np.linalg.qr(design)[0]
        y = rows.y * roots
        y = y - basis @ (basis.T @ y)
        sine, cosine = waves[1] - (waves[1] @ basis) @ basis.T, waves[0] - (waves[0] @ basis) @ basis.T
        ss, cc, sc = (np.einsum("kn,kn->k", *pair) for pair in ((sine, sine), (cosine, cosine), (sine, cosine)))
        ys, yc = sine @ y, cosine @ y
        explained = (cc * ys**2 + ss * yc**2 - 2 * sc * ys * yc) / np.maximum(ss * cc - sc**2, 1e-3 * len(u))
        best = int(np.argmax(explained))
        if explained[best] < SIGNIFICANT * np.log(len(periods)) * float(y @ y) / len(y):
            break
        found.append(2 * np.pi * float(periods[best]) / width)
        design = np.column_stack([design, waves[0, best], waves[1, best]])
    return np.array([*found[: PEAKS - len(LOW_FREQUENCIES)], *(low / width for low in LOW_FREQUENCIES)])


def _geometric(low: float, high: float, u: Array) -> Array:
    return low * (high / low) ** u


def _rates(low: float, high: float, u: Array) -> Array:
    """Exponential rates for starts; falling ones twice as often as rising ones."""
    return np.where(3 * u < 2, -1.0, 1.0) * _geometric(0.3, 12.0, (3 * u) % 1) / (high - low)


_EXPONENTS = np.array([0.6, 2.0, -1.0, 3.0, 1.4, -0.5, 0.3, 5.0, -2.0, 1.0, 0.8, 4.0])
# Of each other role the starts, for the lowest and highest input and numbers u from 0 to 1.
_STARTS: dict[str, Callable[[float, float, Array], Array]] = {
    "r": _rates,
    "q": lambda low, high, u: _geometric(0.7, 60.0, u) / max(low * low, high * high, 1e-300),
    "m": lambda low, high, u: low + (high - low) * (0.02 + 0.96 * u),
    "w": lambda low, high, u: (high - low) * _geometric(0.04, 1.0, u),
    "s": lambda low, high, u: -low + (high - low) * _geometric(0.01, 3.0, u),
    "e": lambda low, high, u: high + (high - low) * _geometric(0.01, 3.0, u),
    "l": lambda low, high, u: max(low, 0.0) * 0.5 + (high - low) * _geometric(0.05, 2.0, u),
    "c": lambda low, high, u: _geometric(0.3, 3.0, u),
    "a": lambda low, high, u: 2 * np.pi * u,
}


def _starts(roles: str, x: Array, count: int, frequencies: Array) -> Array:
    """Starting values (count, constants) of a form, evenly spread in the range that each constant's role allows."""
    low, high = float(x.min()), float(x.max())
    high = high if high > low else low + 1.0
    places = np.arange(count)
    found = np.empty((count, len(roles)))
    waves = 0
    for k, role in enumerate(roles):
        if role == "f":
            found[:, k] = frequencies[(places + waves * (1 + places // len(frequencies))) % len(frequencies)]
            waves += 1
        elif role == "p":
            found[:, k] = _EXPONENTS[(places + 5 * k) % len(_EXPONENTS)]
        else:
            found[:, k] = _STARTS[role](low, high, _spread(count, k))
    return found


_BASES = (2, 3, 5, 7, 11, 13)


def _spread(count: int, dimension: int) -> Array:
    """Halton's low-discrepancy sequence for one dimension."""
    base = _BASES[dimension % len(_BASES)]
    found = np.zeros(count)
    for n in range(count):
        at, scale = n + 1, 1.0
        while at:
            scale /= base
            at, digit = divmod(at, base)
            found[n] += digit * scale
    return found
