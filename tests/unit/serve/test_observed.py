"""A server that is watched: one call, as the metrics, the access log, a trace and the protocol's statistics have it."""

import json
import re
import urllib.request
from typing import Any

import grpc
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kanserve import repository
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve import server
from kanserve.serve.settings import Settings
from tests.support.peers.trace_collector import PARENT, TRACE, collector
from tests.support.servers import server_process, serving

WATCHED = (("x-request-id", "7f3a"), ("traceparent", f"00-{TRACE}-{PARENT}-01"))
ROWS = np.array([[0.0, 0.0], [1e9, 0.0], [0.0, np.nan], [-1e9, np.inf]])


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """What was seen of a server that answered three calls: the page of metrics, the access log and the spans."""
    root = tmp_path_factory.mktemp("models")
    repository.publish(root / "models", "mixed", serving.artifact("mixed"))
    with collector() as (endpoint, received):
        settings = Settings(
            repository=str(root / "models"),
            port=0,
            http_port=0,
            access_log=str(root / "access.log"),
            traces=endpoint,
        )
        with server.start(settings) as running, grpc.insecure_channel(running.address) as channel:
            infer = channel.unary_unary(
                f"/{wire.SERVICE_NAME}/ModelInfer",
                pb.ModelInferRequest.SerializeToString,
                pb.ModelInferResponse.FromString,
            )
            infer(request("mixed"), metadata=WATCHED, timeout=60)
            for name, columns in (("mixed", 3), ("fox", 2)):
                with pytest.raises(grpc.RpcError):
                    infer(request(name, columns), metadata=WATCHED, timeout=60)
            with urllib.request.urlopen(f"http://{running.http_address}/metrics", timeout=60) as page:
                metrics = list(text_string_to_metric_families(page.read().decode()))
            with urllib.request.urlopen(f"http://{running.http_address}/v2/models/mixed/ready", timeout=60) as ready:
                assert json.load(ready) == {"name": "mixed", "ready": True}
    lines = [json.loads(line) for line in (root / "access.log").read_text().splitlines()]
    spans = [
        span for export in received for of in export.resource_spans for in_ in of.scope_spans for span in in_.spans
    ]
    return metrics, lines, spans


def request(name: str, columns: int = 2) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name=name, raw_input_contents=[ROWS.tobytes()])
    made.inputs.add(name="x", datatype="FP64", shape=[len(ROWS), columns])
    return made


def value(metrics: Any, name: str, **labels: str) -> float:
    (found,) = [
        sample.value
        for family in metrics
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return float(found)


def test_the_metrics_have_the_calls_and_the_rows_outside(watched):
    metrics, _, _ = watched
    for model, code in (("mixed", "OK"), ("mixed", "INVALID_ARGUMENT"), ("", "NOT_FOUND")):
        assert value(metrics, "kanserve_requests_total", model=model, code=code, method="ModelInfer") == 1
    assert value(metrics, "kanserve_rows_total", model="mixed") == len(ROWS)
    for feature in (variable.name for variable in serving.kan("mixed").inputs):
        assert value(metrics, "kanserve_rows_outside_training_range_total", feature=feature) == 2
    assert value(metrics, "kanserve_model_ready", model="mixed", version="1") == 1
    assert value(metrics, "kanserve_model_loads_total", model="mixed", result="success") == 1
    assert value(metrics, "kanserve_threads") >= 1
    assert value(metrics, "kanserve_model_requests_computing", model="mixed") == 0
    assert value(metrics, "kanserve_model_changes_waiting") == value(metrics, "kanserve_calls_displaced") == 0


def test_the_stages_of_a_call_are_its_time(watched):
    metrics, lines, spans = watched
    name = "kanserve_request_duration_seconds_sum"
    stages = {
        stage: value(metrics, name, model="mixed", code="OK", stage=stage)
        for stage in ("queue", "decode", "compute", "encode")
    }
    total = value(metrics, name, model="mixed", code="OK", stage="total")
    assert min(stages.values()) > 0 and sum(stages.values()) == pytest.approx(total, rel=0.05)
    assert lines[0]["seconds"] == pytest.approx(total) and lines[0]["compute"] == pytest.approx(stages["compute"])
    compute = next(span for span in spans if span.name == "compute")
    assert (compute.end_time_unix_nano - compute.start_time_unix_nano) / 1e9 == pytest.approx(
        stages["compute"], rel=0.01
    )


def test_the_access_log_has_each_call_and_what_the_caller_was_told(watched):
    _, lines, _ = watched
    assert [(line["model"], line["code"], line["request_id"]) for line in lines] == [
        ("mixed", "OK", "7f3a"),
        ("mixed", "INVALID_ARGUMENT", "7f3a"),
        ("", "NOT_FOUND", "7f3a"),
    ]
    assert lines[0]["rows"] == len(ROWS) and lines[0]["outside"] == {"0": 2, "1": 2} and lines[0]["error"] == ""
    assert "'fox'" in lines[2]["error"] and lines[0]["peer"].startswith("ipv4:127.0.0.1:")


def test_the_spans_belong_to_the_trace_of_the_caller(watched):
    _, _, spans = watched
    calls = [span for span in spans if span.name == "inference.GRPCInferenceService/ModelInfer"]
    assert len(calls) == 3 and {span.trace_id.hex() for span in spans} == {TRACE}
    assert {call.parent_span_id.hex() for call in calls} == {PARENT}


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_are_at_an_address_of_their_own_where_one_is_set(workers):
    settings = Settings(str(serving.folder()), port=0, http_port=0, http_host="127.0.0.2", workers=workers)
    with server_process.started(settings) as running:
        line = server_process.said(running, "serving")
        (place,) = re.findall(r"http://127\.0\.0\.2:\d+/metrics", line)
        with urllib.request.urlopen(place, timeout=60) as page:
            assert b"kanserve_workers" in page.read()
        with pytest.raises(OSError):
            urllib.request.urlopen(place.replace("127.0.0.2", "127.0.0.1"), timeout=60)
