"""efficient-kan's state dicts, written from its formula, become networks that compute what the formula says."""

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.errors import CheckpointError
from kanserve.importers import efficient_kan, fast_kan
from kanserve.importers.conversion import Checkpoint, Options
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.network.splines import extend_knots

Array = NDArray[np.float64]
State = dict[str, NDArray[np.floating]]


def silu(x: Array) -> Array:
    result: Array = x / (1 + np.exp(-x))
    return result


def bases(x: Array, knots: Array, order: int) -> Array:
    """(N, G+k) by the recursion of Cox and de Boor, one function after the other."""

    def one(m: int, k: int) -> Array:
        if k == 0:
            inside: Array = ((knots[m] <= x) & (x < knots[m + 1])).astype(np.float64)
            return inside
        rising: Array = (x - knots[m]) / (knots[m + k] - knots[m]) * one(m, k - 1)
        falling: Array = (knots[m + k + 1] - x) / (knots[m + k + 1] - knots[m + 1]) * one(m + 1, k - 1)
        return rising + falling

    return np.stack([one(m, order) for m in range(len(knots) - order - 1)], axis=1)


def forward(state: State, x: Array, orders: list[int], activation=silu) -> Array:
    """The network's outputs by the library's formula, in double."""
    for number, order in enumerate(orders):
        own: dict[str, Array] = {
            name.removeprefix(f"layers.{number}."): np.asarray(array, np.float64) for name, array in state.items()
        }
        y = activation(x) @ own["base_weight"].T
        for i in range(x.shape[1]):
            weight = own["spline_weight"][:, i]
            if "spline_scaler" in own:
                weight = weight * own["spline_scaler"][:, i, None]
            y = y + bases(x[:, i], own["grid"][i], order) @ weight.T
        x = y
    return x


def grids(rng: np.random.Generator, inputs: int, intervals: int, order: int, uneven: bool) -> Array:
    """A grid for each input; uneven as after update_grid: its outer intervals are not as wide as the outermost."""
    if not uneven:
        return np.tile(extend_knots(np.linspace(-1, 1, intervals + 1), order), (inputs, 1))
    steps = rng.uniform(0.02, 1, (inputs, intervals))
    interior = np.cumsum(np.c_[rng.uniform(-2, -1, inputs), steps], axis=1)
    outer = steps.mean(axis=1)[:, None] * np.arange(1, order + 1)
    return np.concatenate([interior[:, :1] - outer[:, ::-1], interior, interior[:, -1:] + outer], axis=1)


def state_of(
    widths: list[int], orders: list[int], sizes: list[int], scaler: bool, uneven: bool, kind: type = np.float64
) -> State:
    rng, state = np.random.default_rng(1), State()
    for number, (order, size) in enumerate(zip(orders, sizes, strict=True)):
        inputs, nodes = widths[number : number + 2]
        own = {
            "grid": grids(rng, inputs, size, order, uneven),
            "base_weight": rng.normal(0, 0.5, (nodes, inputs)),
            "spline_weight": rng.normal(0, 0.5, (nodes, inputs, size + order)),
        }
        own |= {"spline_scaler": rng.normal(0, 1, (nodes, inputs))} if scaler else {}
        state |= {f"layers.{number}.{name}": array.astype(kind) for name, array in own.items()}
    return state


def small(**changed: NDArray[np.floating] | None) -> State:
    """Two layers of order 3, with arrays in place of its own or, for None, left out."""
    state = state_of([3, 2, 1], [3, 3], [4, 5], scaler=True, uneven=True)
    state |= {name: array for name, array in changed.items() if array is not None}
    return {name: array for name, array in state.items() if name not in changed or changed[name] is not None}


def rows(state: State, count: int = 1000) -> Array:
    """Inside, on every knot of the first layer, a hair beside them, and outside."""
    knots = np.asarray(state["layers.0.grid"], np.float64).T
    on = np.concatenate([knots, np.nextafter(knots, -9), np.nextafter(knots, 9)])
    free = np.random.default_rng(2).uniform(knots.min() - 2, knots.max() + 2, (count - len(on), knots.shape[1]))
    return np.concatenate([on, free])


def kan_of(state: State, **options) -> Kan:
    return efficient_kan.convert(Checkpoint(state), Options(**options)).kan


