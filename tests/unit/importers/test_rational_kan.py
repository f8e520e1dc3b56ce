"""KANs of quotients, as in KAT, become networks of powers and products that compute the same."""

from typing import Any

import numpy as np
import pytest
import torch

import kanserve
from kanserve.errors import CheckpointError
from kanserve.network.evaluate import evaluate
from tests.support.networks.basis_networks import Quotient, RationalNetwork, answers


def network(widths: tuple[int, int, int] = (4, 6, 2), groups: tuple[int, int] = (2, 3), shared: bool = True) -> Any:
    torch.manual_seed(sum(widths))
    return RationalNetwork(widths, groups, shared)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("widths", "groups"), [((4, 6, 2), (2, 3)), ((1, 1, 1), (1, 1)), ((3, 2, 5), (3, 1))])
def test_the_network_is_what_torch_computes(widths: Any, groups: Any, shared: bool) -> None:
    model = network(widths, groups, shared)
    found = kanserve.from_checkpoint(model.state_dict())
    assert found.library == "rational-kan" and found.kan.symbolic and not found.refitted
    x = np.random.default_rng(0).normal(0, 3, (300, widths[0]))
    x[:4] = [[0.0], [1.0], [-1.0], [-1e6]]
    want = answers(model, x)
    assert np.abs(evaluate(found.kan, x) - want).max() < 1e-12 * np.abs(want).max()


def test_rows_that_are_not_finite_are_nan_here_and_there() -> None:
    model = network()
    x = np.full((3, 4), 0.5)
    x[1, 0], x[2, 0] = np.nan, np.inf
    assert np.isnan(kanserve.from_rational_kan(model)(x)).all(axis=1).tolist() == [False, True, True]
    assert np.isnan(answers(model, x)).all(axis=1).tolist() == [False, True, True]


def test_what_the_file_does_not_say_is_a_note() -> None:
    (note,) = kanserve.from_checkpoint(network().state_dict()).notes
    assert "before the linear layers" in note and "1 + Σ|b_k|·|x|^k" in note


@pytest.mark.parametrize("stems", [("act", "fc"), ("rational", "linear"), ("layers.{}.act", "layers.{}.fc")])
def test_layers_are_found_by_the_usual_names(stems: tuple[str, str]) -> None:
    state = network().state_dict()
    renamed = {}
    for key, tensor in state.items():
        part, _, name = key.partition(".")
        stem, number = stems[part.startswith("fc")], part[-1]
        renamed[f"{stem.format(int(number) - 1)}{'' if '{}' in stem else number}.{name}"] = tensor
    assert kanserve.equal(kanserve.from_rational_kan(renamed), kanserve.from_rational_kan(state))


def test_a_live_model_with_another_activation_is_refused() -> None:
    model = network()
    model.last = torch.nn.GELU()
    with pytest.raises(CheckpointError, match="a module 'last' of type GELU beside its layers"):
        kanserve.from_rational_kan(model)


def test_powers_may_be_fewer_than_kat_has() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential()
    model.act1, model.fc1 = Quotient(1, powers=(1, 1)), torch.nn.Linear(2, 1).double()
    x = np.random.default_rng(0).normal(0, 3, (50, 2))
    want = answers(torch.nn.Sequential(model.act1, model.fc1), x)
    assert np.abs(kanserve.from_rational_kan(model.state_dict())(x) - want).max() < 1e-13


def state(**changed: Any) -> dict[str, Any]:
    """A layer of four inputs and one node, with arrays in place of its own or, for None, left out."""
    own: dict[str, Any] = {"act1.weight_numerator": np.ones((1, 6)), "act1.weight_denominator": np.ones((2, 4))}
    own |= {"fc1.weight": np.ones((1, 4)), "fc1.bias": np.ones(1)}
    own |= {name.replace("__", "."): array for name, array in changed.items()}
    return {name: array for name, array in own.items() if array is not None}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no linear layer": (state(fc1__weight=None, fc1__bias=None), "layer 1: 'layer1.weight' is missing"),
    "groups that do not divide": (
        state(fc1__weight=np.ones((1, 5))),
        "1 numerators and 2 denominators do not go with 5",
    ),
    "numerators of other groups": (state(act1__weight_numerator=np.ones((3, 6))), "3 numerators and 2 denominators"),
    "a high power": (state(act1__weight_numerator=np.ones((1, 7))), "layer 1 has powers up to 6; 5 is the largest"),
    "too many inputs": (state(fc1__weight=np.ones((1, 400))), "layer 1 has 400 inputs and needs a layer with places"),
    "a bias of another size": (state(fc1__bias=np.ones(2)), "layer 1: bias must have shape"),
    "something else": (
        state(norm__weight=np.ones(4)),
        "layers of rational-kan are called layer1, norm, and",
    ),
    "NaN": (state(act1__weight_denominator=np.full((2, 4), np.nan)), "layer 1: weight_denominator is nan at group 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_broken_or_too_large_is_refused_in_one_line(case: str) -> None:
    arrays, message = REFUSED[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        kanserve.from_checkpoint(arrays)
    assert "\n" not in str(caught.value)
