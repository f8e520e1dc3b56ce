"""fast-kan's state dicts, written from its formula, become splines that are as near to it as they say."""

import re
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.errors import CheckpointError
from kanserve.importers import efficient_kan, fast_kan
from kanserve.importers.conversion import Checkpoint, Conversion, Options
from kanserve.importers.rbf_splines import Refit, refit
from kanserve.network.evaluate import evaluate
from kanserve.network.splines import design
from tests.support.peers.fast_kan_formulas import State, converted, forward, state_of

Array = NDArray[np.float64]


def small(**changed: NDArray[np.floating] | None) -> State:
    """Two layers, with arrays in place of their own or, for None, left out."""
    state = state_of([3, 2, 1])
    state |= {name: array for name, array in changed.items() if array is not None}
    return {name: array for name, array in state.items() if name not in changed or changed[name] is not None}


def rows(conversion: Conversion) -> Array:
    """1,000: inside, on every knot of the first layer, a hair beside them, and far outside."""
    first = conversion.kan.layers[0]
    on = np.concatenate([first.knots.T, np.nextafter(first.knots.T, 99)])[:600]
    return np.concatenate([on, np.random.default_rng(2).uniform(-15, 15, (1000 - len(on), first.inputs))])


def difference(got: Array, want: Array) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(("kind", "tolerance", "allowed"), [(np.float32, 1e-6, 1e-5), (np.float64, 1e-11, 1e-10)])
@pytest.mark.parametrize(
    ("base", "count", "low", "high"),
    [(True, 8, -2, 2), (False, 8, -2, 2), (False, 5, -1, 3), (True, 20, -2, 2), (False, 2, 0, 1)],
)
def test_the_network_is_the_formula_within_the_tolerance(kind, tolerance, allowed, base, count, low, high):
    state = state_of([3, 4, 2, 1], count, low, high, base, kind)
    conversion = converted(state, tolerance=tolerance)
    x = rows(conversion)
    assert difference(evaluate(conversion.kan, x), forward(state, x, [(high - low) / (count - 1)] * 3)) < allowed


def test_the_denominator_is_that_of_the_ends_as_they_were_given():
    # 3.3 and -1.1 are no float32: fast-kan rounds the centres, and not the denominator.
    state = state_of([2, 3, 1], 6, -1.1, 3.3, kind=np.float32)
    conversion = converted(state, tolerance=1e-11)
    x = rows(conversion)
    assert difference(evaluate(conversion.kan, x), forward(state, x, [(3.3 - -1.1) / 5] * 2)) < 1e-10


def dense(splines: Refit) -> Array:
    """Points much closer than those that the refit looked at, well beyond its range."""
    return np.linspace(splines.knots[0] - 1, splines.knots[-1] + 1, 23 * (splines.intervals + 12) + 1)


def distances(splines: Refit, weights: Array, centres: Array, denominator: float) -> Array:
    """How far each edge is at most from its Gaussians, in parts of its largest value: (O, I)."""
    x = dense(splines)
    got = np.einsum("pm,oim->poi", design(x, splines.knots, 5, "zero"), splines.coefficients)
    want = np.einsum("pg,oig->poi", np.exp(-(((x[:, None] - centres) / denominator) ** 2)), weights)
    result: Array = np.abs(got - want).max(axis=0) / np.abs(want).max(axis=0)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [0.1, 1e-3, 1e-6, 1e-8])
@pytest.mark.parametrize("wide", [0.2, 1.0, 4.0])
def test_no_edge_is_further_from_its_gaussians_than_the_refit_says(tolerance, wide):
    rng = np.random.default_rng(4)
    centres = np.sort(rng.uniform(-2, 2, 7))  # trained, too
    weights = rng.normal(size=(2, 3, 7)) * 10.0 ** rng.uniform(-30, 30, (2, 3, 1))
    weights[0, 0] = [1, -1, 1, -1, 1, -1, 1]
    splines = refit(weights, centres, wide * 4 / 6, tolerance)
    furthest = distances(splines, weights, centres, wide * 4 / 6).max()
    assert furthest <= splines.error <= tolerance
    assert splines.error < 2 * furthest  # and it is no idle bound


def test_ten_times_closer_costs_half_as_many_intervals_again():
    weights, centres = np.random.default_rng(5).normal(size=(4, 4, 8)), np.linspace(-2, 2, 8)
    intervals = [refit(weights, centres, 4 / 7, 10.0**-power).intervals for power in range(3, 12)]
    assert intervals[3] < 100
    assert all(1.3 < after / before < 1.6 for before, after in pairwise(intervals))


def test_anything_closer_would_take_more_intervals():
    weights, centres = np.random.default_rng(6).normal(size=(1, 1, 8)), np.linspace(-2, 2, 8)
    splines = refit(weights, centres, 4 / 7, 1e-6)
    assert refit(weights, centres, 4 / 7, 0.999 * splines.error).intervals > splines.intervals


