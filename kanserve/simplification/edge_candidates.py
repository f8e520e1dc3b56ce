"""Named functions for one edge: c·f(a·z + b) + d close to the edge's values, the simplest good one first.

This follows the symbolic step of arXiv:2404.19756 §2.5.1, but with c and d in closed form (variable projection): a
coarse grid over a and b for each function, then a few damped Gauss-Newton steps on all four. Errors are weighted by the
sensitivity of the outputs to the edge, so they are in units of the outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.network.functions import FUNCTIONS, finite_slope
from kanserve.network.kan import Symbolic
from kanserve.network.powers import exponent_of

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

STEPS_PER_ROUND = 6  # damped Gauss-Newton steps of a round
# Rounds of refinement; between them, functions that no longer improve or are far behind are dropped.
REFINEMENT_ROUNDS = 5
# Loss on the coarse grid of constants, relative to the least, above which a function is not refined.
HOPELESS_LOSS_RATIO = 1e3
REFINEMENT_LOSS_RATIO = 1e2  # loss after a round, relative to the least, above which a function is refined no further
ROUNDING = 1e-15  # rounding error of any fit, relative to a curve's largest value
EDGE_CANDIDATES_COMPLEXITY_WEIGHT = 0.12  # penalty for a unit of complexity, in powers of ten of the error
EDGE_CANDIDATES_OFFSET_COMPLEXITY = 0.3  # complexity of an offset d that is not 0, in units of the table of functions


LIBRARY = (
    *("x", "x^2", "x^3", "x^4", "1/x", "1/x^2", "sqrt", "1/sqrt", "exp", "log", "sin", "tan"),
    *("arcsin", "arctan", "arctanh", "arcsinh", "sinh", "cosh", "tanh", "gaussian", "abs"),
)
"""Of functions that are shifts, mirror images or multiples of each other (sin and cos, tanh and sigmoid), one each."""


@dataclass(frozen=True, eq=False)
class Samples:
    """An edge as points: z (M,) ascending, its values, their weights, and the range [low, high] of z. `natural` is the
    z where the raw feature is 0, a likely centre of a power or position of a pole."""

    z: Array
    values: Array
    weights: Array
    low: float
    high: float
    natural: float

    @property
    def middle(self) -> float:
        return (self.high + self.low) / 2

    @property
    def half(self) -> float:
        return (self.high - self.low) / 2

    @property
    def u(self) -> Array:
        return (self.z - self.middle) / self.half


@dataclass(frozen=True)
class Candidate:
    """A named function for an edge, its weighted root mean square error, and its rank (lower is better)."""

    symbolic: Symbolic
    error: float
    rank: float


def candidates(samples: Samples, floor: float, library: Sequence[str] = LIBRARY) -> tuple[Candidate, ...]:
    """Functions that fit the samples, best rank first (log10 of the error plus the price of complexity). Errors below
    `floor` count as equal, so that the simplest comes first. Functions that leave their domain in [low, high] are left
    out."""
    return candidates_of_each(samples, samples.values[None], samples.weights[None], floor, library)[0]


def candidates_of_each(
    samples: Samples, values: Array, weights: Array, floor: float, library: Sequence[str] = LIBRARY
) -> tuple[tuple[Candidate, ...], ...]:
    """The candidates for each of several curves over the same z, with values and weights (K, M). A degenerate curve (a
    single point, not finite, or without weight) has none."""
    offered: list[dict[str, Candidate]] = [{} for _ in values]
    if not 0 < samples.half < np.inf:
        return tuple(() for _ in values)
    with np.errstate(all="ignore"):
        heights, totals = np.abs(values).max(axis=1, initial=0.0), weights.mean(axis=1)
        told = np.flatnonzero(np.isfinite(heights) & np.isfinite(totals) & (totals > 0))
        # In units of each curve, so that squares of large or small numbers do not overflow or underflow.
        heights, totals = np.where(heights > 0, heights, 1.0)[told], totals[told]
        units = heights * np.sqrt(totals)
        curves, shares = values[told] / heights[:, None], weights[told] / totals[:, None]
        floors = np.maximum(floor, ROUNDING * units)
        starts = _begin(samples, curves, shares, floors / units, library)
        theta, losses = _polish(starts, samples.u, curves, shares)
    for start, at, loss in zip(starts, theta, losses, strict=True):
        height = float(heights[start.curve])
        with np.errstate(all="ignore"):
            symbolic = _canonical(start.name, at * (height, height, 1.0, 1.0), samples)
        if symbolic is None or not np.isfinite([loss, symbolic.a, symbolic.b, symbolic.c, symbolic.d]).all():
            continue
        offset = EDGE_CANDIDATES_OFFSET_COMPLEXITY if abs(symbolic.d) > 1e-9 * height else 0.0
        worth = EDGE_CANDIDATES_COMPLEXITY_WEIGHT * (FUNCTIONS[start.name].complexity + offset)
        error = float(np.sqrt(loss) * units[start.curve])
        candidate = Candidate(symbolic, error, float(np.log10(error + floors[start.curve])) + worth)
        own = offered[told[start.curve]]
        if start.name not in own or candidate.rank < own[start.name].rank:
            own[start.name] = candidate
    return tuple(tuple(sorted(own.values(), key=lambda candidate: candidate.rank)) for own in offered)


def within_domain(function: str, first: Array, last: Array) -> Mask:
    """Whether a function is finite on the whole interval between `first` (K,) and `last` (K,), given in any order."""
    low, high = np.minimum(first, last), np.maximum(first, last)
    return _DOMAINS[FUNCTIONS[function].domain](low, high)


_DOMAINS: dict[str, Callable[[Array, Array], Mask]] = {
    "": lambda low, high: np.isfinite(low) & np.isfinite(high),
    "x != 0": lambda low, high: (low > 0) | (high < 0),
    "x >= 0": lambda low, high: low >= 0,
    "x > 0": lambda low, high: low > 0,
    "-1 <= x <= 1": lambda low, high: (low >= -1) & (high <= 1),
    "-1 < x < 1": lambda low, high: (low > -1) & (high < 1),
    "x != pi/2 + n*pi": lambda low, high: np.floor(low / np.pi + 0.5) == np.floor(high / np.pi + 0.5),
}


@dataclass(frozen=True, eq=False)
class _Start:
    """Starting values c, d, a, b for fitting c·f(a·u + b) + d to one of the curves, with u in [-1, 1]."""

    name: str
    curve: int
    theta: Array


def _begin(samples: Samples, values: Array, weights: Array, floor: Array, library: Sequence[str]) -> list[_Start]:
    """The two best points of each function's coarse grid for each curve, without hopeless ones, in library order.
    `floor` (K,) are the curves' floors. Functions without a grid are always kept."""
    found: list[list[tuple[float, _Start]]] = [[] for _ in values]
    kept = []
    for name in library:
        if name in _SOLVED:
            kept += [start for k in range(len(values)) for start in _SOLVED[name](samples.u, values[k], weights[k], k)]
            continue
        starts = _starts(name, (samples.natural - samples.middle) / samples.half)
        starts = starts[within_domain(name, starts[:, 1] - starts[:, 0], starts[:, 1] + starts[:, 0])]
        if not len(starts):
            continue
        shapes = FUNCTIONS[name].numpy(starts[:, :1] * samples.u + starts[:, 1:])
        c, d, losses = _project(shapes, values, weights)
        for k, order in enumerate(np.argsort(losses, axis=1, kind="stable")[:, :2]):
            found[k] += [
                (float(losses[k, n]), _Start(name, k, np.array([c[k, n], d[k, n], *starts[n]])))
                for n in order
                if np.isfinite(losses[k, n])
            ]
    for k, ranked in enumerate(found):
        best = min((loss for loss, _ in ranked), default=0.0)
        kept += [start for loss, start in ranked if loss <= HOPELESS_LOSS_RATIO * (best + floor[k] ** 2)]
    return sorted(kept, key=lambda start: library.index(start.name))


