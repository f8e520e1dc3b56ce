"""jaxkan's spline layers, by their formula with SciPy's B-splines: zero outside of the extended grid."""

import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from kanserve.errors import CheckpointError
from kanserve.importers import jaxkan
from kanserve.importers.conversion import Checkpoint, Options
from kanserve.network.evaluate import evaluate


def silu(x):
    return x / (1 + np.exp(-x))


def spline(knots, coefficients, x):
    """Σ_m coefficients[m]·B_m(x), each basis function on knots of its own."""
    k = len(knots) - len(coefficients) - 1
    each = [BSpline.basis_element(knots[m : m + k + 2], extrapolate=False)(x) for m in range(len(coefficients))]
    return np.nan_to_num(np.stack(each, axis=1)) @ coefficients


def answers(arrays, x, residual=silu):
    """What the layers give, edge by edge; a BaseLayer's are in the row node·I + input."""
    for number in range(sum(key.endswith("c_basis") for key in arrays)):
        one = {key.split(".")[2]: array.astype(float) for key, array in arrays.items() if f"s.{number}." in key}
        inputs = x.shape[1]
        outputs = len(one["c_basis"]) // (inputs if one["c_basis"].ndim == 2 else 1)
        total = np.zeros((len(x), outputs))
        for j in range(outputs):
            for i in range(inputs):
                row = j * inputs + i
                flat = one["c_basis"].ndim == 2
                coefficients = one["c_basis"][row] if flat else one["c_basis"][j, i]
                edge = spline(one["grid"][row if flat else i], coefficients, x[:, i])
                edge = edge * one["c_spl"][j, i] if "c_spl" in one else edge
                total[:, j] += edge + (one["c_res"][j, i] * residual(x[:, i]) if "c_res" in one else 0)
            total[:, j] += one["bias"][j] if "bias" in one else 0
        x = total
    return x


def network(
    widths=(2, 3, 1), kind="spline", order=3, intervals=5, absent=(), dtype=np.float32, residual="silu", even=False
):
    """What the lines in the importer's documentation save, of random numbers; grids are those after an update."""
    rng = np.random.default_rng(8)
    arrays: dict[str, NDArray[Any]] = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        interior = np.linspace(-1, 1, intervals + 1) + np.zeros((inputs, 1))
        if not even:
            interior = np.sort(0.3 * interior + rng.uniform(-0.8, 0.8, interior.shape), axis=1)
        step = (interior[:, -1:] - interior[:, :1]) / intervals
        beyond = step * np.arange(1, order + 1)
        grid = np.concatenate([interior[:, :1] - beyond[:, ::-1], interior, interior[:, -1:] + beyond], axis=1)
        coefficients = rng.normal(0, 0.5, (outputs, inputs, intervals + order))
        if kind == "base":
            grid, coefficients = np.tile(grid, (outputs, 1)), coefficients.reshape(outputs * inputs, -1)
        made = {"c_basis": coefficients, "grid": grid, "bias": rng.normal(0, 1, outputs)}
        made |= {name: rng.normal(0, 1, (outputs, inputs)) for name in ("c_spl", "c_res")}
        arrays |= {f"layers.{number}.{name}": array.astype(dtype) for name, array in made.items() if name not in absent}
        if residual:
            arrays[f"layers.{number}.residual.{residual}"] = np.ones(1)
    return arrays


def rows(arrays):
    """Inside, on every knot, outside of the grid and of the extended grid."""
    rng = np.random.default_rng(9)
    grid = arrays["layers.0.grid"].astype(float)
    inputs = arrays["layers.0.c_res"].shape[1] if "layers.0.c_res" in arrays else 2
    near = rng.uniform(grid.min() - 1, grid.max() + 1, (800, inputs))
    on = np.stack([rng.choice(grid[i], 180) for i in range(inputs)], axis=1)
    return np.concatenate([near, on, rng.normal(0, 20, (20, inputs))])


def agrees(arrays, conversion, residual=silu):
    x = rows(arrays)
    wanted = answers(arrays, x, residual)
    np.testing.assert_allclose(evaluate(conversion.kan, x), wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["spline", "base"])
@pytest.mark.parametrize("shape", [{}, {"widths": (3, 2, 2), "order": 2, "intervals": 8}, {"order": 1}, {"even": True}])
def test_a_network_computes_what_the_formula_says_inside_on_knots_and_outside(shape, kind, dtype):
    arrays = network(kind=kind, dtype=dtype, **shape)
    conversion = jaxkan.convert(Checkpoint(arrays), Options())
    agrees(arrays, conversion)
    assert (conversion.library, conversion.notes) == ("jaxkan", ())


