"""The losses of a fit: values, first derivatives and curvatures by the scores, for every optimizer. A score u is a
network's output less its shift, divided by its scale, and t the target in the same unit. With a log link (Poisson,
Tweedie) u is the logarithm of the prediction divided by the mean target, and t the target divided by that mean.
Curvatures are at least the second derivative, or a bound that makes a step of reweighted least squares a descent (Huber
and quantile: ψ(r)/r; cross-entropy: the probabilities)."""

from dataclasses import dataclass
from math import inf, nan
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import quantiles, scale_weights
from kanserve.errors import DataError
from kanserve.network.evaluate import softmax
from kanserve.network.kan import Kan
from kanserve.train.scoring import cross_entropies

Array = NDArray[np.float64]
LossName = Literal["squared", "huber", "quantile", "poisson", "tweedie", "cross_entropy"]

# Huber's threshold in robust standard deviations: 95 % efficient on normal noise (Huber, Robust Statistics).
HUBER = 1.345
HUBER_LEAST = 1e-4  # of the first threshold: the last steps take none below, however small the residuals are
# Half-width, in robust standard deviations, of the parabola in place of the kink of the quantile loss.
QUANTILE_ROUNDING = 1e-2
MIDDLE_HALF = 1.349  # width of the middle half of a normal distribution, in standard deviations
LEAST_CURVATURE = 1e-4  # of cross-entropy, Poisson and Tweedie at a score: less makes steps too long
LEAST_SHARE = 1e-12  # frequency of a class without rows, so that its logarithm is finite


