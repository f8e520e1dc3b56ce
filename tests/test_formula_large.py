"""The formula of a symbolic network of 600 edges: bounded in work and in size, marked, its tree whole."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from kanserve import repository
from kanserve.artifact_compiler import compile
from kanserve.client import Client
from kanserve.formula import Formula, evaluate_tree, formulas
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, make_layer
from kanserve.network.training_range import sample
from kanserve.serve.server import start
from tests.costs import calls


def large(*, deep: bool) -> Kan:
    """20-20-10 in which every input reaches every output, or 600 edges in seven layers, far too long to write out."""
    kan = network((10,) * 7 if deep else (20, 20, 10))
    assert kan.edges == 600 and kan.symbolic
    return kan


def network(shape: tuple[int, ...]) -> Kan:
    rng = np.random.default_rng(0)
    layers = []
    for i, o in itertools.pairwise(shape):
        affine = np.stack([rng.uniform(-1, 1, (o, i)), *rng.normal(0, 0.3, (3, o, i))], axis=-1)
        functions = rng.choice(["sin", "x^2", "exp", "tanh", "x", "gaussian"], (o, i))
        layers.append(make_layer(functions=functions, affine=affine / [1, 1, i**0.5, i]))
    return Kan(tuple(layers))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("deep", "smaller", "growth"),
    [(False, (10, 10, 5), 2**3), (True, (10,) * 4, 2)],
    ids=["as many terms more as there are paths", "no more for each edge where it is cut short"],
)
def test_the_formula_of_600_edges_is_bounded_in_work_and_in_size(deep, smaller, growth):
    kan = large(deep=deep)
    found: list[Formula] = []
    work = calls(lambda: found.extend(formulas(kan)))
    assert work < 1.5 * growth * calls(lambda: formulas(network(smaller)))
    x = sample(kan, 50, seed=3)
    wanted = evaluate(kan, x)
    for q, one in enumerate(found):
        assert len(one.text) <= 50_000 and len(one.latex) <= 100_000 and len(one.tree) < 5000
        assert one.shortened is deep and ("…" in one.text) is deep and bool(one.python and one.c) is not deep
        assert np.allclose(evaluate_tree(one.tree, one.tables, x), wanted[:, q], rtol=1e-9)


@pytest.mark.timing
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
    for q, one in enumerate(found):
        assert one.shortened and "…" in one.text and len(one.text) <= 50_000
        assert np.allclose(evaluate_tree(one.tree, one.tables, x), evaluate(kan, x)[:, q], rtol=1e-9)
