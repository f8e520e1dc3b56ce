"""The memory of a training step."""

import pytest

from benchmarks import _steps, training_step


@pytest.mark.timing
@pytest.mark.extended
def test_memory_is_that_of_the_steps():
    # So many rows that little else counts: they alone, in and out of four layers, are 202 numbers each, of four bytes.
    rows = 8192
    alone = rows * 202 * 4 / 1e6
    assert alone < training_step.peak("kanserve", _steps.Task("64-64-64-10", rows)) < 10 * alone
