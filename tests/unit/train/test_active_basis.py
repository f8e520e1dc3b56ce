"""The active basis, whose tables are cached and shared by their callers."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from kanserve.network.kan import Layer
from kanserve.train import create
from kanserve.train.lm.active_basis import active_basis, tables


def layer() -> Layer:
    (found,) = create([2, 1], grid=5, seed=0).layers
    return found


@pytest.mark.parametrize("made", [active_basis, tables])
def test_a_caller_cannot_write_into_a_table_that_others_share(made: Any) -> None:
    found = made(layer())
    assert made(layer()) is found
    arrays: list[Any] = []
    for field in fields(found):
        value = getattr(found, field.name)
        arrays += value if isinstance(value, tuple) else [value] * isinstance(value, np.ndarray)
    assert len(arrays) >= 5
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
