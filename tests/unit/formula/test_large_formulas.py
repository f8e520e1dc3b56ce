"""The formula of a symbolic network of 600 edges: bounded in work and in size, marked, its tree whole."""

import numpy as np
import pytest

from kanserve.formula import Formula, evaluate_tree, formulas
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from tests.support.networks.sized_networks import large, network
from tests.support.work_costs import calls


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("deep", "smaller", "growth"),
    [(False, (10, 10, 5), 2**3), pytest.param(True, (10,) * 4, 2, marks=pytest.mark.exhaustive)],
    ids=["as many terms more as there are paths", "no more for each edge where it is cut short"],
)
def test_the_formula_of_600_edges_is_bounded_in_work_and_in_size(deep, smaller, growth):
    kan = large(deep=deep)
    found: list[Formula] = []
    work = calls(lambda: found.extend(formulas(kan)))
    assert work < 1.5 * growth * calls(lambda: formulas(network(smaller)))
    x = sample(kan, 50, seed=3)
    wanted = evaluate(kan, x)
    for q, formula in enumerate(found):
        assert len(formula.text) <= 50_000 and len(formula.latex) <= 100_000 and len(formula.tree) < 5000
        assert (
            formula.shortened is deep
            and ("…" in formula.text) is deep
            and bool(formula.python and formula.c) is not deep
        )
        assert np.allclose(evaluate_tree(formula.tree, formula.tables, x), wanted[:, q], rtol=1e-9)
