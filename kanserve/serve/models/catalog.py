"""The loaded models: an immutable catalog, which `loader` replaces as a whole when something changes.

A request looks up its model once, so that one version answers it from beginning to end.
"""

import itertools
import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.artifact.format import Artifact, Manifest, read_json
from kanserve.artifact.naming_rules import FORMULA, check_version
from kanserve.errors import DataError, FormatError, FormulaError, NotFoundError
from kanserve.network.kan import Kan
from kanserve.network.shapley_values import estimate_work
from kanserve.runtime import Backend, load_backend, load_preferred
from kanserve.runtime.backend import forget_files
from kanserve.serve.models.coverage_counts import CoverageCounts
from kanserve.serve.models.input_counts import InputCounts
from kanserve.serve.models.routes import Routes, draw, shares
from kanserve.serve.settings import Settings

if TYPE_CHECKING:
    from kanserve.network.signal_shares import SignalShares

Array = NDArray[np.float64]
State = Literal["READY", "LOADING", "UNAVAILABLE", "UNLOADING"]
Key = tuple[str, int]  # a model's name and a version

MAX_DIFFERENTIATED_ROWS = 8192
# Of nodes and edges, in a request of contributions: 2 to 15 seconds, and 100 rows of [30, 25, 1]. A row of
# [784, 64, 10] would take three times as many.
EXPLAINED_VALUES = 2**26
VALUES_AT_A_TIME = 2**22  # of the reference evaluation, which holds a number for each row and edge of a layer

_SAMPLES = 500  # rows from which the shares of the edges and the ranges of the nodes are estimated


KEPT_BYTES = 2**24  # of one version; beyond that the answers that were asked for the longest time ago are built anew


if TYPE_CHECKING:
    from kanserve.formula import Formula
    from kanserve.formula.constants.uncertainty_report import Evidence

# Of formula.json; ten times as many took a second to read. Those of a larger file, which only older versions of
# kanserve wrote, are not given: nobody reads them, and they are larger than a message.
MOST_BYTES = 2**22


class LazyFormulas:
    """The formulas of a network's outputs and their evidence, stored compressed and parsed on demand. Raises
    FormatError at once if formula.json is invalid or of other outputs. A file over MOST_BYTES is ignored."""

    def __init__(self, artifact: Artifact, kan: Kan) -> None:
        data = artifact.files[FORMULA]
        self.edges = kan.edges
        self.size = len(data)  # of the file, and about that of an answer with all formulas
        self._packed = b""
        if len(data) > MOST_BYTES:
            return
        value = read_json(data, FORMULA)
        try:
            known = value.get("evidence", [])
            formulas, _ = _formulas(value), _evidence(value)
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"These are not kanserve formulas: {type(error).__name__}.") from None
        if [formula.name for formula in formulas] != [output.name for output in kan.outputs]:
            raise FormatError("The formulas are not those of the network's outputs. Compile the model again.")
        if not isinstance(known, list) or len(known) not in (0, len(kan.outputs)):
            raise FormatError(f"The evidence of {FORMULA} must have one entry for each output.")
        if all(formula.tree for formula in formulas):
            self._packed = zlib.compress(data, 1)

    def read(self) -> "tuple[tuple[Formula, ...], tuple[Evidence, ...]]":
        """The formulas and the evidence for each, if any. Raises FormulaError if the network is too large for any."""
        if not self._packed:
            raise FormulaError(
                f"The network has {self.edges} edges: its formulas are too large to be read. Simplify it first."
            )
        value = read_json(zlib.decompress(self._packed), FORMULA)
        return _formulas(value), _evidence(value)


def _formulas(value: dict[str, Any]) -> "tuple[Formula, ...]":
    from kanserve.formula import from_json

    return from_json(value["formulas"])


def _evidence(value: dict[str, Any]) -> "tuple[Evidence, ...]":
    from kanserve.formula.constants import uncertainty_report

    return tuple(uncertainty_report.from_json(entry) for entry in value.get("evidence", []))


