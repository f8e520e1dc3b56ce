"""The benchmark of servers, small: they answer right, and the table says what was measured. Times are not judged."""

import pytest

from benchmarks import _serving_report as reports
from benchmarks import isolation, serving
from benchmarks._serving_report import (
    DIFFERENTIATE,
    EMPTY,
    FORMULA,
    INFER,
    KSERVE,
    MLSERVER,
    C,
    Footprint,
    Measured,
    Results,
    Scaling,
)

pytestmark = pytest.mark.extended


@pytest.mark.slow
def test_servers_answer_what_the_network_says():
    results = serving.measure(small=True)
    assert list(results.footprints) == list(results.cells[1, 64]) and list(results.footprints)[:2] == [EMPTY, C]
    for name, footprint in results.footprints.items():
        assert footprint.megabytes > 0 and (name == EMPTY or footprint.error < 1e-12)
    for servers in results.cells.values():
        assert all(len(server.rate) == len(server.cpu) == 1 and server.rate[0] > 0 for server in servers.values())
    assert "met: with a C model no onnxruntime, sympy, onnx or torch" in reports.report(results, (4, 5, 1))


def measured(cpu: float, rate: float = 1e3, busy: float = 0.2) -> Measured:
    return Measured(cpu=[cpu], client=[1e-4], busy=[busy], rate=[rate], p50=[1e-3], p99=[1e-3])


def results(ours: float, edge: Footprint, two: Measured) -> Results:
    cell = {EMPTY: measured(1e-4), C: measured(ours), MLSERVER: measured(5e-4), KSERVE: measured(1.5e-4)}
    calls = {INFER: measured(1e-5), DIFFERENTIATE: measured(1.1e-5), FORMULA: measured(ours)}
    scaling = Scaling(measured(1e-2, 100), two)
    return Results({(1, 64): cell}, {C: edge}, scaling, calls, ["MLServer: not installed here"])


def test_goals_that_are_met_say_so():
    text = reports.report(results(0.9e-5, Footprint([0.4], 50, 55, 1e-15), measured(1e-2, 190)), (4, 5, 1))
    assert "MISSED" not in text and "MLServer: not installed here" in text
    assert "met: CPU of C, one row, 64 in flight ≤ 0.1x empty handler: 0.09x" in text
    assert "met: CPU of Differentiate ≤ 1.2x ModelInfer: 1.10x" in text
    assert "met: two workers on two cores ≥ 1.8x one by the clock: 1.90x, the generator 20% of one" in text


def test_goals_that_are_missed_say_so():
    edge = Footprint([0.7], 50, 61, 1e-3, ["sympy"])
    text = reports.report(results(1.7e-5, edge, measured(1.2e-2, 150)), (4, 5, 1))
    for line in (
        "CPU of C, one row, 64 in flight ≤ 0.1x empty handler: 0.17x",
        "CPU of C, one row, 64 in flight ≤ 0.1x KServe: 0.11x",
        "CPU of GetFormula ≤ 1.2x ModelInfer: 1.70x",
        "ready with a C model ≤ 0.4 s after exec: 0.70 s",
        "memory with a C model ≤ 60 MB: 61 MB",
        "with a C model no onnxruntime, sympy, onnx or torch (sympy)",
        "every answer is the network's to 1e-12 of the largest (C)",
        "two workers on two cores ≥ 1.8x one by the clock: 1.50x",
        "the same by CPU, twice the requests that a CPU second of one gives: 1.67x",
    ):
        assert f"MISSED: {line}" in text
    assert "met: CPU of C, one row, 64 in flight ≤ 0.1x MLServer: 0.03x" in text


@pytest.mark.slow
def test_neighbours_do_what_they_are_called_and_the_fast_model_answers_beside_each():
    found = isolation.measure(workers=1, small=True)
    assert list(found) == ["alone", "sleeping", "broken", "busy", "huge", "loaded"]
    assert all(len(result.p50) == 1 and 0 < result.p50[0] <= result.p99[0] for result in found.values())
    text = isolation.report({1: found})
    assert text.count("1 worker: p99 beside a model that is") == 5


def test_a_neighbour_that_is_noticed_is_a_goal_that_is_missed():
    waits = {"alone": isolation.Waits([1e-3], [2e-3]), "huge": isolation.Waits([1e-3], [5e-3])}
    assert "MISSED: 2 workers: p99 beside a model that is huge < 2x: 2.50x" in isolation.report({2: waits})