@pytest.mark.parametrize("kind", ["spline", "base"])
@pytest.mark.parametrize(
    "absent", [("c_spl",), ("c_res",), ("bias",), ("c_spl", "bias"), ("c_res", "c_spl"), ("c_res", "bias")]
)
def test_factors_residual_and_bias_may_each_be_absent(kind, absent):
    arrays = network(kind=kind, absent=absent)
    agrees(arrays, jaxkan.convert(Checkpoint(arrays), Options()))


def test_the_edges_of_a_base_layer_alone_need_the_number_of_inputs():
    arrays = network(kind="base", absent=("c_spl", "c_res", "bias"))
    with pytest.raises(
        CheckpointError, match=r"layer 1: without c_res, c_spl and bias .* give the names of the inputs"
    ):
        jaxkan.convert(Checkpoint(arrays), Options())
    conversion = jaxkan.convert(Checkpoint(arrays), Options(inputs=("mass", "speed"), outputs=("w",)))
    agrees(arrays, conversion)
    assert [variable.name for variable in (*conversion.kan.inputs, *conversion.kan.outputs)] == ["mass", "speed", "w"]


@pytest.mark.parametrize(
    "name, function",
    [
        ("identity", lambda x: x),
        ("relu", lambda x: np.maximum(x, 0)),
        ("tanh", np.tanh),
        ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("sin", np.sin),
        ("cos", np.cos),
    ],
)
def test_the_residual_is_the_one_that_the_file_names(name, function):
    arrays = network(residual=name)
    conversion = jaxkan.convert(Checkpoint(arrays), Options())
    agrees(arrays, conversion, function)
    assert conversion.notes == ()


def test_a_residual_that_no_one_names_is_silu_and_noted():
    arrays = network(residual=None)
    conversion = jaxkan.convert(Checkpoint(arrays), Options())
    agrees(arrays, conversion)
    assert len(conversion.notes) == 1
    assert "silu" in conversion.notes[0]


def test_the_residual_that_is_said_counts_before_the_files():
    arrays = network(residual="<lambda>")
    with pytest.raises(CheckpointError, match=r"layer 1: .*<lambda>"):
        jaxkan.convert(Checkpoint(arrays), Options())
    conversion = jaxkan.convert(Checkpoint(arrays), Options(base="identity"))
    agrees(arrays, conversion, lambda x: x)
    assert conversion.notes == ()


def test_a_network_without_residual_needs_none_and_has_no_notes():
    arrays = network(absent=("c_res",), residual=None)
    conversion = jaxkan.convert(Checkpoint(arrays), Options())
    agrees(arrays, conversion)
    assert conversion.notes == ()


def test_the_whole_state_does_as_well_as_the_parameters():
    arrays = network()
    more = {"layers.0.rngs.default.count": np.zeros((), np.uint32), "layers.0.rngs.default.key": np.zeros(2, np.uint32)}
    renamed = {key.replace("grid", "grid.item"): array for key, array in arrays.items()}
    agrees(arrays, jaxkan.convert(Checkpoint(renamed | more), Options()))


def test_one_layer_alone_is_a_network():
    arrays = {key.removeprefix("layers.0."): array for key, array in network((2, 3)).items()}
    assert jaxkan.matches(Checkpoint(arrays))
    assert jaxkan.convert(Checkpoint(arrays), Options()).kan.shape == (2, 3)


def test_what_is_not_jaxkans_does_not_match():
    assert not jaxkan.matches(Checkpoint({"layers.0.coef": np.zeros((1, 2)), "layers.0.grid": np.zeros(3)}))
    assert not jaxkan.matches(Checkpoint({}))


def without(arrays, key):
    return {name: array for name, array in arrays.items() if name != key}


def moved(arrays, key, place, value):
    """One number of one array set to another."""
    array = arrays[key].copy()
    array[place] = value
    return arrays | {key: array}


