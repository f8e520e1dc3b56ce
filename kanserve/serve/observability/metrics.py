"""Metrics of calls and models: cheap to update at the end of a call, and exported as a snapshot that JSON can hold.

Each process has its own metrics; `merge` adds them up. Only models that were found become labels, so that clients
cannot create new ones, and the metrics of a version are dropped some time after the version is gone.
"""

import functools
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kanserve.network.stability_index import InputDrift, stability_index

if TYPE_CHECKING:  # so that a supervisor can merge without importing numpy, grpc and protobuf
    import numpy as np
    from numpy.typing import NDArray

    from kanserve.inference import grpc_service_pb2 as pb
    from kanserve.serve.models.catalog import Catalog
    from kanserve.serve.state import Call, Snapshot

STAGES = ("queue", "decode", "compute", "encode", "total")
BOUNDS = tuple(  # upper bounds of the histogram buckets, in nanoseconds, inclusive
    microseconds * 1000
    for microseconds in (
        *(10, 25, 50, 100, 250, 500),
        *(1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000),
        *(2_500_000, 10_000_000),
    )
)
KEPT_SECONDS = 900.0  # for which the metrics of a removed version stay: three times Prometheus' staleness interval
MOST_SERIES = 500  # series of calls and of models each; beyond that, calls are counted without their model
_BUCKETS = len(BOUNDS) + 1
_INFERENCE_SERVICE = "inference.GRPCInferenceService"

Key = tuple[str, str, str, int, str]  # service, method, model, version, code


_DESCRIPTORS = "/proc/self/fd"


def usage() -> dict[str, Any]:
    """CPU and start time in seconds, memory in bytes, threads, descriptors; outside Linux only what Python knows."""
    times = os.times()
    known: dict[str, Any] = {"pid": os.getpid(), "cpu_seconds": times.user + times.system, "threads": threads()}
    try:
        with open("/proc/self/stat", "rb") as file:
            # The process name may contain spaces and parentheses; after the last parenthesis come numbers.
            numbers = file.read().rpartition(b")")[2].split()
        known["virtual_memory_bytes"] = int(numbers[20])
        known["resident_memory_bytes"] = int(numbers[21]) * os.sysconf("SC_PAGE_SIZE")
        known["start_time_seconds"] = _read_boot_time() + int(numbers[19]) / os.sysconf("SC_CLK_TCK")
        known["open_fds"] = len(os.listdir(_DESCRIPTORS)) - 1  # one was open to list them
    except OSError:
        pass  # another system
    return known


