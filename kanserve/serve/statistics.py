"""What each model has answered, as ModelStatistics reports it. The one thing here that changes with every request."""

import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from kanserve.inference import grpc_service_pb2 as pb
from kanserve.serve.inference import Execution
from kanserve.serve.models import Catalog, Model

Duration = Literal["success", "fail", "queue", "compute_input", "compute_infer", "compute_output"]
_DURATIONS: tuple[Duration, ...] = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


@dataclass
class _Counts:
    rows: int = 0
    last: int = 0
    calls: dict[Duration, int] = field(default_factory=lambda: dict.fromkeys(_DURATIONS, 0))
    nanoseconds: dict[Duration, int] = field(default_factory=lambda: dict.fromkeys(_DURATIONS, 0))


class Statistics:
    """Counts since the start, for each version of each model; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, int], _Counts] = {}

    def succeeded(self, execution: Execution, queued: int) -> None:
        """Count an inference that waited `queued` nanoseconds for a thread."""
        parts: dict[Duration, int] = {
            "queue": queued,
            "compute_input": execution.read,
            "compute_infer": execution.computed,
            "compute_output": execution.written,
        }
        parts["success"] = sum(parts.values())
        with self._lock:
            counts = self._of(execution.model)
            counts.rows += execution.rows
            counts.last = time.time_ns() // 1_000_000
            self._add(counts, parts)

    def failed(self, model: Model, took: int) -> None:
        """Count an inference that was refused, or broke off, after `took` nanoseconds."""
        with self._lock:
            self._add(self._of(model), {"fail": took})

    def report(self, catalog: Catalog, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Of one version, of every version of a model, or of all of them; NotFoundError for one that is not loaded."""
        if request.version:
            models = [catalog.find(request.name, request.version)]
        elif request.name:
            models = list(catalog.models[catalog.find(request.name).name].values())
        else:
            models = [one for versions in catalog.models.values() for one in versions.values()]
        with self._lock:
            return pb.ModelStatisticsResponse(model_stats=[_message(one, self._of(one)) for one in models])

    def _of(self, model: Model) -> _Counts:
        return self._counts.setdefault((model.name, model.version), _Counts())

    @staticmethod
    def _add(counts: _Counts, parts: dict[Duration, int]) -> None:
        for name, took in parts.items():
            counts.calls[name] += 1
            counts.nanoseconds[name] += took


def _message(model: Model, counts: _Counts) -> pb.ModelStatistics:
    durations = {
        name: pb.StatisticDuration(count=counts.calls[name], ns=counts.nanoseconds[name]) for name in _DURATIONS
    }
    return pb.ModelStatistics(
        name=model.name,
        version=str(model.version),
        last_inference=counts.last,
        inference_count=counts.rows,
        execution_count=counts.calls["success"],
        inference_stats=pb.InferStatistics(**durations),
    )
