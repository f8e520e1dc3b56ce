"""Render a metrics snapshot as a Prometheus page, with Prometheus's client library. TABLE lists all metrics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kanserve.errors import MissingDependencyError
from kanserve.serve.observability.metrics import BOUNDS, STAGES, count, measure_drift
from kanserve.serve.state import Snapshot

try:
    from prometheus_client import exposition
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ModuleNotFoundError:
    raise MissingDependencyError("prometheus-client", "serve") from None

Kind = Literal["counter", "gauge", "histogram", "info"]
_Point = tuple[Sequence[str], Any]  # the values of the labels, and the value of the metric

_LONGEST = 200  # characters of a label


@dataclass(frozen=True)
class Row:
    """A metric as it appears on the page."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str


_CALL = ("service", "method", "model", "version", "code")
_VERSION = ("model", "version")

TABLE = (
    Row("kanserve_requests_total", "counter", _CALL, "Ended calls, and requests within streams, by status code."),
    Row(
        "kanserve_request_duration_seconds",
        "histogram",
        (*_CALL, "stage"),
        "Their duration: in the queue, decoding, computing, encoding (of successful ones only), and in total.",
    ),
    Row("kanserve_rows_total", "counter", _VERSION, "Rows that a model has answered."),
    Row(
        "kanserve_rows_outside_training_range_total",
        "counter",
        (*_VERSION, "feature"),
        "Rows in which this feature was outside its training range: also NaN, unless it may be missing, and unknown "
        "categories.",
    ),
    Row(
        "kanserve_input_psi",
        "gauge",
        (*_VERSION, "feature"),
        "Population stability index of this feature in the latest rows, beside the training rows.",
    ),
    Row(
        "kanserve_input_psi_above_chance",
        "gauge",
        (*_VERSION, "feature"),
        "The same less what unchanged features exceed once in a million, for so many rows; at least 0.",
    ),
    Row(
        "kanserve_input_outside_share",
        "gauge",
        (*_VERSION, "feature"),
        "Share of the latest rows in which this feature was outside its training range.",
    ),
    Row("kanserve_input_rows", "gauge", _VERSION, "The latest rows, in which features are compared."),
    Row(
        "kanserve_interval_values_total",
        "counter",
        (*_VERSION, "level"),
        "Measured values that came back, by the level of the prediction interval that they were compared with.",
    ),
    Row("kanserve_interval_covered_total", "counter", (*_VERSION, "level"), "Those of them that are in the interval."),
    Row("kanserve_model_loads_total", "counter", ("model", "result"), "Versions loaded: success or failure."),
    Row("kanserve_model_load_seconds_total", "counter", ("model",), "Time that loading took, failures included."),
    Row(
        "kanserve_model_last_load_timestamp_seconds",
        "gauge",
        ("model",),
        "When a version was last loaded, or failed to load.",
    ),
    Row("kanserve_model_ready", "gauge", _VERSION, "1: every process has loaded this version; 0: only some have."),
    Row("kanserve_model_refused", "gauge", _VERSION, "1: this version exists and cannot be loaded."),
    Row("kanserve_model_info", "info", (*_VERSION, "backend"), "The backend of a version."),
    Row("kanserve_model_requests_computing", "gauge", ("model",), "Requests that a model computes now."),
    Row(
        "kanserve_model_changes_waiting",
        "gauge",
        (),
        "Loads, unloads and looks for new versions that wait until an earlier one has ended.",
    ),
    Row("kanserve_workers", "gauge", (), "Processes that serve."),
    Row("kanserve_worker_restarts_total", "counter", (), "Processes that ended unexpectedly and were restarted."),
    Row("kanserve_threads", "gauge", (), "Threads that answer calls, in all processes."),
    Row("kanserve_threads_busy", "gauge", (), "Threads that are answering a call now."),
    Row("kanserve_queue_length", "gauge", (), "Calls that wait for a thread."),
    Row("kanserve_calls_in_flight", "gauge", (), "Calls that were accepted and not yet answered."),
    Row(
        "kanserve_calls_displaced",
        "gauge",
        (),
        "Calls that take long and have a thread beside `--threads`; at most 128 in each process.",
    ),
    Row("kanserve_streams_open", "gauge", (), "Streams that are open."),
    Row("kanserve_connections", "gauge", (), "Connections that are open, of the native transport."),
    Row(
        "kanserve_connections_crowded_out_total",
        "counter",
        (),
        "Connections that were closed since there were `--max-connections`: they waited for their clients.",
    ),
    Row(
        "kanserve_connections_flooding_total",
        "counter",
        (),
        "Connections that were closed since what they sent cost much and carried nothing.",
    ),
    Row(
        "kanserve_connections_slow_total",
        "counter",
        (),
        "Connections that were closed since nothing was asked in time, or nothing of what was sent to them was taken.",
    ),
    Row(
        "kanserve_calls_without_memory_total",
        "counter",
        (),
        "Calls that were refused since the messages and metadata of those under way took all the memory that they may.",
    ),
    Row("process_cpu_seconds_total", "counter", ("worker",), "User and system CPU time of a process."),
    Row("process_resident_memory_bytes", "gauge", ("worker",), "Resident memory of a process."),
    Row("process_virtual_memory_bytes", "gauge", ("worker",), "Virtual memory of a process."),
    Row("process_open_fds", "gauge", ("worker",), "Open file descriptors of a process."),
    Row("process_threads", "gauge", ("worker",), "Threads of a process, those of libraries included."),
    Row("process_start_time_seconds", "gauge", ("worker",), "When a process started, in seconds since 1970."),
)


