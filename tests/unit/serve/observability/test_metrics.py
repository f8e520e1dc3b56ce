"""What is counted, what is added up over processes, what is forgotten, and what ModelStatistics makes of it."""

import gc
import json
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

from kanserve import repository
from kanserve.errors import InvalidNameError, NotFoundError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.serve.models import loader
from kanserve.serve.models.catalog import Catalog
from kanserve.serve.observability import metrics
from kanserve.serve.observability.metrics import BOUNDS, STAGES, Metrics
from kanserve.serve.state import Call
from tests.support.servers import serving

SERVICE = "inference.GRPCInferenceService"
EMPTY = Catalog({}, {})


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for _ in range(2):
        repository.publish(root, "mixed", serving.artifact("mixed"))
    return loader.load(root)


def call(method: str = "ModelInfer", model: str = "mixed", version: int = 1, **known: Any) -> Call:
    """A call of 100 microseconds, most of them in the queue."""
    made = Call(SERVICE, method, 1_000_000)
    made.model, made.version, made.rows = model, version, 3
    made.queued, made.decoded, made.computed, made.encoded = 60_000, 20_000, 5_000, 9_000
    made.ended = made.arrived + 100_000
    for name, value in known.items():
        setattr(made, name, value)
    return made


def series(snapshot: Any, *key: Any) -> Any:
    return next(entry for entry in snapshot["calls"] if entry["of"] == list(key))


def test_calls_are_counted_by_method_model_version_and_code():
    counting = Metrics()
    for _ in range(3):
        counting.ended(call())
    counting.ended(call(version=2))
    counting.ended(call(method="GetFormula", rows=0))
    counting.ended(call(code="INVALID_ARGUMENT"))
    counting.ended(call(model="", version=0, code="NOT_FOUND"))
    snapshot = counting.snapshot()
    assert {tuple(entry["of"]): metrics.count(entry) for entry in snapshot["calls"]} == {
        (SERVICE, "ModelInfer", "mixed", 1, "OK"): 3,
        (SERVICE, "ModelInfer", "mixed", 2, "OK"): 1,
        (SERVICE, "GetFormula", "mixed", 1, "OK"): 1,
        (SERVICE, "ModelInfer", "mixed", 1, "INVALID_ARGUMENT"): 1,
        (SERVICE, "ModelInfer", "", 0, "NOT_FOUND"): 1,
    }
    one = series(snapshot, SERVICE, "ModelInfer", "mixed", 1, "OK")
    assert one["rows"] == 9
    assert dict(zip(STAGES, one["nanoseconds"], strict=True)) == {
        "queue": 180_000,
        "decode": 60_000,
        "compute": 15_000,
        "encode": 27_000,
        "total": 300_000,
    }


@pytest.mark.parametrize(("took", "bucket"), [(0, 0), (10_000, 0), (10_001, 1), (10**10, 14), (10**10 + 1, 15)])
def test_a_duration_belongs_to_the_first_bound_that_is_not_below_it(took, bucket):
    counting = Metrics()
    counting.ended(call(computed=took))
    (one,) = counting.snapshot()["calls"]
    stage = one["buckets"][STAGES.index("compute")]
    assert stage[bucket] == 1 and sum(stage) == 1 and len(stage) == len(BOUNDS) + 1
    assert list(BOUNDS) == sorted(set(BOUNDS))


def test_threads_lose_no_count():
    counting = Metrics()
    outside = np.array([1, 0, 2])

    def count() -> None:
        for _ in range(2000):
            counting.ended(call(outside=outside))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    snapshot = counting.snapshot()
    assert metrics.count(snapshot["calls"][0]) == 16_000 and snapshot["calls"][0]["nanoseconds"][0] == 16_000 * 60_000
    assert snapshot["outside"][0]["rows"] == [16_000, 0, 32_000]


def test_rows_outside_are_counted_by_feature_where_they_were_answered(catalog):
    counting = Metrics()
    counting.changed(catalog)
    names = [variable.name for variable in serving.kan("mixed").inputs]
    outside = np.zeros(len(names), np.intp)
    outside[0] = 2
    counting.ended(call(outside=outside))
    counting.ended(call(outside=outside))
    counting.ended(call(outside=outside, code="DEADLINE_EXCEEDED"))
    counting.ended(call())
    outside[0] = 100  # what a call brought is the call's own
    (one,) = counting.snapshot()["outside"]
    assert one == {"of": ["mixed", 1], "features": names, "rows": [4, *[0] * (len(names) - 1)]}


def test_loads_are_counted_by_model():
    counting = Metrics()
    counting.loaded("mixed", 1, 0.5, "")
    counting.loaded("mixed", 2, 0.25, "A checksum differs.")
    counting.loaded("fox", 1, 0.125, "It cannot be read.")
    loads = {entry["of"][0]: entry for entry in counting.snapshot()["loads"]}
    assert (loads["mixed"]["loaded"], loads["mixed"]["failed"], loads["mixed"]["seconds"]) == (1, 1, 0.75)
    assert (loads["fox"]["loaded"], loads["fox"]["failed"]) == (0, 1) and loads["fox"]["last"] > 1.7e9


