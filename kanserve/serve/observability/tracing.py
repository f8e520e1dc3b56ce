"""A span for each call, by OpenTelemetry: made from the call's times after it has ended, so that it delays nothing.

Sampling and batch sizes are set by OpenTelemetry's own environment variables, such as OTEL_TRACES_SAMPLER. A caller's
`traceparent` makes a call part of its trace. Create `Traces` in the serving process, after any fork: it has a thread.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kanserve import __version__
from kanserve.errors import MissingDependencyError
from kanserve.serve.settings import Settings
from kanserve.serve.state import Call
from kanserve.serve.status import Code

try:
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import SpanContext, SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    from opentelemetry.trace.status import Status, StatusCode
except ModuleNotFoundError as error:
    raise MissingDependencyError((error.name or "opentelemetry").replace(".", "-"), "tracing") from None

EXPORT_SECONDS = 5.0  # that the collector may take for a batch, retries included
FAREWELL_SECONDS = 2.0  # in which the last spans are sent
_FROM_CALLER = ("traceparent", "tracestate")
# Server errors: by the semantic conventions, a caller's error is not an error of the server's span.
_FAULTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")

_logger = logging.getLogger(__name__)


def traces(settings: Settings) -> "Traces | None":
    """The trace exporter, if the settings name a collector."""
    if not settings.traces:
        return None
    return Traces(_Patient(OTLPSpanExporter(settings.traces, timeout=EXPORT_SECONDS), settings.traces))


class Traces:
    """Exports a span for each call, in batches; `close` sends the last batch."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        # Merged in this order, so that OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override ours.
        ours = Resource({"service.name": "kanserve", "service.version": __version__})
        resource = ours.merge(_name_by_the_environment())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._processor = BatchSpanProcessor(exporter)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("kanserve", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def __call__(self, call: Call) -> None:
        begun = call.arrived + time.time_ns() - time.perf_counter_ns()
        span = self._tracer.start_span(
            f"{call.service}/{call.method}",
            self._context(call),
            SpanKind.SERVER,
            attributes=_attributes(call),
            start_time=begun,
        )
        if span.is_recording():
            if call.code in _FAULTS:
                span.set_status(Status(StatusCode.ERROR, call.error))
            at = begun
            for stage, took in _stages(call):
                if took:
                    self._processor.on_end(self._stage(stage, span.get_span_context(), at, at + took))
                at += took
        span.end(begun + call.ended - call.arrived)

    def close(self) -> None:
        """Send the remaining spans, with a timeout, so that an unresponsive collector does not block shutdown."""
        closing = threading.Thread(target=self._provider.shutdown, name="kanserve-traces", daemon=True)
        closing.start()
        closing.join(FAREWELL_SECONDS)
        if closing.is_alive():
            self._exporter.shutdown()
            closing.join(FAREWELL_SECONDS)

    def _stage(self, name: str, parent: SpanContext, begun: int, ended: int) -> ReadableSpan:
        """Create a child span directly, since a tracer would take six times as long."""
        mine = self._provider.id_generator.generate_span_id()
        return ReadableSpan(
            name,
            context=SpanContext(parent.trace_id, mine, is_remote=False, trace_flags=parent.trace_flags),
            parent=parent,
            resource=self._provider.resource,
            start_time=begun,
            end_time=ended,
        )

    def _context(self, call: Call) -> Context:
        """The caller's trace context, if it sent a valid one."""
        carrier = {key: value for key, value in call.metadata if key in _FROM_CALLER and isinstance(value, str)}
        return self._propagator.extract(carrier, Context()) if carrier else Context()


def _name_by_the_environment() -> Resource:
    """The resource described by the environment, without OpenTelemetry's placeholder for a missing name."""
    found = dict(Resource.create().attributes)
    if str(found.get("service.name", "")).startswith("unknown_service"):
        del found["service.name"]
    return Resource(found)


def _attributes(call: Call) -> Mapping[str, Any]:
    known: dict[str, Any] = {
        "rpc.system": "grpc",
        "rpc.service": call.service,
        "rpc.method": call.method,
        "rpc.grpc.status_code": Code[call.code].value,
        "kanserve.request_id": call.request_id,
        "kanserve.identity": call.identity,
        "network.peer.address": call.peer,
    }
    if call.model:
        known |= {"kanserve.model": call.model, "kanserve.version": call.version, "kanserve.rows": call.rows}
    if call.outside is not None:
        known["kanserve.features_outside"] = int((call.outside > 0).sum())
    return {name: value for name, value in known.items() if value != ""}


def _stages(call: Call) -> Sequence[tuple[str, int]]:
    return (("queue", call.queued), ("decode", call.decoded), ("compute", call.computed), ("encode", call.encoded))


class _Patient(SpanExporter):
    """An exporter that logs when the collector becomes unreachable and when it is back, not each attempt."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter, self._endpoint = exporter, endpoint
        self._lost = 0
        self._ended = False
        for chatty in (OTLPSpanExporter.__module__, "opentelemetry.sdk._shared_internal"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # of whichever HTTP library the exporter uses; the warning below reports it
            result = SpanExportResult.FAILURE
        if self._ended:
            return result
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                _logger.warning("traces cannot be sent to %s, spans are lost", self._endpoint)
            self._lost += len(spans)
        elif self._lost:
            _logger.warning("traces are sent to %s again; %d spans were lost", self._endpoint, self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        if not self._ended:
            self._ended = True
            self._exporter.shutdown()
