"""The page for Prometheus, read back by its own parser."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from kanserve.network.conformal_intervals import ConformalInterval
from kanserve.network.training_bins import with_training_bins
from kanserve.serve.models.catalog import Catalog, Model
from kanserve.serve.observability import metrics, prometheus
from kanserve.serve.observability.metrics import BOUNDS, Metrics
from kanserve.serve.observability.prometheus import TABLE
from kanserve.serve.state import Call
from tests.support import serving_docs
from tests.support.networks import kans
from tests.support.paths import DOCS

SERVICE = "inference.GRPCInferenceService"
GUIDE = DOCS / "serving.md"
HOSTILE = (
    'a"} 1\nkanserve_rows_total{model="fox",version="1"} 99',
    "back\\slash",
    "\ud800 half a pair",
    "é\u2028\x00\r\t",
    "x" * 300,
    "x" * 300 + "y",
    "# HELP fox",
    "{}",
)


def catalog(*features: str, versions: tuple[int, ...] = (1,)) -> Catalog:
    """A table with a model of twenty inputs, of which the first are called so."""
    wide = kans.wide()
    names = [*features, *(f"x{i}" for i in range(len(features), len(wide.inputs)))]
    inputs = tuple(replace(variable, name=name) for variable, name in zip(wide.inputs, names, strict=True))
    nothing: Any = None  # of a model, the meters look at its inputs and its kind
    named = with_training_bins(replace(wide, inputs=inputs), np.eye(20))
    made = Model("plant", 1, nothing, named, nothing, nothing, "c_source")
    made.coverage.add(ConformalInterval(0.9, (1.0,)), np.zeros((4, 1)), np.array([[0.5], [1.5], [np.nan], [-1.0]]))
    return Catalog({"plant": dict.fromkeys(versions, made)}, {("plant", 9): "A checksum differs."})


def call(method: str = "ModelInfer", **known: Any) -> Call:
    made = Call(SERVICE, method, 1_000_000)
    made.model, made.version, made.rows = "plant", 1, 3
    made.queued, made.decoded, made.computed, made.encoded = 60_000, 20_000, 5_000, 9_000
    made.ended = made.arrived + 100_000
    for name, value in known.items():
        setattr(made, name, value)
    return made


def counted(*features: str, worker: int = 0) -> Any:
    """The snapshot of a process that has answered a few calls."""
    counting = Metrics(worker)
    counting.changed(catalog(*features or ("t", "p")))
    counting.gauges = lambda: {
        "threads": 4,
        "threads_busy": 2,
        "queue_length": 1,
        "calls_in_flight": 3,
        "streams_open": 1,
        "calls_displaced": 1,
        "model_changes_waiting": 2,
        "connections": 9,
        "connections_crowded_out_total": 3,
        "connections_flooding_total": 1,
        "connections_slow_total": 2,
        "calls_without_memory_total": 5,
    }
    counting.computing = lambda: {"plant": 3}
    counting.ended(call())
    counting.ended(call(outside=np.arange(20)))
    counting.ended(call("Differentiate", rows=1, computed=11_000))
    counting.ended(call("GetFormula", rows=0, queued=0, computed=0))
    counting.ended(call(code="INVALID_ARGUMENT", computed=0, encoded=0))
    counting.ended(call(code="NOT_FOUND", model="", version=0, rows=0))
    counting.loaded("plant", 1, 0.5, "")
    counting.loaded("plant", 9, 0.25, "A checksum differs.")
    return counting.snapshot()


def values(snapshot: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of the page by its name and labels, of which no two are the same."""
    found: dict[Any, float] = {}
    for family in text_string_to_metric_families(prometheus.text(snapshot).decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def key(name: str, **labels: str) -> Any:
    return name, frozenset(labels.items())


def test_every_metric_of_the_table_is_on_the_page_and_no_other():
    page = prometheus.text(counted()).decode()
    families = {metric.name: metric for metric in text_string_to_metric_families(page)}
    written = {row.name.removesuffix("_total") for row in TABLE}
    assert set(families) == written
    for row in TABLE:
        family = families[row.name.removesuffix("_total")]
        # The older format has no type of its own for information.
        assert family.type == ("gauge" if row.kind == "info" else row.kind), row
        assert family.documentation == row.meaning and family.samples, row
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(row.labels), (row, sample)


def test_requests_and_rows_are_counters():
    found = values(counted())
    ours = {"service": SERVICE, "model": "plant", "version": "1"}
    for method, code, number in (
        ("ModelInfer", "OK", 2),
        ("ModelInfer", "INVALID_ARGUMENT", 1),
        ("Differentiate", "OK", 1),
        ("GetFormula", "OK", 1),
    ):
        assert found[key("kanserve_requests_total", method=method, code=code, **ours)] == number
    nobody = {"service": SERVICE, "model": "", "version": ""}
    assert found[key("kanserve_requests_total", method="ModelInfer", code="NOT_FOUND", **nobody)] == 1
    assert found[key("kanserve_rows_total", model="plant", version="1")] == 7
    outside = "kanserve_rows_outside_training_range_total"
    assert found[key(outside, model="plant", version="1", feature="t")] == 0
    assert found[key(outside, model="plant", version="1", feature="p")] == 1
    assert found[key(outside, model="plant", version="1", feature="x19")] == 19


def test_durations_are_a_histogram_of_each_stage():
    found = values(counted())
    ours = {"service": SERVICE, "method": "ModelInfer", "model": "plant", "version": "1", "code": "OK"}
    name = "kanserve_request_duration_seconds"
    for stage, nanoseconds in {"queue": 60e3, "decode": 20e3, "compute": 5e3, "encode": 9e3, "total": 100e3}.items():
        at = {"stage": stage, **ours}
        assert found[key(f"{name}_sum", **at)] == pytest.approx(2 * nanoseconds / 1e9)
        assert found[key(f"{name}_count", **at)] == 2 == found[key(f"{name}_bucket", le="+Inf", **at)]
        for bound in BOUNDS:
            below = found[key(f"{name}_bucket", le=repr(bound / 1e9), **at)]
            assert below == (2 if nanoseconds <= bound else 0), (stage, bound)


def test_a_call_has_the_stages_that_it_went_through():
    found = values(counted())
    stages: dict[tuple[str, str], set[str]] = {}
    for name, labels in found:
        if name == "kanserve_request_duration_seconds_count":
            of = dict(labels)
            stages.setdefault((of["method"], of["code"]), set()).add(of["stage"])
    assert stages[("GetFormula", "OK")] == {"decode", "encode", "total"}
    assert stages[("ModelInfer", "INVALID_ARGUMENT")] == {"total"}


def test_models_have_their_loads_and_whether_they_are_ready():
    found = values(counted())
    assert found[key("kanserve_model_loads_total", model="plant", result="success")] == 1
    assert found[key("kanserve_model_loads_total", model="plant", result="failure")] == 1
    assert found[key("kanserve_model_load_seconds_total", model="plant")] == 0.75
    assert found[key("kanserve_model_last_load_timestamp_seconds", model="plant")] > 1.7e9
    assert found[key("kanserve_model_ready", model="plant", version="1")] == 1
    assert found[key("kanserve_model_refused", model="plant", version="9")] == 1
    assert found[key("kanserve_model_info", model="plant", version="1", backend="c_source")] == 1


def test_a_version_is_ready_when_every_process_has_it():
    behind = Metrics(1)
    behind.changed(catalog("t", "p", versions=()))
    found = values(metrics.merge([counted(), behind.snapshot()]))
    assert found[key("kanserve_model_ready", model="plant", version="1")] == 0
    assert values(metrics.merge([counted(), counted(worker=1)]))[
        key("kanserve_model_ready", model="plant", version="1")
    ]


def test_processes_are_told_apart_and_what_they_count_is_not():
    merged: Any = {**metrics.merge([counted(worker=0), counted(worker=1)]), "restarts": 5}
    found = values(merged)
    assert found[key("kanserve_workers")] == 2 and found[key("kanserve_worker_restarts_total")] == 5
    assert found[key("kanserve_rows_total", model="plant", version="1")] == 14
    gauges = {"threads": 8, "threads_busy": 4, "queue_length": 2, "calls_in_flight": 6, "streams_open": 2}
    gauges |= {"calls_displaced": 2, "model_changes_waiting": 4}
    for name, value in gauges.items():
        assert found[key(f"kanserve_{name}")] == value
    assert found[key("kanserve_model_requests_computing", model="plant")] == 6
    for worker in ("0", "1"):
        assert 1e6 < found[key("process_resident_memory_bytes", worker=worker)] < 1e11
        assert 0 < found[key("process_cpu_seconds_total", worker=worker)] < 1e6
        assert 2 < found[key("process_open_fds", worker=worker)] < 1e5
        assert 1 <= found[key("process_threads", worker=worker)] < 1e4
        assert 1.7e9 < found[key("process_start_time_seconds", worker=worker)] < 1e10


def test_the_name_of_a_feature_is_a_label_and_nothing_else():
    found = values(counted(*HOSTILE))
    outside = {
        dict(labels)["feature"]: value
        for (name, labels), value in found.items()
        if name == "kanserve_rows_outside_training_range_total"
    }
    assert sorted(outside.values()) == list(range(20))
    assert outside[HOSTILE[0]] == 0 and outside["back\\slash"] == 1 and outside["? half a pair"] == 2
    assert outside["x" * 200] == 4 and outside["x" * 200 + "#5"] == 5
    assert key("kanserve_rows_total", model="fox", version="1") not in found


def test_features_of_a_version_that_went_have_their_place_for_a_name():
    counting = Metrics()
    counting.ended(call(outside=np.array([0, 4])))
    found = values(counting.snapshot())
    assert found[key("kanserve_rows_outside_training_range_total", model="plant", version="1", feature="1")] == 4


def test_openmetrics_is_given_to_who_asks_for_it():
    asked = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5"
    page, kind = prometheus.page(counted(*HOSTILE), asked)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in openmetrics_parser.text_string_to_metric_families(page.decode())}
    assert families["kanserve_model"].type == "info"
    assert set(families) == {row.name.removesuffix("_total").removesuffix("_info") for row in TABLE}
    assert all(math.isfinite(sample.value) for family in families.values() for sample in family.samples)


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/plain", "text/html", "application/openmetrics-text;version=x", "application/openmetrics-text;;="],
)
def test_whatever_is_accepted_there_is_a_page(accept):
    page, kind = prometheus.page(counted(), accept)
    assert page.startswith(b"# HELP kanserve_requests") and kind.split(";")[0] in (
        "text/plain",
        "application/openmetrics-text",
    )


def test_a_process_that_has_done_nothing_has_a_page():
    found = values(Metrics().snapshot())
    assert found[key("kanserve_workers")] == 1


def test_names_follow_the_conventions_of_prometheus():
    for row in TABLE:
        assert row.name.startswith(("kanserve_", "process_")) and row.meaning.endswith("."), row
        assert row.name.endswith("_total") == (row.kind == "counter"), row
        assert row.name.endswith("_info") == (row.kind == "info"), row
    assert len({row.name for row in TABLE}) == len(TABLE)


def test_the_guide_has_every_metric():
    guide = GUIDE.read_text()
    for line in serving_docs.metrics_table().splitlines():
        assert line in guide