def _parabola(u: Array, values: Array, weights: Array, curve: int) -> list[_Start]:
    """c·(u + b)² + d by linear least squares; empty for a straight line."""
    root = np.sqrt(weights)
    columns = np.stack([np.ones_like(u), u, u * u], axis=1)
    constant, slope, bend = np.linalg.lstsq(root[:, None] * columns, root * values, rcond=None)[0]
    centre = -0.5 * slope / bend
    theta = np.array([bend, constant - bend * centre**2, 1.0, -centre])
    return [_Start("x^2", curve, theta)] if np.isfinite(theta).all() else []


def _waves(u: Array, values: Array, weights: Array, curve: int) -> list[_Start]:
    """The two best rates of c·sin(a·u + b) + d, by linear least squares on a constant, a sine and a cosine."""
    columns = np.stack(
        [np.broadcast_to(np.ones_like(u), (len(_RATES), len(u))), np.sin(_RATES * u), np.cos(_RATES * u)], 1
    )
    weighted = columns * (weights / len(u))
    normal = weighted @ columns.transpose(0, 2, 1)
    normal += 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    answers = np.linalg.solve(normal, (weighted @ values)[:, :, None])
    losses = (((answers.transpose(0, 2, 1) @ columns)[:, 0] - values) ** 2) @ weights / len(u)
    best = [n for n in np.argsort(losses, kind="stable")[:2] if np.isfinite(losses[n])]
    d, sine, cosine = answers[best, :, 0].T
    theta = np.stack([np.hypot(sine, cosine), d, _RATES[best, 0], np.arctan2(cosine, sine)], axis=1)
    return [_Start("sin", curve, at) for at in theta]


