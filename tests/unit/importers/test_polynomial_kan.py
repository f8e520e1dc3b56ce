"""KANs of polynomials become networks that compute what plain torch computes of the same arrays."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import kanserve
from kanserve.errors import CheckpointError, InputError
from kanserve.importers import POLYNOMIALS, polynomial_splines
from kanserve.importers.polynomial_splines import LARGEST_DEGREE
from kanserve.network.evaluate import evaluate
from kanserve.network.splines import pieces
from tests.support.networks import basis_networks
from tests.support.networks.basis_networks import PolynomialLayer, answers

# By basis: the usual name of its array, its polynomials in torch, and the options that say what is not stored.
FAMILIES: dict[str, tuple[str, basis_networks.Recurrence, dict[str, Any]]] = {
    "chebyshev": ("cheby_coeffs", basis_networks.chebyshev, {}),
    "chebyshev2": ("cheby2_coeffs", basis_networks.chebyshev2, {}),
    "legendre": ("legendre_coeffs", basis_networks.legendre, {}),
    "hermite": ("hermite_coeffs", basis_networks.hermite, {}),
    "jacobi": ("jacobi_coeffs", basis_networks.jacobi(0.5, -0.25), {"basis": "jacobi", "parameters": [0.5, -0.25]}),
    "gegenbauer": ("gegenbauer_coeffs", basis_networks.gegenbauer(0.75), {"parameters": [0.75]}),
    "laguerre": ("laguerre_coeffs", basis_networks.laguerre(0.5), {"parameters": [0.5]}),
    "bessel": ("bessel_coeffs", basis_networks.bessel, {}),
    "fibonacci": ("fib_coeffs", basis_networks.fibonacci, {"basis": "fibonacci"}),
    "lucas": ("lucas_coeffs", basis_networks.lucas, {"basis": "lucas"}),
}
SHAPES = ((1, 1), (1, 3), (4, 1), (3, 4, 2), (2, 2, 2, 2))


def network(
    shape: tuple[int, ...], degree: int, basis: str, squash: Callable[..., Any] = torch.tanh
) -> torch.nn.Module:
    torch.manual_seed(sum(shape) + degree)
    name, polynomials, _ = FAMILIES[basis]
    layers = (PolynomialLayer(i, o, degree, polynomials, name, squash) for i, o in pairwise(shape))
    return torch.nn.Sequential(*layers)


def rows(inputs: int, count: int = 300) -> NDArray[np.float64]:
    """Inside, on the ends of the polynomials' range, at 0, and so far outside that tanh is 1."""
    x = np.random.default_rng(0).normal(0, 2, (count, inputs))
    x[:7] = [[0.0], [1.0], [-1.0], [30.0], [-30.0], [1e300], [-1e300]]
    return x


def difference(model: torch.nn.Module, farthest: float = np.inf, **options: Any) -> float:
    kan = kanserve.from_polynomial_kan(model.state_dict(), **options)
    x = rows(len(kan.inputs)).clip(-farthest, farthest)
    want = answers(model, x)
    return float(np.abs(evaluate(kan, x) - want).max() / np.abs(want).max())