def difference(got: Array, want: Array) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("scaler", [True, False])
@pytest.mark.parametrize("uneven", [True, False])
@pytest.mark.parametrize(("orders", "sizes"), [([3, 3], [5, 5]), ([1, 2], [1, 7]), ([5, 4], [3, 12])])
def test_the_network_is_the_formula(kind, scaler, uneven, orders, sizes):
    state = state_of([3, 4, 2], orders, sizes, scaler, uneven, kind)
    x = rows(state)
    kan = kan_of(state)
    assert difference(evaluate(kan, x), forward(state, x, orders)) < 1e-13
    assert [layer.order for layer in kan.layers] == orders
    assert [layer.intervals for layer in kan.layers] == sizes


def test_nothing_but_the_base_is_left_outside_of_the_extended_grid():
    state = state_of([2, 3], [3], [5], scaler=True, uneven=True)
    x = np.array([[-50.0, 60.0], [40.0, -1e3]])
    want = silu(x.clip(-700)) @ state["layers.0.base_weight"].T
    assert difference(evaluate(kan_of(state), x), want) < 1e-14


def test_the_activation_is_taken_to_be_silu_and_that_is_said():
    said = efficient_kan.convert(Checkpoint(small()), Options()).notes
    assert len(said) == 1 and "silu" in said[0]


@pytest.mark.parametrize(("base", "activation"), [("silu", silu), ("identity", lambda x: x), ("zero", lambda x: 0 * x)])
def test_the_caller_can_say_the_activation(base, activation):
    state = small()
    conversion = efficient_kan.convert(Checkpoint(state), Options(base=base))
    x = rows(state)
    assert difference(evaluate(conversion.kan, x), forward(state, x, [3, 3], activation)) < 1e-13
    assert not conversion.notes


def test_names_of_inputs_and_outputs_can_be_given():
    kan = kan_of(small(), inputs=("a", "b", "c"), outputs=("z",))
    assert [variable.name for variable in kan.inputs + kan.outputs] == ["a", "b", "c", "z"]


@pytest.mark.parametrize("stem", ["module.layers.", "_orig_mod.module.model.kan.layers.", "layers.", "", "kan"])
def test_layers_are_found_behind_any_prefix_and_ordered_by_number(stem):
    count = 12  # so that an order by letters would be another
    state = state_of([2] * (count + 1), [3] * count, [4] * count, scaler=False, uneven=True)
    renamed = {stem + name.removeprefix("layers."): array for name, array in state.items()}
    shuffled = dict(sorted(renamed.items(), key=lambda entry: entry[0][::-1]))
    assert efficient_kan.matches(Checkpoint(shuffled)) and not fast_kan.matches(Checkpoint(shuffled))
    x = rows(state, 100)
    assert difference(evaluate(kan_of(shuffled), x), forward(state, x, [3] * count)) < 1e-12


def test_one_layer_alone_needs_no_prefix():
    state = state_of([2, 3], [3], [5], scaler=True, uneven=False)
    alone = {name.removeprefix("layers.0."): array for name, array in state.items()}
    x = rows(state, 100)
    assert difference(evaluate(kan_of(alone), x), forward(state, x, [3])) < 1e-13


def renamed(old: str, new: str) -> State:
    return {name.replace(old, new): array for name, array in small().items()}


def with_one(name: str, position: tuple[int, ...], value: float) -> State:
    array = small()[name].copy()
    array[position] = value
    return small(**{name: array})


