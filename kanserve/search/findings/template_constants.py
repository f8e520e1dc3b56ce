"""Fit the unknown constants of a template, with polynomials for its unknown functions. The polynomials follow by linear
least squares for each trial of the constants (variable projection), so only the constants are fitted by
Levenberg-Marquardt."""

from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from kanserve.search.findings.template import TEMPLATE_DIFFERENCE, Template
from kanserve.search.fit.residual_test import DEGREES
from kanserve.search.regression.bases import Basis, coordinate, terms_up_to, total_degree

Array = NDArray[np.float64]

# Values from which each unknown constant of a template is fitted. None is 1, which would vanish in a product.
TEMPLATE_STARTS = (1.1, -1.1, 0.3, -0.3, 3.1, -3.1)
TEMPLATE_MOST_STARTS = 36  # combinations of these, at most
TEMPLATE_REFINED = 4  # combinations that are refined, those of the least error
TEMPLATE_STEPS = 40  # steps of Levenberg-Marquardt of the unknown constants


class Smooth:
    """A template whose unknown functions are modelled by polynomials, on given rows."""

    def __init__(self, template: Template, x: Array, y: Array) -> None:
        self.template, self.x, self.y = template, x, y
        self.designs = [self._design(columns) for columns in template.unknowns.values()]

    def fit(self) -> tuple[Array, Array]:
        """Fit it. Returns the constants (C,) and the values (N, U) of the unknown functions."""
        count = len(self.template.constants)
        starts = islice(product(TEMPLATE_STARTS, repeat=count), TEMPLATE_MOST_STARTS)
        scored = sorted(((self._error(np.array(start)), start) for start in starts), key=lambda trial: trial[0])
        ends = [self._descend(np.array(start)) for _, start in scored[: TEMPLATE_REFINED if count else 1]]
        constants = min(ends, key=self._error)
        return constants, self._parts(constants)[0]

    def _design(self, columns: tuple[int, ...]) -> Array:
        given = self.x[:, columns]
        degree = DEGREES.get(len(columns), 2)
        while degree > 1 and 4 * terms_up_to(len(columns), degree) * len(self.template.unknowns) > len(self.x):
            degree -= 1
        basis = Basis(tuple(coordinate(values) for values in given.T), total_degree(len(columns), degree))
        return basis.design(given)

    def _parts(self, constants: Array) -> tuple[Array, Array]:
        """The values (N, U) of the best-fitting polynomials for these constants, and the residuals (N,)."""
        template, x, y = self.template, self.x, self.y
        parts = np.zeros((len(x), len(self.designs)))
        if len(self.designs) == 1:
            parts[:, 0] = template.solve(0, x, y, parts, constants)
            finite = np.isfinite(parts[:, 0])
            if finite.sum() <= 2 * self.designs[0].shape[1]:
                return parts, np.full(len(x), np.inf)
            slope = np.nan_to_num(template.sensitivity(0, x, parts, constants))
            rows = finite & (slope > 0)
            design = self.designs[0]
            coefficients = np.linalg.lstsq(design[rows] * slope[rows, None], parts[rows, 0] * slope[rows], rcond=1e-13)[
                0
            ]
            smooth = (design @ coefficients)[:, None]
            residuals = np.where(rows, slope * (np.where(rows, parts[:, 0], 0) - smooth[:, 0]), 0.0)
            return smooth, residuals / max(float(rows.mean()), 1e-3)
        level = template.values(x, parts, constants)
        columns = []
        for number, design in enumerate(self.designs):
            _, slope = template.linear_parts(x, constants, parts, number)
            columns.append(design * slope[:, None])
        whole = np.hstack(columns)
        if not (np.isfinite(whole).all() and np.isfinite(level).all()):
            return parts, np.full(len(x), np.inf)
        coefficients = np.linalg.lstsq(whole, y - level, rcond=1e-11)[0]
        ends = np.cumsum([0, *(design.shape[1] for design in self.designs)])
        for number, design in enumerate(self.designs):
            parts[:, number] = design @ coefficients[ends[number] : ends[number + 1]]
        return parts, y - level - whole @ coefficients

    def _error(self, constants: Array) -> float:
        with np.errstate(all="ignore"):
            error = float(np.sqrt(np.mean(self._parts(constants)[1] ** 2)))
        return error if np.isfinite(error) else np.inf

    def _descend(self, constants: Array) -> Array:
        """Levenberg-Marquardt with finite differences."""
        error, damping = self._error(constants), 1e-3
        step = TEMPLATE_DIFFERENCE
        for _ in range(TEMPLATE_STEPS if len(constants) else 0):
            if not np.isfinite(error) or error == 0:
                break
            residuals = self._parts(constants)[1]
            sizes = step * np.maximum(np.abs(constants), 1e-3)
            slopes = np.stack(
                [
                    (self._parts(constants + size * unit)[1] - residuals) / size
                    for size, unit in zip(sizes, np.eye(len(constants)), strict=True)
                ],
                axis=1,
            )
            if not np.isfinite(slopes).all():
                break
            gram = slopes.T @ slopes
            while damping < 1e9:
                damped = gram + damping * np.diag(np.diagonal(gram) + 1e-300)
                trial = constants - np.linalg.lstsq(damped, slopes.T @ residuals, rcond=None)[0]
                trial_error = self._error(trial)
                if trial_error < error:
                    break
                damping *= 10
            else:
                break
            gained = trial_error < (1 - 1e-9) * error
            constants, error, damping = trial, trial_error, damping / 10
            if not gained:
                break
        return constants
