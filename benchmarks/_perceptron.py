"""A perceptron with one output, trained by our own Levenberg-Marquardt in NumPy: the same steps, damping and ridge."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.train.lm.levenberg_marquardt import minimise
from kanserve.train.lm.parameter_vector import Penalty

Array = NDArray[np.float64]
Activation = Literal["tanh", "silu"]

RIDGE = 1e-13  # the same as ours on exact data
STEPS, PATIENCE = 1000, 15
TRY_SHARE, LAST_SHARE = 0.25, 0.2  # of the seconds: for the first run of each, and for the last run on all rows


@dataclass(frozen=True)
class Perceptron:
    """Widths from inputs to the output, and the activation between the layers."""

    widths: tuple[int, ...]
    activation: Activation

    @property
    def size(self) -> int:
        return sum((before + 1) * after for before, after in pairwise(self.widths))

    def start(self, seed: int) -> Array:
        """Random weights (P,), by Glorot; biases are random too, so that the bends are spread over the inputs."""
        generator = np.random.default_rng(seed)
        parts = []
        for before, after in pairwise(self.widths):
            parts.append(generator.normal(0, (2 / (before + after)) ** 0.5, before * after))
            parts.append(generator.uniform(-1, 1, after))
        return np.concatenate(parts)

    def layers(self, vector: Array) -> list[tuple[Array, Array]]:
        """Weights (before, after) and biases (after,) of each layer."""
        found, at = [], 0
        for before, after in pairwise(self.widths):
            end = at + before * after
            found.append((vector[at:end].reshape(before, after), vector[end : end + after]))
            at = end + after
        return found

    def activate(self, z: Array) -> tuple[Array, Array]:
        """The activation and its slope."""
        if self.activation == "tanh":
            t = np.tanh(z)
            return t, 1 - t * t
        s = 1 / (1 + np.exp(-z))
        return z * s, s * (1 + z * (1 - s))

    def values(self, vector: Array, x: Array) -> tuple[Array, list[Array], list[Array]]:
        """The output (N,), and the inputs of each layer (N, before) with the activation's slopes."""
        layers = self.layers(vector)
        inputs, slopes = [x], [np.ones_like(x)]
        with np.errstate(all="ignore"):  # a step that overflows is not taken
            for matrix, bias in layers[:-1]:
                value, slope = self.activate(inputs[-1] @ matrix + bias)
                inputs.append(value)
                slopes.append(slope)
            matrix, bias = layers[-1]
            return (inputs[-1] @ matrix + bias)[:, 0], inputs, slopes


class OutOfTime(Exception):
    pass


@dataclass(eq=False)
class Squares:
    """½·mean (output - y)² on rows x (N, inputs) and y (N,), for `levenberg_marquardt.minimise`, with a time limit."""

    net: Perceptron
    x: Array
    y: Array
    end: float = np.inf  # in CPU seconds of this process
    reached: Array = field(default_factory=lambda: np.empty(0))
    """The last accepted vector."""

    @property
    def size(self) -> int:
        return self.net.size

    def loss(self, vector: Array) -> tuple[float, Any]:
        values, inputs, slopes = self.net.values(vector, self.x)
        return 0.5 * float(((values - self.y) ** 2).mean()), (values, inputs, slopes)

    def normal_equations(self, vector: Array, state: Any) -> tuple[Array, Array]:
        self.reached = vector
        if time.process_time() >= self.end:
            raise OutOfTime
        values, inputs, slopes = state
        rows = len(self.x)
        back, blocks = np.ones((rows, 1)), []
        for (matrix, _), before, slope in zip(
            reversed(self.net.layers(vector)), reversed(inputs), reversed(slopes), strict=True
        ):
            blocks += [back, (before[:, :, None] * back[:, None, :]).reshape(rows, -1)]
            back = (back @ matrix.T) * slope
        jacobian = np.concatenate(blocks[::-1], axis=1)
        return jacobian.T @ jacobian / rows, jacobian.T @ (values - self.y) / rows


@dataclass(frozen=True, eq=False)
class Trained:
    """The result: the perceptron, a function of raw rows, and the squared error on the held-out rows."""

    net: Perceptron
    run: Callable[[Array], Array]
    held: float


def trained(
    nets: Sequence[Perceptron], train: Dataset, held: Dataset, every: Dataset, seconds: float, seed: int
) -> Trained:
    """The best of these on `held`, trained on `train` and finally on `every`.

    Each has a short run; the best continues for so many CPU seconds, with other random starts once it has converged.
    Runs are stopped when the seconds are over; a fifth of them is for the last run. Rows have raw inputs (N, inputs)
    and one answer; inputs are scaled to [-1, 1], answers to mean 0 and standard deviation 1.
    """
    low, high = every.x.min(axis=0), every.x.max(axis=0)
    shift, scale = float(every.y.mean()), float(every.y.std())

    def scaled(x: Array) -> Array:
        result: Array = 2 * (x - low) / (high - low) - 1
        return result

    def problem(net: Perceptron, rows: Dataset) -> Squares:
        return Squares(net, scaled(rows.x), (rows.y[:, 0] - shift) / scale)

    def judged(net: Perceptron, start: Array, seconds: float) -> tuple[float, Array]:
        vector = _descended(problem(net, train), start, seconds)
        return problem(net, held).loss(vector)[0], vector

    tries = [(judged(net, net.start(1000 * seed), TRY_SHARE * seconds), net) for net in nets]
    (least, best), net = min(tries, key=lambda attempt: attempt[0][0])
    begun, runs = time.process_time(), 0
    while (left := (1 - LAST_SHARE) * seconds - (time.process_time() - begun)) > 0:
        error, vector = judged(net, best if runs == 0 else net.start(1000 * seed + runs), left)
        if error < least:
            least, best = error, vector
        runs += 1
    best = _descended(problem(net, every), best, LAST_SHARE * seconds)
    return Trained(net, lambda x: net.values(best, scaled(x))[0] * scale + shift, least)


def _descended(problem: Squares, start: Array, seconds: float) -> Array:
    penalty = Penalty(np.full(problem.size, RIDGE), 0.0, start, ())
    problem.reached, problem.end = start, time.process_time() + seconds
    try:
        return minimise(problem, start, penalty, STEPS, PATIENCE)
    except OutOfTime:
        return problem.reached
