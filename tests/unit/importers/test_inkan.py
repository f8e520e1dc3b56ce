"""inkan's layers, by their formula written again: cubic B-splines by truncated powers, zero outside, beside a base."""

from itertools import pairwise
from math import comb

import numpy as np
import pytest
import torch

from kanserve.errors import CheckpointError
from kanserve.importers import inkan
from kanserve.importers.conversion import Checkpoint, Options
from kanserve.network.evaluate import evaluate


def silu(x):
    return x / (1 + np.exp(-x))


def bump(u):
    """The cubic B-spline on 0..4: Σ_r (-1)^r·C(4, r)·(u - r)₊³/6, from its nearer end, so that it ends in zeros."""
    near = np.clip(np.minimum(u, 4 - u), 0, None)
    return sum((-1) ** r * comb(4, r) * np.clip(near - r, 0, None) ** 3 for r in range(3)) / 6


def answers(arrays, steps, x, base=silu):
    """What the layers give: each its starts' first, its own step, and the weights unpacked one by one."""
    for number, step in enumerate(steps):
        weight, starts = (arrays[f"layers.{number}.{name}"].astype(float) for name in ("weight", "grid_starts"))
        count, inputs = len(starts), x.shape[1]
        rows = []
        for packed in weight:
            total = np.zeros(len(x))
            for i in range(inputs):
                for m in range(count):
                    total += packed[i * count + m] * bump((x[:, i] - starts[0]) / step - m)
                total += packed[inputs * count + i] * base(x[:, i])
            rows.append(total)
        x = np.stack(rows, axis=1)
    return x


def network(widths=(2, 3, 1), intervals=5, low=-1.0, high=1.0, kind=np.float32, starts_kind=None):
    """A state_dict of random weights, and the step that the library would keep."""
    rng = np.random.default_rng(5)
    step = (high - low) / intervals
    starts = np.arange(intervals + 3) * step + low - 3 * step
    arrays = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        arrays[f"layers.{number}.weight"] = rng.normal(0, 0.5, (outputs, inputs * (intervals + 4))).astype(kind)
        arrays[f"layers.{number}.grid_starts"] = starts.astype(starts_kind or kind)
    return arrays, [step] * (len(widths) - 1)


def rows(arrays, steps, inputs):
    """Inside, on every knot, at the ends of the grid and of the extended one, outside and far outside."""
    rng = np.random.default_rng(6)
    starts = arrays["layers.0.grid_starts"].astype(float)
    knots = starts[0] + steps[0] * np.arange(len(starts) + 4)
    near = rng.uniform(knots[0] - 2, knots[-1] + 2, (800, inputs))
    return np.concatenate([near, rng.choice(knots, (180, inputs)), rng.normal(0, 30, (20, inputs))])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [{}, {"widths": (3, 2, 2), "intervals": 12, "low": -2.0, "high": 3.5}])
def test_a_network_computes_what_the_formula_says_inside_on_knots_and_outside(kind, shape):
    arrays, steps = network(**shape, kind=kind)
    conversion = inkan.convert(Checkpoint(arrays), Options())
    x = rows(arrays, steps, conversion.kan.shape[0])
    wanted = answers(arrays, steps, x)
    # float32 starts are rounded, but the step that they say is found exactly.
    np.testing.assert_allclose(evaluate(conversion.kan, x), wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())
    assert conversion.library == "inkan"


def test_outside_of_the_extended_grid_only_the_base_is_left():
    arrays, _ = network((2, 1))
    kan = inkan.convert(Checkpoint(arrays), Options()).kan
    x = np.array([[-2.3, 2.3], [9.0, -9.0]])  # the extended grid goes from -2.2 to 2.2
    base = arrays["layers.0.weight"][0, -2:].astype(float)
    np.testing.assert_allclose(evaluate(kan, x)[:, 0], silu(x) @ base, rtol=0, atol=1e-15)


def test_the_basis_runs_out_between_the_grid_and_the_extended_grid():
    arrays, steps = network((1, 1))
    kan = inkan.convert(Checkpoint(arrays), Options()).kan
    x = np.array([[1.0], [1.2], [1.79], [2.19]])
    wanted = answers(arrays, steps, x)
    np.testing.assert_allclose(evaluate(kan, x), wanted, rtol=0, atol=1e-14)
    assert (np.abs(wanted[:, 0] - arrays["layers.0.weight"][0, -1] * silu(x[:, 0])) > 0).all()


