"""Sums of splines as torch operators with derivatives of any order: compiled kernels on a CPU, else plain torch.

Three operators are closed under differentiation. B⁽ⁿ⁾ is the n-th derivative of the basis functions of an input, also
outside its range:

    spline_sums          y[b,o]   = Σ_i w[b,i]·Σ_m c[o,i,m]·B_m⁽ⁿ⁾(x[b,i])
    spline_inputs        u[b,i]   = Σ_o g[b,o]·Σ_m c[o,i,m]·B_m⁽ⁿ⁾(x[b,i])
    spline_coefficients  d[o,i,m] = Σ_b g[b,o]·w[b,i]·B_m⁽ⁿ⁾(x[b,i])

The derivatives of each are the others, one order higher; w = None means 1. Derivatives beyond the order are 0.

Tensors: x (..., I), c (O, I, G+k), the table of `basis_tensor.table_of`, all of one precision. A row of x that is not
finite makes y NaN, and is ignored elsewhere.
"""

from collections.abc import Callable
from typing import Any

from kanserve.errors import MissingDependencyError
from kanserve.train.torch.basis_tensor import basis
from kanserve.train.torch.kernels import check, kernel, run

try:
    import torch
    from torch import Tensor
except ImportError:
    raise MissingDependencyError("torch", "torch") from None

NAMESPACE = "kanserve"
LIBRARY: Any = torch.library.Library(NAMESPACE, "DEF")  # type: ignore[no-untyped-call]  # torch gives it no types