_RATES = np.concatenate([np.geomspace(0.3, 8, 36), np.arange(8.6, 40, 0.7)])[:, None]
_SOLVED = {"x^2": _parabola, "sin": _waves}
"""Starts in closed form, without a coarse grid."""


def _project(shapes: Array, values: Array, weights: Array) -> tuple[Array, Array, Array]:
    """The best c and d (K, S) and weighted mean square errors for shapes (S, M) and curves (K, M), from sums of
    squares, which are accurate enough to choose starts."""
    total = weights.sum(axis=1, keepdims=True)
    shares = weights / total
    mean = shares @ shapes.T
    level = (shares * values).sum(axis=1, keepdims=True)
    target = shares * (values - level)
    covariance = target @ shapes.T
    variance = shares @ (shapes**2).T - mean**2
    c = np.divide(covariance, variance, out=np.zeros_like(variance), where=variance > 1e-14 * mean**2)
    spread = (target * (values - level)).sum(axis=1, keepdims=True)
    losses = np.maximum(spread - c * covariance, 0.0) * total / weights.shape[1]
    return c, level - c * mean, np.where(np.isfinite(losses) & np.isfinite(c), losses, np.inf)


def _polish(starts: Sequence[_Start], u: Array, values: Array, weights: Array) -> tuple[Array, Array]:
    """Damped Gauss-Newton steps on the non-redundant parameters. Returns c, d, a, b (S, 4) and losses (S,). After the
    first steps, only starts that still improve and are not far behind the best of their curve go on."""
    theta = np.array([start.theta for start in starts]).reshape(-1, 4)
    losses = np.full(len(starts), np.inf)
    damping = np.full(len(starts), 1e-3)
    curve = np.array([start.curve for start in starts], np.int64)
    going = np.arange(len(starts))
    for _ in range(REFINEMENT_ROUNDS):
        if len(going) == 0:
            break
        own = curve[going]
        root = np.sqrt(weights[own] / len(u))
        theta[going], losses[going], damping[going], still = _descend(
            [starts[int(n)].name for n in going], theta[going], damping[going], u, values[own], root
        )
        best = np.array([losses[curve == k].min(initial=np.inf) for k in range(len(values))])
        going = going[still & (losses[going] <= REFINEMENT_LOSS_RATIO * best[own])]
    return theta, losses


def _descend(
    names: Sequence[str], theta: Array, damping: Array, u: Array, values: Array, root: Array
) -> tuple[Array, Array, Array, Mask]:
    """Take a few Levenberg-Marquardt steps. Returns c, d, a, b (S, 4), losses, damping, and which still improve."""
    free = np.array([[True, True, *_free(name)] for name in names])
    groups = [(name, slice(names.index(name), names.index(name) + names.count(name))) for name in dict.fromkeys(names)]
    with np.errstate(all="ignore"):
        residual = _residuals(groups, theta, u, values, root)
        losses = (residual**2).sum(axis=1)
        going = np.isfinite(losses)
        for _ in range(STEPS_PER_ROUND):
            trial = theta + _step(groups, theta, free, u, root, residual, damping)
            new = _residuals(groups, trial, u, values, root)
            reached = (new**2).sum(axis=1)
            better = going & (reached < losses)
            gained = losses - reached
            theta, residual = np.where(better[:, None], trial, theta), np.where(better[:, None], new, residual)
            losses = np.where(better, reached, losses)
            damping = np.where(better, damping / 10, damping * 10)
            going &= ~(better & (gained < 1e-6 * losses)) & (damping < 1e8)
            if not going.any():
                break
    return theta, losses, damping, going


def _residuals(groups: list[tuple[str, slice]], theta: Array, u: Array, values: Array, root: Array) -> Array:
    """Weighted residuals (S, M); infinite if a function leaves its domain on [-1, 1]."""
    result = np.empty_like(values)
    for name, own in groups:
        a, b = theta[own, 2], theta[own, 3]
        shape = FUNCTIONS[name].numpy(a[:, None] * u + b[:, None])
        inside = within_domain(name, b - a, b + a)
        result[own] = np.where(inside[:, None], theta[own, :1] * shape + theta[own, 1:2] - values[own], np.inf)
    return root * result


