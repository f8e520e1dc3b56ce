"""LBFGS and AdamW as steps from one state to the next: the caller decides when to stop, and can save the state.

The function to minimise takes a vector (P,) and returns its loss and gradient. No state has a vector whose loss or
gradient, once computed, was not finite; if no step is possible, the state is the last.

Torch's own LBFGS is not used: it accepts NaN in the line search, and it ignores curvature with y·s < 1e-10, which
losses of 1e-8 have from the start.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

from kanserve.errors import MissingDependencyError

MEMORY = 20  # pairs that LBFGS keeps
DECREASE = 1e-4  # of the Wolfe conditions
CURVATURE = 0.9  # wolfe's second condition
MOST_TRIALS = 25  # of one line search
EXPANSION = 4  # factor for a step that is too short
ADAM_FLOOR = 1e-8  # added to the root of the second moment (epsilon of Adam)

try:
    import torch
    from torch import Tensor
except ImportError:
    raise MissingDependencyError("torch", "torch") from None

Function = Callable[[Tensor], tuple[float, Tensor]]

ADAM_MEANS = (0.9, 0.999)


@dataclass(frozen=True, eq=False)
class Lbfgs:
    """The state of LBFGS: the vector, its loss and gradient, and recent pairs of step and gradient change."""

    vector: Tensor
    loss: float
    gradient: Tensor
    pairs: tuple[tuple[Tensor, Tensor], ...] = ()


@dataclass(eq=False)
class Adam:
    """The state of AdamW: the vector, running means of gradients and squares, the step count and the last loss. A step
    works in place: large networks are limited by memory bandwidth."""

    vector: Tensor
    mean: Tensor
    square: Tensor
    steps: int = 0
    loss: float = float("nan")


@dataclass(frozen=True, eq=False)
class Point:
    """A step t along a direction, with the loss, the slope along the direction and the gradient there."""

    t: float
    loss: float
    slope: float
    gradient: Tensor


def lbfgs(function: Function, start: Tensor) -> Lbfgs | None:
    """The initial state of LBFGS; None if the loss or the gradient is not finite."""
    loss, gradient = function(start)
    return Lbfgs(start, loss, gradient) if _finite(loss, gradient) else None


def lbfgs_step(function: Function, now: Lbfgs, length: float = 1.0) -> Lbfgs | None:
    """The next state, with a lower loss (Nocedal, Wright, Numerical Optimization, 2006, algorithm 7.5), or None.
    `length` is the first trial step, in units of the quasi-Newton step."""
    pairs = now.pairs
    while True:
        direction = _quasi_newton(now.gradient, pairs)
        slope = float(direction @ now.gradient)
        found = None
        if slope < 0:
            first = length if pairs else length * min(1.0, 1.0 / float(now.gradient.abs().sum()))
            found = _line_search(function, now.vector, direction, Point(0.0, now.loss, slope, now.gradient), first)
        if found is not None and found.loss < now.loss:
            break
        if not pairs:
            return None
        pairs = ()  # try again along the gradient
    step, change = found.t * direction, found.gradient - now.gradient
    if float(step @ change) > 0:
        pairs = (*pairs[-MEMORY + 1 :], (step, change))
    return Lbfgs(now.vector + step, found.loss, found.gradient, pairs)


def adam(start: Tensor) -> Adam:
    return Adam(start.clone(), torch.zeros_like(start), torch.zeros_like(start))


def adam_step(function: Function, now: Adam, rate: float, decay: Tensor | float = 0.0) -> bool:
    """An AdamW step (arXiv:1711.05101) in place; False if the loss or gradient before it was not finite. `function` may
    use another batch each time. `decay` (P,) is the weight decay."""
    loss, gradient = function(now.vector)
    if not _finite(loss, gradient):
        return False
    now.steps += 1
    now.loss = loss
    now.mean.lerp_(gradient, 1 - ADAM_MEANS[0])
    now.square.mul_(ADAM_MEANS[1]).addcmul_(gradient, gradient, value=1 - ADAM_MEANS[1])
    size = (now.square / (1 - ADAM_MEANS[1] ** now.steps)).sqrt_().add_(ADAM_FLOOR)
    now.vector.sub_(rate * decay * now.vector)
    now.vector.addcdiv_(now.mean, size, value=-rate / (1 - ADAM_MEANS[0] ** now.steps))
    return True


def _finite(loss: float, gradient: Tensor) -> bool:
    return isfinite(loss) and bool(torch.isfinite(gradient).all())


def _quasi_newton(gradient: Tensor, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """-H·gradient, where H approximates the inverse Hessian from the pairs (two-loop recursion, algorithm 7.4)."""
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
    """A point that meets the strong Wolfe conditions, or the lowest one if the trials run out; None if none is lower.
    `low` is the lowest point with sufficient decrease; a minimum lies between it and `high`. A point that is not finite
    is too far."""
    low, high = start, None
    for _ in range(MOST_TRIALS):
        loss, gradient = function(vector + t * direction)
        here = Point(t, loss, float(gradient @ direction), gradient)
        finite = isfinite(here.slope) and _finite(loss, gradient)
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
    """The minimum of the cubic interpolant (3.59), at least a tenth of the interval away from both ends."""
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
