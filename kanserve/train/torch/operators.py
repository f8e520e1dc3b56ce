"""A layer of splines as a torch operator, `torch.ops.kanserve.layer`: compiled kernels on a CPU, plain torch elsewhere.

It computes a whole layer of sum nodes in one forward and one backward pass. For second derivatives it is composed of
`spline_operators` instead, which can be differentiated any number of times.

Tensors: x (..., I), coefficients (O, I, G+k), base_weight (O, I), the table of `basis_tensor.table_of`, all of one
precision. A row in which anything is not finite is NaN and passes no gradient back.
"""

from collections.abc import Sequence
from typing import Any

from kanserve.errors import MissingDependencyError
from kanserve.train.torch.kernels import check, kernel, run, watch
from kanserve.train.torch.spline_operators import LIBRARY, define, spline_coefficients, spline_inputs, spline_sums

try:
    import torch
    from torch import Tensor
except ImportError:
    raise MissingDependencyError("torch", "torch") from None

BASES: dict[str, int] = {"zero": 0, "silu": 1, "identity": 2}
CONTIGUOUS = torch.contiguous_format

Arguments = tuple[
    Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None, int, int
]  # the arguments of `layer` after x
_TENSORS = 7  # how many of them are tensors


def chain(x: Tensor, layers: Sequence[Arguments]) -> Tensor:
    """A chain of layers of sum nodes, (..., I) of the first to (..., O) of the last. Each computes
    node_scale·(subnode_scale·sums + subnode_bias) + node_bias, or only its sums if the four are None."""
    if watch(x):
        for own in layers:
            x = layer(x, *own)
        return x
    numbers = [own[_TENSORS:] for own in layers]
    return _chain(_layer_forward, _layer_backward, numbers, x, *(tensor for own in layers for tensor in own[:_TENSORS]))


def _chain(*arguments: Any) -> Tensor:
    result: Tensor = _Chain.apply(*arguments)  # type: ignore[no-untyped-call, unused-ignore]  # torch < 2.15 gives it no types
    return result


class _Chain(torch.autograd.Function):
    """A chain of layers. `forward` and `backward` are called for each layer; they are functions or operators."""

    @staticmethod
    def forward(context: Any, forward: Any, backward: Any, numbers: Any, x: Tensor, *tensors: Tensor | None) -> Tensor:
        values = [x]
        for n, (order, base) in enumerate(numbers):
            values.append(forward(values[-1], *tensors[_TENSORS * n : _TENSORS * (n + 1)], order, base))
        context.save_for_backward(*values, *tensors)
        context.backward_of_layer, context.numbers = backward, numbers
        return values[-1]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), numbers = gradients, context.numbers
        saved = context.saved_tensors  # read once, as torch.utils.checkpoint requires
        values, tensors = saved[: len(numbers) + 1], saved[len(numbers) + 1 :]
        needed = context.needs_input_grad[3:]
        scaled = any(needed[n + place] for n in range(1, len(needed), _TENSORS) for place in (3, 5))
        if torch.is_grad_enabled() or scaled:  # a gradient of the gradient, or of a scale
            return None, None, None, *_gradient_by_parts(gradient, (values[0], *tensors), numbers, needed)
        found: list[Tensor | None] = []
        for n in range(len(numbers) - 1, -1, -1):
            own = slice(_TENSORS * n, _TENSORS * (n + 1))
            wanted = [n > 0 or needed[0], *needed[1:][own]]
            made = context.backward_of_layer(gradient, values[n + 1], values[n], *tensors[own], *numbers[n], wanted)
            made.reverse()
            gradient = made.pop() if wanted[0] else gradient
            found[:0] = [made.pop() if is_wanted else None for is_wanted in wanted[1:]]
        return None, None, None, gradient if needed[0] else None, *found


def _layer_forward(
    x: Tensor, coefficients: Tensor, base_weight: Tensor | None, table: Tensor, *affine_order_base: Any
) -> Tensor:
    *affine, order, base = affine_order_base
    compiled = kernel("layer_forward", x)
    if compiled is None:
        return _parts(x, coefficients, base_weight, table, *affine_order_base)
    outputs, inputs, _ = coefficients.shape
    check(coefficients, x, table, (base_weight, outputs * inputs), *((tensor, outputs) for tensor in affine))
    y = x.new_empty((*x.shape[:-1], outputs))
    run(compiled, coefficients.shape, order, base, x, (), table, coefficients, base_weight, *affine, y)
    return y


def _layer_backward(gradient: Tensor, y: Tensor, *arguments: Any) -> list[Tensor]:
    """The gradients of the tensors of `layer` that need one, in order; the scales do not."""
    compiled = kernel("layer_backward", y)
    if compiled is None:
        return _plain_backward(gradient, y, *arguments)
    *tensors, order, base, needed = arguments
    x, coefficients, base_weight, table, subnode_scale, _, node_scale, _ = tensors
    made = [
        torch.empty_like(tensor, memory_format=CONTIGUOUS) if needed[n] else None for n, tensor in enumerate(tensors)
    ]
    read = (coefficients, base_weight, subnode_scale, node_scale, y, gradient)
    run(compiled, coefficients.shape, order, base, x, (), table, *read, made[0], made[1], made[2], made[5], made[7])
    return [tensor for tensor in made if tensor is not None]