def test_the_step_of_a_model_made_in_single_precision_and_used_in_double_is_found():
    arrays, steps = network(kind=np.float64, starts_kind=np.float32)
    conversion = inkan.convert(Checkpoint(arrays), Options(base="silu"))
    x = rows(arrays, steps, 2)
    wanted = answers(arrays, steps, x)
    np.testing.assert_allclose(evaluate(conversion.kan, x), wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())
    assert conversion.notes == ()


def test_a_step_that_is_known_in_single_precision_only_is_noted():
    arrays, steps = network(low=-np.pi, high=np.pi, kind=np.float64, starts_kind=np.float32)
    conversion = inkan.convert(Checkpoint(arrays), Options(base="silu"))
    x = rows(arrays, steps, 2)
    wanted = answers(arrays, steps, x)
    np.testing.assert_allclose(evaluate(conversion.kan, x), wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    assert [note.partition(":")[0] for note in conversion.notes] == ["Layer 1", "Layer 2"]
    assert "known to 1e-07" in conversion.notes[0]


@pytest.mark.parametrize("low, high", [(0.1, 0.7), (-1000, 1001), (1e-3, 2e-3), (-np.e, 7)])
def test_grids_of_other_sizes_and_places_are_read(low, high):
    arrays, steps = network((2, 1), low=low, high=high, kind=np.float64)
    kan = inkan.convert(Checkpoint(arrays), Options()).kan
    np.testing.assert_allclose(np.diff(kan.layers[0].knots[0]), steps[0], rtol=1e-10)


@pytest.mark.parametrize("prefixes", [("layers.0.", "layers.1."), ("0.", "1."), ("kan.layers.0.", "kan.layers.1.")])
def test_the_layers_may_be_those_of_a_network_or_of_a_sequence(prefixes):
    arrays, _ = network()
    renamed = {prefixes[int(key[7])] + key[9:]: array for key, array in arrays.items()}
    assert inkan.matches(Checkpoint(renamed))
    x = np.random.default_rng(7).uniform(-2, 2, (50, 2))
    expected = evaluate(inkan.convert(Checkpoint(arrays), Options()).kan, x)
    assert (evaluate(inkan.convert(Checkpoint(renamed), Options()).kan, x) == expected).all()


def test_one_layer_alone_is_a_network():
    arrays, _ = network((2, 3))
    alone = {key.removeprefix("layers.0."): array for key, array in arrays.items()}
    assert inkan.matches(Checkpoint(alone))
    assert inkan.convert(Checkpoint(alone), Options()).kan.shape == (2, 3)


def test_what_is_not_inkans_does_not_match():
    assert not inkan.matches(Checkpoint({"layers.0.weight": np.zeros((1, 2)), "layers.0.grid": np.zeros(3)}))
    assert not inkan.matches(Checkpoint({"layers.0.grid_starts": np.zeros(8), "layers.1.weight": np.zeros((1, 2))}))
    assert not inkan.matches(Checkpoint({}))


def test_the_activation_that_is_not_in_the_file_is_noted_unless_it_is_said():
    arrays, steps = network()
    assert "silu" in inkan.convert(Checkpoint(arrays), Options()).notes[0]
    conversion = inkan.convert(Checkpoint(arrays), Options(base="identity", inputs=("mass", "speed"), outputs=("w",)))
    assert conversion.notes == ()
    assert [variable.name for variable in (*conversion.kan.inputs, *conversion.kan.outputs)] == ["mass", "speed", "w"]
    x = rows(arrays, steps, 2)
    wanted = answers(arrays, steps, x, base=lambda x: x)
    np.testing.assert_allclose(evaluate(conversion.kan, x), wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


def without(arrays, key):
    return {name: array for name, array in arrays.items() if name != key}


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda a: a | {"layers.0.weight": np.ones((3, 66), np.float32)}, "layer 1: it is a tensor-product surface"),
        (lambda a: a | {"layers.0.weight": np.ones((3, 17), np.float32)}, "layer 1: a weight of 17 columns"),
        (lambda a: a | {"layers.1.weight": np.ones((1, 18), np.float32)}, "layer 2 has 2 inputs, but layer 1 gives 3"),
        (lambda a: without(a, "layers.1.grid_starts"), "layer 2: 'layers.1.grid_starts' is missing"),
        (lambda a: a | {"head.bias": np.ones(1)}, "'head.bias' is not an array of a layer of inkan"),
        (lambda a: a | {"layers.1.grid_starts": np.ones(8)}, "layer 2: grid_starts must increase"),
        (lambda a: a | {"layers.0.grid_starts": -np.arange(8.0)}, "layer 1: grid_starts must increase"),
        (lambda a: a | {"layers.0.grid_starts": np.arange(8.0) ** 1.5}, "equally spaced"),
        (lambda a: a | {"layers.0.grid_starts": np.arange(8) * 2e307}, "layer 1: grid_starts must"),
        (lambda a: a | {"layers.0.grid_starts": np.zeros(8)}, "layer 1: grid_starts must increase"),
        (lambda a: a | {"layers.0.grid_starts": np.arange(3.0)}, "layer 1: a cubic spline needs more than 3"),
        (lambda a: a | {"layers.0.weight": np.full((3, 18), np.nan)}, "layer 1: weight is nan at node 1, feature 1"),
        (lambda a: {k.replace("layers.1", "layers.2"): v for k, v in a.items()}, "what stands between them"),
    ],
)
def test_what_has_no_equal_is_refused_with_its_place_in_one_line(change, reason):
    arrays, _ = network()
    with pytest.raises(CheckpointError) as caught:
        inkan.convert(Checkpoint(change(arrays)), Options())
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