def _step(
    groups: list[tuple[str, slice]], theta: Array, free: Mask, u: Array, root: Array, residual: Array, damping: Array
) -> Array:
    """The steps (S, 4) from the damped normal equations; 0 where these are not finite."""
    columns = np.empty((len(theta), 4, len(u)))
    columns[:, 1] = root
    for name, own in groups:
        inner = theta[own, 2:3] * u + theta[own, 3:]
        columns[own, 0] = root[own] * FUNCTIONS[name].numpy(inner)
        columns[own, 3] = root[own] * theta[own, :1] * finite_slope(name, inner)
    columns[:, 2] = columns[:, 3] * u
    columns *= free[:, :, None]
    normal = columns @ columns.transpose(0, 2, 1)
    gradient = (columns @ residual[:, :, None])[:, :, 0]
    fine = np.isfinite(normal).all(axis=(1, 2)) & np.isfinite(gradient).all(axis=1)
    normal[~fine], gradient[~fine] = 0.0, 0.0
    diagonal = np.einsum("sii->si", normal)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    normal = normal / scale[:, :, None] / scale[:, None, :]
    # The floor keeps the system solvable when two columns are equal up to rounding.
    normal += np.where(diagonal > 0, np.maximum(damping, 1e-14)[:, None], 1.0)[:, :, None] * np.eye(4)
    step: Array = np.linalg.solve(normal, -(gradient / scale)[:, :, None])[:, :, 0] / scale
    return step


def _free(name: str) -> tuple[bool, bool]:
    """Whether a and b are free, that is, not redundant in c·f(a·z + b) + d."""
    if name == "x":
        return False, False
    if name == "exp":
        return True, False
    return homogeneous(name) is None, True


def homogeneous(name: str) -> Callable[[float], tuple[float, float]] | None:
    """Factor and offset of f(s·t) = factor·f(t) + offset for s > 0, which powers have; None for other functions. The
    size of a is then redundant and set to 1."""
    exponent = 1.0 if name == "abs" else exponent_of(name)
    if exponent is not None:
        return lambda s: (s**exponent, 0.0)
    return (lambda s: (1.0, float(np.log(s)))) if name == "log" else None


def _canonical(name: str, theta: Array, samples: Samples) -> Symbolic | None:
    """The function in terms of z, redundant constants made neutral; None if |x| has no kink in the range."""
    c, d, a_of_u, b_of_u = theta  # NumPy numbers, whose powers overflow to infinity
    if name == "abs" and abs(b_of_u) >= 0.98 * abs(a_of_u):
        return None
    a = a_of_u / samples.half
    b = b_of_u - a * samples.middle
    if name == "x":
        return Symbolic("x", 1.0, 0.0, float(c * a), float(c * b + d))
    if scaling := homogeneous(name):
        factor, offset = scaling(abs(a))
        return Symbolic(name, float(np.sign(a)), float(b / abs(a)), float(c * factor), float(d + c * offset))
    if name == "exp" and abs(b) < 30:
        return Symbolic("exp", float(a), 0.0, float(c * np.exp(b)), float(d))
    return Symbolic(name, float(a), float(b), float(c), float(d))


def _starts(name: str, natural: float) -> Array:
    """A coarse grid of (a, b), (K, 2), for u in [-1, 1]; `natural` is the natural centre in units of u."""
    match name:
        case "x":
            return np.array([[1.0, 0.0]])
        case "x^3" | "x^4" | "x^5" | "abs":
            return _pairs(np.ones(1), np.append(np.linspace(-2, 2, 33), natural))
        case _ if name == "log" or exponent_of(name) is not None:
            poles = 1 + np.geomspace(1e-3, 10, 22)
            return _pairs(np.array([1.0, -1.0]), np.concatenate([poles, -poles, [natural]]))
        case "exp":
            growth = np.geomspace(0.05, 8, 24)
            return np.stack([np.concatenate([growth, -growth]), np.zeros(48)], axis=1)
        case "cos":
            rates, phases = np.meshgrid(_RATES, np.arange(8) * np.pi / 8)
            return np.stack([rates.ravel(), phases.ravel()], axis=1)
        case "tan" | "arcsin" | "arccos" | "arctanh":
            reach = np.pi / 2 if name == "tan" else 1.0
            rates, shifts = np.meshgrid(reach * np.geomspace(0.1, 0.999, 12), np.linspace(-1, 1, 9))
            return np.stack([rates.ravel(), (shifts * (reach - rates)).ravel()], axis=1)
        case _:
            return _pairs(np.geomspace(0.3, 10, 12), np.linspace(-1.6, 1.6, 17))


def _pairs(rates: Array, centres: Array) -> Array:
    """Combine every a with every b that puts the function's centre at one of the centres."""
    a, centre = np.meshgrid(rates, centres)
    return np.stack([a.ravel(), (-a * centre).ravel()], axis=1)