def test_refused_is_what_could_not_be_loaded_and_not_what_nobody_wants(catalog):
    counting = Metrics()
    reasons = {("a", 1): loader.UNLOADED, ("b", 1): loader.NOT_ASKED, ("c", 1): "A checksum differs."}
    counting.changed(Catalog(catalog.models, reasons))
    assert counting.snapshot()["refused"] == [["c", 1]]


def test_models_that_went_are_not_kept(tmp_path):
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    counting, loaded = Metrics(), loader.load(tmp_path)
    counting.changed(loaded)
    model = weakref.ref(loaded.models["mixed"][1])
    del loaded
    counting.ended(call(outside=np.array([1, 1])))
    counting.snapshot()
    counting.changed(EMPTY)
    gc.collect()
    assert model() is None


def test_what_computes_is_told_of_each_model_that_is_loaded_and_of_one_that_is_so_no_longer(catalog):
    counting = Metrics()
    counting.changed(catalog)
    counting.computing = lambda: {"owl": 2}
    assert counting.snapshot()["computing"] == [{"of": ["mixed"], "requests": 0}, {"of": ["owl"], "requests": 2}]
    ended = metrics.keep_counters(counting.snapshot())
    assert metrics.merge([counting.snapshot(), counting.snapshot(), ended])["computing"] == [
        {"of": ["mixed"], "requests": 0},
        {"of": ["owl"], "requests": 4},
    ]


def test_a_snapshot_is_json_and_stays_as_it_was(catalog):
    counting = Metrics(worker=3)
    counting.changed(catalog)
    counting.gauges = lambda: {"threads": 4, "queue_length": 0}
    counting.ended(call(outside=np.array([1] * len(serving.kan("mixed").inputs))))
    snapshot = counting.snapshot()
    text = json.dumps(snapshot)
    counting.ended(call())
    assert json.loads(text) == snapshot == json.loads(json.dumps(snapshot))
    assert snapshot["gauges"] == {"threads": 4, "queue_length": 0}
    (process,) = snapshot["processes"]
    assert process["worker"] == 3 and process["cpu_seconds"] > 0 and process["threads"] >= 1


def test_snapshots_of_processes_add_up(catalog):
    one, other = Metrics(0), Metrics(1)
    for counting in (one, other):
        counting.changed(catalog)
        counting.gauges = lambda: {"threads": 4, "threads_busy": 1}
        counting.ended(call(outside=np.array([1, 2])))
        counting.loaded("mixed", 1, 0.5, "")
    other.ended(call(version=2))
    merged = metrics.merge([json.loads(json.dumps(one.snapshot())), other.snapshot()])
    assert metrics.count(series(merged, SERVICE, "ModelInfer", "mixed", 1, "OK")) == 2
    assert metrics.count(series(merged, SERVICE, "ModelInfer", "mixed", 2, "OK")) == 1
    assert merged["gauges"] == {"threads": 8, "threads_busy": 2}
    assert merged["outside"][0]["rows"] == [2, 4] and merged["loads"][0]["loaded"] == 2
    assert [entry["worker"] for entry in merged["processes"]] == [0, 1]
    assert [(entry["of"][:2], entry["ready"]) for entry in merged["models"]] == [(["mixed", 1], 2), (["mixed", 2], 2)]
    assert metrics.merge([merged]) == merged and json.loads(json.dumps(merged)) == merged
    assert metrics.merge([])["calls"] == []


def test_a_process_that_is_gone_leaves_its_counts_and_no_more(catalog):
    gone, here = Metrics(0), Metrics(0)
    for counting in (gone, here):
        counting.changed(catalog)
        counting.gauges = lambda: {"threads": 4}
        counting.ended(call())
    merged = metrics.merge([metrics.keep_counters(gone.snapshot()), here.snapshot()])
    assert metrics.count(merged["calls"][0]) == 2 and merged["gauges"] == {"threads": 4}
    assert len(merged["processes"]) == 1 and {entry["ready"] for entry in merged["models"]} == {1}


def test_a_version_that_nobody_has_any_more_is_forgotten_with_the_process_that_had_it(catalog):
    gone, here = Metrics(), Metrics()
    for counting in (gone, here):
        counting.changed(catalog)
    gone.ended(call(version=1, outside=np.array([1, 1])))
    gone.ended(call(version=2))
    gone.ended(call(model="", version=0, code="NOT_FOUND"))
    left = metrics.keep_counters(gone.snapshot())
    assert len(metrics.merge([left, here.snapshot()])["calls"]) == 3
    here.changed(Catalog({"mixed": {2: catalog.models["mixed"][2]}}, {}))
    merged = metrics.merge([left, here.snapshot()])
    assert {entry["of"][3] for entry in merged["calls"]} == {2, 0} and merged["outside"] == []
    assert len(metrics.merge([left, left])["calls"]) == 3  # until there is somebody to ask