@pytest.mark.slow
def test_a_tolerance_that_cannot_be_met_is_refused_with_one_that_can():
    with pytest.raises(
        CheckpointError, match="layer 1: a refit of its Gaussians within 1e-17 is not possible"
    ) as caught:
        converted(small(), tolerance=1e-17)
    found = re.search(r"([0-9.e-]+) can be met", str(caught.value))
    assert found
    can = float(found[1])
    assert 1e-15 < can < 1e-12
    assert converted(small(), tolerance=10 * can).notes


def test_gaussians_too_narrow_or_too_far_apart_are_refused():
    with pytest.raises(CheckpointError, match="on 10000 intervals"):
        converted(small(), denominator=1e-3)
    far = small(**{"layers.1.rbf.grid": np.linspace(-1, 1, 8) * 1e308})
    for denominator in (1e-5, 1e308):
        with pytest.raises(CheckpointError, match=r"layer [12]: its Gaussians, .* need more than 10000 intervals"):
            converted(far | {"layers.0.rbf.grid": np.zeros(8)}, denominator=denominator)


def test_an_edge_without_weights_stays_away_and_tiny_weights_stay_exact():
    state = small()
    weights = state["layers.0.spline_linear.weight"]
    weights[0, :8] = 0
    weights[1] *= 1e-290
    state["layers.0.base_linear.weight"][:] = 0
    conversion = converted(state)
    assert conversion.kan.layers[0].alive.tolist() == [[False, True, True], [True, True, True]]
    x = rows(conversion)
    assert difference(evaluate(conversion.kan, x), forward(state, x, [4 / 7, 4 / 7])) < 1e-5


def test_layers_without_any_weights_are_constants():
    state = small(
        **{"layers.1.spline_linear.weight": np.zeros((1, 16)), "layers.1.base_linear.weight": np.zeros((1, 2))}
    )
    got = evaluate(converted(state).kan, [[0.1, 0.2, 0.3]])
    assert got == state["layers.1.base_linear.bias"][0]


def test_notes_say_the_error_the_size_and_what_was_guessed():
    notes = converted(small()).notes
    for number in (0, 1):
        assert re.fullmatch(
            rf"layer {number + 1}: the Gaussians of each edge became a spline of order 5 on \d+ intervals, "
            r"nowhere further from them than \d\.?\d?e-0[78] of the edge's largest value\.",
            notes[number],
        )
    assert re.search(r"^The splines have \d+ coefficients \(0\.\d+ MB\), 1\d\.\d+ times the weights", notes[2])
    reached = re.search(r"On 2000 rows the outputs are within ([0-9.e-]+) of the largest", notes[2])
    assert reached and float(reached[1]) <= 1e-6
    assert "denominator is not stored: taken to be the distance of the centres, 0.571429." in notes[3]
    assert "silu" in notes[4]
    assert len(converted(small(), denominator=0.5, base="silu").notes) == 3


def test_the_caller_can_say_denominator_and_activation():
    conversion = converted(small(), denominator=1.3, base="identity", tolerance=1e-11)
    x = rows(conversion)
    assert difference(evaluate(conversion.kan, x), forward(small(), x, [1.3, 1.3], lambda v: v)) < 1e-10


def test_trained_centres_and_a_single_one_need_the_denominator():
    for centres in ([-2.0, -0.9, 0.7, 2.0], [0.5]):
        state = state_of([2, 1], len(centres))
        state["layers.0.rbf.grid"] = np.array(centres)
        with pytest.raises(CheckpointError, match=r"layer 1: the centres in rbf\.grid are not evenly spaced"):
            converted(state)
        conversion = converted(state, denominator=0.9, tolerance=1e-11)
        x = rows(conversion)
        assert difference(evaluate(conversion.kan, x), forward(state, x, [0.9])) < 1e-10


@pytest.mark.slow
@pytest.mark.extended
def test_a_large_network_is_imported_and_its_size_is_said():
    state = state_of([784, 64, 10], kind=np.float32)
    conversion = converted(state)
    assert "MB" in conversion.notes[2]
    x = np.random.default_rng(7).uniform(-3, 3, (20, 784))
    assert difference(evaluate(conversion.kan, x), forward(state, x, [4 / 7, 4 / 7])) < 1e-5


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("stem", ["module.layers.", "layers.", "", "kan"])
def test_layers_are_found_behind_any_prefix(stem):
    state = {stem + name.removeprefix("layers."): array for name, array in small().items()}
    assert fast_kan.matches(Checkpoint(state)) and not efficient_kan.matches(Checkpoint(state))
    x = rows(converted(state))
    assert difference(evaluate(converted(state).kan, x), forward(small(), x, [4 / 7, 4 / 7])) < 1e-5


