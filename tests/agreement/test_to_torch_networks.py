"""The torch module of every random network is the network, in double and in float, as its exports are."""

import pytest
import torch

from kanserve.network.export_options import Precision
from kanserve.train.torch.export import to_torch
from tests.support.networks import random_networks
from tests.support.row_agreement import TYPES, assert_held, in_type


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_the_module_of_a_random_network_is_the_network(which: int, precision: Precision):
    kind = torch.float64 if precision == "double" else torch.float32
    for name, kan in random_networks.portion(which).items():
        x = in_type(random_networks.rows(kan), precision)
        module = to_torch(kan, dtype=kind)
        with torch.no_grad():
            got = module(torch.from_numpy(x.astype(TYPES[precision]))).numpy()
        assert_held(kan, x, got, precision, name)