def text(snapshot: Snapshot) -> bytes:
    return page(snapshot, "")[0]


def page(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """The page and its content type; OpenMetrics if the `accept` header asks for it."""
    if "application/openmetrics-text" in accept:
        # The oldest version of the format, which every scraper reads.
        encode, kind = exposition.choose_encoder("application/openmetrics-text; version=1.0.0")
    else:
        encode, kind = exposition.choose_encoder("")
    return encode(_Page(snapshot)), kind


class _Page(Collector):
    """A collector, as the library's encoders expect it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        points = _points(self._snapshot)
        for row in TABLE:
            yield _family(row, points.get(row.name, ()))


def _family(row: Row, points: Iterable[_Point]) -> Metric:
    labels = list(row.labels)
    match row.kind:
        case "counter":
            counter = CounterMetricFamily(row.name.removesuffix("_total"), row.meaning, labels=labels)
            for values, value in points:
                counter.add_metric(values, value)
            return counter
        case "gauge":
            gauge = GaugeMetricFamily(row.name, row.meaning, labels=labels)
            for values, value in points:
                gauge.add_metric(values, value)
            return gauge
        case "info":
            info = InfoMetricFamily(row.name.removesuffix("_info"), row.meaning, labels=labels)
            for values, _ in points:
                info.add_metric(values, {})
            return info
        case "histogram":
            histogram = HistogramMetricFamily(row.name, row.meaning, labels=labels)
            for values, (buckets, nanoseconds) in points:
                histogram.add_metric(values, _accumulate(buckets), nanoseconds / 1e9)
            return histogram


def _points(snapshot: Snapshot) -> Mapping[str, Sequence[_Point]]:
    """The points of each metric, by name."""
    models, processes = snapshot["models"], snapshot["processes"]
    made: dict[str, Sequence[_Point]] = {
        "kanserve_requests_total": [(_labels(call), count(call)) for call in snapshot["calls"]],
        "kanserve_request_duration_seconds": list(_durations(snapshot["calls"])),
        "kanserve_rows_total": list(_rows(snapshot["calls"])),
        "kanserve_rows_outside_training_range_total": list(_outside(snapshot["outside"])),
        **_drift(snapshot["inputs"]),
        **_coverage(snapshot["coverage"]),
        "kanserve_model_loads_total": [
            ((*_labels(load), result), load[field])
            for load in snapshot["loads"]
            for result, field in (("success", "loaded"), ("failure", "failed"))
        ],
        "kanserve_model_load_seconds_total": [(_labels(load), load["seconds"]) for load in snapshot["loads"]],
        "kanserve_model_last_load_timestamp_seconds": [(_labels(load), load["last"]) for load in snapshot["loads"]],
        "kanserve_model_ready": list(_ready(models, len(processes))),
        "kanserve_model_refused": [(list(map(_label, key)), 1) for key in snapshot["refused"]],
        "kanserve_model_info": [(_labels(model), 1) for model in models],
        "kanserve_model_requests_computing": [(_labels(model), model["requests"]) for model in snapshot["computing"]],
        "kanserve_workers": [((), len(processes))],
        "kanserve_worker_restarts_total": [((), snapshot["restarts"])],
    }
    for name, value in snapshot["gauges"].items():
        made[f"kanserve_{name}"] = [((), value)]
    for row in TABLE:
        if row.labels == ("worker",):
            field = row.name.removeprefix("process_").removesuffix("_total")
            made[row.name] = [((str(process["worker"]),), process[field]) for process in processes if field in process]
    return made


def _durations(calls: Iterable[Mapping[str, Any]]) -> Iterator[_Point]:
    """The total duration of all calls, and durations by stage for successful ones only: refused calls skip stages."""
    for call in calls:
        stages = STAGES if call["of"][-1] == "OK" else STAGES[-1:]
        for stage, buckets, nanoseconds in zip(STAGES, call["buckets"], call["nanoseconds"], strict=True):
            if stage in stages and nanoseconds:
                yield (*_labels(call), stage), (buckets, nanoseconds)


def _rows(calls: Iterable[Mapping[str, Any]]) -> Iterator[_Point]:
    """Rows by version, summed over all methods, as for rows outside the training range."""
    rows: dict[tuple[str, str], int] = {}
    for call in calls:
        _, _, model, version, code = _labels(call)
        if model and code == "OK":
            rows[model, version] = rows.get((model, version), 0) + call["rows"]
    return iter(rows.items())


def _coverage(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[_Point]]:
    return {
        f"kanserve_interval_{part}_total": [(_labels(entry), entry[part]) for entry in entries]
        for part in ("values", "covered")
    }


def _drift(entries: Iterable[Mapping[str, Any]]) -> dict[str, list[_Point]]:
    made: dict[str, list[_Point]] = {
        name: [] for name in ("kanserve_input_psi", "kanserve_input_psi_above_chance", "kanserve_input_outside_share")
    }
    rows = made["kanserve_input_rows"] = []
    for entry in entries:
        version = _labels(entry)[:2]
        rows.append((version, entry["rows"]))
        measured = list(measure_drift(entry))
        for feature, drift in zip(_unique(drift.name for drift in measured), measured, strict=True):
            for points, value in zip(made.values(), (drift.psi, drift.psi_above_chance, drift.outside), strict=False):
                points.append(((*version, feature), value))
    return made


def _outside(entries: Iterable[Mapping[str, Any]]) -> Iterator[_Point]:
    for entry in entries:
        names = entry["features"] or list(map(str, range(len(entry["rows"]))))
        for name, rows in zip(_unique(names), entry["rows"], strict=True):
            yield (*_labels(entry), name), rows


def _unique(names: Iterable[str]) -> Iterator[str]:
    """Names as labels. They may coincide once they are cut, and scrapers reject a page with duplicate series."""
    seen: set[str] = set()
    for i, name in enumerate(map(_label, names)):
        unique = name if name not in seen else f"{name}#{i}"
        seen.add(unique)
        yield unique


def _ready(models: Iterable[Mapping[str, Any]], processes: int) -> Iterator[_Point]:
    """Readiness by version, whichever backend each process uses."""
    ready: dict[tuple[str, str], int] = {}
    for model in models:
        name, version, _ = _labels(model)
        ready[name, version] = ready.get((name, version), 0) + model["ready"]
    return ((key, int(number >= processes)) for key, number in ready.items())


def _accumulate(buckets: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative buckets, as Prometheus expects them."""
    made: list[tuple[str, float]] = []
    below = 0
    for bound, number in zip(_LE, buckets, strict=True):
        below += number
        made.append((bound, below))
    return made


_LE = (*(repr(bound / 1e9) for bound in BOUNDS), "+Inf")


def _labels(entry: Mapping[str, Any]) -> list[str]:
    return list(map(_label, entry["of"]))


def _label(value: object) -> str:
    """A label value as valid UTF-8 of limited length; version 0, which means none, becomes ""."""
    return str(value or "")[:_LONGEST].encode("utf-8", "replace").decode()
