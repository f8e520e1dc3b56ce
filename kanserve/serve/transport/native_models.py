"""The loaded models of the native transport: which ones it answers for itself, and what it has counted."""

import gzip
import time
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.serve.models.catalog import Catalog, Model
from kanserve.serve.models.input_counts import InputCounts
from kanserve.serve.models.routes import DRAWS
from kanserve.serve.rpc.inference_service import at_once
from kanserve.serve.rpc.range_violations import bounds, encodings
from kanserve.serve.settings import Settings
from kanserve.serve.transport.native_library import (
    BUCKETS,
    COUNT_BLOCK,
    COUNT_BUCKETS,
    COUNT_LAST,
    COUNT_NANOSECONDS,
    COUNT_OUTSIDE,
    COUNT_ROWS,
    STAGES,
    ServedModel,
)

_GZIP_FROM = 1024  # bytes of an answer, from which it is kept compressed as well
_IN_USE = 300.0  # seconds in which a call may still count towards a model that was replaced

Counters = NDArray[np.int64]
Key = tuple[str, int]


@dataclass
class _Counted:
    """The counters of one loaded version, written by the loop."""

    key: Key
    counters: Counters
    inputs: InputCounts
    retired: float = 0.0  # when it was replaced; 0: it is current


class NativeModels:
    """Publishes each catalog to the loop of `server`, and reads its counters."""

    def __init__(self, library: Any, server: int, settings: Settings) -> None:
        self._library, self._server, self._settings = library, server, settings
        self._lock = Lock()
        self._by_number: dict[int, Model] = {}
        self._replaced: dict[int, Model] = {}  # whose rows may still be in the queue
        self._counted: dict[int, _Counted] = {}  # by the number of a load
        self._computing: dict[str, Counters] = {}  # by name, of all versions
        # Answers to GetFormula, and the same compressed if that is worth it, by the number of a load.
        self._formulas: dict[int, tuple[bytes, bytes | None]] = {}
        self._before: dict[Key, Counters] = {}  # of loads that nothing uses any more
        self._entries: dict[int, tuple[ServedModel, Any]] = {}  # by the number of a load; what must live as long
        # The loads in the loop's table, each with the draws that it answers and its aliases; None: it needs another.
        self._show: list[tuple[int, int, bytes]] | None = None
        self._ended = False

    def find(self, number: int) -> Model | None:
        """The model of rows that the loop has handed out, if it is still loaded."""
        return self._by_number.get(number) or self._replaced.get(number)

    def forget_replaced(self) -> None:
        """Release replaced models once none of their rows is in the queue."""
        if self._replaced and self._library.queued(self._server) == 0 and self._lock.acquire(blocking=False):
            try:  # nothing was replaced meanwhile, as the lock is ours
                if self._library.queued(self._server) == 0:
                    self._replaced = {}
            finally:
                self._lock.release()

    def publish(self, catalog: Catalog) -> None:
        """Let the loop answer for these models; returns once it uses no others."""
        with self._lock:
            models = list(_show(catalog))
            shown = [(model.number, draws, aliases) for model, draws, aliases in models]
            if self._ended or shown == self._show:
                return
            by_number = {model.number: model for model, _, _ in models}
            table = (ServedModel * max(len(models), 1))()
            for place, (model, draws, aliases) in enumerate(models):
                table[place] = self._entry(model, draws, aliases)
            self._by_number = {**self._by_number, **by_number}
            formulas = self._formulas
            self._formulas = {number: formula for number, formula in formulas.items() if number in by_number}
            self._library.publish(self._server, table, len(models))
            self._show = shown
            self._entries = {number: entry for number, entry in self._entries.items() if number in by_number}
            del formulas  # the loop used them until now
            self._replaced = {**self._replaced, **{n: m for n, m in self._by_number.items() if n not in by_number}}
            self._by_number = by_number
            if self._library.queued(self._server) == 0:
                self._replaced = {}
            self._retire({number: counted for number, counted in self._counted.items() if number not in by_number})

    def _retire(self, gone: dict[int, _Counted]) -> None:
        """Release the counters of these loads once nothing uses them any more."""
        now = time.monotonic()
        for number, counted in gone.items():
            counted.retired = counted.retired or now
            if now - counted.retired > _IN_USE:
                del self._counted[number]
                self._add(counted)

    def keep_formula(self, catalog: Catalog, model: Model, answer: bytes) -> None:
        """Let the loop answer GetFormula with this from now on, if the model is still current."""
        smaller = gzip.compress(answer, mtime=0) if len(answer) >= _GZIP_FROM else None
        with self._lock:
            if model.number in self._formulas or self._by_number.get(model.number) is not model:
                return
            self._formulas[model.number] = answer, smaller
            self._show = None
        self.publish(catalog)

    def end(self) -> None:
        """Stop publishing: the loop is about to end."""
        with self._lock:
            self._ended = True

    def counts(self, names: dict[Key, int]) -> Iterator[tuple[Key, Counters, bool]]:
        """For each load, its key, its counters, and whether it is the current load. Also the counters of retired
        loads, as long as their key is in `names`; others are dropped."""
        with self._lock:
            for number, counted in self._counted.items():
                yield counted.key, counted.counters.copy(), number in self._by_number
            for key, counters in list(self._before.items()):
                if key not in names:
                    del self._before[key]
                else:
                    yield key, counters.copy(), False

    def _add(self, counted: _Counted) -> None:
        calls = counted.counters[:COUNT_OUTSIDE]
        before = self._before.get(counted.key)
        if before is None:
            self._before[counted.key] = calls.copy()
            return
        lasts = slice(COUNT_LAST, None, COUNT_BLOCK)
        latest = np.maximum(before[lasts], calls[lasts])
        before += calls
        before[lasts] = latest

    def _entry(self, model: Model, draws: int, aliases: bytes) -> ServedModel:
        """The record of a model for the loop."""
        if model.number not in self._entries:
            described = ServedModel()
            self._entries[model.number] = described, self._describe(described, model)
        entry, _ = self._entries[model.number]
        entry.draws_below, entry.aliases, entry.alias_count = draws, aliases, aliases.count(b"\0")
        if model.number in self._formulas:
            formula, smaller = self._formulas[model.number]
            entry.formula, entry.formula_length = formula, len(formula)
            if smaller is not None:
                entry.formula_gzip, entry.formula_gzip_length = smaller, len(smaller)
        return entry

    def _describe(self, entry: ServedModel, model: Model) -> tuple[Any, ...]:
        """Fill in the record. Returns the objects that must stay alive until it is copied."""
        inputs = len(model.kan.inputs)
        counted = self._counted.get(model.number)
        if counted is None:
            counters = np.zeros(COUNT_OUTSIDE + inputs, np.int64)
            counted = self._counted[model.number] = _Counted((model.name, model.version), counters, model.inputs)
        entry.name, entry.version = model.name.encode(), model.version
        entry.number = model.number
        entry.predict = getattr(model.backend, "predict_address", None)
        chain = getattr(model.backend, "chain", None)
        if chain is not None:
            entry.chain, entry.kernels, entry.kernel_count = chain.addresses
            entry.chained = model.backend.chained  # type: ignore[attr-defined]  # it has a chain
        entry.inputs, entry.outputs = inputs, len(model.kan.outputs)
        entry.single = model.backend.dtype == np.float32
        entry.classes = len(model.kan.classes)
        entry.max_rows = model.max_rows
        labels = b"".join(label + b"\0" for label in model.labels[:-1])
        entry.labels = labels
        ends = [bounds(model, datatype) for datatype in ("FP64", "FP32")]
        arrays = []
        for place, end in enumerate(ends):
            for field, values in ((entry.low, end.low), (entry.high, end.high)):
                array = np.ascontiguousarray(values)
                arrays.append(array)
                field[place] = array.ctypes.data
        entry.encodings = known = encodings(model)
        entry.counters = counted.counters.ctypes.data
        entry.edges, entry.input_blocks = model.inputs.edges.ctypes.data, model.inputs.loop_blocks.ctypes.data
        entry.block_rows = model.inputs.block_rows
        entry.computing = self._computing.setdefault(model.name, np.zeros(1, np.int64)).ctypes.data
        entry.concurrency = at_once(self._settings, model.name)
        entry.cost.nanoseconds = _first_guess(model)
        entry.gradient_cost.nanoseconds = 4 * entry.cost.nanoseconds
        if getattr(model.backend, "differentiates", False):
            entry.gradient = model.backend.gradient_address  # type: ignore[attr-defined]  # it has derivatives
        entry.max_gradient_rows = model.max_differentiated_rows
        return labels, arrays, known


