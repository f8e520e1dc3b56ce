"""Which rows a fit holds out."""

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.train.fit_arguments import hold_out


def test_equal_rows_are_held_out_together_and_a_missing_value_is_not_0() -> None:
    person, age = np.repeat(np.arange(200.0), 2), np.tile([0.0, np.nan], 200)
    data = Dataset(np.repeat(np.column_stack([person, age]), 3, axis=0), np.arange(1200.0))
    places, held = hold_out(data, 0.2, 1000, seed=0)
    assert places is not None and held is not None
    out = np.zeros(1200, bool)
    out[places] = True
    of_each = out.reshape(400, 3)
    assert (of_each.all(axis=1) | ~of_each.any(axis=1)).all()
    with_0, missing = of_each[::2, 0], of_each[1::2, 0]
    assert (with_0 != missing).any() and 200 < len(held) <= 240