def test_a_process_that_knows_the_features_names_them_for_one_that_does_not(catalog):
    behind, ahead = Metrics(), Metrics()
    ahead.changed(catalog)
    for counting in (behind, ahead):
        counting.ended(call(outside=np.array([1, 0])))
    names = ahead.snapshot()["outside"][0]["features"]
    merged = metrics.merge([behind.snapshot(), ahead.snapshot()])
    assert merged["outside"] == [{"of": ["mixed", 1], "features": names, "rows": [2, 0]}] and len(names) == 2


def test_what_is_counted_of_a_version_goes_some_time_after_it(catalog, monkeypatch):
    counting = Metrics()
    counting.changed(catalog)
    counting.ended(call(version=1, outside=np.array([1, 1])))
    counting.ended(call(version=2))
    counting.ended(call(model="", version=0, code="NOT_FOUND"))
    counting.ended(call(method="RepositoryModelLoad", version=0))
    newer = Catalog({"mixed": {2: catalog.models["mixed"][2]}}, {})
    counting.changed(newer)
    assert len(counting.snapshot()["calls"]) == 4  # it is scraped once more before it goes
    monkeypatch.setattr(metrics, "KEPT_SECONDS", -1.0)
    snapshot = counting.snapshot()
    assert {entry["of"][3] for entry in snapshot["calls"]} == {2, 0} and snapshot["outside"] == []
    counting.changed(EMPTY)
    assert [entry["of"][2] for entry in counting.snapshot()["calls"]] == [""]


def test_a_version_that_comes_back_in_time_keeps_its_counts(catalog, monkeypatch):
    counting = Metrics()
    counting.changed(catalog)
    counting.ended(call())
    counting.changed(EMPTY)
    counting.changed(catalog)
    monkeypatch.setattr(metrics, "KEPT_SECONDS", -1.0)
    assert len(counting.snapshot()["calls"]) == 1


def test_there_are_only_so_many_series(monkeypatch):
    monkeypatch.setattr(metrics, "MOST_SERIES", 20)
    counting = Metrics()
    for i in range(200):
        counting.ended(call(model=f"m{i}", outside=np.array([1])))
        counting.loaded(f"m{i}", 1, 0.1, "")
    snapshot = counting.snapshot()
    assert len(snapshot["calls"]) == 21 and len(snapshot["outside"]) == 20 and len(snapshot["loads"]) == 20
    assert metrics.count(series(snapshot, SERVICE, "ModelInfer", "", 0, "OK")) == 180
    assert sum(map(metrics.count, snapshot["calls"])) == 200


def asked(counting: Metrics, catalog: Catalog, name: str = "", version: str = "") -> Any:
    request = pb.ModelStatisticsRequest(name=name, version=version)
    return list(metrics.statistics(counting.snapshot(), catalog, request).model_stats)


def test_statistics_are_of_inferences(catalog):
    counting = Metrics()
    counting.ended(call())
    counting.ended(call(method="ModelStreamInfer", rows=4))
    counting.ended(call(code="INVALID_ARGUMENT"))
    counting.ended(call(method="GetFormula"))
    counting.ended(call(version=2))
    (one,) = asked(counting, catalog, "mixed", "1")
    assert (one.name, one.version, one.inference_count, one.execution_count) == ("mixed", "1", 7, 2)
    stats = one.inference_stats
    durations = {
        name: (getattr(stats, name).count, getattr(stats, name).ns) for name in stats.DESCRIPTOR.fields_by_name
    }
    assert durations == {
        "success": (2, 200_000),
        "fail": (1, 100_000),
        "queue": (2, 120_000),
        "compute_input": (2, 40_000),
        "compute_infer": (2, 10_000),
        "compute_output": (2, 18_000),
        "cache_hit": (0, 0),
        "cache_miss": (0, 0),
    }


def test_statistics_say_when_a_model_last_answered(catalog):
    counting = Metrics()
    assert asked(counting, catalog, "mixed", "1")[0].last_inference == 0
    now = time.perf_counter_ns()
    counting.ended(call(arrived=now - 5_000_000_000, ended=now - 4_000_000_000))
    ago = time.time() - asked(counting, catalog, "mixed", "1")[0].last_inference / 1000
    assert 3.9 < ago < 60


def test_statistics_are_of_one_version_or_all_of_a_model_or_all(catalog):
    counting = Metrics()
    assert [model.version for model in asked(counting, catalog, "mixed")] == ["1", "2"]
    assert [model.version for model in asked(counting, catalog)] == ["1", "2"]
    assert asked(counting, EMPTY) == []


@pytest.mark.parametrize(("name", "version"), [("fox", ""), ("mixed", "3"), ("fox", "1")])
def test_statistics_of_what_is_not_loaded_are_not_found(catalog, name, version):
    with pytest.raises(NotFoundError):
        asked(Metrics(), catalog, name, version)
    with pytest.raises(InvalidNameError):
        asked(Metrics(), catalog, "mixed", "x")


def test_a_supervisor_merges_and_logs_without_numpy_or_protobuf():
    # The package itself imports grpc, to explain its absence; this is about what the module adds to that.
    code = (
        "import sys, grpc; from kanserve.serve.observability import logs, metrics; metrics.merge([]); "
        "print([n for n in ('numpy', 'google.protobuf', 'kanserve.serve.models.catalog') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