@pytest.mark.parametrize(
    "kind, change, reason",
    [
        ("spline", lambda a: without(a, "layers.1.grid"), "layer 2: it has no grid"),
        ("spline", lambda a: without(a, "layers.1.c_basis"), "layer 2: 'layers.1.c_basis' is missing"),
        ("spline", lambda a: a | {"layers.0.c_spl": np.ones((2, 3))}, "layer 1: c_spl must have shape (3, 2)"),
        ("spline", lambda a: a | {"layers.0.bias": np.ones(2)}, "layer 1: bias must have shape (3"),
        ("spline", lambda a: a | {"layers.1.grid": np.ones((2, 12))}, "layer 2: grid must have shape (3, 12)"),
        ("spline", lambda a: a | {"layers.0.grid": np.ones((2, 30))}, "layer 1: 30 knots do not go with 8"),
        ("spline", lambda a: a | {"layers.0.grid": np.ones((2, 9))}, "layer 1: 9 knots do not go with 8"),
        ("spline", lambda a: a | {"layers.0.grid": np.ones((2, 8))}, "has layers of splines and of Gaussians"),
        ("spline", lambda a: moved(a, "layers.0.grid", (1, 4), a["layers.0.grid"][1, 3]), "layer 1, input 2: its knot"),
        ("spline", lambda a: moved(a, "layers.0.c_basis", (2, 1, 3), np.inf), "at node 3, input 2, coefficient 4"),
        ("spline", lambda a: a | {"head.bias": np.ones(1)}, "The layers of jaxkan are called head"),
        ("spline", lambda a: {k.replace("layers.1", "layers.2"): v for k, v in a.items()}, "what stands between them"),
        (
            "base",
            lambda a: moved(a, "layers.0.grid", (5, 4), a["layers.0.grid"][5, 4] + 0.01),
            "input 2 to node 3: its",
        ),
        ("base", lambda a: a | {"layers.0.c_basis": np.ones((5, 8))}, "layer 1: c_basis must have a row for each edge"),
        ("base", lambda a: a | {"layers.0.grid": np.ones((2, 12))}, "layer 1: grid must have shape (6, 12)"),
    ],
)
def test_what_is_broken_is_refused_with_its_place_in_one_line(kind, change, reason):
    with pytest.raises(CheckpointError) as caught:
        jaxkan.convert(Checkpoint(change(network(kind=kind))), Options())
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arrays, kind",
    [
        ({"c_cos": (3, 2, 5), "c_sin": (3, 2, 5), "bias": (3,)}, "FourierLayer: an edge is a Fourier series"),
        ({"c_basis": (3, 2, 5), "omega": (5, 1), "phase": (5, 1)}, "SineLayer: an edge is a sum of sines"),
        ({"c_basis": (3, 2, 5), "c_ext": (3, 2)}, "ChebyshevLayer, LegendreLayer or RBFLayer"),
        ({"c_basis": (3, 2, 5), "bias": (3,)}, "it has no grid, which jaxkan keeps outside its state (and polynomial"),
        ({"beta": (2, 4), "Lambda": (3, 4)}, "ActLayer of an ActNet"),
    ],
)
def test_layers_of_other_kinds_are_refused_by_name_with_the_reason(arrays, kind):
    checkpoint = Checkpoint({f"layers.0.{name}": np.ones(shape) for name, shape in arrays.items()})
    assert jaxkan.matches(checkpoint)
    with pytest.raises(CheckpointError) as caught:
        jaxkan.convert(checkpoint, Options())
    assert kind in str(caught.value)


def radial(centres, **more):
    """Two RBFLayers, and what they give at rows x: by their formula, with std where `more` has it for both."""
    rng = np.random.default_rng(10)
    arrays: dict[str, NDArray[Any]] = {}
    for number, (inputs, outputs) in enumerate(pairwise((2, 3, 1))):
        own = {"c_basis": rng.normal(0, 0.5, (outputs, inputs, 5)), "grid": centres(rng, inputs)}
        own |= {"c_res": rng.normal(0, 1, (outputs, inputs)), "bias": rng.normal(0, 1, outputs)} | more
        if "c_ext" in more:
            own["c_ext"] = rng.normal(0, 1, (outputs, inputs))
        arrays |= {f"layers.{number}.{name}": array for name, array in own.items()}

    def answer(x, std=1.0):
        for number in range(2):
            one = {key[9:]: array for key, array in arrays.items() if key.startswith(f"layers.{number}.")}
            values = np.exp(-(((x[:, :, None] - one["grid"]) / one.get("std", std)) ** 2) / 2)
            weights = one["c_basis"] * one.get("c_ext", np.ones(1))[..., None]
            x = np.einsum("rim,oim->ro", values, weights) + silu(x) @ one["c_res"].T + one["bias"]
        return x

    return arrays, answer


def even(rng, inputs):
    return np.tile(np.linspace(-2, 2, 5), (inputs, 1))


