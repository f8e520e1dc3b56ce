"""Inputs that enter a law only through one function z of them: a sum, a product of powers, or any other. If y = F(z,
others), the gradient of y by the inputs of z is parallel to that of z. Candidates come from the surrogate's gradient; z
is then fitted together with F, and kept if that is as good as the full surrogate. The general case is the generalised
symmetry of AI Feynman 2.0 (Udrescu et al., arXiv:2006.10782), as one eigenvalue problem."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.search.regression.bases import Basis, Indices, coordinate, has_logarithm, separate, total_degree
from kanserve.search.regression.interactions import interior
from kanserve.search.regression.least_squares import ROUNDING, fit, root_mean_square
from kanserve.search.regression.surrogates import NO_WORSE_RATIO, Surrogate, answer_units, is_gain, surrogates
from kanserve.search.structure.factors import SNAP_DISTANCE, SNAP_STANDARD_ERRORS, raise_to, round_to_fraction
from kanserve.search.structure.form_test import FORM_TEST_LARGEST_ERROR, is_unrefuted, of_input
from kanserve.search.structure.separation import candidates

Array = NDArray[np.float64]
Kind = Literal["sum", "product", "general"]

LARGEST_ANGLE = 0.3  # largest angle between the gradients of y and z (`_angle`) with which z is tried
EXACT_ANGLE = 0.03  # that angle for an exact surrogate
ANGLE_PER_ERROR = 6.0  # added to it for each unit of the surrogate's relative error
# Least gradient by an input that is merged, relative to the largest; inputs in standard deviations.
LEAST_GRADIENT = 1e-3
MOST_REFUTED = 3  # refuted guesses of a kind, after which the rest are not tried
SUM_DEGREE = 5  # degree of p and q in z = p(x_i) + q(x_j)
TOTAL_DEGREE = 3  # total degree of another z of two inputs; one less for three inputs
# Relative error of a surrogate above which its gradient is useless, and merges are tried without it.
UNGUIDED_ERROR = 0.1
UNGUIDED_RATIO = 0.3  # largest error of a merge that is tried without a gradient, relative to the error before
MOST_UNGUIDED_INPUTS = 4  # most inputs for which merges are tried without a gradient: 4 have up to 24 such merges
GAUSS_NEWTON_STEPS = 4  # Gauss-Newton steps of the coefficients of z
HOPELESS_ERROR_RATIO = 100.0  # error, relative to the full surrogate's, above which z is not refined
LEAST_POWER = 0.1  # lower bound of |beta| in z = x_i·x_j^beta
LARGEST_POWER = 8.0  # upper bound of |beta| in z = x_i·x_j^beta


@dataclass(frozen=True, eq=False)
class Merge:
    """Inputs that affect y only through one variable z. z is a sum x_i + beta·x_j, a product x_i·x_j^beta, or
    general: then known only up to an unknown function of it. `values` (N,) are z at the rows; `error` is the
    leave-one-out error of a surrogate in z and the other inputs, relative to y's root mean square."""

    inputs: tuple[int, ...]
    kind: Kind
    beta: float | None
    values: Array
    error: float


def merges(x: Array, y: Array, ranked: Sequence[Surrogate]) -> tuple[Merge, ...]:
    """The merges that rows x (N, d), y (N,), with the surrogates `ranked`, do not refute: sums, products, then general
    ones, each by error."""
    found: dict[tuple[int, ...], Merge] = {}
    if ranked[0].error > UNGUIDED_ERROR:
        for guess in _blind(x):
            merge = None if _follows(guess, found) else _merge_unguided(x, y, ranked, guess)
            if merge is not None:
                found[guess.inputs] = merge
    for full in candidates(ranked)[:2]:
        for guesses in _guesses(x, full):
            refuted = 0
            for guess in guesses:
                if refuted < MOST_REFUTED and not _follows(guess, found):
                    merge = _settle(x, y, full, guess)
                    refuted += merge is None
                    if merge is not None:
                        found[guess.inputs] = merge
    order = ("sum", "product", "general")
    return tuple(sorted(found.values(), key=lambda merge: (order.index(merge.kind), merge.error)))


