"""The benchmark of servers, small: they answer right, and the table says what was measured. Times are not judged."""

import pytest

from benchmarks import _h2load as h2load
from benchmarks import _servers as servers
from benchmarks import _serving_report as reports
from benchmarks import isolation, rest, serving
from benchmarks._serving_report import (
    C_GRPCIO,
    C_TLS,
    DIFFERENTIATE,
    EMPTY,
    FORMULA,
    INFER,
    KSERVE,
    MLSERVER,
    TRITON,
    C,
    Footprint,
    Measured,
    Results,
    Scaling,
)
from kanserve import compile, publish
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from tests.support.programs import needs

pytestmark = pytest.mark.extended


@pytest.mark.slow
def test_servers_answer_what_the_network_says():
    results = serving.measure(small=True)
    assert list(results.footprints)[:2] == [EMPTY, C]
    for name, footprint in results.footprints.items():
        assert footprint.megabytes > 0
        assert name == EMPTY or footprint.error < 1e-12
    if not h2load.there():
        assert results.skipped[-1] == h2load.MISSING and not results.cells
        pytest.skip("needs h2load")
    assert all(list(results.footprints) == list(cell) for cell in results.cells.values())
    for cell in results.cells.values():
        assert all(len(server.rate) == len(server.cpu) == 1 and server.rate[0] > 0 for server in cell.values())
    assert "met: with a C model no onnxruntime, sympy, onnx or torch" in reports.report(results, (4, 5, 1))


@needs("h2load")
def test_an_answer_that_is_an_error_is_noticed(tmp_path):
    publish(tmp_path, "kan", compile(serving.network(), ["c_source"], name="kan"))
    with start(Settings(str(tmp_path), port=0)) as server:
        good = serving.request(serving.network(), 1)
        for body, answers in ((good, True), (good.replace(b"kan", b"nok"), False)):
            answered = h2load.run(h2load.Load(server.address, body, 4, count=20, waits=True), servers.cores()[1])
            assert (answered.count, answered.failed, answered.data > 0) == (20, 0, answers)
            assert len(answered.waits) == 20 and 0 < answered.percentile(0.5) <= answered.waits[-1]


def measured(cpu: float, rate: float = 1e3, busy: float = 0.2, p50: float = 1e-3) -> Measured:
    return Measured(cpu=[cpu], client=[1e-4], busy=[busy], rate=[rate], p50=[p50], p99=[1e-3])


def results(ours: float, edge: Footprint, two: Measured) -> Results:
    cell = {EMPTY: measured(1e-4), C: measured(ours), MLSERVER: measured(5e-4), KSERVE: measured(1.5e-4)}
    cell |= {TRITON: measured(4e-5), C_TLS: measured(2.7e-5)}
    many = {C: measured(ours), TRITON: measured(1e-5)}
    one = {C: measured(ours, p50=ours), C_GRPCIO: measured(1e-4, p50=1.7e-5)}
    calls = {INFER: measured(1e-5), DIFFERENTIATE: measured(1.1e-5), FORMULA: measured(ours)}
    scaling = Scaling(measured(1e-2, 100), two)
    return Results(
        {(1, 64): cell, (256, 64): many, (1, 1): one}, {C: edge}, scaling, calls, ["MLServer: not installed here"]
    )


def test_goals_that_are_met_say_so():
    text = reports.report(results(0.9e-5, Footprint([0.4], 50, 55, error=1e-15), measured(1e-2, 190)), (4, 5, 1))
    assert "MISSED" not in text and "MLServer: not installed here" in text
    assert "met: CPU of C, one row, 64 in flight ≤ 0.1x empty handler: 0.090x" in text
    assert "met: CPU of C, one row, 64 in flight ≤ 0.3x C in Triton: 0.225x" in text
    assert "met: CPU of C, 256 rows, 64 in flight ≤ 1.0x C in Triton: 0.900x" in text
    assert "met: what TLS adds to C, one row, 64 in flight ≤ 0.5x C in Triton: 0.450x" in text
    assert "met: CPU of Differentiate ≤ 1.2x ModelInfer: 1.10x" in text
    assert "met: two workers on two cores ≥ 1.8x one by the clock: 1.90x, the generator 20% of one" in text


def test_goals_that_are_missed_say_so():
    edge = Footprint([0.7], 50, 61, error=1e-3, libraries=["sympy"])
    text = reports.report(results(1.7e-5, edge, measured(1.2e-2, 150)), (4, 5, 1))
    for line in (
        "CPU of C, one row, 64 in flight ≤ 0.1x empty handler: 0.170x",
        "CPU of C, one row, 64 in flight ≤ 0.1x KServe: 0.113x",
        "CPU of C, one row, 64 in flight ≤ 0.3x C in Triton: 0.425x",
        "CPU of C, 256 rows, 64 in flight ≤ 1.0x C in Triton: 1.700x",
        "p50 with a C model, one in flight ≤ 0.6x grpcio's: 1.00x",
        "CPU of GetFormula ≤ 1.2x ModelInfer: 1.70x",
        "ready with a C model ≤ 0.4 s after exec: 0.70 s",
        "memory with a C model ≤ 60 MB: 61 MB",
        "with a C model no onnxruntime, sympy, onnx or torch (sympy)",
        "every answer is the network's to 1e-12 of the largest (C)",
        "two workers on two cores ≥ 1.8x one by the clock: 1.50x",
        "the same by CPU, twice the requests that a CPU second of one gives: 1.67x",
    ):
        assert f"MISSED: {line}" in text
    assert "met: CPU of C, one row, 64 in flight ≤ 0.1x MLServer: 0.034x" in text


@pytest.mark.exhaustive
@pytest.mark.slow
@needs("h2load")
def test_neighbours_do_what_they_are_called_and_the_fast_model_answers_beside_each():
    found = isolation.measure(workers=1, one_core=True, small=True)
    names = ["sleeping", "broken", "computing", "busy", "huge", "loaded"]
    assert list(found) == [("alone", True), *((name, same) for name in names for same in (True, False))]
    assert all(len(result.p50) == 1 and 0 < result.p50[0] <= result.p99[0] for result in found.values())
    text = isolation.report({"one worker": found})
    assert text.count("one worker: p99 beside a model that is") == 12


def test_a_neighbour_that_is_noticed_is_a_goal_that_is_missed():
    p99 = {("alone", True): 2e-3, ("huge", True): 5e-3, ("huge", False): 3.6e-3}
    text = isolation.report(
        {"two workers": {place: isolation.Waits([1e-3], [seconds]) for place, seconds in p99.items()}}
    )
    assert "MISSED: two workers: p99 beside a model that is huge < 2x: 2.50x" in text
    assert "MISSED: two workers: p99 beside a model that is huge <= 1.25x of that beside another server: 1.39x" in text


@pytest.mark.exhaustive
@pytest.mark.skipif(not h2load.there(), reason="needs h2load")
def test_rest_is_measured_beside_grpc_and_its_goals_are_missed_where_it_costs_more():
    found = rest.measure(small=True)
    assert sum(cpu for seconds in found.values() for cpu in seconds) > 0  # of a single load less than a clock tick
    dear = {name: [2.5e-6 if name == rest.JSON else 1e-6] for name in found}
    assert "MISSED: REST, JSON <= 2.0 of gRPC: 2.50" in rest.report(dear)