@dataclass(frozen=True)
class LossFunction:
    """A loss by its name, and its shape parameter if it has one."""

    name: LossName = "squared"
    shape: float = nan
    """Of Huber the residual from which on the loss is linear, of quantile the quantile, of Tweedie the power."""

    @property
    def log_link(self) -> bool:
        """Whether the network predicts the exponential of its scores."""
        return self.name in ("poisson", "tweedie")

    @property
    def robust(self) -> bool:
        """Whether the loss is robust, so that single targets must not set the scale."""
        return self.name in ("huber", "quantile")

    def answers(self, kan: Kan, y: Array) -> Array:
        """The targets (N, Q) in the unit of the scores."""
        if self.name == "cross_entropy":
            return y
        if self.log_link:
            result: Array = y / np.exp(kan.output_shift)
            return result
        scale = np.where(kan.output_scale == 0, 1.0, kan.output_scale)
        result = (y - kan.output_shift) / scale
        return result

    def values(self, u: Array, t: Array) -> Array:
        """The loss of each row (N,), infinite if it is not finite; for Poisson and Tweedie half the deviance."""
        with np.errstate(all="ignore"):
            if self.name == "cross_entropy":
                found = cross_entropies(u, t)
            else:
                found = (self.deviances(u, t) if self.log_link else self.of_residuals(u - t)).sum(axis=1)
        return np.where(np.isfinite(found), found, np.inf)

    def of_residuals(self, r: Any, numbers: Any = np) -> Any:
        """Squared, Huber or quantile loss of residuals u - t, which are arrays of `numbers`: numpy or torch."""
        if self.name == "squared":
            return 0.5 * r * r
        size = numbers.abs(r)
        if self.name == "huber":
            return numbers.where(size <= self.shape, 0.5 * r * r, self.shape * (size - 0.5 * self.shape))
        # ½|r| + (½ - quantile)·r, with the kink rounded off
        sharp, tilt = QUANTILE_ROUNDING, 2 * self.shape - 1
        rounded = numbers.where(size <= sharp, r * r / (2 * sharp), size - sharp / 2)
        return 0.5 * (rounded - tilt * r) + tilt * tilt * sharp / 4

    def deviances(self, u: Any, t: Any, numbers: Any = np) -> Any:
        """Half the Poisson or Tweedie deviance for each score and target, arrays of `numbers`."""
        logarithm = numbers.log(numbers.where(t > 0, t, 1.0))
        if self.name == "poisson":
            return t * (logarithm - u) - t + numbers.exp(u)
        p = self.shape
        if p == 2:
            return t * numbers.exp(-u) + u - logarithm - 1
        first = numbers.where(t > 0, numbers.exp((2 - p) * logarithm), 0.0) / ((1 - p) * (2 - p))
        return first - t * numbers.exp((1 - p) * u) / (1 - p) + numbers.exp((2 - p) * u) / (2 - p)

    def slopes(self, u: Array, t: Array) -> tuple[Array, Array]:
        """The first derivatives and the (positive) curvatures (N, Q)."""
        with np.errstate(all="ignore"):
            if self.name == "cross_entropy":
                chances = softmax(u)
                return chances - t, np.maximum(chances, LEAST_CURVATURE)
            r = u - t
            if self.name == "huber":
                return np.clip(r, -self.shape, self.shape), self.shape / np.maximum(np.abs(r), self.shape)
            if self.name == "quantile":
                sharp = QUANTILE_ROUNDING
                slope = 0.5 * np.clip(r / sharp, -1, 1) + 0.5 - self.shape
                return slope, 0.5 / np.maximum(np.abs(r), sharp)
            if self.name == "squared":
                return r, np.ones_like(r)
            if self.name == "poisson":
                mean = np.exp(u)
                return mean - t, np.maximum(mean, LEAST_CURVATURE)
            up, down = np.exp((2 - self.shape) * u), t * np.exp((1 - self.shape) * u)
            curvature = (2 - self.shape) * up + (self.shape - 1) * down
            return up - down, np.maximum(curvature, LEAST_CURVATURE)

    def constant(self, t: Array, weights: Array | None) -> Array:
        """The constant scores (Q,) with the lowest loss."""
        share = np.ones(len(t)) if weights is None else scale_weights(weights)
        if self.name == "cross_entropy":
            means = share @ t / share.sum()
            return np.asarray(np.log(np.maximum(means, LEAST_SHARE)))
        if self.log_link:
            return np.asarray(np.log(np.maximum(share @ t / share.sum(), np.finfo(np.float64).tiny)))
        if self.robust:
            at = self.shape if self.name == "quantile" else 0.5
            return np.array([quantiles(column, share, (at,))[0] for column in t.T])
        return np.asarray(share @ t / share.sum())

    def check(self, data: Dataset) -> None:
        """Raise DataError if this loss is undefined for some target."""
        if not self.log_link:
            return
        least = float(data.y.min())
        wanted = "positive" if self.name == "tweedie" and self.shape == 2 else "of 0 or more"
        if least < 0 or (wanted == "positive" and least == 0) or (data.y.max(axis=0) == 0).any():
            raise DataError(
                f"The loss {self.name} has a log link and needs answers {wanted}, not all 0 in a column; the least is "
                f"{least:.6g}. Use loss='squared' or loss='huber' for others."
            )


def robust_spread(values: Array, weights: Array | None = None) -> tuple[float, float]:
    """The median, and the standard deviation of a normal distribution with the same middle half; 0 if more than half of
    the values are equal."""
    low, middle, high = quantiles(values, weights, (0.25, 0.5, 0.75)).tolist()
    return middle, (high - low) / MIDDLE_HALF


def loss_function(name: LossName, quantile: float, power: float) -> LossFunction:
    """The loss for the arguments of `fit`. Huber's threshold is in robust standard deviations of the targets."""
    shape = {"huber": HUBER, "quantile": quantile, "tweedie": power}.get(name, nan)
    return LossFunction(name, float(shape))


def sharper(loss: LossFunction, u: Array, t: Array) -> LossFunction:
    """Huber's loss with a threshold that suits the residuals at these scores; any other loss unchanged."""
    if loss.name != "huber":
        return loss
    sizes = np.abs(u - t)
    spread = float(np.median(sizes)) * 2 / MIDDLE_HALF if len(sizes) else inf
    least = HUBER_LEAST * loss.shape
    return LossFunction("huber", min(max(HUBER * spread, least), loss.shape))