def _follows(guess: "_Guess", found: Mapping[tuple[int, ...], Merge]) -> bool:
    """Whether earlier merges imply this one: a + b and b + c imply a + c, and a general merge of the three."""
    if guess.inputs in found:
        return True
    for kind in ("sum", "product") if guess.kind == "general" else (guess.kind,):
        group = {guess.inputs[0]}
        for _ in found:
            for inputs, merge in found.items():
                if merge.kind == kind and group & set(inputs):
                    group |= set(inputs)
        if group.issuperset(guess.inputs):
            return True
    return False


@dataclass(frozen=True, eq=False)
class _Guess:
    """A candidate variable z. `at` maps its coefficients to z (N,) and the derivatives (N, K)."""

    inputs: tuple[int, ...]
    kind: Kind
    angle: float
    start: Array
    at: Callable[[Array], tuple[Array, Array]]
    refinable: bool = True


def _guesses(x: Array, full: Surrogate) -> list[list[_Guess]]:
    """Candidate sums and products, by the angle between their gradient and that of y; and a list of general ones."""
    slopes = full.gradient_of_link(x)
    limit = min(LARGEST_ANGLE, EXACT_ANGLE + ANGLE_PER_ERROR * full.error)
    felt = np.sqrt(np.mean((slopes * x.std(axis=0)) ** 2, axis=0))
    inner = interior(x, full)
    alive = [i for i in range(x.shape[1]) if felt[i] > LEAST_GRADIENT * felt.max()]
    if full.error > UNGUIDED_ERROR:
        return []
    simple, general = [], []
    for i, j in combinations(alive, 2):
        simple += _simple(x, slopes, inner, i, j)
        general.append(_general(x, full, slopes, inner, (i, j), additive=True))
        if x.shape[1] > 2:
            general.append(_general(x, full, slopes, inner, (i, j), additive=False))
    if x.shape[1] > 3:
        for inputs in combinations(alive, 3):
            general.append(_general(x, full, slopes, inner, inputs, additive=False))
    return [
        sorted((guess for guess in guesses if guess.angle < limit), key=lambda guess: guess.angle)
        for guesses in (simple, general)
    ]


def _blind(x: Array) -> list[_Guess]:
    """The simplest sums and products of two inputs, for when a surrogate is too inaccurate to guide the choice. A law
    with several periods often becomes simple with fewer inputs: cos(k·x - w·t)."""
    found = []
    for i, j in combinations(range(x.shape[1]) if x.shape[1] <= MOST_UNGUIDED_INPUTS else (), 2):
        first, second = x[:, i], x[:, j]
        for sign in (-1.0, 1.0):
            at = _sum_of(first, second)
            found.append(_Guess((i, j), "sum", 0.0, np.array([sign]), at, False))
            if sign > 0 or second.min() > 0 or second.max() < 0:
                found.append(_Guess((i, j), "product", 0.0, np.array([sign]), _product_of(first, second), False))
    return found


def _merge_unguided(x: Array, y: Array, ranked: Sequence[Surrogate], guess: _Guess) -> Merge | None:
    """Merge inputs with the best link after the merge; surrogates without the merge may prefer another link."""
    others = [k for k in range(x.shape[1]) if k not in guess.inputs]
    merged = np.concatenate([guess.at(guess.start)[0][:, None], x[:, others]], axis=1)
    best = surrogates(merged, y, links=[surrogate.link for surrogate in ranked])[0]
    if best.error > min(UNGUIDED_RATIO * ranked[0].error, FORM_TEST_LARGEST_ERROR):
        return None
    return _settle(x, y, next(surrogate for surrogate in ranked if surrogate.link.name == best.link.name), guess)