def threads() -> int:
    """The number of threads, including those of C libraries if the system reports them."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


@functools.cache
def _read_boot_time() -> int:
    with open("/proc/stat", "rb") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(b"btime ")), 0)


class _Series:
    """Counters of the calls with equal labels, including the status code."""

    __slots__ = ("buckets", "last", "nanoseconds", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self.last = 0
        self.nanoseconds = [0] * len(STAGES)
        self.buckets = [[0] * _BUCKETS for _ in STAGES]


class _Loads:
    __slots__ = ("failed", "last", "loaded", "seconds")

    def __init__(self) -> None:
        self.loaded = self.failed = 0
        self.seconds = self.last = 0.0


class Metrics:
    """Metrics since the start of this process; thread-safe. The server sets functions for current values: `gauges` (by
    metric name), `computing` (requests in progress by model), `native` (inferences answered by the native transport,
    with rows outside the range) and `refusals` (calls it refused, by code)."""

    def __init__(self, worker: int = 0) -> None:
        self.gauges: Callable[[], Mapping[str, float]] = dict
        self.computing: Callable[[], Mapping[str, int]] = dict
        self.native: Callable[
            [], Iterable[tuple[tuple[str, str, str, int], dict[str, Any], NDArray[np.intp] | None]]
        ] = tuple
        self.refusals: Callable[[], Mapping[str, int]] = dict
        self._worker = worker
        self._lock = threading.Lock()
        self._calls: dict[Key, _Series] = {}
        self._outside: dict[tuple[str, int], NDArray[np.intp]] = {}
        self._loads: dict[str, _Loads] = {}
        self._catalog: Catalog | None = None  # always the current one: an older one would keep unloaded models alive
        self._refused: list[list[Any]] = []
        self._gone: dict[tuple[str, int], float] = {}

    def ended(self, call: "Call") -> None:
        """Record a finished call, or a finished request within a stream."""
        key = (call.service, call.method, call.model, call.version, call.code)
        queued, decoded, computed, encoded = call.queued, call.decoded, call.computed, call.encoded
        whole = call.ended - call.arrived
        # One lock instead of a shard per thread: as fast, since nothing blocks while it is held.
        with self._lock:
            series = self._calls.get(key) or self._new(key)
            series.rows += call.rows
            series.last = call.ended
            total = series.nanoseconds
            total[0] += queued
            total[1] += decoded
            total[2] += computed
            total[3] += encoded
            total[4] += whole
            in_queue, in_decode, in_compute, in_encode, in_all = series.buckets
            in_queue[bisect_left(BOUNDS, queued)] += 1
            in_decode[bisect_left(BOUNDS, decoded)] += 1
            in_compute[bisect_left(BOUNDS, computed)] += 1
            in_encode[bisect_left(BOUNDS, encoded)] += 1
            in_all[bisect_left(BOUNDS, whole)] += 1
            if call.outside is not None and call.code == "OK":
                self._add_outside((call.model, call.version), call.outside)

    def loaded(self, model: str, version: int, seconds: float, reason: str) -> None:
        """Record that a version was loaded, or failed to load for this `reason`."""
        with self._lock:
            if model not in self._loads and len(self._loads) >= MOST_SERIES:
                return
            loads = self._loads.setdefault(model, _Loads())
            loads.seconds += seconds
            loads.last = time.time()
            if reason:
                loads.failed += 1
            else:
                loads.loaded += 1

    def changed(self, catalog: "Catalog") -> None:
        """A subscriber to the table of models: metrics of removed versions are dropped after KEPT_SECONDS."""
        from kanserve.serve.models.loader import NOT_ASKED, UNLOADED

        with self._lock:
            before = self._catalog.models if self._catalog is not None else {}
            for name, versions in catalog.models.items():
                had = before.get(name, versions)
                for version in () if had is versions else versions:
                    if had.get(version) is not versions[version]:
                        self._outside.pop((name, version), None)  # the new content may have other features
            self._catalog = catalog
            # A version that is deliberately not loaded does not count as refused.
            self._refused = [list(key) for key, why in catalog.reasons.items() if why not in (NOT_ASKED, UNLOADED)]
            self._forget()

    def snapshot(self) -> "Snapshot":
        """The current metrics of this process."""
        here = {"worker": self._worker, **usage()}
        gauges, computing = dict(self.gauges()), self.computing()
        native, refusals = list(self.native()), self.refusals()
        with self._lock:
            self._forget()
            # `last` is on a monotonic clock; convert it to wall-clock time.
            ahead = time.time_ns() - time.perf_counter_ns()
            snapshot: dict[str, Any] = {
                "processes": [here],
                "gauges": gauges,
                "calls": [
                    {
                        "of": list(key),
                        "rows": call.rows,
                        "last": (call.last + ahead) // 1_000_000,
                        "nanoseconds": list(call.nanoseconds),
                        "buckets": [list(stage) for stage in call.buckets],
                    }
                    for key, call in self._calls.items()
                ],
                "outside": [
                    {"of": list(key), "features": self._features(*key, len(counts)), "rows": counts.tolist()}
                    for key, counts in self._outside.items()
                ],
                "loads": [
                    {
                        "of": [model],
                        "loaded": load.loaded,
                        "failed": load.failed,
                        "seconds": load.seconds,
                        "last": load.last,
                    }
                    for model, load in self._loads.items()
                ],
                "models": self._models(),
                "inputs": self._inputs(),
                "coverage": self._coverage(),
                "computing": self._computing(computing),
                "refused": list(self._refused),
                "restarts": 0,
            }
            calls = [
                {
                    "of": [*key, "OK"],
                    **series,
                    "last": (series["last"] + ahead) // 1_000_000,
                }
                for key, series, _ in native
                if count(series)
            ]
            calls += [_refuse_calls(code, number) for code, number in refusals.items() if number]
            outside = [
                {"of": [name, version], "features": self._features(name, version, len(rows)), "rows": rows.tolist()}
                for (_, _, name, version), _, rows in native
                if rows is not None
            ]
        snapshot["calls"] = _add([snapshot["calls"], calls])
        snapshot["outside"] = _add([snapshot["outside"], outside])
        return snapshot

    def _new(self, key: Key) -> _Series:
        service, method, model, _, code = key
        if model and len(self._calls) >= MOST_SERIES:
            return self._calls.get((service, method, "", 0, code)) or self._new((service, method, "", 0, code))
        series = self._calls[key] = _Series()
        return series

    def _add_outside(self, key: tuple[str, int], counts: "NDArray[np.intp]") -> None:
        known = self._outside.get(key)
        if known is not None and len(known) == len(counts):
            known += counts
        elif known is not None or len(self._outside) < MOST_SERIES:  # another length: a late call of replaced content
            self._outside[key] = counts.copy()

    def _features(self, model: str, version: int, count: int) -> list[str]:
        """The names of a version's inputs; empty if it is gone, or was replaced by one with more or fewer inputs."""
        loaded = self._catalog.models.get(model, {}).get(version) if self._catalog else None
        names = [variable.name for variable in loaded.kan.inputs] if loaded else []
        return names if len(names) == count else []

    def _models(self) -> list[dict[str, Any]]:
        if self._catalog is None:
            return []
        return [
            {"of": [name, version, model.kind], "ready": 1}
            for name, versions in self._catalog.models.items()
            for version, model in versions.items()
        ]

    def _inputs(self) -> list[dict[str, Any]]:
        """For each version, the latest rows in the bins of its training rows (`drift.measure_drift`)."""
        counted = []
        for name, versions in self._catalog.models.items() if self._catalog is not None else ():
            for version, model in versions.items():
                if model.inputs.block_rows:
                    rows, counts = model.inputs.total()
                    counted.append(
                        {
                            "of": [name, version, len(counts)],
                            "features": [variable.name for variable in model.kan.inputs],
                            "expected": [list(variable.bin_counts) for variable in model.kan.inputs],
                            "rows": rows,
                            "counts": counts.tolist(),
                        }
                    )
        return counted

    def _coverage(self) -> list[dict[str, Any]]:
        """For each version and interval, the measured values that came back, and how many of them are within it."""
        return [
            {"of": [name, version, level], "values": values, "covered": covered}
            for name, versions in (self._catalog.models.items() if self._catalog is not None else ())
            for version, model in versions.items()
            for level, (values, covered) in model.coverage.total().items()
        ]

    def _computing(self, now: Mapping[str, int]) -> list[dict[str, Any]]:
        """The number of requests being computed, for each loaded model, and for unloaded ones with requests left."""
        names = dict.fromkeys((*(self._catalog.models if self._catalog else ()), *now))
        return [{"of": [name], "requests": now.get(name, 0)} for name in names]

    def _forget(self) -> None:
        """Drop the metrics of versions that were removed long ago."""
        if self._catalog is None:
            return
        now, models = time.monotonic(), self._catalog.models
        # Calls that load or unload a whole model have version 0.
        there = {(name, version) for name, versions in models.items() for version in (0, *versions)}
        counted = {(key[2], key[3]) for key in self._calls if key[2]} | self._outside.keys()
        self._gone = {key: self._gone.get(key, now) for key in counted - there}
        old = {key for key, since in self._gone.items() if now - since > KEPT_SECONDS}
        if old:
            self._calls = {key: call for key, call in self._calls.items() if (key[2], key[3]) not in old}
            self._outside = {key: counts for key, counts in self._outside.items() if key not in old}


