"""`kanserve export --check`: measure size, agreement with the reference and speed of each exported format."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve import runtime
from kanserve.errors import FormatError, MissingDependencyError, NotFoundError
from kanserve.network.encoding import encodes
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import Precision
from kanserve.network.kan import Kan
from kanserve.network.rounding_error import rounding, scale
from kanserve.network.training_range import corners, sample
from kanserve.runtime.backend import tolerance

Array = NDArray[np.float64]

ROWS = 1000
_LEAST_ROWS = 64
_EDGE_VALUES = 2**25  # that the reference evaluation may hold at once; so wide layers get fewer rows
_SECONDS = {1: 0.2, 1024: 0.5}  # of CPU time for each batch
_CALLS = 5  # at least, so that there is a median
_TICK = 1e-3  # seconds of a timed group of calls: far above the clock's resolution


@dataclass(frozen=True)
class Sample:
    """Test rows from the training ranges and their corners, some with NaN, the last with no finite output; with
    reference outputs and allowed errors."""

    x: Array
    y: Array
    allowed: Array
    size: Array  # (N, outputs), the scale of errors

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Mask (N,) of the rows whose outputs stay finite under rounding; elsewhere correct evaluations may differ."""
        fine: NDArray[np.bool_] = np.isfinite(np.concatenate([self.y, self.allowed], axis=1)).all(axis=1)
        return fine


@dataclass(frozen=True)
class Agreement:
    """Errors relative to the output's scale; `allowed` is the bound at the largest error."""

    largest: float
    mean: float
    allowed: float
    agrees: bool


def sample_of(kan: Kan, precision: Precision) -> Sample:
    """The rows on which every format is compared."""
    widest = max(layer.subnodes * layer.inputs for layer in kan.layers)
    count = max(_LEAST_ROWS, min(ROWS, _EDGE_VALUES // widest))
    x = np.concatenate([sample(kan, count), corners(kan, max(_LEAST_ROWS, count // 4))])
    if encodes(kan):
        x = np.concatenate([x, np.where(np.eye(x.shape[1], dtype=bool), np.nan, x[:1])])
    broken = np.inf if encodes(kan) else np.nan
    x = np.concatenate([x, np.where(np.arange(x.shape[1]) == 0, broken, x[:1])])
    y = evaluate(kan, x)
    # Where rounding decides whether an output is finite, nothing is compared.
    steady = np.isfinite(rounding(kan, x, precision))
    return Sample(x, y, np.where(steady, tolerance(kan, x, y, precision), np.nan), scale(y))


def agreement(given: Sample, got: NDArray[Any]) -> Agreement:
    """Compare outputs (N, outputs) with the reference."""
    rows = given.judged
    # Of the rows without a finite output, only the last, with its NaN or infinity, certainly has none.
    agrees = got.shape == given.y.shape and bool(np.isnan(got[-1]).all())
    if not agrees or not rows.any():
        return Agreement(np.nan, np.nan, np.nan, agrees)
    size = np.where(given.size > 0, given.size, 1.0)[rows]
    with np.errstate(all="ignore"):
        error = np.abs(got[rows].astype(np.float64) - given.y[rows])
    error = np.where(np.isnan(error), np.inf, error)
    part = error / size
    worst = np.unravel_index(int(part.argmax()), part.shape)
    agrees = bool((error <= given.allowed[rows]).all())
    return Agreement(float(part.max()), float(part.mean()), float((given.allowed[rows] / size)[worst]), agrees)


def check(kan: Kan, files: Mapping[str, bytes], formats: Sequence[str], precision: Precision) -> list[dict[str, Any]]:
    """A row for each format: bytes of all files (libraries included), errors, rows per second of CPU time; `agrees` is
    None if nothing here can run it."""
    given = sample_of(kan, precision)
    rows = []
    for name in formats:
        own = {path.removeprefix(f"{name}/"): data for path, data in files.items() if path.startswith(f"{name}/")}
        row: dict[str, Any] = {"format": name, "bytes": sum(map(len, own.values()))}
        rows.append({**row, **_measure(name, own, given)})
    return rows


def _measure(name: str, files: Mapping[str, bytes], given: Sample) -> dict[str, Any]:
    empty = dict.fromkeys(("largest error", "mean error", "allowed", "agrees", "rows/s at 1", "rows/s at 1024"))
    if name not in runtime.names():
        return {**empty, "rows": 0, "note": "kanserve has no backend that runs it"}
    try:
        backend = runtime.get(name).load(files)
    except (MissingDependencyError, NotFoundError, FormatError) as error:
        return {**empty, "rows": 0, "note": f"not run: {error}"}
    found = agreement(given, backend.predict(given.x))
    speeds = {f"rows/s at {batch}": rows_per_second(backend, given.x, batch) for batch in _SECONDS}
    return {
        "largest error": found.largest,
        "mean error": found.mean,
        "allowed": found.allowed,
        "agrees": found.agrees,
        **speeds,
        "rows": int(given.judged.sum()),
        "note": "" if found.agrees else "disagrees with the network",
    }


def rows_per_second(backend: runtime.Backend, x: Array, batch: int) -> int:
    """The median over short groups of calls, in CPU time, so that other load on the machine does not count."""
    rows = np.resize(x[np.isfinite(x).all(axis=1)], (batch, x.shape[1])).astype(backend.dtype)
    calls = 1
    backend.predict(rows)
    while (spent := _time_predictions(backend, rows, calls)) < _TICK:
        calls *= 2
    times = [spent]
    while len(times) < _CALLS or sum(times) < _SECONDS[batch]:
        times.append(_time_predictions(backend, rows, calls))
    return round(batch * calls / float(np.median(times)))


def _time_predictions(backend: runtime.Backend, rows: NDArray[Any], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        backend.predict(rows)
    return time.process_time() - start
