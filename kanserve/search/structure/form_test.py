"""Test whether a law has a form that is linear in unknown functions, by leave-one-out error and lack of fit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.bases import (
    Basis,
    Coordinate,
    Indices,
    chebyshev,
    hyperbolic_cross,
    straight_in,
    total_degree,
)
from kanserve.search.regression.least_squares import Fit, fit, lack_of_fit
from kanserve.search.regression.surrogates import SURROGATES_EXACT_ERROR, is_exact, is_gain, most_terms

Array = NDArray[np.float64]

AS_GOOD_RATIO = 1.3  # largest error of a form, relative to the full surrogate's; a larger one refutes it
NOISE_ERROR = 1e-3  # relative error above which noise may hide a difference, so NOISE_RATIO applies
NOISE_RATIO = 1.05  # largest error of a form, relative to the full surrogate's, where noise may hide a difference
# Error relative to the full surrogate's, below which residuals may be structured, as smooth errors are.
MUCH_BETTER_RATIO = 0.2
STRUCTURE_LIMIT = 5.0  # lack of fit allowed below that error, where 1 is the 4-sigma limit of chance
FORM_TEST_LARGEST_ERROR = 0.15  # relative error above which a fit is too inaccurate to test a form
NEGLIGIBLE_ERROR = 1e-6  # relative error up to which a form is always accepted
DEGREE = 5  # degree of the polynomial in an input that a form leaves out, in the test whether it is missing

_BUDGETS = (8, 20, 40, 80, 130, 220)  # terms of all blocks together, tried in this order


@dataclass(frozen=True, eq=False)
class Block:
    """A term weight(row) · an unknown function of some inputs; the weight None means 1. The function is linear in the
    inputs `straight`, at most `together` of which are multiplied."""

    inputs: tuple[int, ...]
    coordinates: tuple[Coordinate, ...]
    weight: Array | None = None
    straight: tuple[int, ...] = ()
    together: int = 1

    def columns(self, x: Array, terms: int, cross: bool) -> Array:
        """The columns (N, P) of the unknown function, without its weight."""
        straight = tuple(k for k, i in enumerate(self.inputs) if i in self.straight)
        basis = Basis(self.coordinates, _widest(len(self.inputs), terms, cross, straight, self.together))
        return basis.design(x[:, list(self.inputs)])


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A sum of blocks fitted to targets (N,). `error` is leave-one-out, in the units passed to the fit."""

    error: float
    columns: tuple[Array, ...]
    design: Array
    fit: Fit

    @property
    def residuals(self) -> Array:
        return self.fit.residuals[:, 0]

    def values(self, block: int) -> Array:
        """The values (N,) of a block's function, without its weight."""
        start = sum(part.shape[1] for part in self.columns[:block])
        own = self.columns[block]
        return np.asarray(own @ self.fit.coefficients[start : start + own.shape[1], 0])


def fit_blocks(x: Array, targets: Array, blocks: Sequence[Block], units: Array, most: int | None = None) -> Hypothesis:
    """Fit the form with the number of terms of least left-out error; `units` (N,) convert errors to those of y."""
    limit = min(most or len(x), most_terms(len(x)))
    best: Hypothesis | None = None
    idle = 0
    for budget in budgets(len(x), limit):
        step = of_size(x, targets, blocks, units, budget)
        idle = 0 if best is None or is_gain(step.error, best.error) else idle + 1
        best = step if best is None or step.error < best.error else best
        if is_exact(best.error) or (idle > 1 and best.error < FORM_TEST_LARGEST_ERROR):
            break
    assert best is not None
    return best


def holds(form: Hypothesis, full_error: float, missing: Array) -> bool:
    """Whether the form is as good as the full surrogate, and the columns `missing` (N, m) explain no residuals."""
    return is_unrefuted(form.error, form.residuals, form.design, full_error, missing)


def is_unrefuted(error: float, residuals: Array, design: Array, full_error: float, missing: Array) -> bool:
    """Like `holds`, for any fit."""
    if error < NEGLIGIBLE_ERROR:
        return True
    if error > AS_GOOD_RATIO * full_error or error > FORM_TEST_LARGEST_ERROR:
        return False
    if error > NOISE_ERROR and error > NOISE_RATIO * full_error:
        return False
    limit = STRUCTURE_LIMIT if error < MUCH_BETTER_RATIO * full_error else 1.0
    return lack_of_fit(residuals, design, missing) < limit


def plausible(error: float, full_error: float) -> bool:
    """A quick first test: whether an error is not far above the full surrogate's."""
    return error < 3 * max(full_error, NEGLIGIBLE_ERROR)


def of_input(x: Array, coordinates: Sequence[Coordinate], i: int, others: Sequence[int]) -> Array:
    """Columns (N, m) to test whether input i is missing: its powers, and its products with the other inputs."""
    own = chebyshev(coordinates[i].of(x[:, i]), DEGREE)
    crossed = [own[:, 1] * coordinates[j].of(x[:, j]) for j in others]
    return np.stack([*own[:, 1:].T, *crossed], axis=1)


def across(x: Array, coordinates: Sequence[Coordinate], parts: Sequence[Sequence[int]]) -> Array:
    """Products (N, m) of two inputs from different parts, which a sum over the parts lacks."""
    scaled = [coordinate.of(x[:, i]) for i, coordinate in enumerate(coordinates)]
    columns = []
    for k, part in enumerate(parts):
        for partner in parts[k + 1 :]:
            for i in part:
                for j in partner:
                    columns.append(scaled[i] * scaled[j])
    return np.stack(columns, axis=1)


def budgets(rows: int, most: int | None = None) -> list[int]:
    """The numbers of terms to try, in order, for this number of rows."""
    limit = most_terms(rows) if most is None else most
    return [*(budget for budget in _BUDGETS if budget < limit), limit]


def of_size(x: Array, targets: Array, blocks: Sequence[Block], units: Array, budget: int) -> Hypothesis:
    """Fit the form with about `budget` terms in total: by total degree, and also by hyperbolic crosses if a block has
    three inputs or more."""
    forms = [_form(x, targets, blocks, units, budget, False)]
    if any(len(block.inputs) > 2 for block in blocks) and forms[0].error > SURROGATES_EXACT_ERROR:
        forms.append(_form(x, targets, blocks, units, budget, True))
    return min(forms, key=lambda form: form.error)


def _form(x: Array, targets: Array, blocks: Sequence[Block], units: Array, budget: int, cross: bool) -> Hypothesis:
    parts = tuple(block.columns(x, max(1, budget // len(blocks)), cross) for block in blocks)
    weighted = [
        part if block.weight is None else part * block.weight[:, None]
        for block, part in zip(blocks, parts, strict=True)
    ]
    design = np.concatenate(weighted, axis=1)
    block_fit = fit(design, targets[:, None])
    error = float(np.sqrt(np.mean((block_fit.left_out[:, 0] * units) ** 2)))
    return Hypothesis(error, parts, design, block_fit)


def _widest(inputs: int, terms: int, cross: bool, straight: tuple[int, ...], together: int) -> Indices:
    """The largest index set of a kind with at most `terms` terms, or only the constant."""
    best = total_degree(inputs, 0)
    if straight and inputs == len(straight):
        return straight_in(inputs, straight, together, 0)
    for size in range(1, 41):
        if straight:
            indices = straight_in(inputs, straight, together, size)
        else:
            indices = hyperbolic_cross(inputs, size + 1) if cross and inputs > 2 else total_degree(inputs, size)
        if len(indices) > terms:
            break
        best = indices
    return best
