"""`kanserve.nn`: layers of splines for torch's own loops are the reference, and behave as torch's own layers do."""

import copy
import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import kanserve
import kanserve.nn
from kanserve.errors import DataError, NetworkError
from kanserve.network.evaluate import evaluate
from kanserve.nn import KAN, KANLayer, kan_of
from kanserve.train.torch import operators
from tests.support.agreement import assert_agrees
from tests.support.networks import kans

DOUBLE = torch.float64


def rows(inputs: int, count: int = 200, spread: float = 1.5) -> torch.Tensor:
    """Rows of which a third lie outside the grid, with knots, NaN and infinities among them."""
    x = np.random.default_rng(0).uniform(-spread, spread, (count, inputs))
    x[:6] = np.array([-1.0, 1.0, 0.2, np.nan, np.inf, -np.inf])[:, None]
    return torch.from_numpy(x)


@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
@pytest.mark.parametrize("base", ["silu", "identity", "zero"])
@pytest.mark.parametrize(("grid", "order"), [(5, 3), (1, 1), (7, 2), (50, 3)])
def test_a_network_of_layers_agrees_with_evaluate(grid, order, base, extrapolation):
    model = KAN([3, 4, 2], grid=grid, order=order, base=base, extrapolation=extrapolation, dtype=DOUBLE)
    x = rows(3)
    assert_agrees(model(x).detach().numpy(), evaluate(model.to_kan(), x.numpy()))
    again = KAN.from_kan(model.to_kan(), dtype=DOUBLE)
    assert torch.equal(again(x)[6:], model(x)[6:])
    assert kanserve.equal(again.to_kan(), model.to_kan())


def test_a_layer_takes_any_leading_shape_and_refuses_another_last_one():
    layer = KANLayer(3, 2)
    assert layer(torch.zeros(3)).shape == (2,) and layer(torch.zeros(4, 5, 3)).shape == (4, 5, 2)
    assert layer(torch.zeros(0, 3)).shape == (0, 2)
    with pytest.raises(DataError, match=r"takes \(..., 3\), got \(5, 2\)"):
        layer(torch.zeros(5, 2))


@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
def test_first_and_second_derivatives_pass_gradcheck(extrapolation):
    torch.manual_seed(0)
    layer = KANLayer(2, 3, grid=4, extrapolation=extrapolation, dtype=DOUBLE)
    x = (torch.rand(5, 2, dtype=DOUBLE) * 3 - 1.5).requires_grad_()

    def outputs(x, coefficients, base_weight):
        parameters = {"coefficients": coefficients, "base_weight": base_weight}
        return torch.func.functional_call(layer, parameters, (x,))

    arguments = (x, layer.coefficients, layer.base_weight)
    assert torch.autograd.gradcheck(outputs, arguments) and torch.autograd.gradgradcheck(outputs, arguments)


