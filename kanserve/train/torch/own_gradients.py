"""Functions that were registered by their values, in torch: computed by NumPy, with gradients of any order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanserve.network import dual_numbers
from kanserve.network.functions import function


def values_of(name: str) -> Callable[[Tensor], Tensor]:
    """The function of this name; its derivatives are those of the table of functions."""

    def values(x: Tensor) -> Tensor:
        result: Tensor = _Derivative.apply(x, name, 0)
        return result

    return values


class _Derivative(torch.autograd.Function):
    """A derivative of a function, of the order that is given; the gradient is the next derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, order: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.name, ctx.order = name, order
        numbers = x.detach().to("cpu", torch.float64).numpy()
        with np.errstate(all="ignore"):
            values = dual_numbers.derivatives(function(name), numbers, order)[-1]
        return torch.from_numpy(np.array(values, np.float64)).to(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return gradient * _Derivative.apply(x, ctx.name, ctx.order + 1), None, None
