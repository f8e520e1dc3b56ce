"""Named functions for one edge: c·f(a·z + b) + d close to what the edge gives, the simplest good one first.

After the symbolic step of arXiv:2404.19756 §2.5.1, with the search over c and d done in closed form (variable
projection): a coarse grid over a and b for each function, then a few damped Gauss-Newton steps on all four.
Errors are weighted with the sensitivity of the outputs to the edge, so they are in units of the outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.functions import FUNCTIONS
from kanserve.ir import Symbolic

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

POINTS = 160
POLISH = 10
HOPELESS = 1e3
"""A function whose coarse loss is this many times the best's is not polished."""
COMPLEXITY_WEIGHT = 0.12
FREE_OFFSET = 0.3

LIBRARY = (
    *("x", "x^2", "x^3", "x^4", "1/x", "1/x^2", "sqrt", "1/sqrt", "exp", "log", "sin", "tan"),
    *("arcsin", "arctan", "arctanh", "sinh", "cosh", "tanh", "gaussian", "abs"),
)
"""Of the functions that are one another's shifts, mirrors or multiples (sin and cos, tanh and sigmoid), one each."""


@dataclass(frozen=True, eq=False)
class Samples:
    """An edge as points: z (M,) ascending, its values, their weights, and the range [low, high] that z may have.

    `natural` is where the raw feature is 0, a likely place for the centre of a power or for a pole.
    """

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
        """z moved to [-1, 1]."""
        return (self.z - self.middle) / self.half


@dataclass(frozen=True)
class Candidate:
    """A named function for an edge, its weighted root mean square error and its rank (lower is better)."""

    symbolic: Symbolic
    error: float
    rank: float


def candidates(samples: Samples, floor: float, library: Sequence[str] = LIBRARY) -> tuple[Candidate, ...]:
    """What fits the samples, best rank first: log10 of the error plus the price of complexity.

    Errors below `floor` count as equal, so that among functions inside the noise the simplest comes first. Functions
    that leave their domain somewhere in [low, high] are not offered.
    """
    coarse = {name: found for name in library if (found := _searched(samples, name))}
    best = min((found[0].loss for found in coarse.values()), default=0.0)
    offered = []
    for name, starts in coarse.items():
        if starts[0].loss > HOPELESS * (best + floor**2):
            starts = starts[:1]
        else:
            starts = [_polished(start, name, samples) for start in starts]
        fit = min(starts, key=lambda start: start.loss)
        symbolic = _canonical(name, fit, samples)
        if symbolic is not None:
            offset = FREE_OFFSET if abs(symbolic.d) > 1e-9 * np.abs(samples.values).max(initial=0.0) else 0.0
            worth = COMPLEXITY_WEIGHT * (FUNCTIONS[name].complexity + offset)
            error = float(np.sqrt(fit.loss))
            offered.append(Candidate(symbolic, error, float(np.log10(error + floor)) + worth))
    return tuple(sorted(offered, key=lambda one: one.rank))


def within_domain(function: str, first: Array, last: Array) -> Mask:
    """Whether a function is finite on whole intervals: their ends first (K,) and last (K,), in any order."""
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
class _Fit:
    """c·f(a·u + b) + d with u in [-1, 1], as c, d, a, b, and its weighted mean square error."""

    theta: Array
    loss: float


def _searched(samples: Samples, name: str) -> list[_Fit]:
    """The two best of the coarse grid; none when no member of the family stays in its domain."""
    middle, half = samples.middle, samples.half
    if half <= 0:
        return []
    starts = _starts(name, (samples.natural - middle) / half)
    starts = starts[within_domain(name, starts[:, 1] - starts[:, 0], starts[:, 1] + starts[:, 0])]
    if not len(starts):
        return []
    with np.errstate(all="ignore"):
        shapes = FUNCTIONS[name].numpy(starts[:, :1] * samples.u + starts[:, 1:])
        c, d, losses = _projected(shapes, samples)
    order = np.argsort(losses, kind="stable")[:2]
    return [_Fit(np.array([c[k], d[k], *starts[k]]), float(losses[k])) for k in order if np.isfinite(losses[k])]


def _projected(shapes: Array, samples: Samples) -> tuple[Array, Array, Array]:
    """For shapes (K, M): the c and d (K,) that fit best, and the weighted mean square errors; NaN is infinite."""
    weights = samples.weights / samples.weights.sum()
    mean = shapes @ weights
    centred = shapes - mean[:, None]
    value = float(samples.values @ weights)
    target = samples.values - value
    variance = (centred**2) @ weights
    covariance = centred @ (weights * target)
    c = np.divide(covariance, variance, out=np.zeros_like(variance), where=variance > 0)
    losses = (((c[:, None] * centred - target) ** 2) @ weights) * samples.weights.mean()
    return c, value - c * mean, np.where(np.isfinite(losses) & np.isfinite(c), losses, np.inf)