def _plain_backward(gradient: Tensor, y: Tensor, *arguments: Any) -> list[Tensor]:
    *tensors, order, base, needed = arguments
    x, coefficients, base_weight, table, subnode_scale, _, node_scale, _ = tensors
    fine = torch.isfinite(y).all(dim=-1, keepdim=True)
    v, g = (torch.where(fine, tensor, 0.0).reshape(-1, tensor.shape[-1]) for tensor in (x, gradient))
    made: dict[int, Tensor] = {}
    if node_scale is not None:
        made[7] = g.sum(dim=0)
        made[5] = node_scale * made[7]
        g = node_scale * subnode_scale * g
    if needed[0]:
        made[0] = spline_inputs(v, coefficients, g, table, order, 1)
    if needed[1]:
        made[1] = spline_coefficients(v, None, g, table, coefficients.shape[2], order, 0)
    if base_weight is not None:
        sigmoid = torch.sigmoid(v)
        silu = base == BASES["silu"]
        made[2] = g.T @ (v * sigmoid if silu else v)
        if needed[0]:
            made[0] = made[0] + (g @ base_weight) * (sigmoid * (1 + v * (1 - sigmoid)) if silu else 1.0)
    return [made[n].reshape(tensor.shape) for n, tensor in enumerate(tensors) if needed[n]]


def _layer_backward_shapes(gradient: Tensor, y: Tensor, *arguments: Any) -> list[Tensor]:
    needed = arguments[-1]
    return [
        torch.empty_like(argument, memory_format=CONTIGUOUS) for n, argument in enumerate(arguments[:-3]) if needed[n]
    ]


def _parts(x: Tensor, coefficients: Tensor, base_weight: Tensor | None, table: Tensor, *rest: Any) -> Tensor:
    """`layer`, composed of operators that can be differentiated repeatedly."""
    subnode_scale, subnode_bias, node_scale, node_bias, order, base = rest
    fine = torch.isfinite(x).all(dim=-1, keepdim=True)
    v = torch.where(fine, x, 0.0)
    y: Tensor = spline_sums(v, None, coefficients, table, order, 0)
    if base_weight is not None:
        y = y + torch.nn.functional.linear(torch.nn.functional.silu(v) if base == BASES["silu"] else v, base_weight)
    if subnode_scale is not None:
        y = node_scale * (subnode_scale * y + subnode_bias) + node_bias
    fine = fine & torch.isfinite(y).all(dim=-1, keepdim=True)
    return torch.where(fine, y, torch.nan)


def _gradient_by_parts(
    gradient: Tensor, tensors: Sequence[Any], numbers: Sequence[tuple[int, int]], needed: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of the tensors that need one, with a graph for second derivatives if gradients are enabled."""
    graph = torch.is_grad_enabled()
    wanted = [n for n, is_needed in enumerate(needed) if is_needed]
    with torch.enable_grad():
        # Views, since x may depend on the same coefficients, and that dependence must not count here.
        own = [tensor.view_as(tensor) if needed[n] else tensor for n, tensor in enumerate(tensors)]
        y = own[0]
        for n, (order, base) in enumerate(numbers):
            y = _parts(y, *own[1 + _TENSORS * n : 1 + _TENSORS * (n + 1)], order, base)
    made = torch.autograd.grad(y, [own[n] for n in wanted], gradient, create_graph=graph, materialize_grads=True)
    found = dict(zip(wanted, made, strict=True))
    return [found.get(n) for n in range(len(needed))]


def _layer_shape(x: Tensor, coefficients: Tensor, *_: Any) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(coefficients))


_ARGUMENTS = (
    "Tensor x, Tensor coefficients, Tensor? base_weight, Tensor table, Tensor? subnode_scale, Tensor? subnode_bias, "
    "Tensor? node_scale, Tensor? node_bias, int order, int base"
)
# `layer` adds derivatives to `layer_forward`, so that a trace shows the kernels that are called.
layer = define("layer", _ARGUMENTS, _layer_forward, _layer_shape)
layer_forward = define("layer_forward", _ARGUMENTS, _layer_forward, _layer_shape)
layer_backward = define(
    "layer_backward",
    f"Tensor gradient, Tensor y, {_ARGUMENTS}, bool[] needed",
    _layer_backward,
    _layer_backward_shapes,
    result="Tensor[]",
)


def _layer_with_derivatives(x: Tensor, *rest: Any) -> Tensor:
    return _chain(layer_forward, layer_backward, [rest[_TENSORS:]], x, *rest[:_TENSORS])


LIBRARY.impl("layer", _layer_with_derivatives, "Autograd")
