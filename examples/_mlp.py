"""The perceptrons (MLPs) that the examples compare with: float64, on one thread, as strong as we could make them.

Derivatives by the inputs are propagated forward, as in our own networks, instead of by automatic differentiation twice:
the same numbers several times faster. Two trainers: torch's LBFGS with line search, and our own Levenberg-Marquardt.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanserve.train.lm.levenberg_marquardt import minimise
from kanserve.train.lm.parameter_vector import Penalty

Array = NDArray[np.float64]

BLOCK = 2000  # rows of a Jacobian at once
RIDGE = 1e-13


@dataclass(frozen=True)
class Mlp:
    """A perceptron: its widths from inputs to outputs, and its activation, tanh or SiLU."""

    widths: tuple[int, ...]
    activation: str

    @property
    def size(self) -> int:
        return sum((before + 1) * after for before, after in pairwise(self.widths))

    def __str__(self) -> str:
        return f"MLP {'-'.join(map(str, self.widths))} {self.activation}"

    def start(self, seed: int) -> Tensor:
        """Random weights as one vector, by Glorot; biases 0."""
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for before, after in pairwise(self.widths):
            spread = (2 / (before + after)) ** 0.5
            parts += [torch.randn(before * after, generator=generator, dtype=torch.float64) * spread]
            parts += [torch.zeros(after, dtype=torch.float64)]
        return torch.cat(parts)

    def jet(self, vector: Tensor, x: Tensor, order: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Values (.., outputs), and for order 2 the first and second derivatives by each input, at x (.., inputs)."""
        inputs = range(self.widths[0]) if order else ()
        value = x
        first = [torch.zeros_like(x).index_fill(-1, torch.tensor(i), 1.0) for i in inputs]
        second = [torch.zeros_like(x) for _ in inputs]
        at = 0
        for n, (before, after) in enumerate(pairwise(self.widths)):
            matrix = vector[at : at + before * after].view(before, after)
            bias = vector[at + before * after : at + (before + 1) * after]
            at += (before + 1) * after
            value = value @ matrix + bias
            first = [d @ matrix for d in first]
            second = [dd @ matrix for dd in second]
            if n < len(self.widths) - 2:
                value, slope, bend = self._activate(value)
                second = [slope * dd + bend * d * d for d, dd in zip(first, second, strict=True)]
                first = [slope * d for d in first]
        return value, first, second

    def _activate(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The activation, its first and its second derivative."""
        if self.activation == "tanh":
            t = torch.tanh(z)
            slope = 1 - t * t
            return t, slope, -2 * t * slope
        s = torch.sigmoid(z)
        p = s * (1 - s)
        return z * s, s + z * p, p * (2 + z * (1 - 2 * s))


@dataclass(eq=False)
class Squares:
    """½·Σ residual² of a vector. `terms` are (residual function of one row or many, rows, root of the weight)."""

    size: int
    terms: Sequence[tuple[Callable[[Tensor, Tensor], Tensor], Tensor, float]]

    def of(self, vector: Tensor) -> Tensor:
        return torch.stack(
            [0.5 * (root * residual(vector, rows)).square().sum() for residual, rows, root in self.terms]
        ).sum()

    # The interface of `levenberg_marquardt.minimise`.

    def loss(self, vector: Array) -> tuple[float, Any]:
        with torch.no_grad():
            found = [root * residual(torch.from_numpy(vector), rows) for residual, rows, root in self.terms]
        return 0.5 * float(sum(residual.square().sum() for residual in found)), found

    def normal_equations(self, vector: Array, state: Any) -> tuple[Array, Array]:
        theta = torch.from_numpy(vector)
        matrix, gradient = np.zeros((self.size, self.size)), np.zeros(self.size)
        for (residual, rows, root), values in zip(self.terms, state, strict=True):
            each = torch.func.vmap(torch.func.grad(residual), in_dims=(None, 0))
            for part, own in zip(torch.split(rows, BLOCK), torch.split(values, BLOCK), strict=True):
                jacobian = root * each(theta, part).numpy()
                matrix += jacobian.T @ jacobian
                gradient += jacobian.T @ own.numpy()
        return matrix, gradient


def regression(mlp: Mlp, x: Array, y: Array) -> Squares:
    """½·mean (perceptron(x) - y)² for x (N, inputs) and y (N, 1)."""

    def residual(vector: Tensor, row: Tensor) -> Tensor:
        return mlp.jet(vector, row[..., :-1], 0)[0][..., 0] - row[..., -1]

    return Squares(mlp.size, ((residual, torch.from_numpy(np.column_stack([x, y])), len(x) ** -0.5),))


def warm_up() -> None:
    """Set torch to one thread and warm it up, so that the first steps are not timed."""
    torch.set_num_threads(1)
    mlp = Mlp((1, 2, 1), "tanh")
    problem = regression(mlp, np.zeros((2, 1)), np.ones((2, 1)))
    for train in (by_lbfgs, by_levenberg):
        train(mlp.start(0), problem, 1e-3)


def by_lbfgs(start: Tensor, problem: Squares, seconds: float) -> tuple[Tensor, float]:
    """The best vector in so many CPU seconds of LBFGS (up to five iterations more), and the seconds spent."""
    vector = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([vector], max_iter=5, history_size=50, line_search_fn="strong_wolfe")
    best, least = start, np.inf
    begun = time.process_time()

    def closure() -> Tensor:
        nonlocal best, least
        optimizer.zero_grad()
        value = problem.of(vector)
        if value.item() < least:
            best, least = vector.detach().clone(), value.item()
        value.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
        return value

    while time.process_time() - begun < seconds:
        optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch gives it no types
    return best, time.process_time() - begun


def by_levenberg(start: Tensor, problem: Squares, seconds: float) -> tuple[Tensor, float]:
    """The vector after so many CPU seconds of our Levenberg-Marquardt (up to one step more), and the seconds spent."""
    begun = time.process_time()
    timed = Timed(problem.size, problem.terms, start.numpy(), begun + seconds)
    penalty = Penalty(np.full(problem.size, RIDGE), 0.0, start.numpy(), ())
    with contextlib.suppress(OutOfTime):
        timed.vector = minimise(timed, start.numpy(), penalty, steps=1_000_000, patience=100)
    return torch.from_numpy(timed.vector), time.process_time() - begun


class OutOfTime(Exception):
    pass


@dataclass(eq=False)
class Timed(Squares):
    """`Squares` with a limit of CPU time; `vector` is the last accepted vector."""

    vector: Array
    end: float

    def normal_equations(self, vector: Array, state: Any) -> tuple[Array, Array]:
        self.vector = vector  # called once for each accepted vector
        if time.process_time() >= self.end:
            raise OutOfTime
        return super().normal_equations(vector, state)
