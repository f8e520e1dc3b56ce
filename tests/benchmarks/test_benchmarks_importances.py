"""The comparison of importances, small: both are shares of the same inputs, and a gap that is too large is told."""

import numpy as np
import pytest

from benchmarks import importances
from benchmarks._equations import Setting, rows

pytestmark = pytest.mark.extended


@pytest.mark.exhaustive
@pytest.mark.slow
def test_both_importances_of_a_law_and_a_table_are_near():
    law = importances.chosen_laws()[1]
    data = rows(law, Setting(rows=200), 0)
    found = [
        importances.measure(law.name, (data.x, data.y[:, 0], law.inputs)),
        importances.measure("iris", importances.TABLES["iris"]()),
    ]
    for one in found:
        assert one.ours.sum() == pytest.approx(1) and one.permutation.sum() == pytest.approx(1)
        assert one.gap <= importances.NEAR
    assert "met: largest gap of 2" in importances.report("", found)


def test_twenty_laws_and_five_tables_are_compared():
    laws = importances.chosen_laws()
    assert len(laws) == 20 and min(len(law.inputs) for law in laws) == 2 and len(importances.TABLES) == 5


def test_a_gap_that_is_too_large_is_told():
    result = importances.Result("a*b", ("a", "b"), np.array([0.5, 0.5]), np.array([0.99, 0.01]), (0.1, 0.1))
    assert "MISSED: largest gap of 1 ≤ 0.05 (a*b 0.490)" in importances.report("law", [result])
