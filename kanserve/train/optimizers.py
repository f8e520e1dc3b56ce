"""LBFGS and AdamW as sequences of ever better vectors: whoever iterates decides when to stop.

A function to minimise takes a vector (P,) and gives its loss and gradient. Neither sequence ever yields a vector on
which the loss or the gradient is not finite; where there is no way on, it ends.

Torch's own LBFGS is not used: it takes NaN for a success of the line search, and it stops learning curvature once
y·s < 1e-10, which losses of 1e-8 have from the beginning.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite

from kanserve.errors import MissingDependencyError

try:
    import torch
    from torch import Tensor
except ImportError:
    raise MissingDependencyError("torch", "train") from None

Function = Callable[[Tensor], tuple[float, Tensor]]

MEMORY = 20
DECREASE, CURVATURE = 1e-4, 0.9  # the two conditions of Wolfe
MOST_TRIALS = 25
EXPANSION = 4  # of a step that does not go far enough
LEAST_COSINE = 1e-10  # of step and change of gradient; less is rounding
ADAM_MEANS = (0.9, 0.999)
ADAM_FLOOR = 1e-8


@dataclass(frozen=True, eq=False)
class Point:
    """A step t along a direction, with the loss, its slope along the direction and its gradient there."""

    t: float
    loss: float
    slope: float
    gradient: Tensor


def lbfgs(function: Function, start: Tensor, length: float = 1.0) -> Iterator[tuple[Tensor, float]]:
    """Vectors of falling loss (Nocedal, Wright, Numerical Optimization, 2006, algorithm 7.5), from `start` on.

    `length` is the first trial step, in units of the quasi-Newton step.
    """
    vector = start
    loss, gradient = function(vector)
    if not (isfinite(loss) and bool(torch.isfinite(gradient).all())):
        return
    pairs: list[tuple[Tensor, Tensor]] = []
    while True:
        direction = _quasi_newton(gradient, pairs)
        slope = float(direction @ gradient)
        found = None
        if slope < 0:
            first = length if pairs else length * min(1.0, 1.0 / float(gradient.abs().sum()))
            found = _line_search(function, vector, direction, Point(0.0, loss, slope, gradient), first)
        if found is None or not found.loss < loss:
            if not pairs:
                return
            pairs.clear()  # once more from here, straight downhill
            continue
        step, change = found.t * direction, found.gradient - gradient
        if float(step @ change) > LEAST_COSINE * float(step.norm() * change.norm()):
            pairs = [*pairs[-MEMORY + 1 :], (step, change)]
        vector, loss, gradient = vector + step, found.loss, found.gradient
        yield vector, loss


def adam(
    function: Function, start: Tensor, rates: Iterator[float], decay: Tensor | float = 0.0
) -> Iterator[tuple[Tensor, float]]:
    """Vectors of AdamW (arXiv:1711.05101), one for each of `rates`, with the loss before the step.

    `function` may give the loss of a part of the rows, another part each time. `decay` (P,) pulls to 0.
    """
    vector = start
    mean, square = torch.zeros_like(start), torch.zeros_like(start)
    for step, rate in enumerate(rates, 1):
        loss, gradient = function(vector)
        if not (isfinite(loss) and bool(torch.isfinite(gradient).all())):
            return
        mean = torch.lerp(gradient, mean, ADAM_MEANS[0])
        square = torch.lerp(gradient * gradient, square, ADAM_MEANS[1])
        size = (square / (1 - ADAM_MEANS[1] ** step)).sqrt() + ADAM_FLOOR
        vector = vector - rate * (mean / (1 - ADAM_MEANS[0] ** step) / size + decay * vector)
        yield vector, loss


def _quasi_newton(gradient: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """-H·gradient, H the inverse Hessian that the pairs of steps and changes of the gradient say (two loops, 7.4)."""
    direction = -gradient
    shares = []
    for step, change in reversed(pairs):
        shares.append((step @ direction) / (step @ change))
        direction = direction - shares[-1] * change
    if pairs:
        step, change = pairs[-1]
        direction = direction * ((step @ change) / (change @ change))
    for (step, change), share in zip(pairs, reversed(shares), strict=True):
        direction = direction + (share - (change @ direction) / (step @ change)) * step
    return direction


def _line_search(function: Function, vector: Tensor, direction: Tensor, start: Point, t: float) -> Point | None:
    """A point that meets Wolfe's strong conditions, or the lowest one found if the trials run out; None if none is.

    `low` is the lowest point that went down enough; a minimum lies between it and `high`, once there is a `high`. A
    point that is not finite is too far away.
    """
    low, high = start, None
    for _ in range(MOST_TRIALS):
        loss, gradient = function(vector + t * direction)
        here = Point(t, loss, float(gradient @ direction), gradient)
        finite = isfinite(loss) and isfinite(here.slope) and bool(torch.isfinite(gradient).all())
        if not finite or loss > start.loss + DECREASE * t * start.slope or (low.t > 0 and loss >= low.loss):
            high = here if finite else Point(t, float("inf"), float("nan"), gradient)
        elif abs(here.slope) <= -CURVATURE * start.slope:
            return here
        else:
            ahead = high.t - low.t if high is not None else 1.0
            if here.slope * ahead >= 0:
                high = low
            low = here
        t = EXPANSION * low.t if high is None else _between(low, high)
        if t in (low.t, start.t):  # no float is left in between
            break
    return low if low.t > 0 else None


def _between(low: Point, high: Point) -> float:
    """The minimum of the cubic through both points (3.59), kept away from them by a tenth of the way."""
    width = high.t - low.t
    if not isfinite(high.loss):
        return low.t + 0.1 * width
    first = low.slope + high.slope - 3 * (high.loss - low.loss) / width
    radicand = first * first - low.slope * high.slope
    share = 0.5
    if radicand >= 0:
        root = radicand**0.5 if width > 0 else -(radicand**0.5)
        below = high.slope - low.slope + 2 * root
        if below != 0:
            share = 1 - (high.slope + root - first) / below
    return low.t + min(max(share, 0.1), 0.9) * width if isfinite(share) else low.t + 0.5 * width
