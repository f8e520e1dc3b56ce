"""The loaded models: an immutable catalog, which `loader` replaces as a whole when something changes.

A request looks up its model once, so that one version answers it from beginning to end.
"""

import itertools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.artifact.format import Artifact, Manifest
from kanserve.artifact.naming_rules import check_version
from kanserve.errors import DataError, NotFoundError
from kanserve.network.kan import Kan
from kanserve.runtime import Backend, load_backend, load_preferred
from kanserve.runtime.backend import forget_files
from kanserve.serve.models.lazy_formulas import LazyFormulas
from kanserve.serve.models.prepared_answers import PreparedAnswers
from kanserve.serve.settings import Settings

if TYPE_CHECKING:
    from kanserve.network.signal_shares import SignalShares

Array = NDArray[np.float64]
State = Literal["READY", "LOADING", "UNAVAILABLE", "UNLOADING"]
Key = tuple[str, int]  # a model's name and a version

MAX_DIFFERENTIATED_ROWS = 8192
VALUES_AT_A_TIME = 2**22  # of the reference evaluation, which holds a number for each row and edge of a layer

_SAMPLES = 500  # rows from which the shares of the edges and the ranges of the nodes are estimated


@dataclass(frozen=True)
class Limits:
    """Limits of one request, and of the concurrent requests of one model."""

    max_rows: int = Settings.max_rows
    max_message_bytes: int = Settings.max_message_bytes
    concurrency: int = Settings.concurrency


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

    @property
    def concurrency(self) -> int:
        """The most requests that are computed at once."""
        return self.limits.concurrency

    @cached_property
    def max_rows(self) -> int:
        """The most rows of one request, such that neither the request nor the answer exceeds the message limit."""
        outputs = len(self.kan.outputs)
        row = 8 * max(len(self.kan.inputs), outputs)
        if self.kan.classes:  # scores, probabilities, and a label with its length
            row = max(row, 16 * outputs + 4 + max(len(label) for label in self.labels))
        return max(1, min(self.limits.max_rows, (self.limits.max_message_bytes - 2**16) // row))

    @cached_property
    def max_differentiated_rows(self) -> int:
        """The most rows of one request for derivatives, by the same rule."""
        inputs, outputs = len(self.kan.inputs), len(self.kan.outputs)
        most = min(self.limits.max_rows, MAX_DIFFERENTIATED_ROWS)
        return max(1, min(most, (self.limits.max_message_bytes - 2**16) // (8 * (inputs + 1) * outputs)))

    @cached_property
    def max_hessian_rows(self) -> int:
        """The most rows of one request for second derivatives; 0 if one row of the answer, or of a layer on the way
        there, would not fit into a message."""
        inputs = len(self.kan.inputs)
        widest = max(len(self.kan.outputs), *(layer.subnodes for layer in self.kan.layers))
        row = 8 * widest * (inputs * inputs + inputs + 1)
        return min(self.limits.max_rows, MAX_DIFFERENTIATED_ROWS, (self.limits.max_message_bytes - 2**16) // row)

    @cached_property
    def labels(self) -> tuple[bytes, ...]:
        """The names of the classes, then the empty label of a row without a class."""
        return (*(class_name.encode() for class_name in self.kan.classes), b"")

    @cached_property
    def datatype(self) -> str:
        """The floating-point type of the model, by its name in the inference protocol."""
        return "FP32" if self.manifest.precision == "float" else "FP64"

    @cached_property
    def rows_at_a_time(self) -> int:
        """How many rows the reference evaluation may take at once."""
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
        """For each layer, the range (inputs, 2) of its inputs for rows in the training range."""
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
    """The models by name and version, oldest first, and for each version that could not be loaded the reason, even if
    an earlier load of that version is still served.

    `changing` are the versions that are loading, or unloading until their last call ends; `states` has all versions.
    """

    models: Mapping[str, Mapping[int, Model]]
    reasons: Mapping[Key, str]
    changing: Mapping[Key, State] = field(default_factory=dict)

    @cached_property
    def states(self) -> Mapping[Key, State]:
        """The state of every known version, sorted."""
        states: dict[Key, State] = dict.fromkeys(self.reasons, "UNAVAILABLE")
        states |= self.changing
        states |= {(name, version): "READY" for name, versions in self.models.items() for version in versions}
        return MappingProxyType(dict(sorted(states.items())))

    @cached_property
    def contents(self) -> Mapping[Key, int]:
        """The load number of each version: it changes when the version is reloaded."""
        return {
            (name, version): model.number
            for name, versions in self.models.items()
            for version, model in versions.items()
        }

    def changed(
        self, news: Mapping[str, tuple[Mapping[int, Model], Mapping[Key, str]]], changing: Mapping[Key, State]
    ) -> "Catalog":
        """A copy with other versions and reasons for some models; the rest is shared, as there may be thousands."""
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
        return Catalog(MappingProxyType(models), MappingProxyType(reasons), MappingProxyType(changing))

    def find(self, name: str, version: str = "") -> Model:
        """A version of a model, by default the newest; NotFoundError, or InvalidNameError for an invalid version."""
        versions = self.models.get(name)
        if not version:
            if versions:
                return versions[max(versions)]
            raise NotFoundError(self._unloaded(name))
        number = check_version(version)
        if versions and number in versions:
            return versions[number]
        if (name, number) in self.reasons:
            raise NotFoundError(f"Version {number} of {name!r} is not loaded: {self.reasons[name, number]}")
        if versions:
            loaded = ", ".join(map(str, list(versions)[-8:]))
            raise NotFoundError(f"There is no version {number} of {name!r}; loaded: {loaded}.")
        raise NotFoundError(self._unloaded(name))

    def _unloaded(self, name: str) -> str:
        reasons = [reason for (failed, _), reason in sorted(self.reasons.items()) if failed == name]
        if reasons:
            return f"No version of {name!r} is loaded; reason for the newest: {reasons[-1]}"
        return f"There is no model {name!r:.80}."


def read(artifact: Artifact, name: str, version: int, backend: str = "", limits: Limits | None = None) -> Model:
    """The model of a verified artifact, on the given backend or the first that runs here, checked on its golden rows.

    Of the artifact's bytes, only the formulas are kept.
    """
    kan = artifact.kan()
    words = LazyFormulas(artifact, kan)
    kind, loaded = (backend, load_backend(artifact, backend)) if backend else load_preferred(artifact)
    forget_files(loaded)
    return Model(name, version, artifact.manifest, kan, words, loaded, kind, limits or Limits())