def _refuse_calls(code: str, number: int) -> dict[str, Any]:
    """A series for calls that the native transport refused before their model was known; they take microseconds."""
    buckets = [[number, *[0] * (_BUCKETS - 1)] for _ in STAGES]
    of = [_INFERENCE_SERVICE, "ModelInfer", "", 0, code]
    return {"of": of, "rows": 0, "last": 0, "nanoseconds": [0] * len(STAGES), "buckets": buckets}


def merge(snapshots: "Iterable[Snapshot]") -> "Snapshot":
    """Merge the snapshots of several processes: counts are added, the latest time is kept. Snapshots that have `ended`
    keep only versions that a running process still has."""
    all_of = _without_gone(list(snapshots))
    gauges: dict[str, float] = {}
    for snapshot in all_of:
        for name, value in snapshot["gauges"].items():
            gauges[name] = gauges.get(name, 0) + value
    refused = dict.fromkeys(tuple(key) for snapshot in all_of for key in snapshot["refused"])
    return {
        "processes": [process for snapshot in all_of for process in snapshot["processes"]],
        "gauges": gauges,
        **{name: _add(snapshot[name] for snapshot in all_of) for name in _ADDED},
        "refused": list(map(list, refused)),
        "restarts": sum(snapshot["restarts"] for snapshot in all_of),
    }


_ADDED = ("calls", "outside", "loads", "models", "inputs", "coverage", "computing")
_OF_VERSIONS = ("calls", "outside", "models")


def _version(entry: Mapping[str, Any]) -> tuple[str, int]:
    """The model and version of an entry of a snapshot."""
    of = entry["of"]
    return (of[2], of[3]) if "buckets" in entry else (of[0], of[1])


def _without_gone(snapshots: "list[Snapshot]") -> "list[Snapshot]":
    """The snapshots; those of ended processes keep only versions that a running process still has."""
    running = [snapshot for snapshot in snapshots if snapshot["processes"]]
    if not running:
        return snapshots
    known = {_version(entry) for snapshot in running for of in _OF_VERSIONS for entry in snapshot[of]}
    known |= {(name, 0) for name, _ in known} | {("", 0)}
    return [snapshot if snapshot["processes"] else _only(snapshot, known) for snapshot in snapshots]