def _sum_of(first: Array, second: Array) -> Callable[[Array], tuple[Array, Array]]:
    return lambda c: (first + c[0] * second, second[:, None])


def _product_of(first: Array, second: Array) -> Callable[[Array], tuple[Array, Array]]:
    logarithms = np.log(np.maximum(np.abs(second), 1e-300))

    def product(c: Array) -> tuple[Array, Array]:
        z = first * raise_to(second, float(c[0]))
        return z, (z * logarithms)[:, None]

    return product


def _simple(x: Array, slopes: Array, inner: NDArray[np.bool_], i: int, j: int) -> list[_Guess]:
    first, second = x[:, i], x[:, j]
    angle, ratio = _angle(slopes[inner, i], slopes[inner, j])
    found = [_Guess((i, j), "sum", angle, np.array([ratio]), _sum_of(first, second))]
    angle, ratio = _angle((slopes[:, i] * first)[inner], (slopes[:, j] * second)[inner])
    signed = second.min() <= 0 <= second.max()
    power = float(round(ratio)) if signed else ratio
    if LEAST_POWER < abs(power) < LARGEST_POWER and (power > 0 or not signed):
        found.append(_Guess((i, j), "product", angle, np.array([power]), _product_of(first, second), not signed))
    return found


def _angle(first: Array, second: Array) -> tuple[float, float]:
    """The tangent of half the angle between two columns (0 if proportional), and their ratio."""
    sizes = float(first @ first), float(second @ second)
    if min(sizes) == 0:
        return 1.0, 0.0
    cosine = float(first @ second) / np.sqrt(sizes[0] * sizes[1])
    angle = np.sqrt(max(0.0, (1 - abs(cosine)) / (1 + abs(cosine))))
    return float(angle), float(np.sign(cosine) * np.sqrt(sizes[1] / sizes[0]))


def _general(
    x: Array, full: Surrogate, slopes: Array, inner: NDArray[np.bool_], inputs: tuple[int, ...], additive: bool
) -> _Guess:
    """The polynomial of some inputs whose gradient is most parallel to that of y, by an eigenvalue problem."""
    basis = Basis(tuple(full.coordinates[i] for i in inputs), _terms(len(inputs), additive))
    own = x[:, list(inputs)]
    scale = own.std(axis=0)
    gradients = slopes[inner][:, list(inputs)] * scale
    columns = [basis.slopes(own[inner], k) * scale[k] for k in range(len(inputs))]
    across = [
        gradients[:, [a]] * columns[b] - gradients[:, [b]] * columns[a] for a, b in combinations(range(len(inputs)), 2)
    ]
    weight = np.sqrt(np.sum(gradients**2, axis=1))[:, None]
    turned = np.concatenate(across)
    along = np.concatenate([column * weight for column in columns])
    whole = along.T @ along
    lower = np.linalg.cholesky(whole + 1e-10 * np.trace(whole) * np.eye(len(whole)))
    halfway = np.linalg.solve(lower, turned.T @ turned)
    sizes, vectors = np.linalg.eigh(np.linalg.solve(lower, halfway.T))
    start = np.linalg.solve(lower.T, vectors[:, 0])
    design = basis.design(own)
    start = start / (float((design @ start).std()) or 1.0)
    return _Guess(inputs, "general", float(np.sqrt(max(sizes[0], 0.0))), start, lambda c: (design @ c, design))


def _terms(inputs: int, additive: bool) -> Indices:
    """The index set of the polynomial z, without the constant."""
    if additive:
        return separate([(k,) for k in range(inputs)], inputs, [total_degree(1, SUM_DEGREE)] * inputs)[1:]
    return total_degree(inputs, TOTAL_DEGREE if inputs == 2 else TOTAL_DEGREE - 1)[1:]


@dataclass(frozen=True, eq=False)
class _Trial:
    """F(z, others) fitted to link(y) for a fixed z."""

    surrogate: Surrogate
    merged: Array
    design: Array
    residuals: Array
    error: float


