"""L1 and entropy of edge activations, by the equations of the paper."""

import numpy as np
import torch

from kanserve.network.evaluate import activations, edges
from kanserve.network.kan import Kan, make_layer
from kanserve.train.torch.modules import to_module
from kanserve.train.torch.objective import entropy, penalty, sizes
from tests.support.networks import kans


def test_the_penalty_is_the_papers_on_every_layer():
    kan = kans.mixed()
    x = kans.rows(kan)[:40]
    want = 0.0
    for layer, v in zip(kan.layers, activations(kan, x), strict=False):
        size = np.abs(edges(layer, v)).mean(axis=0)
        share = size[size > 0] / size.sum()
        want += 0.3 * size.sum() + 0.7 * -(share * np.log(share)).sum()
    _, every = to_module(kan).with_edges(torch.from_numpy(x))
    np.testing.assert_allclose(penalty(every, 0.3, 0.7).item(), want, rtol=1e-12)


def test_entropy_is_least_for_one_edge_and_greatest_for_equal_ones():
    one, equal = torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    assert entropy(one).item() == 0
    np.testing.assert_allclose(entropy(equal).item(), np.log(4), rtol=1e-6)


def test_a_layer_without_edges_costs_nothing_and_has_a_finite_gradient():
    silent = Kan((make_layer(np.full((2, 1, 4), 1e-320), base="zero"), make_layer(shape=(1, 2))))
    module = to_module(silent)
    _, every = module.with_edges(torch.zeros(3, 1, dtype=torch.float64))
    cost = penalty(every, 1.0, 1.0)
    cost.backward()
    assert abs(cost.item()) < 1e-15
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_size_of_an_edge_is_its_mean_magnitude():
    assert sizes(torch.tensor([[[1.0, -3.0]], [[0.0, 0.0]]])).tolist() == [[2.0], [0.0]]