def uneven(rng, inputs):
    return np.sort(rng.uniform(-2, 2, (inputs, 5)), axis=1)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize("centres", [even, uneven])
@pytest.mark.parametrize("more", [{}, {"c_ext": np.ones(1), "std": np.array(0.4)}])
def test_sums_of_gaussians_become_splines_whose_network_is_within_the_tolerance(centres, more, tolerance):
    arrays, answer = radial(centres, **more)
    conversion = jaxkan.convert(Checkpoint(arrays), Options(tolerance=tolerance))
    x = np.random.default_rng(11).uniform(-5, 5, (5000, 2))
    apart = np.abs(evaluate(conversion.kan, x) - answer(x)).max() / np.abs(answer(x)).max()
    assert apart <= tolerance
    assert conversion.refitted
    assert len(conversion.notes) == (4 if "std" in more else 5)  # the base is unsaid in both


def test_the_width_of_gaussians_is_the_callers_the_files_or_jaxkans_default():
    arrays, answer = radial(even)
    x = rows(network())
    for denominator, std in ((None, 1.0), (0.5 * 2**0.5, 0.5)):
        conversion = jaxkan.convert(Checkpoint(arrays), Options(tolerance=1e-10, denominator=denominator))
        assert np.abs(evaluate(conversion.kan, x) - answer(x, std)).max() < 1e-9
        assert any("std is taken as 1" in note for note in conversion.notes) == (denominator is None)
    broken = arrays | {"layers.1.std": np.array(0.0)}
    with pytest.raises(CheckpointError, match="layer 2: std must be a number other than 0, got 0"):
        jaxkan.convert(Checkpoint(broken), Options())


class SplineLayer:
    """The attributes of jaxkan's layer; it is not there itself when these tests run."""

    __module__ = "jaxkan.layers.Spline"

    def __init__(self, arrays, residual):
        for name in ("c_basis", "c_spl", "c_res", "bias"):
            setattr(self, name, arrays.get(name))
        self.grid = type("SplineGrid", (), {"item": arrays["grid"]})()
        self.residual = residual


class ChebyshevLayer:
    __module__ = "jaxkan.layers.Chebyshev"


class KAN:
    __module__ = "jaxkan.models.KAN"

    def __init__(self, *layers):
        self.layers = layers


def made(arrays, residual):
    parts = [{key[9:]: array for key, array in arrays.items() if key.startswith(f"layers.{n}.")} for n in range(2)]
    return KAN(*(SplineLayer(part, residual) for part in parts))


def named(name, module):
    """A function that says of itself that it is called so, and from where."""

    def function(x):
        return x

    function.__name__, function.__module__ = name, module
    return function


@pytest.mark.parametrize("absent", [(), ("c_spl", "bias")])
def test_a_live_network_knows_its_grid_and_its_residual(absent):
    arrays = network(absent=absent)
    checkpoint = jaxkan.live(made(arrays, named("tanh", "jax.numpy")))
    assert jaxkan.matches(checkpoint)
    agrees(arrays, jaxkan.convert(checkpoint, Options()), np.tanh)


def test_a_live_network_without_residual_has_none():
    arrays = network(absent=("c_res",))
    agrees(arrays, jaxkan.convert(jaxkan.live(made(arrays, None)), Options()))


def test_a_function_of_the_users_own_is_not_taken_for_one_of_jaxs_by_its_name():
    checkpoint = jaxkan.live(made(network(), named("silu", "mine")))
    with pytest.raises(CheckpointError, match=r"layer 1: .*mine\.silu"):
        jaxkan.convert(checkpoint, Options())
    assert jaxkan.convert(checkpoint, Options(base="silu")).notes == ()


def test_live_layers_of_other_kinds_and_other_models_are_refused_by_name():
    layer = made(network(), None).layers[0]
    assert jaxkan.convert(jaxkan.live(layer), Options()).kan.shape == (2, 3)
    with pytest.raises(CheckpointError, match=r"Layer 2 of the KAN is a ChebyshevLayer: an edge is a polynomial"):
        jaxkan.live(KAN(layer, ChebyshevLayer()))
    with pytest.raises(CheckpointError, match=r"A dict is not a KAN of jaxkan"):
        jaxkan.live({})


def test_neither_jax_nor_torch_is_imported():
    code = (
        "import sys, kanserve.importers.jaxkan, kanserve.importers.inkan;"
        " sys.exit('torch' in sys.modules or 'jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