def _show(catalog: Catalog) -> Iterator[tuple[Model, int, bytes]]:
    """The models that the loop answers for: each with the draws below which it answers requests without a version, by
    which those of a name are in order, and with its aliases as C reads them."""
    for name, versions in catalog.models.items():
        ends = {version: end for end, version in catalog.shares.get(name) or [(DRAWS, max(versions))]}
        named = catalog.routes[name].aliases if name in catalog.routes else {}
        shown = [
            version
            for version in sorted(versions, key=lambda version: ends.get(version, 0))
            if not any(b"\0" in label for label in versions[version].labels)  # C takes it for the end of the text
        ]
        if not all(version in shown for version in ends):  # Python draws, of all versions
            ends = {}
        for version in shown:
            aliases = b"".join(f"{name}@{alias}\0".encode() for alias, means in named.items() if means == version)
            yield versions[version], ends.get(version, 0), aliases


def _first_guess(model: Model) -> float:
    """Nanoseconds per row until measured: one per edge, which is more than most models take."""
    return float(sum(layer.subnodes * layer.inputs for layer in model.kan.layers)) + 100.0


def as_series(counters: Counters) -> dict[str, Any]:
    """Counters of one kind of call as an entry of a metrics snapshot, without labels."""
    buckets = counters[COUNT_BUCKETS:COUNT_BLOCK].reshape(STAGES, BUCKETS)
    return {
        "rows": int(counters[COUNT_ROWS]),
        "last": int(counters[COUNT_LAST]),
        "nanoseconds": counters[COUNT_NANOSECONDS:COUNT_BUCKETS].tolist(),
        "buckets": buckets.tolist(),
    }