REFUSED = {
    "a missing array": (small(**{"layers.1.grid": None}), r"layer 2: 'layers\.1\.grid' is missing"),
    "a missing scaler": (small(**{"layers.1.spline_scaler": None}), "layer 2 has no spline_scaler, but layer 1 has"),
    "a missing layer": (renamed("layers.0.", "layers.2."), "layers.1, layers.2, and what stands between them"),
    "layers by names": (renamed("layers.1.", "head."), r"head, layers\.0.*number them: layers\.0, layers\.1"),
    "another layer": (small(**{"norm.weight": np.ones(2)}), "'norm.weight' is not an array of a layer of effic"),
    "widths that differ": (
        small(
            **{f"layers.1.{name}": small()[f"layers.1.{name}"][:, :1] for name in ("base_weight", "spline_weight")},
            **{"layers.1.spline_scaler": np.ones((1, 1)), "layers.1.grid": small()["layers.1.grid"][:1]},
        ),
        "layer 2 has 1 inputs, but layer 1 gives 2 nodes",
    ),
    "splines of another shape": (
        small(**{"layers.0.spline_weight": np.ones((3, 2, 7))}),
        r"layer 1: spline_weight must have shape \(2, 3, any\).*has \(3, 2, 7\)",
    ),
    "a scaler of another shape": (small(**{"layers.1.spline_scaler": np.ones((2, 1))}), r"layer 2: spline_scaler"),
    "a grid of another input": (small(**{"layers.0.grid": np.ones((2, 11))}), r"layer 1: grid must have shape \(3, G"),
    "a grid that is too short": (small(**{"layers.0.grid": np.ones((3, 7))}), "layer 1: grid must have shape"),
    "weights of another rank": (small(**{"layers.0.base_weight": np.ones(6)}), "layer 1: base_weight must be floats"),
    "integers": (small(**{"layers.0.base_weight": np.ones((2, 3), int)}), "layer 1: base_weight must be floats"),
    "nothing": (small(**{"layers.0.base_weight": np.ones((0, 3))}), "layer 1: base_weight must be floats"),
    "steps": (small(**{"layers.1.grid": np.arange(18.0).reshape(2, 9)}), "layer 2 has splines of order 0"),
    "NaN": (
        with_one("layers.1.spline_weight", (0, 1, 2), np.nan),
        "layer 2: spline_weight is nan at node 1, input 2, basis function 3",
    ),
    "infinity": (with_one("layers.0.grid", (2, 0), -np.inf), "layer 1: grid is -inf at input 3, knot 1"),
    "a knot twice": (
        with_one("layers.0.grid", (1, 4), small()["layers.0.grid"][1, 5]),
        "layer 1, input 2: knots come twice, where efficient-kan divides by 0",
    ),
    "knots that decrease": (with_one("layers.0.grid", (1, 4), 99.0), "layer 1, input 2: knots decrease"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_broken_or_has_no_equal_is_refused_in_one_line_with_its_place(case):
    state, message = REFUSED[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        kan_of(state)
    assert "\n" not in str(caught.value)


def live_model(activation: str):
    """A torch module with the arrays and the attribute that efficient-kan's layers have."""
    import torch

    class KANLinear(torch.nn.Module):
        def __init__(self, number: int) -> None:
            super().__init__()
            own = {name: array for name, array in small().items() if name.startswith(f"layers.{number}.")}
            for name, array in own.items():
                self.register_buffer(name.rpartition(".")[2], torch.tensor(array))
            self.base_activation = getattr(torch.nn, activation)()

    model = torch.nn.Module()
    model.layers = torch.nn.ModuleList([KANLinear(0), KANLinear(1)])
    return model


ACTIVATIONS = {
    "SiLU": silu,
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "ReLU": lambda x: np.maximum(x, 0),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_live_model_says_its_activation(activation):
    conversion = efficient_kan.convert(efficient_kan.live(live_model(activation)), Options())
    x = rows(small())
    want = forward(small(), x, [3, 3], ACTIVATIONS[activation])
    assert difference(evaluate(conversion.kan, x), want) < 1e-13
    assert not conversion.notes


def test_an_activation_without_an_equal_is_refused():
    with pytest.raises(CheckpointError, match="layer 1: the base activation GELU has no equal here"):
        efficient_kan.convert(efficient_kan.live(live_model("GELU")), Options())


def test_a_live_model_with_more_than_layers_is_refused():
    import torch

    model = live_model("SiLU")
    model.last = torch.nn.Softmax(dim=1)
    with pytest.raises(CheckpointError, match="'last' of type Softmax beside its layers"):
        efficient_kan.live(model)
    model.last = torch.nn.Dropout(0.1)  # which does nothing when a network is evaluated
    assert efficient_kan.convert(efficient_kan.live(model), Options()).kan.shape == (3, 2, 1)


def test_layers_of_a_live_model_need_not_be_numbered_without_gaps():
    import torch

    layers = live_model("SiLU").layers
    model = torch.nn.Sequential(torch.nn.Flatten(), layers[0], torch.nn.Dropout(0.1), layers[1])
    x = rows(small())
    kan = efficient_kan.convert(efficient_kan.live(model), Options()).kan
    assert difference(evaluate(kan, x), forward(small(), x, [3, 3])) < 1e-13