REFUSED = {
    "half a normalisation": (
        small(**{"layers.1.layernorm.weight": np.ones(2)}),
        "layer 2: layernorm has weight and bias, or is not there; only layernorm.weight is",
    ),
    "a normalisation of another width": (
        small(**{"layers.1.layernorm.weight": np.ones(3), "layers.1.layernorm.bias": np.zeros(3)}),
        r"layer 2: layernorm.weight must have shape \(2\)",
    ),
    "a normalisation of many inputs": (
        {f"layers.0.layernorm.{name}": np.ones(500) for name in ("weight", "bias")} | state_of([500, 1]),
        "layer 1 begins with a LayerNorm of 500 inputs, .* places for 502,502 edges, of which 400,000 are the most",
    ),
    "no centres": (small(**{"layers.1.rbf.grid": None}), r"layer 2: 'layers\.1\.rbf\.grid' is missing"),
    "no weights": (small(**{"layers.0.spline_linear.weight": None}), "layer 1: .* is missing"),
    "no bias": (small(**{"layers.0.base_linear.bias": None}), "layer 1: .*only base_linear.weight is"),
    "a bias of another shape": (
        small(**{"layers.0.base_linear.bias": np.ones(3)}),
        r"layer 1: base_linear.bias must have shape \(2\)",
    ),
    "base weights of another shape": (
        small(**{"layers.0.base_linear.weight": np.ones((2, 4))}),
        r"layer 1: base_linear.weight must have shape \(2, 3\)",
    ),
    "weights that no centres divide": (
        small(**{"layers.0.spline_linear.weight": np.ones((2, 23))}),
        "layer 1: spline_linear.weight must have a multiple of 8 columns",
    ),
    "widths that differ": (
        small(**{"layers.1.spline_linear.weight": np.ones((1, 24)), "layers.1.base_linear.weight": np.ones((1, 3))}),
        "layer 2 has 3 inputs, but layer 1 gives 2 nodes",
    ),
    "NaN": (
        small(**{"layers.1.base_linear.bias": np.array([np.nan])}),
        "layer 2: base_linear.bias is nan at node 1",
    ),
    "attention": (
        {
            name.replace("layers.0", "linear_q").replace("layers.1", "linear_k"): array
            for name, array in small().items()
        },
        "The layers of fast-kan are called linear_k, linear_q, and what stands between them is not in the file",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_broken_or_has_no_equal_is_refused_in_one_line_with_its_place(case):
    state, message = REFUSED[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        converted(state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tolerance", [0.0, -1e-6, 1.1, np.nan])
def test_a_tolerance_is_above_0_and_at_most_1(tolerance):
    with pytest.raises(CheckpointError, match="above 0 and at most 1"):
        converted(small(), tolerance=tolerance)


@pytest.mark.slow
def test_a_live_model_says_its_denominators_and_activations():
    import torch

    class Radial(torch.nn.Module):
        denominator: float

    class FastKANLayer(torch.nn.Module):
        def __init__(self, number: int, denominator: float, activation: object) -> None:
            super().__init__()
            own = {
                name.removeprefix(f"layers.{number}."): torch.tensor(array)
                for name, array in small().items()
                if name.startswith(f"layers.{number}.")
            }
            inputs = own["base_linear.weight"].shape[1]
            self.rbf = Radial()
            self.rbf.grid = torch.nn.Parameter(own["rbf.grid"], requires_grad=False)
            self.rbf.denominator = denominator
            self.spline_linear = torch.nn.Linear(8 * inputs, 1, bias=False)
            self.base_linear = torch.nn.Linear(inputs, 1)
            self.spline_linear.weight = torch.nn.Parameter(own["spline_linear.weight"])
            self.base_linear.weight = torch.nn.Parameter(own["base_linear.weight"])
            self.base_linear.bias = torch.nn.Parameter(own["base_linear.bias"])
            self.base_activation = activation

    model = torch.nn.Sequential(FastKANLayer(0, 0.8, torch.tanh), FastKANLayer(1, 0.4, torch.tanh))
    conversion = fast_kan.convert(fast_kan.live(model), Options(tolerance=1e-11))
    x = rows(conversion)
    assert difference(evaluate(conversion.kan, x), forward(small(), x, [0.8, 0.4], np.tanh)) < 1e-10
    assert len(conversion.notes) == 3

    model = torch.nn.Sequential(FastKANLayer(0, 0.8, lambda v: v))
    with pytest.raises(CheckpointError, match="layer 1: the base activation <lambda> has no equal here"):
        fast_kan.convert(fast_kan.live(model), Options())
    assert fast_kan.convert(fast_kan.live(model), Options(base="identity")).kan.shape == (3, 2)
