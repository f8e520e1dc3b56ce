"""Spans of calls: what they say, whose trace they belong to, and that a collector that is not there costs nothing."""

import logging
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from kanserve.serve.observability import tracing
from kanserve.serve.settings import Settings
from kanserve.serve.state import Call
from tests.support.peers.trace_collector import PARENT, TRACE, collector
from tests.support.servers.server_process import until


def call(**known: Any) -> Call:
    now = time.perf_counter_ns()
    made = Call("inference.GRPCInferenceService", "ModelInfer", now - 100_000)
    made.model, made.version, made.rows, made.request_id = "plant", 3, 2, "7f3a"
    made.queued, made.decoded, made.computed, made.encoded = 60_000, 20_000, 5_000, 9_000
    made.ended = now
    for name, value in known.items():
        setattr(made, name, value)
    return made


def spans(*calls: Call) -> Any:
    """What an exporter gets of calls: the span of the last, and those within it by name."""
    exporter = InMemorySpanExporter()
    traces = tracing.Traces(exporter)
    for ended_call in calls:
        traces(ended_call)
    traces.close()
    finished = exporter.get_finished_spans()
    return finished[-1], {made.name: made for made in finished if made.kind is SpanKind.INTERNAL}


def test_a_call_is_a_span_of_the_server_with_what_is_known_of_it():
    span, _ = spans(call(outside=np.array([0, 2, 1]), identity="quality", peer="ipv4:127.0.0.1:5000"))
    assert span.kind is SpanKind.SERVER and span.name == "inference.GRPCInferenceService/ModelInfer"
    assert dict(span.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": "inference.GRPCInferenceService",
        "rpc.method": "ModelInfer",
        "rpc.grpc.status_code": 0,
        "kanserve.request_id": "7f3a",
        "kanserve.identity": "quality",
        "network.peer.address": "ipv4:127.0.0.1:5000",
        "kanserve.model": "plant",
        "kanserve.version": 3,
        "kanserve.rows": 2,
        "kanserve.features_outside": 2,
    }
    assert span.resource.attributes["service.name"] == "kanserve"
    assert span.end_time - span.start_time == 100_000 and abs(span.end_time - time.time_ns()) < 60e9


def test_the_environment_may_name_the_service(monkeypatch):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "plant-models")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    attributes = spans(call())[0].resource.attributes
    assert attributes["service.name"] == "plant-models" and attributes["deployment.environment"] == "test"
    assert "service.version" in attributes


def test_the_stages_are_spans_within_it_one_after_the_other():
    span, within = spans(call())
    assert list(within) == ["queue", "decode", "compute", "encode"]
    at = span.start_time
    for name, took in {"queue": 60_000, "decode": 20_000, "compute": 5_000, "encode": 9_000}.items():
        one = within[name]
        assert one.parent == span.get_span_context() and one.context.trace_id == span.context.trace_id
        assert (one.start_time, one.end_time) == (at, at + took)
        at += took
    assert len({inner.context.span_id for inner in (span, *within.values())}) == 5


def test_a_stage_that_there_was_not_has_no_span():
    assert list(spans(call(queued=0, computed=0))[1]) == ["decode", "encode"]


def test_a_call_belongs_to_the_trace_of_its_caller():
    metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("tracestate", "a=b"), ("other-bin", b"\0"))
    span, within = spans(call(metadata=metadata))
    assert f"{span.context.trace_id:032x}" == TRACE and f"{span.parent.span_id:016x}" == PARENT
    assert span.parent.is_remote and span.context.trace_state.get("a") == "b"
    assert {inner.context.trace_id for inner in within.values()} == {span.context.trace_id}


def test_a_caller_that_is_not_sampled_has_no_spans():
    traced = call()
    span, _ = spans(traced, call(metadata=(("traceparent", f"00-{TRACE}-{PARENT}-00"),)))
    assert f"{span.context.trace_id:032x}" != TRACE


@pytest.mark.parametrize(
    "given", ["", "x", f"00-{TRACE}-{PARENT}", f"00-{'0' * 32}-{PARENT}-01", "00-" + "é" * 50, "9" * 10_000, b"\xff"]
)
def test_a_context_that_is_none_begins_a_trace(given):
    span, _ = spans(call(metadata=(("traceparent", given), ("tracestate", given))))
    assert span.parent is None and f"{span.context.trace_id:032x}" != TRACE


@pytest.mark.parametrize(
    ("code", "number", "status"),
    [
        ("INVALID_ARGUMENT", 3, StatusCode.UNSET),
        ("NOT_FOUND", 5, StatusCode.UNSET),
        ("INTERNAL", 13, StatusCode.ERROR),
        ("UNAVAILABLE", 14, StatusCode.ERROR),
    ],
)
def test_a_fault_of_the_server_is_an_error_and_one_of_the_caller_is_not(code, number, status):
    span, _ = spans(call(code=code, error="what the client was told"))
    assert span.attributes["rpc.grpc.status_code"] == number and span.status.status_code is status


def test_spans_reach_a_collector_at_the_end_at_the_latest():
    with collector() as (endpoint, received):
        traces = tracing.traces(Settings(traces=endpoint))
        assert traces is not None
        for _ in range(10):
            traces(call())
        traces.close()
    sent = [
        span for request in received for of in request.resource_spans for in_ in of.scope_spans for span in in_.spans
    ]
    assert len(sent) == 50
    names = {sent_span.name for sent_span in sent}
    assert names == {"inference.GRPCInferenceService/ModelInfer", "queue", "decode", "compute", "encode"}


@pytest.mark.slow
def test_a_collector_that_says_nothing_keeps_neither_a_call_nor_the_end_waiting(monkeypatch):
    patience = 60.0
    monkeypatch.setattr(tracing, "EXPORT_SECONDS", patience)  # to wait for the collector once is to take as long
    monkeypatch.setattr(tracing, "FAREWELL_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        traces = tracing.traces(Settings(traces=f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"))
        assert traces is not None
        began = time.monotonic()
        for _ in range(1000):  # more than wait for a batch, so that some are dropped
            traces(call())
            assert time.monotonic() - began < patience
        traces.close()
        assert time.monotonic() - began < patience


@pytest.mark.parametrize("status", [0, 400, 503])
def test_a_collector_that_takes_nothing_is_said_once_and_once_that_it_is_back(status, caplog, monkeypatch):
    monkeypatch.setattr(tracing, "EXPORT_SECONDS", 0.7)  # less than the exporter waits before it tries again
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")  # the spans of a call
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")  # milliseconds
    with collector(status=status or 503) as (endpoint, refused):
        traces = tracing.traces(Settings(traces=endpoint if status else "http://127.0.0.1:9/v1/traces"))
        assert traces is not None
        for _ in range(3):
            traces(call())
        if status:
            until(lambda: len(refused) == 3)
    if status:
        with collector(port=int(endpoint.split(":")[2].split("/")[0])):
            traces(call())
            until(lambda: "again" in caplog.text)
    traces.close()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "cannot be sent" in said[0] and [text for text in said[1:] if "; 15 spans were lost" not in text] == []
    assert len(said) == (2 if status else 1)


def test_without_a_collector_there_are_no_traces():
    assert tracing.traces(Settings()) is None


def test_without_the_package_its_extra_is_named():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try:\n    import kanserve.serve.observability.tracing\nexcept ImportError as e:\n    print('bare', e)\n"
        "except Exception as e:\n    print(type(e).__name__, e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("MissingDependencyError") and "kanserve[tracing]" in done.stdout