def _settle(x: Array, y: Array, full: Surrogate, guess: _Guess) -> Merge | None:
    """Fit z and F together; None if the rows refute the result."""
    others = [k for k in range(x.shape[1]) if k not in guess.inputs]
    coefficients = guess.start
    best = _trial(x, y, full, guess, coefficients, others, None)
    spread = 0.0
    for _ in range(GAUSS_NEWTON_STEPS if guess.refinable else 0):
        if best.error > HOPELESS_ERROR_RATIO * max(full.error, ROUNDING) or best.error < ROUNDING:
            break
        step, spread = _step(best, guess.at(coefficients)[1])
        trial = _trial(x, y, full, guess, coefficients + step, others, best.surrogate)
        if not trial.error < best.error:
            break
        gained = is_gain(trial.error, best.error)
        best, coefficients = trial, coefficients + step
        if not gained:
            break
    best, coefficients = _fresh(x, y, full, guess, coefficients, others, best, spread)
    missing = np.concatenate(
        [of_input(x, full.coordinates, i, [k for k in range(x.shape[1]) if k != i]) for i in guess.inputs], axis=1
    )
    if not is_unrefuted(best.error, best.residuals, best.design, full.error, missing):
        return None
    beta = None if guess.kind == "general" else float(coefficients[0])
    return Merge(guess.inputs, guess.kind, beta, guess.at(coefficients)[0], best.error)


def _fresh(
    x: Array,
    y: Array,
    full: Surrogate,
    guess: _Guess,
    coefficients: Array,
    others: list[int],
    best: _Trial,
    spread: float,
) -> tuple[_Trial, Array]:
    """Choose the surrogate again for the final z, and round beta to a simple number within its standard error."""
    again = _trial(x, y, full, guess, coefficients, others, None)
    best = again if again.error < best.error else best
    if guess.kind == "general":
        return best, coefficients
    simple = np.array([round_to_fraction(float(coefficients[0]), max(SNAP_STANDARD_ERRORS * spread, SNAP_DISTANCE))])
    if simple[0] == coefficients[0]:
        return best, coefficients
    rounded = _trial(x, y, full, guess, simple, others, None)
    return (rounded, simple) if rounded.error < NO_WORSE_RATIO * best.error else (best, coefficients)


def _trial(
    x: Array, y: Array, full: Surrogate, guess: _Guess, coefficients: Array, others: list[int], like: Surrogate | None
) -> _Trial:
    """Fit F for fixed coefficients of z, with the terms of the surrogate `like`, or the best terms if that is None."""
    z = guess.at(coefficients)[0]
    merged = np.concatenate([z[:, None], x[:, others]], axis=1)
    link = full.link
    if like is None:
        like = surrogates(merged, y, links=(link,))[0]
    own = coordinate(z, like.coordinates[0].logarithmic and has_logarithm(z))
    basis = Basis((own, *like.coordinates[1:]), like.basis.indices)
    design = basis.design(merged)
    joint = fit(design, link.forward(y)[:, None])
    error = root_mean_square(joint.left_out[:, 0] * answer_units(link, y))
    surrogate = Surrogate(link, basis, joint.coefficients[:, 0], error)
    return _Trial(surrogate, merged, design, joint.residuals[:, 0], error)


def _step(trial: _Trial, derivatives: Array) -> tuple[Array, float]:
    """The Gauss-Newton step for the coefficients of z, jointly with F, and the last coefficient's standard error."""
    surrogate = trial.surrogate
    slope = surrogate.basis.slopes(trial.merged, 0) @ surrogate.coefficients
    trends = slope[:, None] * derivatives
    joint = fit(np.concatenate([trial.design, trends], axis=1), trial.residuals[:, None])
    beyond = fit(trial.design, trends[:, -1:]).residuals[:, 0]
    spread = root_mean_square(joint.residuals[:, 0]) / (float(np.linalg.norm(beyond)) or 1.0)
    return joint.coefficients[trial.design.shape[1] :, 0], spread
