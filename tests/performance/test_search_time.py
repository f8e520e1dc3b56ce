"""A search keeps to its seconds."""

import time

import numpy as np
import pytest

from kanserve import find_formulas
from kanserve.search import Findings


@pytest.mark.timing
@pytest.mark.extended
@pytest.mark.parametrize("case", ["20 inputs", "100,000 rows"])
def test_the_time_is_kept_with_the_best_so_far(case, monkeypatch):
    """Twice the CPU time of a search of one fit, and at most as much again for what is under way then."""
    monkeypatch.setattr(time, "perf_counter", time.thread_time)
    generator = np.random.default_rng(3)
    x = generator.uniform(0.5, 1.5, (1000, 20) if case == "20 inputs" else (100_000, 4))
    y = np.exp(x[:, 0]) * (x**2).sum(axis=1) * np.sin(5 * x[:, 1] * x[:, 2]) + generator.normal(size=len(x))
    took: list[float] = []
    for limits in (lambda: {"max_fits": 1}, lambda: {"max_fits": 1}, lambda: {"seconds": 2 * took[1]}):
        began = time.thread_time()
        found = find_formulas((x, y), **limits())
        took.append(time.thread_time() - began)
    assert found.ended == "seconds" and took[2] < 4 * took[1]
    assert found.best.validation < 1.05 * y.std() and isinstance(found, Findings)
