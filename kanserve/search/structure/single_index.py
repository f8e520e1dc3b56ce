"""Single-index laws: y depends only on one product of powers of the inputs, or on one linear combination. A polynomial
in several variables cannot follow sin(2·E·t/h)^2 through its periods. So products of small powers are tried as the only
variable: sorted by it, neighbours must have similar outputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations as pairs
from itertools import product as combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.surrogates import surrogates
from kanserve.search.structure.input_merges import Merge

Array = NDArray[np.float64]

MOST_INPUTS = 5  # most inputs with which functions of one variable are tried
LARGEST_ROUGHNESS = 0.02  # largest `roughness` of a curve, where noise has 1
ROUGHNESS_RATIO = 2.0  # largest roughness of a further variable, relative to the smoothest
MERGE_ERROR_RATIO = 0.3  # a merge is kept if its surrogate's error is below this times the error with all inputs

POWERS = (0.0, 1.0, -1.0, 2.0, -2.0)
MULTIPLES = (1.0, -1.0, 2.0, -2.0, 0.5, -0.5)


@dataclass(frozen=True, eq=False)
class Single:
    """y depends only on z = Π x_i^w_i ("product") or Σ w_i·x_i ("sum"); `values` (N,) are z at the rows."""

    kind: str
    weights: tuple[float, ...]
    values: Array
    roughness: float


def singles(x: Array, y: Array) -> tuple[Single, ...]:
    """Up to three candidates for one combination z of the inputs, a weighted sum or a product of powers, of which y
    (N,) is a smooth function; smoothest first. Empty if none is smooth enough."""
    if x.shape[1] > MOST_INPUTS:
        return ()
    found = []
    for kind, weights, values in _candidates(x):
        rough = roughness(values, y)
        if rough < LARGEST_ROUGHNESS:
            found.append(Single(kind, weights, values, rough))
    found.sort(key=lambda candidate: candidate.roughness)
    return tuple(candidate for candidate in found if candidate.roughness <= ROUGHNESS_RATIO * found[0].roughness)[:3]


def roughness(z: Array, y: Array) -> float:
    """The mean squared distance of y from the line between its neighbours in z, scaled to be 1 for pure noise."""
    order = np.argsort(z, kind="stable")
    u, v = z[order], y[order]
    width = u[2:] - u[:-2]
    share = np.divide(u[1:-1] - u[:-2], width, out=np.full(len(width), 0.5), where=width > 0)
    between = v[:-2] + share * (v[2:] - v[:-2])
    return float(np.mean((v[1:-1] - between) ** 2) / (1.5 * y.var()))


def _candidates(x: Array) -> Iterator[tuple[str, tuple[float, ...], Array]]:
    inputs = x.shape[1]
    if (x > 0).all() or (x < 0).all():
        logarithms = np.log(np.abs(x))
        for weights in combinations(POWERS, repeat=inputs):
            first = next((w for w in weights if w), 0.0)
            if first > 0 and all(weights) and min(abs(w) for w in weights) == 1.0:
                yield "product", weights, np.exp(logarithms @ np.array(weights))
    elif (x != 0).all():
        for weights in combinations((1.0, -1.0), repeat=inputs):
            if weights[0] > 0:
                yield "product", weights, np.prod(x ** np.array(weights), axis=1)
    for weights in combinations(MULTIPLES, repeat=inputs - 1):
        yield "sum", (1.0, *weights), x @ np.array((1.0, *weights))


def merge_by_trial(x: Array, y: Array, error: float) -> tuple[Merge, ...]:
    """Pairs of inputs that merge into one, by trial: a surrogate with one input less must be far better. For laws that
    no surrogate of all inputs can follow, so that its gradient is useless."""
    found = []
    for i, j in pairs(range(x.shape[1]), 2):
        others = [k for k in range(x.shape[1]) if k not in (i, j)]
        for kind, beta, values in _pair_candidates(x[:, i], x[:, j]):
            smaller = surrogates(np.column_stack([x[:, others], values]), y)[0].error
            if smaller < MERGE_ERROR_RATIO * error:
                found.append(Merge((i, j), kind, beta, values, smaller))
    return tuple(sorted(found, key=lambda merge: merge.error)[:2])


def _pair_candidates(a: Array, b: Array) -> Iterator[tuple[Literal["sum", "product"], float, Array]]:
    for beta in (1.0, -1.0):
        yield "sum", beta, a + beta * b
    for beta in (1.0, -1.0, 2.0, -2.0, 0.5, -0.5):
        if (beta > 0 or (b != 0).all()) and (beta in (1.0, -1.0) or (b > 0).all()):
            yield "product", beta, a * b**beta