def _polished(start: _Fit, name: str, samples: Samples) -> _Fit:
    """The fit after a few damped Gauss-Newton steps on c, d, a, b (those that are not redundant)."""
    theta, u = start.theta, samples.u
    row = FUNCTIONS[name]
    free = np.array([True, True, *_free(name)])
    root = np.sqrt(samples.weights / len(u))

    def residual(at: Array) -> Array:
        if not within_domain(name, at[3:] - at[2], at[3:] + at[2])[0]:
            return np.full(len(u), np.inf)
        values: Array = root * (at[0] * row.numpy(at[2] * u + at[3]) + at[1] - samples.values)
        return values

    with np.errstate(all="ignore"):
        r = residual(theta)
        loss, damping = float(r @ r), 1e-3
        for _ in range(POLISH):
            inner = theta[2] * u + theta[3]
            slope = theta[0] * row.derivative(inner)
            jacobian = (root * np.stack([row.numpy(inner), np.ones_like(u), slope * u, slope]))[free].T
            normal, gradient = jacobian.T @ jacobian, jacobian.T @ r
            if not (np.isfinite(normal).all() and np.isfinite(gradient).all()):
                break
            scale = np.diag(normal) + 1e-12 * np.trace(normal) + np.finfo(np.float64).tiny
            step = np.linalg.lstsq(normal + damping * np.diag(scale), -gradient, rcond=None)[0]
            trial = theta.copy()
            trial[free] += step
            r_trial = residual(trial)
            reached = float(r_trial @ r_trial)
            if reached < loss:
                theta, r, damping, gained = trial, r_trial, damping / 10, loss - reached
                loss = reached
                if gained < 1e-6 * loss:
                    break
            else:
                damping *= 10
    return _Fit(theta, loss)


def _free(name: str) -> tuple[bool, bool]:
    """Whether a and b change the shape of the family c·f(a·z + b) + d at all."""
    if name == "x":
        return False, False
    if name == "exp":
        return True, False
    return name not in HOMOGENEOUS, True


HOMOGENEOUS: dict[str, Callable[[float], tuple[float, float]]] = {
    "x": lambda s: (s, 0.0),
    "x^2": lambda s: (s**2, 0.0),
    "x^3": lambda s: (s**3, 0.0),
    "x^4": lambda s: (s**4, 0.0),
    "1/x": lambda s: (1 / s, 0.0),
    "1/x^2": lambda s: (s**-2, 0.0),
    "sqrt": lambda s: (s**0.5, 0.0),
    "1/sqrt": lambda s: (s**-0.5, 0.0),
    "abs": lambda s: (s, 0.0),
    "log": lambda s: (1.0, float(np.log(s))),
}
"""f(s·t) = factor·f(t) + offset for s > 0: the size of a is redundant in these, so it is always 1."""


def _canonical(name: str, fit: _Fit, samples: Samples) -> Symbolic | None:
    """The same function of z with the redundant constants neutral; None for |x| where it is a line."""
    c, d, a_of_u, b_of_u = fit.theta
    if name == "abs" and abs(b_of_u) >= 0.98 * abs(a_of_u):
        return None
    a = a_of_u / samples.half
    b = b_of_u - a * samples.middle
    if name == "x":
        return Symbolic("x", 1.0, 0.0, float(c * a), float(c * b + d))
    if name in HOMOGENEOUS:
        factor, offset = HOMOGENEOUS[name](abs(a))
        return Symbolic(name, float(np.sign(a)), float(b / abs(a)), float(c * factor), float(d + c * offset))
    if name == "exp" and abs(b) < 30:
        return Symbolic("exp", float(a), 0.0, float(c * np.exp(b)), float(d))
    return Symbolic(name, float(a), float(b), float(c), float(d))


def _starts(name: str, natural: float) -> Array:
    """The coarse grid of (a, b), (K, 2), for u in [-1, 1] and the natural centre in units of u."""
    match name:
        case "x":
            return np.array([[1.0, 0.0]])
        case "x^2" | "x^3" | "x^4" | "abs":
            return _pairs(np.ones(1), np.append(np.linspace(-2, 2, 33), natural))
        case "1/x" | "1/x^2" | "sqrt" | "1/sqrt" | "log":
            poles = 1 + np.geomspace(1e-3, 10, 22)
            return _pairs(np.array([1.0, -1.0]), np.concatenate([poles, -poles, [natural]]))
        case "exp":
            rates = np.geomspace(0.05, 8, 24)
            return np.stack([np.concatenate([rates, -rates]), np.zeros(48)], axis=1)
        case "sin" | "cos":
            rates, phases = np.meshgrid(np.geomspace(0.3, 16, 48), np.arange(8) * np.pi / 8)
            return np.stack([rates.ravel(), phases.ravel()], axis=1)
        case "tan" | "arcsin" | "arccos" | "arctanh":
            reach = np.pi / 2 if name == "tan" else 1.0
            rates, shifts = np.meshgrid(reach * np.geomspace(0.1, 0.999, 12), np.linspace(-1, 1, 9))
            return np.stack([rates.ravel(), (shifts * (reach - rates)).ravel()], axis=1)
        case _:
            return _pairs(np.geomspace(0.3, 10, 12), np.linspace(-1.6, 1.6, 17))


def _pairs(rates: Array, centres: Array) -> Array:
    """Every a with the b that puts the centre of the function at each of the centres."""
    a, centre = np.meshgrid(rates, centres)
    return np.stack([a.ravel(), (-a * centre).ravel()], axis=1)
