"""Edges as weighted points: one edge alone is sampled as it is among all."""

import numpy as np
import pytest

from kanserve.network.training_range import sample
from kanserve.simplification.sensitivity import samples
from tests.support.networks import kans


@pytest.mark.parametrize("make", [kans.mixed, kans.multiplication, kans.wide])
def test_one_edge_is_sampled_as_it_is_among_all(make):
    kan = make()
    x, spread = sample(kan, 300), np.ones(len(kan.outputs))
    every = samples(kan, x, spread)
    assert len(every) == sum(int(layer.spline_mask.sum()) for layer in kan.layers)
    for place, wanted in list(every.items())[:: max(1, len(every) // 5)]:
        (found,) = samples(kan, x, spread, place).values()
        for name, value in vars(wanted).items():
            np.testing.assert_array_equal(getattr(found, name), value)
    assert samples(kan, x, spread, (len(kan.layers), 0, 0)) == {}
