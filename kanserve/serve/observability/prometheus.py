"""A snapshot as a page for Prometheus, written by its own client library. TABLE is all that there is on it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kanserve.errors import MissingDependencyError
from kanserve.serve.observability.metrics import BOUNDS, STAGES, count
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
_Point = tuple[Sequence[str], Any]  # the values of the labels, and what was counted

_LONGEST = 200  # characters of a label


@dataclass(frozen=True)
class Row:
    """A metric as the page names it."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str


_CALL = ("service", "method", "model", "version", "code")
_VERSION = ("model", "version")

TABLE = (
    Row("kanserve_requests_total", "counter", _CALL, "Calls that ended, and requests within streams, by status code."),
    Row(
        "kanserve_request_duration_seconds",
        "histogram",
        (*_CALL, "stage"),
        "How long they took: in the queue, to decode, to compute, to encode (of those that ended well), and in total.",
    ),
    Row("kanserve_rows_total", "counter", _VERSION, "Rows that a model has answered."),
    Row(
        "kanserve_rows_outside_training_range_total",
        "counter",
        (*_VERSION, "feature"),
        "Rows in which this feature lay outside the range it had in training, NaN included.",
    ),
    Row("kanserve_model_loads_total", "counter", ("model", "result"), "Versions loaded: success or failure."),
    Row("kanserve_model_load_seconds_total", "counter", ("model",), "Time that loading took, failures included."),
    Row("kanserve_model_last_load_timestamp_seconds", "gauge", ("model",), "When a version was last loaded, or not."),
    Row("kanserve_model_ready", "gauge", _VERSION, "1: every process has this version loaded; 0: some do."),
    Row("kanserve_model_refused", "gauge", _VERSION, "1: this version is there and cannot be loaded."),
    Row("kanserve_model_info", "info", (*_VERSION, "backend"), "What computes a version."),
    Row("kanserve_workers", "gauge", (), "Processes that serve."),
    Row("kanserve_worker_restarts_total", "counter", (), "Processes that ended unasked and were started again."),
    Row("kanserve_threads", "gauge", (), "Threads that answer calls, in all processes."),
    Row("kanserve_threads_busy", "gauge", (), "Of these, those that answer one now."),
    Row("kanserve_queue_length", "gauge", (), "Calls that wait for a thread."),
    Row("kanserve_calls_in_flight", "gauge", (), "Calls that were accepted and are not answered yet."),
    Row("kanserve_streams_open", "gauge", (), "Streams that are open."),
    Row("process_cpu_seconds_total", "counter", ("worker",), "User and system CPU time of a process."),
    Row("process_resident_memory_bytes", "gauge", ("worker",), "Resident memory of a process."),
    Row("process_virtual_memory_bytes", "gauge", ("worker",), "Virtual memory of a process."),
    Row("process_open_fds", "gauge", ("worker",), "Open file descriptors of a process."),
    Row("process_threads", "gauge", ("worker",), "Threads of a process, those of libraries included."),
    Row("process_start_time_seconds", "gauge", ("worker",), "When a process started, in seconds since 1970."),
)


def text(snapshot: Snapshot) -> bytes:
    """In the text format of Prometheus."""
    return page(snapshot, "")[0]


def page(snapshot: Snapshot, accept: str) -> tuple[bytes, str]:
    """The page and its content type; OpenMetrics for who asks for it in the header `accept`."""
    if "application/openmetrics-text" in accept:
        # Of the versions of the format the oldest, which every scraper reads.
        encode, kind = exposition.choose_encoder("application/openmetrics-text; version=1.0.0")
    else:
        encode, kind = exposition.choose_encoder("")
    return encode(_Page(snapshot)), kind


def markdown() -> str:
    """The table of the documentation."""
    lines = ["| metric | type | labels | |", "|---|---|---|---|"]
    for row in TABLE:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.meaning} |")
    return "\n".join(lines) + "\n"


class _Page(Collector):
    """What the encoders of the library take: something that collects."""

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
                histogram.add_metric(values, _cumulated(buckets), nanoseconds / 1e9)
            return histogram


def _points(snapshot: Snapshot) -> Mapping[str, Sequence[_Point]]:
    """What there is to say of each metric, by its name."""
    models, processes = snapshot["models"], snapshot["processes"]
    made: dict[str, Sequence[_Point]] = {
        "kanserve_requests_total": [(_labels(one), count(one)) for one in snapshot["calls"]],
        "kanserve_request_duration_seconds": list(_durations(snapshot["calls"])),
        "kanserve_rows_total": list(_rows(snapshot["calls"])),
        "kanserve_rows_outside_training_range_total": list(_outside(snapshot["outside"])),
        "kanserve_model_loads_total": [
            ((*_labels(one), result), one[field])
            for one in snapshot["loads"]
            for result, field in (("success", "loaded"), ("failure", "failed"))
        ],
        "kanserve_model_load_seconds_total": [(_labels(one), one["seconds"]) for one in snapshot["loads"]],
        "kanserve_model_last_load_timestamp_seconds": [(_labels(one), one["last"]) for one in snapshot["loads"]],
        "kanserve_model_ready": list(_ready(models, len(processes))),
        "kanserve_model_refused": [(list(map(_label, key)), 1) for key in snapshot["refused"]],
        "kanserve_model_info": [(_labels(model), 1) for model in models],
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
    """In total for all, and by stage for what ended well: what was refused has been through some stages only."""
    for call in calls:
        stages = STAGES if call["of"][-1] == "OK" else STAGES[-1:]
        for stage, buckets, nanoseconds in zip(STAGES, call["buckets"], call["nanoseconds"], strict=True):
            if stage in stages and nanoseconds:
                yield (*_labels(call), stage), (buckets, nanoseconds)


def _rows(calls: Iterable[Mapping[str, Any]]) -> Iterator[_Point]:
    """Of all methods together, as rows outside the training range are counted."""
    rows: dict[tuple[str, str], int] = {}
    for call in calls:
        _, _, model, version, code = _labels(call)
        if model and code == "OK":
            rows[model, version] = rows.get((model, version), 0) + call["rows"]
    return iter(rows.items())


def _outside(entries: Iterable[Mapping[str, Any]]) -> Iterator[_Point]:
    for entry in entries:
        names = entry["features"] or list(map(str, range(len(entry["rows"]))))
        seen: set[str] = set()
        for i, (name, rows) in enumerate(zip(map(_label, names), entry["rows"], strict=True)):
            # Two names may be one once they are cut, and a page that says a thing twice is refused whole.
            unique = name if name not in seen else f"{name}#{i}"
            seen.add(unique)
            yield (*_labels(entry), unique), rows


def _ready(models: Iterable[Mapping[str, Any]], processes: int) -> Iterator[_Point]:
    """By version, whatever backend each process has chosen."""
    ready: dict[tuple[str, str], int] = {}
    for model in models:
        name, version, _ = _labels(model)
        ready[name, version] = ready.get((name, version), 0) + model["ready"]
    return ((key, int(number >= processes)) for key, number in ready.items())


def _cumulated(buckets: Sequence[int]) -> list[tuple[str, float]]:
    """As Prometheus has them: for each bound everything that is not above it."""
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
    """Without what UTF-8 cannot say; version 0 stands for none."""
    return str(value or "")[:_LONGEST].encode("utf-8", "replace").decode()