def test_it_trains_beside_other_layers_and_state_comes_back():
    torch.manual_seed(0)
    x = torch.rand(256, 2) * 2 - 1
    y = torch.sin(3 * x[:, :1]) * x[:, 1:]
    model = nn.Sequential(KANLayer(2, 4), nn.LayerNorm(4), KANLayer(4, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = nn.functional.mse_loss(model(x), y).item()
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    assert nn.functional.mse_loss(model(x), y).item() < 0.02 * before
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = nn.Sequential(KANLayer(2, 4), nn.LayerNorm(4), KANLayer(4, 1))
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(x), model(x)) and torch.equal(copy.deepcopy(model)(x), model(x))


def test_a_state_brings_its_grid_and_one_of_another_size_is_refused():
    layer = KANLayer(2, 1, grid_range=(0, 10), dtype=DOUBLE)
    other = KANLayer(2, 1, dtype=DOUBLE)
    other.load_state_dict(layer.state_dict())
    x = torch.rand(20, 2, dtype=DOUBLE) * 10
    assert torch.equal(other(x), layer(x))
    with pytest.raises((RuntimeError, NetworkError), match=r"shape|size mismatch"):
        other.load_state_dict(KANLayer(2, 1, grid=6).state_dict())


def test_a_layer_changes_its_type_as_linear_does_and_computes_in_it_under_autocast():
    layer = KANLayer(2, 2, dtype=DOUBLE)
    x = torch.rand(10, 2, dtype=DOUBLE)
    assert layer.float()(x).dtype == torch.float32 and layer.double()(x).dtype == DOUBLE
    agreed = KAN.from_kan(kan_of([layer]), dtype=DOUBLE)
    assert torch.allclose(layer(x), agreed(x), rtol=1e-14, atol=1e-14)  # as of a new layer with its knots
    single = layer.float()
    plain = single(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(single(x.float()), plain) and single(x.bfloat16()).dtype == torch.float32


def test_on_other_devices_a_layer_computes_in_plain_torch(monkeypatch):
    layer = KANLayer(3, 2, dtype=DOUBLE)
    x = rows(3)
    by_kernels = layer(x)
    monkeypatch.setattr(operators, "kernel", lambda *_: None)
    assert_agrees(layer(x).detach().numpy(), by_kernels.detach().numpy())
    assert KANLayer(3, 2, device="meta").coefficients.device.type == "meta"


@pytest.mark.slow
@pytest.mark.extended
def test_torch_compile_gives_the_same_outputs_and_gradients():
    torch.manual_seed(0)
    model = KAN([3, 4, 1], dtype=DOUBLE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        x = rows(3)[6:].requires_grad_()
        (own,) = torch.autograd.grad(compiled(x).sum(), x)
    (wanted,) = torch.autograd.grad(model(x).sum(), x)
    assert torch.allclose(own, wanted, rtol=1e-12, atol=1e-12)


def test_a_refined_grid_keeps_the_splines_and_a_moved_one_takes_the_range_of_the_rows():
    torch.manual_seed(0)
    model = KAN([2, 3, 1], dtype=DOUBLE)
    x = torch.rand(100, 2, dtype=DOUBLE) * 2 - 1
    before = model(x)
    first = model[0]
    assert isinstance(first, KANLayer)
    first.set_grid(grid=10)
    assert first.grid == 10 and torch.allclose(model(x), before, atol=1e-12)
    model.set_grids(3 + 2 * x)
    low, high = first.knots[:, first.order], first.knots[:, -first.order - 1]
    assert torch.allclose(low, (3 + 2 * x).amin(dim=0)) and torch.allclose(high, (3 + 2 * x).amax(dim=0))
    assert not first.knots.requires_grad and first.knots.dtype == DOUBLE
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(DataError, match="at least one row"):
        first.set_grid(torch.full((3, 2), torch.nan))


def test_equal_seeds_of_torch_give_equal_weights_and_zero_bases_stay_zero():
    torch.manual_seed(3)
    one = KAN([2, 2, 1])
    torch.manual_seed(3)
    other = KAN([2, 2, 1])
    x = torch.rand(5, 2)
    assert torch.equal(one(x), other(x))
    bare = KANLayer(2, 1, base="zero")
    assert not bare.base_weight.any() and not bare.base_weight.requires_grad


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: KANLayer(0, 1), "in_features must be a whole number"),
        (lambda: KANLayer(2, 1, grid=0), "grid must be a whole number"),
        (lambda: KANLayer(2, 1, order=0), "order must be a whole number"),
        (lambda: KANLayer(2, 1, grid_range=(1, 1)), "the lower one first"),
        (lambda: KANLayer(2, 1, base="relu"), "base"),  # type: ignore[arg-type]
        (lambda: KAN([3]), "at least one layer"),
        (lambda: kan_of(nn.Sequential(KANLayer(2, 1), nn.ReLU())), "Layer 2 is a ReLU"),
        (lambda: KAN.from_kan(kans.mixed()), "to_torch"),
        (lambda: KANLayer.from_layer(kans.mixed().layers[0]), "to_torch"),
    ],
)
def test_what_is_no_layer_is_refused_with_the_reason(make, words):
    with pytest.raises(NetworkError, match=words):
        make()
