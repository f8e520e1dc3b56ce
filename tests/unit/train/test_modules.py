"""The torch module is the reference, with gradients."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from kanserve.errors import DataError
from kanserve.network.evaluate import activations, edges, evaluate, jacobian
from kanserve.network.kan import Kan, equal, make_layer
from kanserve.train.torch.modules import from_module, to_module
from tests.support.agreement import assert_agrees, assert_same_rows_are_nan, eager_float32, error
from tests.support.networks import kans
from tests.support.networks.kans import small

EVERY = pytest.mark.parametrize("name", kans.ZOO)


@EVERY
def test_a_module_in_double_agrees_with_evaluate(name: str):
    kan = kans.ZOO[name]()
    x = kans.rows(kan)
    got = to_module(kan)(torch.from_numpy(x)).detach().numpy()
    assert got.dtype == np.float64
    assert_agrees(got, evaluate(kan, x))


@EVERY
def test_a_module_in_float_is_no_worse_than_plain_float32(name: str):
    kan = kans.ZOO[name]()
    x = kans.rows(kan)
    got = to_module(kan, dtype=torch.float32)(torch.from_numpy(x.astype(np.float32))).detach().numpy()
    assert got.dtype == np.float32
    assert_agrees(got, evaluate(kan, x), eager=eager_float32(kan, x))


@EVERY
def test_a_network_comes_back_from_torch_bit_for_bit(name: str):
    kan = kans.ZOO[name]()
    assert equal(from_module(to_module(kan)), kan)


@pytest.mark.slow
@EVERY
def test_gradients_of_inputs_are_the_derivative(name: str):
    kan = kans.ZOO[name]()
    rows = kans.rows(kan)
    x = torch.from_numpy(rows).requires_grad_()
    y = to_module(kan)(x)
    finite = torch.isfinite(y).all(dim=1)
    # Each output's sum over rows: a row's gradient is its own.
    sums = [y[finite, q].sum() for q in range(y.shape[1])]
    columns = [torch.autograd.grad(total, x, retain_graph=True, materialize_grads=True)[0] for total in sums]
    got = torch.stack(columns, dim=1).numpy()
    assert np.isfinite(got).all()
    assert not got[~finite.numpy()].any()
    want = jacobian(kan, rows)
    got[~finite.numpy()] = np.nan
    # A slope loses a digit to each division by a knot spacing.
    assert_agrees(got.reshape(len(rows), -1), want.reshape(len(rows), -1), tolerance=1e-10)


@pytest.mark.slow
@pytest.mark.extended
@EVERY
def test_rows_that_are_not_finite_poison_no_parameter(name: str):
    kan = kans.ZOO[name]()
    rows = kans.rows(kan)
    fine = np.isfinite(evaluate(kan, rows)).all(axis=1)
    assert not fine.all()

    def gradients(x: np.ndarray) -> list[torch.Tensor | None]:
        module = to_module(kan)
        y = module(torch.from_numpy(x))
        y[torch.isfinite(y).all(dim=1)].sum().backward()
        return [parameter.grad for parameter in module.parameters() if parameter.requires_grad]

    for every, only_fine in zip(gradients(rows), gradients(rows[fine]), strict=True):
        assert (every is None) == (only_fine is None)
        if every is not None and only_fine is not None:
            assert torch.isfinite(every).all()
            torch.testing.assert_close(every, only_fine, rtol=1e-9, atol=1e-9)


def test_gradients_agree_with_finite_differences_inside_and_outside():
    kan = small()
    module = to_module(kan)
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    inside = np.random.default_rng(0).uniform(-0.9, 0.9, (3, 2))
    u = torch.from_numpy(np.concatenate([inside, [[-1.4, 0.2], [0.3, 1.6]]]))
    x = (u * torch.tensor(kan.input_scale) + torch.tensor(kan.input_shift)).requires_grad_()

    def outputs(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, parameters, strict=True))
        result: torch.Tensor = torch.func.functional_call(module, given, (x,))
        return result

    parameters = [module.get_parameter(name).detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(outputs, (x, *parameters))
    assert torch.autograd.gradgradcheck(lambda x: outputs(x, *parameters), (x,))


def test_a_function_without_a_finite_slope_passes_no_gradient():
    root = Kan((make_layer(functions=[["sqrt"]], affine=[[[1.0, 0.0, 1.0, 0.0]]]),))
    module = to_module(root)
    x = torch.tensor([[0.0], [4.0]], dtype=torch.float64, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert y.flatten().tolist() == [0.0, 2.0]
    assert x.grad is not None and x.grad.flatten().tolist() == [0.0, 0.25]
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters() if parameter.grad is not None)


@pytest.mark.slow
@pytest.mark.extended
def test_what_is_pruned_stays_pruned_under_any_optimizer():
    kan = kans.pruned()
    module = to_module(kan)
    optimizer = torch.optim.AdamW([parameter for parameter in module.parameters() if parameter.requires_grad], lr=0.1)
    x = torch.from_numpy(kans.rows(kan)[:40])
    for _ in range(3):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
    trained = from_module(module)
    assert not equal(trained, kan)
    for before, after in zip(kan.layers, trained.layers, strict=True):
        np.testing.assert_array_equal(before.alive, after.alive)


def test_rows_may_have_any_leading_shape():
    kan = kans.multiplication()
    module = to_module(kan)
    rows = torch.from_numpy(kans.rows(kan)[:12])
    flat = module(rows)
    assert torch.equal(module(rows.reshape(2, 2, 3, 2)), flat.reshape(2, 2, 3, 2))
    assert torch.equal(module(rows[0]), module(rows[:1])[0])
    assert module(rows[:0]).shape == (0, 2)
    with pytest.raises(DataError, match=r"\(\.\.\., 2\), got \(12, 3\)"):
        module(torch.zeros(12, 3))


def test_the_edges_are_those_of_the_reference():
    kan = small()
    x = np.random.default_rng(1).uniform(-1.2, 1.2, (20, 2)) * kan.input_scale + kan.input_shift
    outputs, every = to_module(kan).with_edges(torch.from_numpy(x))
    assert_agrees(outputs.detach().numpy(), evaluate(kan, x))
    for layer, v, got in zip(kan.layers, activations(kan, x), every, strict=False):
        want = edges(layer, v)
        np.testing.assert_allclose(got.detach().numpy().transpose(2, 0, 1), want, rtol=0, atol=1e-12)


def test_a_module_in_float_keeps_grids_and_affines_exactly():
    kan = kans.raw_features()
    back = from_module(to_module(kan, dtype=torch.float32))
    for before, after in zip(kan.layers, back.layers, strict=True):
        np.testing.assert_array_equal(before.knots, after.knots)
        np.testing.assert_array_equal(before.coefficients.astype(np.float32), after.coefficients)
    np.testing.assert_array_equal(kan.input_shift, back.input_shift)
    assert back.inputs == kan.inputs


def test_a_module_can_change_its_precision_later():
    kan = kans.mixed()
    x = kans.rows(kan)
    got = to_module(kan).to(torch.float32)(torch.from_numpy(x)).detach().numpy()
    want = evaluate(kan, x)
    assert_same_rows_are_nan(got, want)
    assert got.dtype == np.float32 and error(got, want) < 1e-5


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("module", ["modules", "gradient_fit", "objective", "optimizers"])
def test_without_torch_an_import_says_what_to_install(module: str):
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from kanserve.errors import MissingDependencyError\n"
        f"try:\n    import kanserve.train.torch.{module}\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "kanserve[torch]" in done.stdout
