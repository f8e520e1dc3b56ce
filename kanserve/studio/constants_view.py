"""The constants of named functions: values, standard errors, and simpler numbers with what each would cost."""

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from kanserve.editing import Session
from kanserve.editing.edge_constants import NAMES, named_function, with_constants
from kanserve.editing.session_data import of_numbers
from kanserve.errors import InputError
from kanserve.network.edge_names import EdgeIndex, edge_names
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Sum
from kanserve.simplification.activations import Array, answers
from kanserve.studio.page_views import affine_of

MOST_CONSTANTS = 40  # in the table of constants; more are not listed
NICE_WITHIN = 0.05  # how far a simple number may be from a constant to be offered for it, relative to the constant
LARGEST_DENOMINATOR = 8  # of a fraction that is offered for a constant
LARGEST_FRACTION = 10  # of a larger constant two digits are simpler than a fraction: 93, not 654/7

_STEP = 1e-5  # of a constant, for its derivative: the middle between rounding and curvature
_FLAT = 1e-7  # singular values below this part of the largest are directions that the rows say nothing of


@dataclass(frozen=True)
class ConstantView:
    """A constant a, b, c or d of an edge.

    The sum that an edge goes into has one constant term, which is listed as the d of its first named edge: `value` is
    that term, and the edge's own d is `shift` less. `error` is its standard error on the training rows with the splines
    as they are; None where the rows do not determine it, as where two edges could share it out otherwise.

    `nice` is a simpler number near it as text, `nice_value` its value, and `nice_change` the relative change of the
    held-out RMSE with it, without a refit.
    """

    edge: str
    constant: str
    value: float
    error: float | None
    nice: str = ""
    nice_value: float | None = None
    nice_change: float | None = None
    shift: float = 0.0


def constants_view(session: Session) -> tuple[ConstantView, ...]:
    """The constants that are not neutral, at most 40."""
    kan, rows = of_numbers(session.kan), session.rows
    names = edge_names(kan)
    shifts = _shifts(kan)
    found = [constant for place in names for constant in _of_edge(kan, place, shifts.get(place))][:MOST_CONSTANTS]
    errors = _errors(kan, found, rows.judge.learn.x, rows.judge.goal)
    now = session.loss
    views = []
    for (place, name, value), error in zip(found, errors, strict=True):
        shift = shifts.get(place, 0.0) if name == "d" else 0.0
        text, nice = nice_number(value + shift)
        change = None
        if text:
            try:
                after = rows.loss(with_constants(kan, place, {name: nice - shift}))
                change = float(np.sqrt(after / now) - 1) if now > 0 else None
            except InputError:
                text = ""
        known = None if not np.isfinite(error) else float(error)
        views.append(
            ConstantView(names[place], name, value + shift, known, text, nice if text else None, change, shift)
        )
    return tuple(views)


def _shifts(kan: Kan) -> dict[EdgeIndex, float]:
    """The first named edge of each sum, with what the constant term of the sum has beside the edge's d."""
    found: dict[EdgeIndex, float] = {}
    for depth, layer in enumerate(kan.layers):
        for j, (scale, offset) in enumerate(affine_of(kan, depth).sums):
            places = [(depth, j, int(i)) for i in np.flatnonzero(layer.symbolic_mask[j])]
            offsets = [own.d for place in places if (own := named_function(kan, place)) is not None]
            lead = next((n for n, (_, _, i) in enumerate(places) if not layer.spline_mask[j, i]), None)
            if lead is not None:
                found[places[lead]] = sum(offsets) - offsets[lead] + (offset if scale == 1 else 0.0)
    return found


def _of_edge(kan: Kan, place: EdgeIndex, shift: float | None) -> list[tuple[EdgeIndex, str, float]]:
    """The constants of a named function that are not neutral: the edge, the constant's name and its value.

    Its d is listed only with the `shift` of the sum that it goes into.
    """
    layer, *edge = place
    edge_function = named_function(kan, place) if kan.layers[layer].symbolic_mask[tuple(edge)] else None
    if edge_function is None or isinstance(kan.layers[layer].edge(*edge), Sum):
        return []
    neutral = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}
    if edge_function.function == "x":
        del neutral["c"]
    if edge_function.function in _SIGNED and abs(edge_function.a) == 1:  # by convention: the factor c has the rest
        neutral["a"] = edge_function.a
    values = {name: getattr(edge_function, name) for name in NAMES}
    if shift is None:
        del values["d"]
    else:
        neutral["d"] = -shift
    return [(place, name, value) for name, value in values.items() if value != neutral.get(name)]


_SIGNED = {name for name in FUNCTIONS if name in ("log", "sqrt", "1/x", "1/sqrt", "abs") or name.startswith("x^")}


def nice_number(value: float) -> tuple[str, float]:
    """A simple number near a constant, as text and value, "" without one that is simpler."""
    if not np.isfinite(value) or value == 0:
        return "", value
    fraction = Fraction(value).limit_denominator(LARGEST_DENOMINATOR)
    if fraction and abs(float(fraction) - value) <= NICE_WITHIN * abs(value) and abs(fraction) < LARGEST_FRACTION:
        text, near = str(fraction), float(fraction)
    else:
        near = float(f"{value:.2g}")
        text = re.sub("e([-+])0*", lambda found: "e" + found[1].strip("+"), f"{near:g}")
    return ("", value) if near == value else (text, near)


def _errors(kan: Kan, found: list[tuple[EdgeIndex, str, float]], x: Array, y: Array) -> Array:
    """The standard errors (P,) by least squares in these constants; infinite where the rows do not determine one."""
    if not found:
        return np.zeros(0)
    given = answers(kan, x)
    columns = []
    with np.errstate(all="ignore"):
        for place, name, value in found:
            step = _STEP * max(abs(value), 1e-3)
            try:
                ends = [answers(with_constants(kan, place, {name: value + sign * step}), x) for sign in (1, -1)]
            except InputError:
                return np.full(len(found), np.inf)
            columns.append(((ends[0] - ends[1]) / (2 * step)).ravel())
    slopes, missed = np.array(columns).T, (given - y).ravel()
    fine = np.isfinite(slopes).all(axis=1) & np.isfinite(missed)
    degrees = int(fine.sum()) - len(found)
    size = np.sqrt((slopes[fine] ** 2).sum(axis=0))
    if degrees < 1 or not (size > 0).all():
        return np.full(len(found), np.inf)
    _, singular, right = np.linalg.svd(slopes[fine] / size, full_matrices=False)
    told = singular > _FLAT * singular[0]
    sigma = np.sqrt((missed[fine] ** 2).sum() / degrees)
    result: Array = sigma * np.sqrt(((right[told].T / singular[told]) ** 2).sum(axis=1)) / size
    result[(np.abs(right[~told]) > 1e-3).any(axis=0)] = np.inf
    return result
