"""The loaded models: an immutable catalog, made anew when the repository changes and then put in place whole.

A request looks its model up once and keeps it, so that it is answered by one version from beginning to end.
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from threading import Event
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve import repository
from kanserve.artifact.format import Manifest
from kanserve.artifact.names import check_version
from kanserve.errors import DataError, FormatError, KanserveError, NotFoundError
from kanserve.formula import Formula, evidence, from_json
from kanserve.formula.evidence import Evidence
from kanserve.importance import Importance, importance
from kanserve.ir import Kan
from kanserve.ranges import finite_rows, ranges
from kanserve.reference import activations
from kanserve.runtime import Backend, load_backend, load_preferred
from kanserve.serve.tensors import MAX_DIFFERENTIATED_ROWS, MAX_MESSAGE_BYTES, MAX_ROWS

Array = NDArray[np.float64]
Path = str | PathLike[str]

_NO_ROWS = np.empty(0, np.intp)
_logger = logging.getLogger(__name__)
VALUES_AT_A_TIME = 2**22  # of the reference, which holds a number for each row and edge of a layer
_SAMPLES = 500  # rows by which the shares of the edges and the ranges of the nodes are told


@dataclass(frozen=True, eq=False)
class Model:
    """One version of a model, ready to answer; `kind` names its backend.

    `evidence` is what is known of each output's formula; an artifact of an older kanserve has none.
    """

    name: str
    version: int
    manifest: Manifest
    kan: Kan
    formulas: tuple[Formula, ...]
    backend: Backend
    kind: str
    evidence: tuple[Evidence, ...] = ()

    @cached_property
    def max_rows(self) -> int:
        """The most rows of one request: neither they nor their answer are larger than a message may be."""
        outputs = len(self.kan.outputs)
        row = 8 * max(len(self.kan.inputs), outputs)
        if self.kan.classes:  # scores, probabilities, and a label with its length
            row = max(row, 16 * outputs + 4 + max(len(one) for one in self.labels))
        return max(1, min(MAX_ROWS, (MAX_MESSAGE_BYTES - 2**16) // row))

    @cached_property
    def max_differentiated_rows(self) -> int:
        """The most rows of one request for derivatives, likewise."""
        inputs, outputs = len(self.kan.inputs), len(self.kan.outputs)
        return max(1, min(MAX_DIFFERENTIATED_ROWS, (MAX_MESSAGE_BYTES - 2**16) // (8 * (inputs + 1) * outputs)))

    @cached_property
    def labels(self) -> tuple[bytes, ...]:
        """The names of the classes, and at the end the empty one of a row that has none."""
        return (*(one.encode() for one in self.kan.classes), b"")

    @cached_property
    def datatype(self) -> str:
        """The type in which the model computes, as the inference protocol spells it."""
        return "FP32" if self.manifest.precision == "float" else "FP64"

    def outside(self, x: NDArray[Any]) -> NDArray[np.intp]:
        """The rows with an input outside the training range; NaN counts as outside."""
        # In the type of the rows: the smallest training value, rounded to float32, must not fall outside.
        low, high = self._ranges[x.dtype.itemsize]
        within = (x >= low) & (x <= high)
        return _NO_ROWS if within.all() else np.flatnonzero(~within.all(axis=1))

    @cached_property
    def _ranges(self) -> Mapping[int, tuple[NDArray[Any], NDArray[Any]]]:
        low, high = ranges(self.kan).T
        with np.errstate(over="ignore"):
            return {size: (low.astype(f"f{size}"), high.astype(f"f{size}")) for size in (4, 8)}

    @cached_property
    def rows_at_a_time(self) -> int:
        """How many rows the reference may take together."""
        inputs = len(self.kan.inputs)
        widest = max(one.subnodes * max(one.inputs, inputs) for one in self.kan.layers)
        return max(1, VALUES_AT_A_TIME // widest)

    @property
    def _samples(self) -> int:
        return min(_SAMPLES, max(1, self.rows_at_a_time // 4))  # `finite_rows` tries four times as many

    @cached_property
    def shares(self) -> Importance | None:
        """The shares of the signal in the training range; None where the network is finite nowhere in it."""
        with suppress(DataError):
            return importance(self.kan, finite_rows(self.kan, self._samples))
        return None

    @cached_property
    def spans(self) -> tuple[Array, ...]:
        """For each layer the range (inputs, 2) of the values that reach it from the training range."""
        kan = self.kan
        first = np.sort((ranges(kan) - kan.input_shift[:, None]) / kan.input_scale[:, None], axis=1)
        rows = finite_rows(kan, self._samples)
        if len(rows) == 0:
            return (first, *(np.tile([-1.0, 1.0], (one.inputs, 1)) for one in kan.layers[1:]))
        return (first, *(np.stack([v.min(axis=0), v.max(axis=0)], axis=1) for v in activations(kan, rows)[1:-1]))


@dataclass(frozen=True, eq=False)
class Catalog:
    """The models by name and version, and for each version that could not be loaded the reason."""

    models: Mapping[str, Mapping[int, Model]]
    reasons: Mapping[tuple[str, int], str]

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


def load(
    root: Path, *, backend: str | None = None, previous: Catalog | None = None, given_up: Event | None = None
) -> Catalog:
    """Every version of every model of a repository, by the backend named or the first that runs here.

    What the previous catalog has is kept: versions never change. A version that cannot be loaded stops no other;
    NotFoundError when there is no repository. Once `given_up` is set, no more are loaded.
    """
    models: dict[str, Mapping[int, Model]] = {}
    reasons: dict[tuple[str, int], str] = {}
    for name in repository.names(root):
        kept = previous.models.get(name, {}) if previous else {}
        loaded: dict[int, Model] = {}
        for version in _versions(root, name):
            if given_up is not None and given_up.is_set():
                break
            try:
                loaded[version] = kept.get(version) or _load(root, name, version, backend)
            except KanserveError as error:
                reasons[name, version] = str(error)
            except OSError as error:
                reasons[name, version] = f"It cannot be read: {error.strerror or type(error).__name__}."
            except Exception:
                # Code of an artifact or a defect of ours; either way its text is not for clients.
                _logger.exception("version %s of %r could not be loaded", version, name)
                reasons[name, version] = "internal error"
        if loaded:
            models[name] = MappingProxyType(loaded)
    return Catalog(MappingProxyType(models), MappingProxyType(reasons))


def _versions(root: Path, name: str) -> tuple[int, ...]:
    with suppress(NotFoundError):  # removed while we looked
        return repository.versions(root, name)
    return ()


def _load(root: Path, name: str, version: int, backend: str | None) -> Model:
    artifact = repository.read(root, name, version)
    kan, formulas = artifact.kan(), from_json(artifact.formulas)
    known = tuple(evidence.from_json(one) for one in artifact.evidence)
    if [one.name for one in formulas] != [one.name for one in kan.outputs]:
        raise FormatError("The formulas are not those of the network's outputs. Compile the model again.")
    kind, loaded = (backend, load_backend(artifact, backend)) if backend else load_preferred(artifact)
    return Model(name, version, artifact.manifest, kan, formulas, loaded, kind, known)