def test_every_basis_is_tried() -> None:
    assert set(FAMILIES) == set(POLYNOMIALS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("basis", FAMILIES)
def test_the_network_is_what_torch_computes(basis: str, shape: tuple[int, ...]) -> None:
    assert difference(network(shape, 4, basis), **FAMILIES[basis][2]) < 1e-12


@pytest.mark.parametrize("degree", range(1, LARGEST_DEGREE + 1))
@pytest.mark.parametrize("basis", FAMILIES)
def test_a_layer_of_every_degree_keeps_twelve_digits(basis: str, degree: int) -> None:
    assert difference(network((2, 3), degree, basis), **FAMILIES[basis][2]) < 1e-12


@pytest.mark.parametrize("degree", range(1, LARGEST_DEGREE + 1))
@pytest.mark.parametrize("basis", FAMILIES)
def test_the_local_polynomials_of_exports_keep_twelve_digits(basis: str, degree: int) -> None:
    _, polynomials, options = FAMILIES[basis]
    series = polynomial_splines.polynomials(basis, degree, tuple(options.get("parameters", ())))  # type: ignore[arg-type]  # a string
    knots = polynomial_splines.knots_of(degree)
    coefficients = polynomial_splines.spline_coefficients(series, knots)
    local = pieces(knots[None], coefficients.T[:, None], degree, "linear")
    x = np.linspace(-1, 1, 2001)
    piece = np.searchsorted(local.breaks[0], x, side="right")
    steps = (x - local.origins[0][piece])[:, None] ** np.arange(degree + 1)
    got = np.einsum("onr,nr->on", local.coefficients[:, 0][:, piece], steps)
    want = torch.stack(polynomials(torch.from_numpy(x), degree)).numpy()
    largest = np.abs(want).max(axis=1, keepdims=True).clip(min=np.finfo(float).tiny)
    assert (np.abs(got - want) / largest).max() < 1e-12


def test_a_layer_of_constants_is_imported() -> None:
    assert difference(network((2, 3), 0, "chebyshev")) < 1e-15


def test_degrees_may_differ_by_layer() -> None:
    torch.manual_seed(0)
    layers = [PolynomialLayer(2, 3, 2, basis_networks.legendre, "legendre_coeffs")]
    layers.append(PolynomialLayer(3, 1, 7, basis_networks.legendre, "legendre_coeffs"))
    assert difference(torch.nn.Sequential(*layers)) < 1e-12


@pytest.mark.parametrize("degree", [1, 5])
def test_inputs_can_be_clamped_instead(degree: int) -> None:
    model = network((3, 2), degree, "chebyshev", lambda x: x.clamp(-1, 1))
    assert difference(model, farthest=1e3, squash="clamp") < 1e-12
    assert difference(model) > 0.01


def test_rows_that_are_not_finite_are_nan_and_leave_the_others_alone() -> None:
    """The original's tanh makes 1 of an infinity; here such a row is NaN, as everywhere."""
    model = network((2, 1), 3, "chebyshev")
    x = np.array([[0.5, 0.5], [np.nan, 0.5], [np.inf, 0.5], [0.5, -np.inf]])
    got = kanserve.from_polynomial_kan(model)(x)
    assert np.isfinite(answers(model, x)).ravel().tolist() == [True, False, True, True]
    assert np.isfinite(got).ravel().tolist() == [True, False, False, False]


def test_weights_in_float32_are_taken_as_they_are() -> None:
    model = network((3, 4, 2), 4, "chebyshev").float()
    state = {name: tensor.double() for name, tensor in model.state_dict().items()}
    kan = kanserve.from_polynomial_kan(model)
    assert kanserve.equal(kan, kanserve.from_polynomial_kan(state))


def test_the_names_of_the_arrays_say_which_polynomials_they_are() -> None:
    model = network((2, 1), 3, "hermite")
    found = kanserve.from_checkpoint({f"layers.{name}": tensor for name, tensor in model.state_dict().items()})
    assert found.library == "polynomial-kan" and not found.refitted
    assert found.notes == (
        "The inputs of each layer are taken to pass through tanh, which no file says. Say squash= if not.",
    )
    state = {"0.coeffs": model.state_dict()["0.hermite_coeffs"]}
    assert kanserve.equal(kanserve.from_checkpoint(state, basis="hermite").kan, found.kan)


def test_a_buffer_of_degrees_is_left_out() -> None:
    state = network((2, 1), 3, "chebyshev").state_dict()
    kan = kanserve.from_polynomial_kan(state)
    assert kanserve.equal(kanserve.from_polynomial_kan({**state, "0.arange": torch.arange(4)}), kan)


def test_usual_constants_are_taken_and_that_is_said() -> None:
    state = network((2, 1), 3, "jacobi").state_dict()
    found = kanserve.from_checkpoint(state, basis="jacobi")
    assert "layer 1: a = 1 and b = 1" in found.notes[1]
    assert kanserve.equal(found.kan, kanserve.from_checkpoint(state, basis="jacobi", parameters=[1, 1]).kan)


def test_a_live_model_says_its_constants() -> None:
    model = network((2, 2, 1), 3, "gegenbauer")
    for layer, alpha in zip(model.children(), (0.75, 1.5), strict=True):
        layer.alpha_param = alpha  # type: ignore[assignment]  # not a tensor
        layer.polynomials = basis_networks.gegenbauer(alpha)  # type: ignore[assignment]
    x = rows(2)
    assert np.abs(kanserve.from_polynomial_kan(model)(x) - answers(model, x)).max() < 1e-12


def test_a_live_layer_of_jacobi_kan_is_known_by_its_attributes_and_one_of_another_project_is_not() -> None:
    model = network((2, 1), 3, "jacobi")
    with pytest.raises(CheckpointError, match="OrthogPolyKANs another recurrence"):
        kanserve.from_polynomial_kan(model)
    (layer,) = model.children()
    layer.a, layer.b = 0.5, -0.25  # type: ignore[assignment]  # not tensors
    x = rows(2)
    assert np.abs(kanserve.from_polynomial_kan(model)(x) - answers(model, x)).max() < 1e-12


def test_a_live_model_with_more_than_layers_is_refused() -> None:
    model = torch.nn.Sequential(*network((2, 1), 3, "chebyshev").children(), torch.nn.ReLU())
    with pytest.raises(CheckpointError, match="a module '1' of type ReLU beside its layers"):
        kanserve.from_polynomial_kan(model)


def state(name: str = "cheby_coeffs", shape: tuple[int, ...] = (2, 1, 4), value: float = 0.5) -> dict[str, Any]:
    return {f"0.{name}": np.full(shape, value)}


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a name that says nothing": (state("coeffs"), {}, r"'0\.coeffs' \(2, 1, 4\) are coefficients.*Say basis=, one of"),
    "fibonacci": (state("fib_coeffs"), {}, "pass each polynomial through tanh.*basis='fibonacci' if yours does not"),
    "jacobi": (state("jacobi_coeffs"), {}, "OrthogPolyKANs another recurrence.*basis='jacobi' if yours are Jacobi's"),
    "lucas": (state("lucas_coeffs"), {}, "pass each polynomial through tanh.*basis='lucas' if yours does not"),
    "another basis": (state(), {"basis": "legendre"}, "cheby_coeffs is of chebyshev polynomials.*basis is 'legendre'"),
    "two bases": (state() | {"1.legendre_coeffs": np.ones((1, 1, 4))}, {}, "several bases, cheby_coeffs, legendre_coe"),
    "no constant": (state("gegenbauer_coeffs"), {}, r"layer 1: alpha of the gegenbauer.*Say parameters=\[\.\.\]"),
    "a constant too many": (state(), {"parameters": [1.0]}, "chebyshev polynomials have no parameters; got 1 numbers"),
    "a division by 0": (
        state("jacobi_coeffs"),
        {"basis": "jacobi", "parameters": [-1, -1]},
        "layer 1: the recurrence.*divides by 0 at -1",
    ),
    "a high degree": (state(shape=(2, 1, 14)), {}, "layer 1 has polynomials of degree 13; 12 is the most. Above it"),
    "many inputs": (
        state(shape=(1025, 1, 2)),
        {},
        "layer 1 has 1025 inputs and needs a layer with places for 1,050,625",
    ),
    "a LayerNorm between": (state() | {"ln1.weight": np.ones(1)}, {}, "'ln1.weight' is not an array of a layer of p"),
    "widths that differ": (state() | {"1.cheby_coeffs": np.ones((2, 1, 4))}, {}, "layer 2 has 2 inputs, but layer 1"),
    "NaN": (state(value=np.nan), {}, "layer 1: cheby_coeffs is nan at input 1, node 1, polynomial 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_clear_or_not_exact_is_refused_in_one_line(case: str) -> None:
    arrays, options, message = REFUSED[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        kanserve.from_checkpoint(arrays, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"basis": "fourier"}, "basis is one of chebyshev, .*got 'fourier'"),
        ({"squash": "sin"}, "squash is one of tanh, clamp; got 'sin'"),
        ({"parameters": ["a"]}, r"parameters are finite numbers, as in \[0.5\]"),
        ({"parameters": [np.inf]}, "parameters are finite numbers"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kanserve.from_checkpoint(state(), **options)
