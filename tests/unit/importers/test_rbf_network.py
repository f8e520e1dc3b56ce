"""Networks of Gaussians keep their outputs within the tolerance, however deep; LayerNorm is kept exactly."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kanserve.errors import CheckpointError
from kanserve.importers import convert, from_checkpoint, verification
from kanserve.importers.conversion import Conversion, Options
from kanserve.importers.detection import checkpoint_of
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from tests.checkpoints import of_fast_kan
from tests.support.peers.fast_kan_formulas import State, converted, forward, silu, state_of

Array = NDArray[np.float64]


def apart(kan: Kan, x: Array, want: Array) -> float:
    return float(np.abs(evaluate(kan, x) - want).max() / np.abs(want).max())


def deep(scale: float) -> State:
    """Four layers of Gaussians that are narrow, and as heavy as this."""
    state = state_of([1, 4, 4, 4, 1])
    return {name: array * scale if "spline" in name else array for name, array in state.items()}


@pytest.mark.slow
@pytest.mark.extended
def test_what_later_layers_amplify_is_within_the_tolerance_too():
    conversion = converted(deep(3.0), denominator=0.15)
    x = np.linspace(-2.5, 2.5, 3001)[:, None]
    want = forward(deep(3.0), x, [0.15] * 4)
    assert apart(conversion.kan, x, want) <= 1e-6
    errors = [float(found[1]) for note in conversion.notes if (found := re.search("further .* than ([0-9.e-]+)", note))]
    assert len(errors) == 4 and max(errors) < 1e-7  # closer than asked for, or it would not be


@pytest.mark.slow
@pytest.mark.extended
def test_a_network_that_amplifies_rounding_beyond_the_tolerance_is_refused_with_what_can_be_met():
    with pytest.raises(CheckpointError, match="later layers amplify") as caught:
        converted(deep(300.0), denominator=0.15, tolerance=1e-9)
    found = re.search(r"within 1e-09 of the largest, since.*; ([0-9.e-]+) can be met", str(caught.value))
    assert found and float(found[1]) > 1e-9 and "\n" not in str(caught.value)
    assert converted(deep(300.0), denominator=0.15, tolerance=float(found[1])).refitted


def normalised(widths: list[int], base: bool = True) -> State:
    rng, state = np.random.default_rng(12), state_of(widths, base=base)
    for number, inputs in enumerate(widths[:-1]):
        state[f"layers.{number}.layernorm.weight"] = rng.normal(1, 0.3, inputs)
        state[f"layers.{number}.layernorm.bias"] = rng.normal(0, 0.3, inputs)
    return state


def with_norms(state: State, x: Array, activation=silu, epsilon: float = 1e-5) -> Array:
    """The outputs by the library's formula: the base takes x as it is."""
    number = 0
    while f"layers.{number}.rbf.grid" in state:
        own = {name[9:]: array for name, array in state.items() if name.startswith(f"layers.{number}.")}
        s = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + epsilon)
        s = s * own["layernorm.weight"] + own["layernorm.bias"]
        y = forward({f"layers.0.{name}": array for name, array in own.items() if "base" not in name}, s, [4 / 7])
        if "base_linear.weight" in own:
            y = y + activation(x) @ own["base_linear.weight"].T + own["base_linear.bias"]
        x, number = y, number + 1
    return x


def rows(inputs: int) -> tuple[Array, ...]:
    """Ordinary ones, large ones, ones that are nearly constant, some far from 0, and 0."""
    plain = np.random.default_rng(13).uniform(-3, 3, (120, inputs))
    return plain, 200 * plain, 0.5 + 1e-3 * plain, 100 + plain, np.zeros((1, inputs))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("widths", [[3, 4, 2], [2, 1, 1], [12, 5, 1]])
def test_a_layer_norm_is_kept_exactly(widths, base):
    state = normalised(widths, base)
    conversion = converted(state, tolerance=1e-11)
    for x in rows(widths[0]):
        assert apart(conversion.kan, x, with_norms(state, x)) < 1e-10
    assert len(conversion.kan.layers) == 10
    assert any("layer 1, layer 2: each LayerNorm became four layers" in note for note in conversion.notes)


@pytest.mark.slow
def test_layers_with_and_without_norms_may_follow_one_another():
    state = {name: array for name, array in normalised([3, 4, 2]).items() if not name.startswith("layers.0.layernorm")}
    conversion = converted(state, tolerance=1e-11)
    first = {name: array for name, array in state.items() if name.startswith("layers.0.")}
    last = {name.replace("layers.1", "layers.0"): array for name, array in state.items() if "layers.1." in name}
    for x in rows(3):
        assert apart(conversion.kan, x, with_norms(last, forward(first, x, [4 / 7]))) < 1e-10


def live(state: State, activation: object, epsilon: float) -> Conversion:
    """A model in memory of one layer, with the attributes that fast-kan gives it."""

    class Radial(torch.nn.Module):
        denominator = 4 / 7

    class FastKANLayer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            nodes, inputs = state["layers.0.base_linear.weight"].shape
            self.layernorm = torch.nn.LayerNorm(inputs, eps=epsilon)
            self.rbf = Radial()
            self.rbf.grid = torch.nn.Parameter(torch.zeros(8), requires_grad=False)
            self.spline_linear = torch.nn.Linear(8 * inputs, nodes, bias=False)
            self.base_linear = torch.nn.Linear(inputs, nodes)
            self.base_activation = activation

    model = FastKANLayer().double()
    model.load_state_dict({name[9:]: torch.tensor(array) for name, array in state.items()})
    return from_checkpoint(model, tolerance=1e-11)


def test_a_live_model_says_its_epsilon_and_the_activation_may_be_a_sum_of_ours():
    state = normalised([3, 2])
    conversion = live(state, torch.nn.functional.relu, 0.1)
    for x in rows(3):
        assert apart(conversion.kan, x, with_norms(state, x, lambda v: np.maximum(v, 0), 0.1)) < 1e-10
    assert any("epsilon 0.1)" in note for note in conversion.notes)


@pytest.mark.slow
def test_verifying_leaves_out_the_rows_beside_a_step_where_rounding_decides(monkeypatch):
    def layer_of(*shape: int, base_activation: object, **settings: object) -> torch.nn.Module:
        return of_fast_kan.Layer(*shape, **settings)  # type: ignore[arg-type] # as fast-kan's, with silu

    monkeypatch.setattr(of_fast_kan, "CHECKOUT", "NO_CHECKOUT")
    monkeypatch.setitem(sys.modules, "fastkan", SimpleNamespace(FastKANLayer=layer_of))
    steep = of_fast_kan.network([2, 5, 1], use_layernorm=True, spline_weight_init_scale=2.0)
    checkpoint = checkpoint_of({name: tensor.detach() for name, tensor in steep.state_dict().items()})
    found = verification.compare(checkpoint, convert(checkpoint, "", Options()))
    assert found.agrees and 0 < found.unsteady < 50
    assert found.random > 950
