"""The loaded models: an immutable catalog, made anew when something changes and then put in place whole (`loader`).

A request looks its model up once and keeps it, so that it is answered by one version from beginning to end.
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
from kanserve.serve.settings import Settings

if TYPE_CHECKING:
    from kanserve.formula import Formula
    from kanserve.formula.constants.uncertainty_report import Evidence
    from kanserve.network.importance import Importance

Array = NDArray[np.float64]
State = Literal["READY", "LOADING", "UNAVAILABLE", "UNLOADING"]
Key = tuple[str, int]  # a model's name and a version

MAX_DIFFERENTIATED_ROWS = 8192
VALUES_AT_A_TIME = 2**22  # of the reference, which holds a number for each row and edge of a layer

_SAMPLES = 500  # rows by which the shares of the edges and the ranges of the nodes are told


@dataclass(frozen=True)
class Limits:
    """What one request, and the requests of one model together, may take."""

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
    number: int = field(default_factory=itertools.count().__next__)  # another for each that is loaded

    @property
    def formulas(self) -> "tuple[Formula, ...]":
        """One for each output; FormatError when they are none."""
        return self.words.formulas

    @property
    def evidence(self) -> "tuple[Evidence, ...]":
        """What is known of each output's formula; an artifact of an older kanserve has none."""
        return self.words.evidence

    @property
    def concurrency(self) -> int:
        """The most requests that are computed at once."""
        return self.limits.concurrency

    @cached_property
    def max_rows(self) -> int:
        """The most rows of one request: neither they nor their answer are larger than a message may be."""
        outputs = len(self.kan.outputs)
        row = 8 * max(len(self.kan.inputs), outputs)
        if self.kan.classes:  # scores, probabilities, and a label with its length
            row = max(row, 16 * outputs + 4 + max(len(label) for label in self.labels))
        return max(1, min(self.limits.max_rows, (self.limits.max_message_bytes - 2**16) // row))

    @cached_property
    def max_differentiated_rows(self) -> int:
        """The most rows of one request for derivatives, likewise."""
        inputs, outputs = len(self.kan.inputs), len(self.kan.outputs)
        most = min(self.limits.max_rows, MAX_DIFFERENTIATED_ROWS)
        return max(1, min(most, (self.limits.max_message_bytes - 2**16) // (8 * (inputs + 1) * outputs)))

    @cached_property
    def labels(self) -> tuple[bytes, ...]:
        """The names of the classes, and at the end the empty one of a row that has none."""
        return (*(class_name.encode() for class_name in self.kan.classes), b"")

    @cached_property
    def datatype(self) -> str:
        """The type in which the model computes, as the inference protocol spells it."""
        return "FP32" if self.manifest.precision == "float" else "FP64"

    @cached_property
    def rows_at_a_time(self) -> int:
        """How many rows the reference may take together."""
        inputs = len(self.kan.inputs)
        widest = max(layer.subnodes * max(layer.inputs, inputs) for layer in self.kan.layers)
        return max(1, VALUES_AT_A_TIME // widest)

    @property
    def _samples(self) -> int:
        return min(_SAMPLES, max(1, self.rows_at_a_time // 4))  # `finite_rows` tries four times as many

    @cached_property
    def shares(self) -> "Importance | None":
        """The shares of the signal in the training range; None where the network is finite nowhere in it."""
        from kanserve.network.importance import importance
        from kanserve.network.training_range import finite_rows

        with suppress(DataError):
            return importance(self.kan, finite_rows(self.kan, self._samples))
        return None

    @cached_property
    def spans(self) -> tuple[Array, ...]:
        """For each layer the range (inputs, 2) of the values that reach it from the training range."""
        from kanserve.network.evaluate import activations
        from kanserve.network.training_range import finite_rows, ranges

        kan = self.kan
        first = np.sort((ranges(kan) - kan.input_shift[:, None]) / kan.input_scale[:, None], axis=1)
        rows = finite_rows(kan, self._samples)
        if len(rows) == 0:
            return (first, *(np.tile([-1.0, 1.0], (layer.inputs, 1)) for layer in kan.layers[1:]))
        return (first, *(np.stack([v.min(axis=0), v.max(axis=0)], axis=1) for v in activations(kan, rows)[1:-1]))


@dataclass(frozen=True, eq=False)
class Catalog:
    """The models by name and version, oldest first, and for each version that cannot be loaded the reason, also where
    what was loaded of it before goes on.

    `changing` are the versions that are being loaded, or wait for the last call to end; `states` has them all.
    """

    models: Mapping[str, Mapping[int, Model]]
    reasons: Mapping[Key, str]
    changing: Mapping[Key, State] = field(default_factory=dict)

    @cached_property
    def states(self) -> Mapping[Key, State]:
        """The state of every version that is known, sorted."""
        states: dict[Key, State] = dict.fromkeys(self.reasons, "UNAVAILABLE")
        states |= self.changing
        states |= {(name, version): "READY" for name, versions in self.models.items() for version in versions}
        return MappingProxyType(dict(sorted(states.items())))

    @cached_property
    def contents(self) -> Mapping[Key, int]:
        """The number of what is loaded of each version: another once it was loaded anew."""
        return {
            (name, version): one.number for name, versions in self.models.items() for version, one in versions.items()
        }

    def find(self, name: str, version: str = "") -> Model:
        """A version of a model, by default the newest; NotFoundError, or InvalidNameError when it is no version."""
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
        reasons = [reason for (one, _), reason in sorted(self.reasons.items()) if one == name]
        if reasons:
            return f"No version of {name!r} is loaded; of the newest: {reasons[-1]}"
        return f"There is no model {name!r:.80}."


def read(artifact: Artifact, name: str, version: int, backend: str = "", limits: Limits | None = None) -> Model:
    """The model of a verified artifact, by the backend named or the first that runs here, held to its golden rows.

    Nothing of the artifact's bytes is kept but its formulas.
    """
    kan = artifact.kan()
    words = LazyFormulas(artifact, kan)
    kind, loaded = (backend, load_backend(artifact, backend)) if backend else load_preferred(artifact)
    forget_files(loaded)
    return Model(name, version, artifact.manifest, kan, words, loaded, kind, limits or Limits())
