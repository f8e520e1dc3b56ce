"""Plain torch networks whose edges have other bases than splines, in the usual form and with the usual array names.

They are written from the definitions, in double: polynomials by SciPy's or NumPy's own evaluation where there is one.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Recurrence = Callable[[Tensor, int], list[Tensor]]


def _by_steps(
    first: Tensor, second: Tensor, step: Callable[[int, Tensor, Tensor], Tensor], degree: int
) -> list[Tensor]:
    found = [first, second]
    for n in range(2, degree + 1):
        found.append(step(n, found[-1], found[-2]))
    return found[: degree + 1]


def chebyshev(t: Tensor, degree: int) -> list[Tensor]:
    return [torch.cos(n * torch.acos(t)) for n in range(degree + 1)]


def chebyshev2(t: Tensor, degree: int) -> list[Tensor]:
    return _by_steps(torch.ones_like(t), 2 * t, lambda _, p, q: 2 * t * p - q, degree)


def legendre(t: Tensor, degree: int) -> list[Tensor]:
    return _by_steps(torch.ones_like(t), t, lambda n, p, q: ((2 * n - 1) * t * p - (n - 1) * q) / n, degree)


def hermite(t: Tensor, degree: int) -> list[Tensor]:
    return _by_steps(torch.ones_like(t), 2 * t, lambda n, p, q: 2 * t * p - 2 * (n - 1) * q, degree)


def bessel(t: Tensor, degree: int) -> list[Tensor]:
    return _by_steps(torch.ones_like(t), t + 1, lambda n, p, q: (2 * n - 1) * t * p + q, degree)


def fibonacci(t: Tensor, degree: int) -> list[Tensor]:
    return _by_steps(torch.zeros_like(t), torch.ones_like(t), lambda _, p, q: t * p + q, degree)


def lucas(t: Tensor, degree: int) -> list[Tensor]:
    return _by_steps(torch.full_like(t, 2), t, lambda _, p, q: t * p + q, degree)


def jacobi(a: float, b: float) -> Recurrence:
    from scipy.special import eval_jacobi

    return lambda t, degree: [torch.from_numpy(eval_jacobi(n, a, b, t.numpy())) for n in range(degree + 1)]


def gegenbauer(alpha: float) -> Recurrence:
    from scipy.special import eval_gegenbauer

    return lambda t, degree: [torch.from_numpy(eval_gegenbauer(n, alpha, t.numpy())) for n in range(degree + 1)]


def laguerre(alpha: float) -> Recurrence:
    from scipy.special import eval_genlaguerre

    return lambda t, degree: [torch.from_numpy(eval_genlaguerre(n, alpha, t.numpy())) for n in range(degree + 1)]


class PolynomialLayer(nn.Module):
    """y_o = Σ_i Σ_n c[i, o, n]·p_n(squash(x_i))."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        degree: int,
        polynomials: Recurrence,
        name: str,
        squash: Callable[[Tensor], Tensor] = torch.tanh,
    ) -> None:
        super().__init__()
        self.degree, self.polynomials, self.name, self.squash = degree, polynomials, name, squash
        spread = 1 / (inputs * (degree + 1)) ** 0.5
        self.register_parameter(name, nn.Parameter(spread * torch.randn(inputs, outputs, degree + 1).double()))

    def forward(self, x: Tensor) -> Tensor:
        values = torch.stack(self.polynomials(self.squash(x), self.degree), dim=-1)
        return torch.einsum("nid,iod->no", values, self.get_parameter(self.name))


class FourierLayer(nn.Module):
    """y_o = bias_o + Σ_i Σ_k (c[0, o, i, k-1]·cos(k·x_i) + c[1, o, i, k-1]·sin(k·x_i))."""

    def __init__(self, inputs: int, outputs: int, frequencies: int, bias: bool = True) -> None:
        super().__init__()
        spread = 1 / (inputs * frequencies) ** 0.5
        self.fouriercoeffs = nn.Parameter(spread * torch.randn(2, outputs, inputs, frequencies).double())
        self.bias = nn.Parameter(torch.randn(1, outputs).double()) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        k = torch.arange(1, self.fouriercoeffs.shape[-1] + 1)
        angles = x[:, :, None] * k
        cosines, sines = self.fouriercoeffs
        y = torch.einsum("nik,oik->no", angles.cos(), cosines) + torch.einsum("nik,oik->no", angles.sin(), sines)
        return y if self.bias is None else y + self.bias


class Quotient(nn.Module):
    """P(x)/Q(x) of each channel; channels come in groups, which share the numerator or have their own."""

    def __init__(self, groups: int, shared: bool = True, powers: tuple[int, int] = (5, 4)) -> None:
        super().__init__()
        self.weight_numerator = nn.Parameter(torch.randn(1 if shared else groups, powers[0] + 1).double())
        self.weight_denominator = nn.Parameter(torch.randn(groups, powers[1]).double())

    def forward(self, x: Tensor) -> Tensor:
        groups, n = self.weight_denominator.shape
        each = x.reshape(len(x), groups, -1, 1)
        above = (each ** torch.arange(self.weight_numerator.shape[1])) @ self.weight_numerator.expand(groups, -1)[
            ..., None
        ]
        below = (each.abs() ** torch.arange(1, n + 1)) @ self.weight_denominator.abs()[..., None]
        return (above / (1 + below)).reshape(x.shape)


class RationalNetwork(nn.Module):
    """act1, fc1, act2, fc2: a KAN of quotients, as in the transformers of KAT."""

    def __init__(self, widths: tuple[int, int, int], groups: tuple[int, int], shared: bool = True) -> None:
        super().__init__()
        self.fc1 = nn.Linear(widths[0], widths[1]).double()
        self.act1 = Quotient(groups[0], shared)
        self.act2 = Quotient(groups[1], shared)
        self.fc2 = nn.Linear(widths[1], widths[2], bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(self.act2(self.fc1(self.act1(x))))
        return y


def answers(model: nn.Module, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The model's outputs on rows in double."""
    with torch.no_grad():
        y: NDArray[np.float64] = model(torch.from_numpy(x)).numpy()
    return y
