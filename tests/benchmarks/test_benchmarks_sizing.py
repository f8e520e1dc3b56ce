"""The benchmark of a pod's size, small: every request is answered, and the table says what was measured."""

import pytest

from benchmarks import _h2load as h2load
from benchmarks import sizing

pytestmark = pytest.mark.extended


@pytest.mark.slow
def test_each_model_is_asked_by_grpc_and_by_rest():
    results = sizing.measure(small=True)
    assert list(results.starts) == list(sizing.KINDS) and list(results.processes) == [1, 2]
    assert all(one.megabytes > 0 and one.cpu > 0 for starts in results.starts.values() for one in starts)
    if not h2load.there():
        assert results.skipped == [h2load.MISSING]
        pytest.skip("needs h2load")
    assert list(results.rates) == [(kind, way) for kind in sizing.KINDS for way in (sizing.GRPC, sizing.REST)]
    assert all(rate.per_core > 0 and rate.by_clock[0] > 0 for rate in results.rates.values())
    text = sizing.report(results)
    assert all(word in text for word in ("gRPC", "REST", "NumPy"))


def test_the_table_says_what_a_core_gives_and_what_a_further_model_takes():
    starts = [sizing.Start(1, 0.5, 0.4, 60.0), sizing.Start(101, 2.0, 1.9, 160.0)]
    results = sizing.Results({("C", "REST"): sizing.Rate([1e-5], [5e4])}, {"C": starts}, {1: 40.0}, ["a line"])
    lines = [line.split() for line in sizing.report(results).splitlines()]
    assert ["C", "REST", "10.0", "100000", "50000"] in lines
    assert ["C", "101", "2.00", "1.90", "160", "1024"] in lines
    assert ["1", "40"] in lines and ["a", "line"] in lines
