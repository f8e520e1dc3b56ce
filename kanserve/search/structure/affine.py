"""Laws that are affine in a function of one input: link(y) = P(others) + g(x_i)·Q(others). If P and Q depend on fewer
inputs than y, each is a smaller problem of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.interactions import along, four_point, weak
from kanserve.search.regression.least_squares import ROUNDING, root_mean_square
from kanserve.search.regression.link_functions import Link
from kanserve.search.regression.surrogates import NO_WORSE_RATIO, Surrogate, answer_units, sharpen
from kanserve.search.structure.form_test import Block, Hypothesis, fit_blocks, holds, of_input, of_size

Array = NDArray[np.float64]

LARGEST_EXPONENT = 20.0  # largest exponent with which exp(x) and exp(-x) of an input are tried
SHAPE_DISTANCE = 1e-5  # largest distance of a function from the shape along an input, as 1 - correlation
# The same limit relative to the square of the surrogate's error; the larger limit counts.
SHAPE_DISTANCE_PER_ERROR = 10.0
PREFERENCE_RATIO = 2.0  # factor by which a function later in the table must be closer to be preferred
# Error of P and Q, relative to that which the form's error means if it is the same in all of the box.
ERROR_OF_PARTS = 3.0
NEGLIGIBLE_CONSTANT = 1e-3  # root mean square, relative to link(y), below which a constant P counts as 0
LARGEST_TOLERANCE = 1e-8  # problems whose law may be off by more than this are skipped: their values are not exact
ERROR = 1e-11  # largest error of such a form, relative to the root mean square of y

_OF_POSITIVE = ("sqrt", "log")
_OF_NONZERO = ("reciprocal", "reciprocal square")

INNER: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "square": np.square,
    "reciprocal": lambda x: 1 / x,
    "reciprocal square": lambda x: x**-2.0,
    "sqrt": np.sqrt,
    "log": np.log,
    "exp": np.exp,
    "exp(-x)": lambda x: np.exp(-x),
    "sin": np.sin,
    "cos": np.cos,
}
"""Functions by which an input may enter. The straight line is first; the others are tried only where they bend."""


@dataclass(frozen=True, eq=False)
class AffineIn:
    """The form link(y) = P + g(x_i)·Q with g = INNER[inner]. `values` (N, 2): P and Q at the rows. `error`:
    leave-one-out, in y, relative to y's root mean square; `errors`: the resulting ones of P and Q, relative to their
    deviations."""

    i: int
    inner: str
    link: Link
    P_inputs: tuple[int, ...]
    Q_inputs: tuple[int, ...]
    values: Array
    error: float
    errors: tuple[float, float]


def affine_inputs(x: Array, y: Array, ranked: Sequence[Surrogate]) -> tuple[AffineIn, ...]:
    """The affine forms that rows x (N, d), y (N,), with the surrogates `ranked`, do not refute: fewest inputs in P and
    Q first, then by error."""
    plain = next(surrogate for surrogate in ranked if surrogate.link.name == "identity")
    found = []
    for full in (sharpen(x, y, known) for known in dict.fromkeys((ranked[0], plain))):
        strengths = four_point(x, full, False)
        for i in range(x.shape[1]):
            affine = _affine(x, y, full, i, strengths[i])
            found += [affine] if affine is not None else []
    return tuple(sorted(found, key=lambda form: (len(form.P_inputs) + len(form.Q_inputs), form.error)))


def _affine(x: Array, y: Array, full: Surrogate, i: int, strengths: Array) -> AffineIn | None:
    """The form affine in some function of x_i that matches the surrogate along x_i, or None."""
    nodes, shape, beyond = along(x, full, i)
    if beyond > weak(full):
        return None
    others = tuple(j for j in range(x.shape[1]) if j != i)
    felt = tuple(j for j in others if strengths[j] > weak(full))
    name = _alike(nodes, shape, x[:, i], full.error**2)
    if name is None:
        return None
    question = _Question(x, y, full, i, INNER[name](x[:, i]))
    if not felt and holds(question.form(others, ()), full.error, question.missing(others, ())):
        return None  # a sum, which `separations` finds
    for q_inputs in dict.fromkeys((felt or others, others)):
        form = question.form(others, q_inputs)
        if holds(form, full.error, question.missing(others, q_inputs)):
            return _narrow(question, name, form, others, q_inputs)
    return None


def _alike(nodes: Array, shape: Array, values: Array, doubt: float) -> str | None:
    """The function most similar to `shape` at the nodes; the simplest of several that are; None if all differ."""
    best, least = (None, PREFERENCE_RATIO * max(SHAPE_DISTANCE, SHAPE_DISTANCE_PER_ERROR * doubt))
    low, high = float(values.min()), float(values.max())
    for name, function in INNER.items():
        if (name in _OF_POSITIVE and low <= 0) or (name in _OF_NONZERO and low <= 0 <= high):
            continue
        if "exp" in name and max(-low, high) > LARGEST_EXPONENT:
            continue
        bent = function(nodes)
        if not np.all(np.isfinite(bent)) or np.ptp(bent) <= ROUNDING * np.abs(bent).max():
            continue
        distance = 1 - abs(float(np.corrcoef(bent, shape)[0, 1]))
        if distance < least / PREFERENCE_RATIO:
            best, least = name, max(distance, doubt, 1e-15)
    return best


@dataclass(frozen=True, eq=False)
class _Question:
    """Tests whether link(y) = P + Q·inner, where `inner` (N,) are the values of a function of x_i."""

    x: Array
    y: Array
    full: Surrogate
    i: int
    inner: Array

    def form(self, p_inputs: tuple[int, ...], q_inputs: tuple[int, ...], most: int | None = None) -> Hypothesis:
        """Fit the form, with `inner` scaled to root mean square 1; with about `most` terms, or as many as are best."""
        blocks = [self._block(p_inputs), self._block(q_inputs, self._scale_inner)]
        targets, units = self.full.link.forward(self.y), answer_units(self.full.link, self.y)
        if most is not None:
            return of_size(self.x, targets, blocks, units, most)
        return fit_blocks(self.x, targets, blocks, units)

    def _block(self, inputs: tuple[int, ...], weight: Array | None = None) -> Block:
        axes = tuple(self.full.coordinates[j] for j in inputs)
        return Block(inputs, axes, weight, self.full.straight, self.full.together)

    @property
    def _scale_inner(self) -> Array:
        return self.inner / root_mean_square(self.inner)

    def missing(self, p_inputs: tuple[int, ...], q_inputs: tuple[int, ...]) -> Array:
        """Columns (N, m) that the form lacks: other functions of x_i, and the inputs missing in P and Q."""
        coordinates, inputs = self.full.coordinates, range(self.x.shape[1])
        others = [j for j in inputs if j != self.i]
        columns = [of_input(self.x, coordinates, self.i, others)]
        for known, weight in ((p_inputs, None), (q_inputs, self._scale_inner)):
            for j in others:
                if j not in known:
                    own = of_input(self.x, coordinates, j, [k for k in others if k != j])
                    columns.append(own if weight is None else own * weight[:, None])
        return np.concatenate(columns, axis=1)

    def parts(self, form: Hypothesis) -> Array:
        """P and Q at the rows: (N, 2)."""
        return np.stack([form.values(0), form.values(1) / root_mean_square(self.inner)], axis=1)

    def errors(self, error: float, parts: Array) -> tuple[float, float]:
        """The errors of P and Q: that of Q by how much `inner` varies, that of P by how far `inner` is from 0."""
        size, deviation = root_mean_square(self.full.link.forward(self.y)), float(self.inner.std())
        slope = ERROR_OF_PARTS * error * size / deviation
        level = slope * root_mean_square(self.inner)
        deviations = [float(values.std()) or size for values in parts.T]
        return max(error, level / deviations[0]), max(error, slope / deviations[1])


def _narrow(
    question: _Question, name: str, form: Hypothesis, others: tuple[int, ...], q_inputs: tuple[int, ...]
) -> AffineIn | None:
    """Restrict P and Q to the inputs that they need: drop each without which the fit is no worse. None if P is 0."""
    full, terms = question.full, form.design.shape[1]
    p_inputs = others
    for which in ("Q", "P"):
        for j in others:
            fewer = _without(p_inputs, q_inputs, which, j)
            if fewer == (p_inputs, q_inputs) or not fewer[1]:
                continue
            leaner = question.form(*fewer, terms)
            worst = NO_WORSE_RATIO * max(form.error, ROUNDING)
            if leaner.error < worst and holds(leaner, full.error, question.missing(*fewer)):
                (p_inputs, q_inputs), form = fewer, leaner
    if not p_inputs and root_mean_square(form.values(0)) < NEGLIGIBLE_CONSTANT * root_mean_square(
        full.link.forward(question.y)
    ):
        return None
    values = question.parts(form)
    errors = question.errors(form.error, values)
    return AffineIn(question.i, name, full.link, p_inputs, q_inputs, values, form.error, errors)


def _without(
    p_inputs: tuple[int, ...], q_inputs: tuple[int, ...], which: str, j: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if which == "P":
        return tuple(i for i in p_inputs if i != j), q_inputs
    return p_inputs, tuple(i for i in q_inputs if i != j)