class PreparedAnswers:
    """Cached answers of one model version that do not depend on input rows, by request. Each is built once, however
    many callers wait for it. Thread-safe."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most = most_bytes
        self._lock = Lock()  # guards what follows
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()  # the latest asked for last
        self._building: dict[Hashable, Future[bytes]] = {}

    def get(self, asked: Hashable, build: Callable[[], bytes]) -> bytes:
        """The answer to `asked`. The first caller builds it while others wait; an error of `build` reaches them all."""
        with self._lock:
            if (answer := self._kept.get(asked)) is not None:
                self._kept.move_to_end(asked)
                return answer
            building = self._building.get(asked)
            if building is None:
                mine: Future[bytes] = Future()
                self._building[asked] = mine
        if building is not None:
            return building.result()
        try:
            answer = build()
        except BaseException as error:
            self._end(asked, None)
            mine.set_exception(error)
            raise
        self._end(asked, answer)
        mine.set_result(answer)
        return answer

    def _end(self, asked: Hashable, answer: bytes | None) -> None:
        with self._lock:
            del self._building[asked]
            if answer is not None:
                self._kept[asked] = answer
                while sum(map(len, self._kept.values())) > self._most:
                    self._kept.popitem(last=False)


@dataclass(frozen=True)
class Limits:
    """Limits of one request, and of the concurrent requests of one model."""

    max_rows: int = Settings.max_rows
    max_message_bytes: int = Settings.max_message_bytes
    concurrency: int = Settings.concurrency
    drift_rows: int = Settings.drift_rows


@dataclass(frozen=True, eq=False)
class Model:
    """One version of a model, ready to answer; `kind` names its backend."""

    name: str
    version: int
    manifest: Manifest
    kan: Kan
    words: LazyFormulas
    backend: Backend
    kind: str
    limits: Limits = Limits()
    number: int = field(default_factory=itertools.count().__next__)  # unique for each load
    answers: PreparedAnswers = field(default_factory=PreparedAnswers, init=False)  # to what does not depend on rows
    inputs: InputCounts = field(init=False)
    coverage: CoverageCounts = field(default_factory=CoverageCounts, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", InputCounts(self.kan.inputs, self.limits.drift_rows))

    @property
    def concurrency(self) -> int:
        """The maximum number of requests computed at once."""
        return self.limits.concurrency

    @cached_property
    def max_rows(self) -> int:
        """The maximum rows of a request, such that neither request nor answer exceeds the message limit."""
        outputs = len(self.kan.outputs)
        row = 8 * max(len(self.kan.inputs), outputs)
        if self.kan.classes:  # scores, probabilities, and a label with its length
            row = max(row, 16 * outputs + 4 + max(len(label) for label in self.labels))
        return max(1, min(self.limits.max_rows, (self.limits.max_message_bytes - 2**16) // row))

    @cached_property
    def max_differentiated_rows(self) -> int:
        """Like `max_rows`, for requests of derivatives."""
        inputs, outputs = len(self.kan.inputs), len(self.kan.outputs)
        most = min(self.limits.max_rows, MAX_DIFFERENTIATED_ROWS)
        return max(1, min(most, (self.limits.max_message_bytes - 2**16) // (8 * (inputs + 1) * outputs)))

    @cached_property
    def max_hessian_rows(self) -> int:
        """Like `max_rows`, for requests of second derivatives; 0 if a single row of the answer, or of a layer on the
        way, is too large for a message."""
        inputs = len(self.kan.inputs)
        widest = max(len(self.kan.outputs), *(layer.subnodes for layer in self.kan.layers))
        row = 8 * widest * (inputs * inputs + inputs + 1)
        return min(self.limits.max_rows, MAX_DIFFERENTIATED_ROWS, (self.limits.max_message_bytes - 2**16) // row)

    @cached_property
    def max_explained_rows(self) -> int:
        """Like `max_rows`, for requests of contributions; 0 if a row would take longer than EXPLAINED_VALUES allow."""
        return min(self.max_differentiated_rows, EXPLAINED_VALUES // max(1, estimate_work(self.kan)))

    @cached_property
    def labels(self) -> tuple[bytes, ...]:
        """The class names as bytes, followed by the empty label of a row without a class."""
        return (*(class_name.encode() for class_name in self.kan.classes), b"")

    @cached_property
    def datatype(self) -> str:
        """The model's floating-point type, as named in the inference protocol."""
        return "FP32" if self.manifest.precision == "float" else "FP64"

    @cached_property
    def rows_at_a_time(self) -> int:
        """How many rows the reference evaluation may process at once."""
        inputs = len(self.kan.inputs)
        widest = max(layer.subnodes * max(layer.inputs, inputs) for layer in self.kan.layers)
        return max(1, VALUES_AT_A_TIME // widest)

    @property
    def _samples(self) -> int:
        return min(_SAMPLES, max(1, self.rows_at_a_time // 4))  # `finite_rows` tries four times as many

    @cached_property
    def shares(self) -> "SignalShares | None":
        """The shares of edges and nodes in the training range; None if the network is finite nowhere in it."""
        from kanserve.network.signal_shares import signal_shares
        from kanserve.network.training_range import finite_rows

        with suppress(DataError):
            return signal_shares(self.kan, finite_rows(self.kan, self._samples))
        return None

    @cached_property
    def spans(self) -> tuple[Array, ...]:
        """For each layer, the range (inputs, 2) of its inputs when the rows are in the training range."""
        from kanserve.network.encoding import without_encoding
        from kanserve.network.evaluate import activations
        from kanserve.network.training_range import finite_rows, ranges

        kan = self.kan
        raw = ranges(without_encoding(kan))
        first = np.sort((raw - kan.input_shift[:, None]) / kan.input_scale[:, None], axis=1)
        rows = finite_rows(kan, self._samples)
        if len(rows) == 0:
            return (first, *(np.tile([-1.0, 1.0], (layer.inputs, 1)) for layer in kan.layers[1:]))
        return (first, *(np.stack([v.min(axis=0), v.max(axis=0)], axis=1) for v in activations(kan, rows)[1:-1]))


@dataclass(frozen=True, eq=False)
class Catalog:
    """The models by name and version, oldest first, and the reason for each version that could not be loaded, even if
    an earlier load is still served. `changing`: versions being loaded or unloaded; `states`: all versions."""

    models: Mapping[str, Mapping[int, Model]]
    reasons: Mapping[Key, str]
    changing: Mapping[Key, State] = field(default_factory=dict)
    routes: Routes = field(default_factory=dict)

    @cached_property
    def shares(self) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """By the models of which several versions answer, the draws below which each does (`routes.shares`)."""
        found = {name: shares(route, self.models.get(name, {})) for name, route in self.routes.items()}
        return {name: ends for name, ends in found.items() if ends}

    @cached_property
    def states(self) -> Mapping[Key, State]:
        """The state of every known version, sorted."""
        states: dict[Key, State] = dict.fromkeys(self.reasons, "UNAVAILABLE")
        states |= self.changing
        states |= {(name, version): "READY" for name, versions in self.models.items() for version in versions}
        return MappingProxyType(dict(sorted(states.items())))

    @cached_property
    def contents(self) -> Mapping[Key, int]:
        """The load number of each version, which changes when the version is reloaded."""
        return {
            (name, version): model.number
            for name, versions in self.models.items()
            for version, model in versions.items()
        }

    def changed(
        self, news: Mapping[str, tuple[Mapping[int, Model], Mapping[Key, str]]], changing: Mapping[Key, State]
    ) -> "Catalog":
        """A copy with new versions and reasons for some models. The rest is shared: there may be thousands."""
        models = dict(self.models)
        reasons = {key: reason for key, reason in self.reasons.items() if key[0] not in news}
        for name, (versions, why) in news.items():
            reasons |= why
            if versions:
                models[name] = MappingProxyType(versions)
            else:
                models.pop(name, None)
        if models.keys() != self.models.keys():
            models = dict(sorted(models.items()))
        return Catalog(MappingProxyType(models), MappingProxyType(reasons), MappingProxyType(changing), self.routes)

    def find(self, name: str, version: str = "", request_id: str | None = None) -> Model:
        """Find a version of a model, by its number or as NAME@ALIAS. Raises NotFoundError, or InvalidNameError for an
        invalid version.

        By default the newest, or where there are weights the one with the largest; with the id of a request, which may
        be empty, the one that is drawn for it.
        """
        name, at, alias = name.partition("@")
        if at and not version:  # clients pin a version for the parts of a long request, whatever an alias means by then
            version = self._find_alias(name, alias)
        versions = self.models.get(name)
        if not version:
            if not versions:
                raise NotFoundError(self._unloaded_text(name))
            if ends := self.shares.get(name):
                drawn = 0 if request_id is None else draw(request_id)
                return versions[next(answers for end, answers in ends if drawn < end)]
            return versions[max(versions)]
        number = check_version(version)
        if versions and number in versions:
            return versions[number]
        if (name, number) in self.reasons:
            raise NotFoundError(f"Version {number} of {name!r} is not loaded: {self.reasons[name, number]}")
        if versions:
            loaded = ", ".join(map(str, list(versions)[-8:]))
            raise NotFoundError(f"There is no version {number} of {name!r}; loaded: {loaded}.")
        raise NotFoundError(self._unloaded_text(name))

    def _find_alias(self, name: str, alias: str) -> str:
        """The version that an alias stands for, as text."""
        aliases = self.routes[name].aliases if name in self.routes else {}
        if alias not in aliases:
            known = ", ".join(aliases) or "none"
            raise NotFoundError(f"There is no alias {alias!r:.80} of {name!r:.80}; there are: {known}.")
        return str(aliases[alias])

    def _unloaded_text(self, name: str) -> str:
        reasons = [reason for (failed, _), reason in sorted(self.reasons.items()) if failed == name]
        if reasons:
            return f"No version of {name!r} is loaded; reason for the newest: {reasons[-1]}"
        return f"There is no model {name!r:.80}."


def read(artifact: Artifact, name: str, version: int, backend: str = "", limits: Limits | None = None) -> Model:
    """Make the model of a verified artifact on the given backend, or the first that runs here, checked on its golden
    rows. Of the artifact's bytes, only the formulas are kept."""
    kan = artifact.kan()
    words = LazyFormulas(artifact, kan)
    kind, loaded = (backend, load_backend(artifact, backend)) if backend else load_preferred(artifact)
    forget_files(loaded)
    return Model(name, version, artifact.manifest, kan, words, loaded, kind, limits or Limits())
