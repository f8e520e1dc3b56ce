"""What a server takes to answer with a long formula."""

import time
from pathlib import Path

import numpy as np
import pytest

from kanserve import repository
from kanserve.artifact_compiler import compile
from kanserve.client import Client
from kanserve.formula import evaluate_tree, formulas
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from kanserve.serve.server import start
from tests.support.networks.sized_networks import large


@pytest.mark.timing
@pytest.mark.extended
def test_a_server_answers_with_the_formula_of_600_edges_for_little_more_than_that_takes(tmp_path: Path):
    kan = large(deep=True)
    repository.publish(tmp_path, "large", compile(kan, ("numpy_source",)))
    x = sample(kan, 50, seed=3)
    with start(tmp_path, port=0) as server, Client(server.address) as client:
        began = time.process_time()  # of server and client, which are one process here
        found = client.formula("large")
        middle = time.process_time()
        formulas(kan)
        assert middle - began < 3 * (time.process_time() - middle)
    for q, formula in enumerate(found):
        assert formula.shortened and "…" in formula.text and len(formula.text) <= 50_000
        assert np.allclose(evaluate_tree(formula.tree, formula.tables, x), evaluate(kan, x)[:, q], rtol=1e-9)
