"""What it means that the formulas of a network are the network: `check`.

They are held to 1e-9 of the output's scale (`rounding_error.scale`: the value or the output's median) on 10,000 rows of
the range, or to `rounding_error.allow` where rounding alone does more; where it leaves no digit at all, there is
nothing to compare. A formula is NaN in the rows in which what leads to its output is not finite, and in no others.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.formula import Formula, evaluate_tree
from kanserve.network.encoding import without_encoding
from kanserve.network.evaluate import activations, edges, evaluate
from kanserve.network.kan import Kan, Layer
from kanserve.network.rounding_error import allow, scale
from kanserve.network.training_range import sample

Array = NDArray[np.float64]

POINTS = 10_000


def leading_to(kan: Kan, q: int) -> Kan:
    """The network with the edges that lead to output q, and the others pruned."""
    layers: list[Layer] = []
    needed = np.arange(len(kan.outputs)) == q
    for layer in reversed(kan.layers):
        keep = layer.alive & np.repeat(needed, layer.arity)[:, None]
        kept = {
            "coefficients": layer.coefficients * keep[..., None],
            "base_weight": layer.base_weight * keep,
            "functions": np.where(keep, layer.functions, ""),
        }
        layers.insert(0, replace(layer, **kept))
        needed = keep.any(axis=0)
    return replace(kan, layers=tuple(layers))


def splined(kan: Kan, varies: Sequence[NDArray[np.bool_]]) -> list[bool]:
    """For each output, whether a spline lies between an input and it, on a way of values that vary."""
    found = np.zeros(len(kan.inputs), bool)
    for layer, (before, after) in zip(kan.layers, itertools.pairwise(varies), strict=True):
        through = layer.alive & before & ((layer.coefficients != 0).any(axis=2) | found)
        found = after & [through[list(group)].any() for group in layer.groups]
    return found.tolist()


def check(kan: Kan, found: tuple[Formula, ...]) -> None:
    """Fail unless each formula agrees with its output, and claims a closed form where it may."""
    kan = without_encoding(kan)  # formulas are in the numbers that the network sees
    x = sample(kan, POINTS, seed=1)
    wanted = evaluate(kan, x)
    got = np.stack([evaluate_tree(formula.tree, formula.tables, x) for formula in found], axis=1)
    fine = np.isfinite(wanted).all(axis=1)
    both = fine & np.isfinite(got).all(axis=1)
    error, limit = np.abs(got - wanted)[both], 1e-9 * scale(wanted)[both]
    if not (error <= limit).all():
        limit = allow(kan, x, wanted, "double", 1e-9)[both]
        limit = np.where(limit >= scale(wanted)[both], np.inf, limit)
        assert (error <= limit).all(), x[both][~(error <= limit).all(axis=1)][0].tolist()
    if not both.all():
        for q in range(len(found)):
            check_defined(leading_to(kan, q), q, x[~both], np.isnan(got[~both, q]))
    if fine.any():
        check_closed(kan, found, x[fine][:200])


def check_closed(kan: Kan, found: tuple[Formula, ...], x: Array) -> None:
    """Fail unless the formulas in closed form are those in which no spline has a say."""
    values = activations(kan, x)
    # A product with a factor 0 has no splines in it; a function may be constant on these rows and have some.
    varying = [np.ptp(value, axis=0) > 0 for value in values]
    possibly = [np.ones(value.shape[1], bool) for value in values]
    for formula, surely, maybe in zip(found, splined(kan, varying), splined(kan, possibly), strict=True):
        assert formula.closed_form is not bool(formula.tables)
        assert not (formula.closed_form and surely)
        assert formula.closed_form or maybe


def check_defined(part: Kan, q: int, x: Array, undefined: NDArray[np.bool_]) -> None:
    """Fail unless the formula is undefined in the rows in which the part of the network is.

    But at the very end of a domain, where rounding decides, and next to overflow, where the order of factors does.
    """
    different = undefined != np.isnan(evaluate(part, x)[:, q])
    for row in x[different]:
        moves = np.random.default_rng(0).uniform(-1e-12, 1e-12, (100, len(row)))
        near = evaluate(part, row * (1 + moves))[:, q]
        on_the_way = [edges(layer, v) for layer, v in zip(part.layers, activations(part, row[None]), strict=False)]
        largest = max(np.abs(values).max(where=np.isfinite(values), initial=0) for values in on_the_way)
        assert 0 < np.isnan(near).sum() < len(near) or largest > 1e100, row.tolist()