def define(
    name: str, arguments: str, implementation: Callable[..., Any], shape: Callable[..., Any], result: str = "Tensor"
) -> Any:
    """Define an operator for every device; `shape` returns an empty tensor with the result's shape, for tracing."""
    LIBRARY.define(f"{name}({arguments}) -> {result}")
    LIBRARY.impl(name, implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", shape, lib=LIBRARY)
    return getattr(torch.ops.kanserve, name).default


def _sums_of(
    x: Tensor, weights: Tensor | None, coefficients: Tensor, table: Tensor, order: int, derivative: int
) -> Tensor:
    outputs, inputs, functions = coefficients.shape
    compiled = kernel("spline_sums", x)
    if compiled is not None:
        check(coefficients, x, table, (weights, x.numel()))
        y = x.new_empty(*x.shape[:-1], outputs)
        run(compiled, coefficients.shape, order, 0, x, (derivative,), table, weights, coefficients, y)
        return y
    rows = x.reshape(-1, inputs).T
    fine = torch.isfinite(rows).all(dim=0)
    values = basis(torch.where(fine, rows, 0.0), table, order, functions, derivative)
    if weights is not None:
        values = values * weights.reshape(-1, inputs).T[:, None]
    sums = coefficients.flatten(1) @ values.flatten(0, 1)
    fine = fine & torch.isfinite(sums).all(dim=0)
    return torch.where(fine, sums, torch.nan).T.reshape(*x.shape[:-1], outputs)


def _inputs_of(x: Tensor, coefficients: Tensor, gradient: Tensor, table: Tensor, order: int, derivative: int) -> Tensor:
    compiled = kernel("spline_inputs", x)
    if compiled is not None:
        outputs, inputs, _ = coefficients.shape
        check(coefficients, x, table, (gradient, x.numel() // inputs * outputs))
        u = _like(x)
        run(compiled, coefficients.shape, order, 0, x, (derivative,), table, coefficients, gradient, u)
        return u
    rows, g = _fine(x, gradient)
    values = basis(rows, table, order, coefficients.shape[2], derivative)
    return (values * torch.einsum("on,oim->imn", g, coefficients)).sum(dim=1).T.reshape(x.shape)


def _coefficients_of(
    x: Tensor, weights: Tensor | None, gradient: Tensor, table: Tensor, functions: int, order: int, derivative: int
) -> Tensor:
    inputs = x.shape[-1]
    compiled = kernel("spline_coefficients", x)
    if compiled is not None:
        d = x.new_empty(gradient.shape[-1], inputs, functions)
        check(d, x, table, (weights, x.numel()), (gradient, x.numel() // inputs * len(d)))
        run(compiled, d.shape, order, 0, x, (derivative,), table, weights, gradient, d)
        return d
    rows, g = _fine(x, gradient)
    values = basis(rows, table, order, functions, derivative)
    if weights is not None:
        values = values * weights.reshape(-1, inputs).T[:, None]
    return torch.einsum("on,imn->oim", g, values)


def _fine(x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """x (I, B) and the gradient (O, B), with rows that are not finite set to 0."""
    rows, g = x.reshape(-1, x.shape[-1]).T, gradient.reshape(-1, gradient.shape[-1]).T
    fine = torch.isfinite(rows).all(dim=0)
    return torch.where(fine, rows, 0.0), torch.where(fine, g, 0.0)


def _like(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


spline_sums = define(
    "spline_sums",
    "Tensor x, Tensor? weights, Tensor coefficients, Tensor table, int order, int derivative",
    _sums_of,
    lambda x, weights, coefficients, *_: x.new_empty(*x.shape[:-1], len(coefficients)),
)
spline_inputs = define(
    "spline_inputs",
    "Tensor x, Tensor coefficients, Tensor gradient, Tensor table, int order, int derivative",
    _inputs_of,
    _like,
)
spline_coefficients = define(
    "spline_coefficients",
    "Tensor x, Tensor? weights, Tensor gradient, Tensor table, int functions, int order, int derivative",
    _coefficients_of,
    lambda x, weights, gradient, table, functions, *_: x.new_empty(gradient.shape[-1], x.shape[-1], functions),
)


def _sums_backward(context: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    x, w, c, table, order, n = _restore_arguments(context)
    needed = context.needs_input_grad
    of_x = spline_inputs(x, c, g, table, order, n + 1) if needed[0] else None
    of_w = spline_inputs(x, c, g, table, order, n) if needed[1] else None
    of_c = spline_coefficients(x, w, g, table, c.shape[2], order, n) if needed[2] else None
    return of_x if of_x is None or w is None else w * of_x, of_w, of_c, None, None, None


def _inputs_backward(context: Any, h: Tensor) -> tuple[Tensor | None, ...]:
    x, c, g, table, order, n = _restore_arguments(context)
    needed = context.needs_input_grad
    of_x = h * spline_inputs(x, c, g, table, order, n + 1) if needed[0] else None
    of_c = spline_coefficients(x, h, g, table, c.shape[2], order, n) if needed[1] else None
    of_g = spline_sums(x, h, c, table, order, n) if needed[2] else None
    return of_x, of_c, of_g, None, None, None


def _coefficients_backward(context: Any, c: Tensor) -> tuple[Tensor | None, ...]:
    x, w, g, table, _, order, n = _restore_arguments(context)
    needed = context.needs_input_grad
    of_x = spline_inputs(x, c, g, table, order, n + 1) if needed[0] else None
    of_w = spline_inputs(x, c, g, table, order, n) if needed[1] else None
    of_g = spline_sums(x, w, c, table, order, n) if needed[2] else None
    return of_x if of_x is None or w is None else w * of_x, of_w, of_g, None, None, None, None


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # torch calls it with these names
    ctx.places = [n for n, variable in enumerate(inputs) if isinstance(variable, Tensor)]
    ctx.given = [None if isinstance(variable, Tensor) else variable for variable in inputs]
    ctx.save_for_backward(*(inputs[n] for n in ctx.places))


def _restore_arguments(context: Any) -> list[Any]:
    given = list(context.given)
    for n, saved_tensor in zip(context.places, context.saved_tensors, strict=True):
        given[n] = saved_tensor
    return given


for _name, _backward in (
    ("spline_sums", _sums_backward),
    ("spline_inputs", _inputs_backward),
    ("spline_coefficients", _coefficients_backward),
):
    torch.library.register_autograd(f"{NAMESPACE}::{_name}", _backward, setup_context=_keep, lib=LIBRARY)