class KANLayer(torch.nn.Module):
    """The attributes of inkan's layer; it is not there itself when these tests run."""

    __module__ = "inkan.layer"

    def __init__(self, weight, starts, step, activation):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))
        self.register_buffer("grid_starts", torch.tensor(starts))
        self.inv_h = 1 / step
        self.base_activation = activation()


class KANNetwork(torch.nn.Module):
    """Of layers with this activation."""

    __module__ = "inkan.network"

    def __init__(self, arrays, steps, activation=torch.nn.SiLU):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            KANLayer(arrays[f"layers.{n}.weight"], arrays[f"layers.{n}.grid_starts"], step, activation)
            for n, step in enumerate(steps)
        )


@pytest.mark.parametrize(
    "activation, base",
    [
        (torch.nn.SiLU, silu),
        (torch.nn.Identity, lambda x: x),
        (torch.nn.ReLU, lambda x: np.maximum(x, 0)),
        (torch.nn.Tanh, np.tanh),
        (torch.nn.Sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_a_live_network_knows_its_step_and_its_activation(activation, base):
    arrays, steps = network(low=-np.pi, high=np.pi, kind=np.float64, starts_kind=np.float32)
    checkpoint = inkan.live(KANNetwork(arrays, steps, activation))
    assert inkan.matches(checkpoint)
    conversion = inkan.convert(checkpoint, Options())
    x = rows(arrays, steps, 2)
    wanted = answers(arrays, steps, x, base)
    np.testing.assert_allclose(evaluate(conversion.kan, x), wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())
    assert conversion.notes == ()


def test_a_live_sequence_of_layers_is_a_network_and_one_with_something_between_is_not():
    arrays, steps = network()
    layers = list(KANNetwork(arrays, steps).layers)
    assert inkan.convert(inkan.live(torch.nn.Sequential(*layers)), Options()).kan.shape == (2, 3, 1)
    assert inkan.convert(inkan.live(layers[0]), Options()).kan.shape == (2, 3)
    with pytest.raises(CheckpointError, match="Layer 2 of the Sequential is a ReLU"):
        inkan.live(torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1]))
    with pytest.raises(CheckpointError, match="A Linear is not a KANNetwork"):
        inkan.live(torch.nn.Linear(2, 1))


def test_an_activation_without_an_equal_is_refused_by_its_name():
    arrays, steps = network()
    with pytest.raises(CheckpointError, match=r"layer 1: .*GELU"):
        inkan.convert(inkan.live(KANNetwork(arrays, steps, torch.nn.GELU)), Options())


def test_changing_the_live_model_afterwards_changes_no_checkpoint():
    arrays, steps = network()
    model = KANNetwork(arrays, steps)
    checkpoint = inkan.live(model)
    with torch.no_grad():
        model.get_parameter("layers.0.weight").zero_()
    assert (checkpoint.arrays["layers.0.weight"] == arrays["layers.0.weight"]).all()
