"""The operators of a layer: compiled and in plain torch they are the same, and so are their derivatives."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from kanserve import native
from kanserve.errors import InputError
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, Layer, make_layer
from kanserve.train.torch import basis_tensor, modules, operators
from kanserve.train.torch.kernels import kernel
from kanserve.train.torch.spline_operators import spline_coefficients, spline_inputs, spline_sums
from tests.support.networks import kans

GRIDS = ("uniform", "uneven", "repeated")
WAYS = pytest.mark.parametrize("way", ["compiled", "plain"])
DOUBLE = 1e-12


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """gradgradcheck draws what it multiplies by; one of some hundred draws tells a knot's kink from its own steps."""
    torch.manual_seed(0)


def way_of(way: str):
    return nullcontext() if way == "compiled" else native.disable_kernels()


def some_layer(grid: str, *, outputs: int = 3, inputs: int = 2, order: int = 3, seed: int = 0, **options: Any) -> Layer:
    rng = np.random.default_rng(seed)
    intervals = 6
    steps = np.arange(-order, intervals + order + 1, dtype=float)
    if grid == "uneven":
        steps = steps + 0.3 * np.sin(2 * steps)
    elif grid == "repeated" and order > 1:  # a line would jump there
        steps[order + 2] = steps[order + 3]
    first = rng.uniform(-1.2, -0.8, inputs)
    knots = first[:, None] + 2 * steps / intervals
    return make_layer(
        rng.normal(0, 1, (outputs, inputs, intervals + order)),
        knots=knots,
        base_weight=rng.normal(0, 1, (outputs, inputs)),
        order=order,
        **options,
    )