def _only(snapshot: "Snapshot", known: set[tuple[str, int]]) -> "Snapshot":
    """Restrict a snapshot to these versions."""
    return {
        **snapshot,
        **{of: [entry for entry in snapshot[of] if _version(entry) in known] for of in ("calls", "outside")},
    }


def keep_counters(snapshot: "Snapshot") -> "Snapshot":
    """What is kept of an ended process: its counters, but not gauges or states."""
    states: tuple[str, ...] = ("processes", "models", "inputs", "coverage", "computing", "refused")
    return {**snapshot, "gauges": {}, **{name: [] for name in states}}


def statistics(
    snapshot: "Snapshot", catalog: "Catalog", request: "pb.ModelStatisticsRequest"
) -> "pb.ModelStatisticsResponse":
    """Inference statistics (ModelInfer, and each request of a ModelStreamInfer) of one version, all versions of a
    model, or all models. Raises NotFoundError for one that is not loaded."""
    from kanserve.inference import grpc_service_pb2 as pb
    from kanserve.serve.methods import METHODS, Turn

    predicting = {method.name for method in METHODS if method.turn is Turn.PREDICTS}
    if request.version or "@" in request.name:
        models = [catalog.find(request.name, request.version)]
    elif request.name:
        models = list(catalog.models[catalog.find(request.name).name].values())
    else:
        models = [version for versions in catalog.models.values() for version in versions.values()]
    inferences: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for series in snapshot["calls"]:
        if series["of"][1] in predicting:
            inferences.setdefault((series["of"][2], series["of"][3]), []).append(series)
    made = [_statistics(model.name, model.version, inferences.get((model.name, model.version), [])) for model in models]
    return pb.ModelStatisticsResponse(model_stats=made)


def measure_drift(entry: Mapping[str, Any]) -> Iterator[InputDrift]:
    """The drift of each input of a version, by its entry in a snapshot; none without bins of training rows."""
    rows = entry["rows"]
    for name, expected, counts in zip(entry["features"], entry["expected"], entry["counts"], strict=True):
        if expected:
            *bins, missing, outside = counts
            now = [*bins[: len(expected) - 1], missing]  # as the last of the expected counts
            yield InputDrift(name, rows, *stability_index(expected, now), outside / rows if rows else 0.0)


_DURATIONS = {  # the protocol's names; cache_hit and cache_miss stay empty: nothing is cached
    "queue": "queue",
    "decode": "compute_input",
    "compute": "compute_infer",
    "encode": "compute_output",
    "total": "success",
}


def _statistics(name: str, version: int, series: list[Mapping[str, Any]]) -> "pb.ModelStatistics":
    from kanserve.inference import grpc_service_pb2 as pb

    answered = [entry for entry in series if entry["of"][4] == "OK"]
    failed = [entry for entry in series if entry["of"][4] != "OK"]
    made = pb.ModelStatistics(
        name=name,
        version=str(version),
        last_inference=max((entry["last"] for entry in answered), default=0),
        inference_count=sum(entry["rows"] for entry in answered),
        execution_count=sum(map(count, answered)),
    )
    for stage, (of, field) in enumerate(_DURATIONS.items()):
        assert STAGES[stage] == of
        duration = getattr(made.inference_stats, field)
        duration.count = made.execution_count
        duration.ns = sum(entry["nanoseconds"][stage] for entry in answered)
    made.inference_stats.fail.count = sum(map(count, failed))
    made.inference_stats.fail.ns = sum(entry["nanoseconds"][-1] for entry in failed)
    return made


def count(series: Mapping[str, Any]) -> int:
    """The number of calls in a series of a snapshot."""
    return sum(series["buckets"][-1])


_LATEST = ("last",)
_SAME = ("of", "features", "expected")


def _add(lists: Iterable[Iterable[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """Merge entries with the same key."""
    made: dict[Hashable, dict[str, Any]] = {}
    for entries in lists:
        for entry in entries:
            known = made.setdefault(tuple(entry["of"]), {})
            for name, value in entry.items():
                if name not in known or name in _SAME:
                    known[name] = known.get(name) or value  # only processes that have the version know its features
                elif name in _LATEST:
                    known[name] = max(known[name], value)
                else:
                    known[name] = _sum(known[name], value)
    return list(made.values())


def _sum(a: Any, b: Any) -> Any:
    """The sum of numbers, elementwise for (nested) lists."""
    if isinstance(a, list):
        return [_sum(x, y) for x, y in zip(a, b, strict=True)]
    return a + b
