"""FourierKAN's state dicts become networks of named functions that compute the same."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import kanserve
from kanserve.errors import CheckpointError
from kanserve.network.evaluate import evaluate
from tests.support.networks.basis_networks import FourierLayer, answers

SHAPES = ((1, 1), (1, 3), (4, 1), (3, 4, 2), (2, 2, 2, 2))


def network(shape: tuple[int, ...], frequencies: int, bias: bool = True) -> torch.nn.Module:
    torch.manual_seed(sum(shape))
    return torch.nn.Sequential(*(FourierLayer(i, o, frequencies, bias) for i, o in pairwise(shape)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frequencies", [1, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_network_is_what_torch_computes(shape: tuple[int, ...], frequencies: int, bias: bool) -> None:
    model = network(shape, frequencies, bias)
    found = kanserve.from_checkpoint(model.state_dict())
    assert found.library == "fourier-kan" and found.kan.symbolic and not found.refitted and not found.notes
    x = np.random.default_rng(0).normal(0, 3, (300, shape[0]))
    x[:3] = [[0.0], [np.pi], [-100.0]]
    want = answers(model, x)
    assert np.abs(evaluate(found.kan, x) - want).max() < 1e-12 * np.abs(want).max()


def test_rows_that_are_not_finite_are_nan_here_and_there() -> None:
    model = network((2, 1), 3)
    x = np.array([[0.5, 0.5], [np.nan, 0.5], [np.inf, 0.5]])
    assert np.isnan(kanserve.from_fourier_kan(model)(x)).ravel().tolist() == [False, True, True]
    assert np.isnan(answers(model, x)).ravel().tolist() == [False, True, True]


def test_a_bias_of_one_dimension_is_taken_too() -> None:
    state = network((2, 3), 2).state_dict()
    flat = {**state, "0.bias": state["0.bias"].ravel()}
    assert kanserve.equal(kanserve.from_fourier_kan(flat), kanserve.from_fourier_kan(state))


def test_a_live_model_with_more_than_layers_is_refused() -> None:
    model = torch.nn.Sequential(*network((2, 1), 3).children(), torch.nn.Tanh())
    with pytest.raises(CheckpointError, match="a module '1' of type Tanh beside its layers"):
        kanserve.from_fourier_kan(model)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "three halves": ({"fouriercoeffs": np.ones((3, 1, 2, 4))}, r"must be \(2, nodes, inputs, frequencies\)"),
    "two dimensions": ({"fouriercoeffs": np.ones((2, 8))}, "layer 1: fouriercoeffs must be floats"),
    "a bias of another size": ({"fouriercoeffs": np.ones((2, 1, 2, 4)), "bias": np.ones((1, 2))}, "layer 1: bias must"),
    "too many inputs": ({"fouriercoeffs": np.ones((2, 1, 400, 5))}, "400 inputs and needs a layer with places for 1,6"),
    "something between": ({"0.fouriercoeffs": np.ones((2, 1, 2, 4)), "1.weight": np.ones(1)}, "'1.weight' is not an"),
    "NaN": ({"fouriercoeffs": np.full((2, 1, 2, 4), np.nan)}, "layer 1: fouriercoeffs is nan at cosine or sine 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_broken_or_too_large_is_refused_in_one_line(case: str) -> None:
    arrays, message = REFUSED[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        kanserve.from_checkpoint(arrays)
    assert "\n" not in str(caught.value)