def points(one: Layer, count: int = 60, *, knots: bool = True, finite: bool = True) -> Tensor:
    """Rows in the range, outside, on knots, far away, and some that are not finite."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-2.5, 2.5, (count, one.inputs))
    if knots:
        for i, own in enumerate(one.knots):
            x[: len(own), i] = own[:count]
    x[-1] = 1e3
    if not finite:
        x[3, 0], x[7, -1], x[11, 0] = np.nan, np.inf, -np.inf
    return torch.from_numpy(x)


def tensors(one: Layer) -> tuple[Tensor, Tensor, Tensor]:
    arrays = one.coefficients, one.base_weight, basis_tensor.table_of(one)
    coefficients, base_weight, table = (torch.from_numpy(np.array(own)) for own in arrays)
    return coefficients, base_weight, table


def both(call: Callable[[], list[Tensor]]) -> list[tuple[Tensor, Tensor]]:
    compiled = call()
    with native.disable_kernels():
        return list(zip(compiled, call(), strict=True))


def assert_same(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for compiled, plain in pairs:
        scale = float(plain.nan_to_num().abs().max()) or 1.0
        torch.testing.assert_close(compiled / scale, plain / scale, rtol=0, atol=DOUBLE, equal_nan=True)


def test_the_kernels_are_there():
    # Without them the tests below would compare plain torch with itself.
    assert kernel("layer_forward", torch.zeros(1, dtype=torch.float64)) is not None


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
def test_a_compiled_layer_and_its_gradients_are_those_of_plain_torch(grid: str, order: int, extrapolation: str):
    for outputs, base in product((1, 3, 17, 130), ("silu", "identity", "zero")):
        one = some_layer(grid, outputs=outputs, order=order, extrapolation=extrapolation, base=base)
        x = points(one, finite=False)
        coefficients, base_weight, table = tensors(one)
        weight = None if base == "zero" else base_weight
        rng = np.random.default_rng(2)
        affine = [torch.from_numpy(rng.normal(0, 1, outputs)) for _ in range(4)]
        arguments = (x, coefficients, weight, table, *affine, order, operators.BASES[base])
        gradient = torch.from_numpy(rng.normal(0, 1, (len(x), outputs)))
        needed = [True, True, weight is not None, False, False, True, False, True]

        def call(arguments=arguments, gradient=gradient, needed=needed) -> list[Tensor]:
            y = operators.layer_forward(*arguments)
            return [y, *operators.layer_backward(gradient, y, *arguments, needed)]

        pairs = both(call)
        assert_same(pairs)
        fine = torch.isfinite(x).all(dim=1)
        assert torch.isnan(pairs[0][0][~fine]).all() and torch.isfinite(pairs[0][0][fine]).all()
        assert not pairs[1][0][~fine].any() and all(torch.isfinite(tensor).all() for tensor, _ in pairs[1:])


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("order", [1, 3, 4])
def test_the_three_operators_are_those_of_plain_torch_at_every_derivative(grid: str, order: int):
    one = some_layer(grid, outputs=5, inputs=3, order=order)
    x = points(one, finite=False)
    coefficients, _, table = tensors(one)
    rng = np.random.default_rng(3)
    w, g = torch.from_numpy(rng.normal(0, 1, x.shape)), torch.from_numpy(rng.normal(0, 1, (len(x), 5)))

    def call(n: int) -> list[Tensor]:
        return [
            spline_sums(x, None, coefficients, table, order, n),
            spline_sums(x, w, coefficients, table, order, n),
            spline_inputs(x, coefficients, g, table, order, n),
            spline_coefficients(x, None, g, table, coefficients.shape[2], order, n),
            spline_coefficients(x, w, g, table, coefficients.shape[2], order, n),
        ]

    for derivative in range(order + 2):
        assert_same(both(partial(call, derivative)))
    beyond = spline_sums(x, None, coefficients, table, order, order + 1)
    assert not beyond[torch.isfinite(x).all(dim=1)].any()


@pytest.mark.slow
@pytest.mark.extended
@WAYS
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
def test_gradients_are_right_on_knots_and_outside(way: str, grid: str, extrapolation: str):
    one = some_layer(grid, extrapolation=extrapolation)
    inner = one.knots[:, one.order + 1 : -one.order - 1].T
    x = torch.from_numpy(np.concatenate([inner, np.random.default_rng(4).uniform(-2, 2, (3, 2)), [[-1.9, 2.2]]]))
    if grid == "repeated":  # a double knot takes a derivative away, so that differences across it are not a gradient
        x = torch.cat([x[:1], x[3:]])
    coefficients, base_weight, table = (own.requires_grad_(n < 2) for n, own in enumerate(tensors(one)))

    def call(x: Tensor, coefficients: Tensor, base_weight: Tensor) -> Tensor:
        y: Tensor = operators.layer(x, coefficients, base_weight, table, None, None, None, None, one.order, 1)
        return y

    with way_of(way):
        given = (x.requires_grad_(), coefficients, base_weight)
        assert gradcheck(call, given)
        assert gradgradcheck(call, given)


@pytest.mark.slow
@pytest.mark.extended
@WAYS
def test_the_three_operators_have_each_others_derivatives(way: str):
    one = some_layer("uneven")
    x = points(one, 4, knots=False)[:-1].requires_grad_()
    coefficients, _, table = tensors(one)
    w, g = torch.rand_like(x).requires_grad_(), torch.rand(len(x), 3, dtype=x.dtype).requires_grad_()
    c, count = coefficients.requires_grad_(), coefficients.shape[2]
    with way_of(way):
        for n in (0, 1):
            assert gradgradcheck(lambda x, w, c, n=n: spline_sums(x, w, c, table, 3, n), (x, w, c))
            assert gradgradcheck(lambda x, c, g, n=n: spline_inputs(x, c, g, table, 3, n), (x, c, g))
            assert gradgradcheck(lambda x, w, g, n=n: spline_coefficients(x, w, g, table, count, 3, n), (x, w, g))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's check looks there
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_accepts_the_operators(dtype: torch.dtype):
    one = some_layer("uniform")
    x, coefficients, base_weight, table = (own.to(dtype) for own in (points(one, 5, knots=False), *tensors(one)))
    g = torch.rand(5, 3, dtype=dtype)
    affine = [torch.rand(3, dtype=dtype) for _ in range(4)]
    torch.library.opcheck(spline_sums, (x.requires_grad_(), x.detach().clone(), coefficients, table, 3, 0))
    torch.library.opcheck(spline_inputs, (x, coefficients.requires_grad_(), g, table, 3, 1))
    torch.library.opcheck(spline_coefficients, (x, None, g, table, coefficients.shape[2], 3, 0))
    torch.library.opcheck(operators.layer, (x, coefficients, base_weight.requires_grad_(), table, *affine, 3, 1))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.filterwarnings("ignore:Guards may run slower")  # torch says so of Python 3.13.0
def test_a_compiled_module_is_the_same_under_torch_compile():
    kan = kans.ZOO["raw_features"]()
    module = modules.to_module(kan)
    x = torch.from_numpy(kans.rows(kan))

    def step(model: Callable[[Tensor], Tensor]) -> list[Tensor]:
        module.zero_grad()
        y = model(x)
        y[torch.isfinite(y).all(dim=1)].square().sum().backward()
        return [y.detach(), *(parameter.grad for parameter in module.parameters() if parameter.grad is not None)]

    eager = step(module)
    traced = step(torch.compile(module, backend="aot_eager", fullgraph=True))
    for ours, theirs in zip(traced, eager, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_results_do_not_depend_on_threads_or_strides():
    rng = np.random.default_rng(5)
    one = some_layer("uniform", outputs=70, inputs=24)
    x = torch.from_numpy(rng.uniform(-1.5, 1.5, (24, 3000)).astype(np.float32)).T
    module = modules.to_module(Kan((one,)), dtype=torch.float32)

    def step(x: Tensor) -> list[Tensor]:
        module.zero_grad()
        x = x.detach().requires_grad_()
        y = module(x)
        y.square().sum().backward()
        assert x.grad is not None
        return [y, x.grad, *(own.grad for own in module.parameters() if own.grad is not None)]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = step(x)
        torch.set_num_threads(4)
        together = step(x.contiguous())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(left, right) for left, right in zip(alone, together, strict=True))


def test_a_layer_takes_no_rows_and_any_leading_shape():
    kan = kans.ZOO["deep"]()
    module = modules.to_module(kan)
    x = torch.from_numpy(kans.rows(kan))[:12]
    assert torch.equal(module(x.reshape(2, 3, 2, -1)).reshape(12, -1), module(x))
    nothing = module(x[:0].requires_grad_())
    assert nothing.shape == (0, len(kan.output_shift))
    nothing.sum().backward()
    assert not any(parameter.grad.any() for parameter in module.parameters() if parameter.grad is not None)


@pytest.mark.filterwarnings("ignore:torch.searchsorted")  # of what vmap hands it
@pytest.mark.parametrize("name", ["uneven_knots", "mixed"])
def test_function_transforms_work(name: str):
    kan = kans.ZOO[name]()
    module = modules.to_module(kan)
    x = torch.from_numpy(np.random.default_rng(6).uniform(-0.9, 0.9, (4, len(kan.input_shift))))
    jacobians = torch.func.vmap(torch.func.jacrev(lambda row: module(row[None])[0]))(x)
    wanted = [torch.autograd.functional.jacobian(lambda row: module(row[None])[0], row) for row in x]
    torch.testing.assert_close(jacobians, torch.stack(wanted), rtol=1e-10, atol=1e-12)


def test_modules_work_with_checkpointing_and_parametrizations():
    x = torch.from_numpy(np.random.default_rng(9).uniform(-1, 1, (4, 2))).requires_grad_()
    module = modules.to_module(Kan((some_layer("uniform"),)))
    (wanted,) = torch.autograd.grad(module(x).square().sum(), x)
    (found,) = torch.autograd.grad(checkpoint(module, x, use_reentrant=False).square().sum(), x)
    assert torch.equal(found, wanted)
    parametrize.register_parametrization(module.layers[0], "coefficients", torch.nn.Identity())
    assert torch.equal(torch.autograd.grad(module(x).square().sum(), x)[0], wanted)


def test_a_float_layer_is_as_exact_as_float_allows():
    kan = Kan((some_layer("uniform", outputs=20, inputs=8, seed=7),))
    x = np.random.default_rng(8).uniform(-1, 1, (500, 8)).astype(np.float32)
    y = modules.to_module(kan, dtype=torch.float32)(torch.from_numpy(x)).detach().numpy()
    assert np.abs(y - evaluate(kan, x.astype(np.float64))).max() < 5e-6


def recurrent(module: Callable[[Tensor], Tensor], parameters: Sequence[Tensor], *, twice: bool) -> list[Tensor]:
    """Gradients through a module that takes its own outputs; `twice` those of the gradient."""
    x = torch.from_numpy(np.random.default_rng(9).uniform(-0.5, 0.5, (5, 2))).requires_grad_()
    given = [x, *parameters]
    gradients = torch.autograd.grad(module(module(x)).square().sum(), given, create_graph=twice)
    if not twice:
        return list(gradients)
    return list(torch.autograd.grad(torch.stack([gradient.square().sum() for gradient in gradients]).sum(), given))


@pytest.mark.parametrize("twice", [True, False])
def test_gradients_are_right_where_a_module_takes_its_own_outputs(twice: bool):
    module = modules.to_module(Kan((some_layer("uniform", outputs=4), some_layer("uneven", outputs=2, inputs=4))))
    if not twice:  # these go by parts as well
        for part in module.each():
            part.node_scale.requires_grad_()
    parameters = [own for name, own in module.named_parameters() if own.requires_grad and "affine" not in name]
    assert_same(both(lambda: recurrent(module, parameters, twice=twice)))


def test_a_layer_of_mixed_precisions_or_shapes_is_refused():
    # Kernels would read whatever lies in memory.
    one = some_layer("uniform")
    x, (coefficients, base_weight, table) = points(one, 5, knots=False), tensors(one)
    affine = [torch.ones(3, dtype=torch.float64)] * 4
    good = (coefficients, base_weight, table, *affine, 3, 1)
    operators.layer(x, *good)
    with pytest.raises(InputError, match="one precision"):
        operators.layer(x.float(), *good)
    with pytest.raises(InputError, match="got rows of 1"):
        operators.layer(x[:, :1], *good)
    with pytest.raises(InputError, match="needs 3 numbers where it got 1"):
        operators.layer(x, coefficients, base_weight, table, *affine[:3], affine[3][:1], 3, 1)
    with pytest.raises(InputError, match="needs 10 numbers where it got 8"):
        spline_sums(x, x[:4], coefficients, table, 3, 0)
    with pytest.raises(InputError, match="needs 15 numbers where it got 12"):
        spline_inputs(x, coefficients, torch.ones(4, 3, dtype=torch.float64), table, 3, 0)
    with pytest.raises(InputError, match="needs 15 numbers where it got 12"):
        spline_coefficients(x, None, torch.ones(4, 3, dtype=torch.float64), table, 9, 3, 0)
    module = modules.to_module(Kan((one,)))
    module.layers.float()
    with pytest.raises(InputError, match=r"module.to\(dtype\)"):
        module(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_silu_is_nothing_far_below_0(dtype: torch.dtype):
    one = some_layer("uniform", extrapolation="zero")
    coefficients, base_weight, table = (own.to(dtype) for own in tensors(one))
    x = torch.tensor([[-torch.finfo(dtype).max, 0.3], [0.3, -1e30], [-1e4, 0.3]], dtype=dtype)
    arguments = (x, coefficients * 0, base_weight, table, None, None, None, None, 3, operators.BASES["silu"])
    alone = torch.nn.functional.silu(x) @ base_weight.T
    torch.testing.assert_close(operators.layer(*arguments), alone, rtol=1e-5, atol=0)
