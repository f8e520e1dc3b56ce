"""A published model in this process: `kanserve.load_model(path).predict(x)`."""

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve import repository
from kanserve.artifact import directory, signing
from kanserve.artifact.format import Artifact
from kanserve.artifact.manifest import Manifest
from kanserve.artifact.signing import ModelVersion, Verifier
from kanserve.data.near_names import near
from kanserve.errors import InputError, NotFoundError
from kanserve.network.conformal_intervals import interval_of
from kanserve.network.evaluate import as_rows
from kanserve.network.kan import Kan
from kanserve.network.kan_methods import likeliest
from kanserve.repository import local
from kanserve.repository.remote import model_in
from kanserve.runtime import Backend, load_backend, load_preferred

if TYPE_CHECKING:
    from kanserve.formula import Formula
    from kanserve.repository.model_cards import ModelCard


class LoadedModel:
    """A published model with the backend that runs it; `kanserve.load_model` makes one.

    It can be pickled: the pickle holds the bytes of its artifact, which are checked and loaded again. It is
    thread-safe.

    Parameters
    ----------
    artifact : Artifact
        A verified artifact, as `kanserve.compile` makes one.
    backend : {"c_source", "onnx_graph", "numpy_source"}, optional
        The backend; by default the fastest that this machine can load.
    threads : int, default=1
        Threads of onnxruntime; the other backends compute on the caller's thread.

    Attributes
    ----------
    kan : Kan
        The network.
    formulas : tuple of Formula
        Its formulas, one per output.
    manifest : Manifest
        Name, inputs, outputs, classes, metrics and provenance.
    backend : str
        The name of the backend.
    dtype : dtype
        The type it computes in: float64, or float32 for an artifact of the precision "float".
    artifact : Artifact
        The files.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> model = kanserve.LoadedModel(kanserve.compile(kan, ["numpy_source"]))
    >>> model.predict([[0.0], [0.5]]).tolist()
    [[1.0], [2.0]]
    """

    def __init__(self, artifact: Artifact, backend: str | None = None, threads: int = 1) -> None:
        self.artifact = artifact
        self.kan: Kan = artifact.kan()
        loaded: Backend
        if backend is None:
            self.backend, loaded = load_preferred(artifact, threads)
        else:
            self.backend, loaded = backend, load_backend(artifact, backend, threads)
        self.dtype = loaded.dtype
        self._run: Callable[[NDArray[Any]], NDArray[Any]] = loaded.predict
        self._classes: Sequence[str] = self.kan.classes
        self._arguments = (backend, threads)

    def __repr__(self) -> str:
        return f"LoadedModel({self.manifest.name!r}, {self.kan!r}, {self.backend})"

    @property
    def manifest(self) -> Manifest:
        return self.artifact.manifest

    @cached_property
    def formulas(self) -> "tuple[Formula, ...]":
        from kanserve import formula

        held = formula.from_json(self.artifact.formulas)
        # An artifact of a large network does not hold them.
        return held if all(artifact.tree for artifact in held) else formula.formulas(self.kan, strict=False)

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """The outputs (n_samples, n_outputs) of samples x (n_samples, n_inputs); the scores of a classifier."""
        return self._run(x if type(x) is np.ndarray else as_rows(self.kan, x))

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """The class labels of a classifier, or the outputs of any other model, as from `Kan.predict`.

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs)
            Samples in raw units. An array of the type `dtype` is fastest, since it is not converted.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            For a classifier, the most probable class of each sample as text, "" for a sample in which anything is not
            finite. Otherwise the outputs, of the type `dtype`, always with two axes.

        Raises
        ------
        DataError
            x is not numbers, or has another number of columns.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> model = kanserve.LoadedModel(kanserve.compile(kan, ["numpy_source"]))
        >>> model.predict([[0.0], [0.5]]).tolist()
        [[1.0], [2.0]]
        """
        values = self._run(x if type(x) is np.ndarray else as_rows(self.kan, x))
        return likeliest(self._classes, values) if self._classes else values

    def predict_interval(self, x: ArrayLike, level: float = 0.9) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Prediction intervals: a new value is within them with at least the probability `level`.

        They hold for rows drawn as those were with which the model was compiled (`kanserve.compile(data=)`).

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs)
            Samples in raw units.
        level : float, default=0.9
            One of `manifest.intervals`.

        Returns
        -------
        low, high : ndarray of shape (n_samples, n_outputs)
            The ends; NaN where the output is.

        Raises
        ------
        NotFoundError
            The model has no intervals of this level, as a classifier has none.
        DataError
            x is not numbers, or has another number of columns.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> unseen = [[n / 20] for n in range(20)], [[n / 10 + 1.25] for n in range(20)]
        >>> model = kanserve.LoadedModel(kanserve.compile(kan, ["numpy_source"], data=unseen))
        >>> [end.round(3).tolist() for end in model.predict_interval([[0.5]])]
        [[[1.75]], [[2.25]]]
        """
        interval = interval_of(self.manifest.intervals, level, f"The model {self.manifest.name!r}")
        return interval.around(self(x))

    def __reduce__(self) -> tuple[Any, ...]:
        return LoadedModel, (self.artifact, *self._arguments)


def load_model(
    path: str | os.PathLike[str],
    name: str | None = None,
    version: int | None = None,
    *,
    backend: str | None = None,
    threads: int = 1,
    trusted: Verifier | None = None,
) -> LoadedModel:
    """Load a published model with its fastest backend, for fast predictions in this process.

    The files are verified by their checksums, and the backend is checked against the model's test vectors (golden
    rows). A published model holds code that runs in this process: load only models that you trust, or require a
    signature with `trusted`.

    Parameters
    ----------
    path : str or path
        The folder of a version (models/houses/3), the folder of a model (models/houses), or a repository (models); or
        the URL of one of these, such as s3://bucket/models or hf://user/repository/houses.
    name : str, optional
        The model in a repository; not needed if there is only one.
    version : int, optional
        Its version; by default the newest.
    backend : {"c_source", "onnx_graph", "numpy_source"}, optional
        The backend; by default the first of these that this machine can load.
    threads : int, default=1
        Threads of onnxruntime; the other backends compute on the caller's thread.
    trusted : kanserve.artifact.signing.Verifier, optional
        Trusted keys, one of which must have signed the model.

    Returns
    -------
    LoadedModel
        With `predict(x)`, `kan`, `formulas` and `manifest`.

    Raises
    ------
    NotFoundError
        Unknown folder, model, version or backend, or no backend can run here.
    InputError
        The path holds several models and no name says which.
    ArtifactError
        A file is damaged, a backend disagrees with the test vectors, or a signature is missing or wrong.
    UnreachableError
        A store does not answer.

    Examples
    --------
    >>> import kanserve, tempfile
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> models = tempfile.mkdtemp()
    >>> kanserve.publish(models, "line", kanserve.compile(kan, ["numpy_source"]))
    1
    >>> model = kanserve.load_model(models, "line")
    >>> model.predict([[0.0], [0.5]]).tolist()
    [[1.0], [2.0]]
    >>> model.formulas[0].text
    '2*x + 1'
    """
    return LoadedModel(read_artifact(path, name, version, trusted), backend, threads)


def model_card(
    model: "str | os.PathLike[str] | Artifact | LoadedModel", name: str | None = None, version: int | None = None
) -> "ModelCard":
    """The model card of a published model or of an artifact: Markdown, with a picture of the network.

    It has the formula, the ranges of inputs and outputs, the metrics, the intended use and the provenance. The sections
    on intended use and limits are the notes "intended use" and "limits" of the provenance (`kanserve.compile`), or left
    to fill in. `kanserve.publish` writes the card beside the version; this makes it anew.

    Parameters
    ----------
    model : str, path, Artifact or LoadedModel
        A path or URL as `kanserve.load_model` takes it, or what `kanserve.compile` made.
    name : str, optional
        The model in a repository; of an artifact the name that the card gives it.
    version : int, optional
        Its version; by default the newest.

    Returns
    -------
    ModelCard
        With `text`, `picture` and `save(folder)`.

    Raises
    ------
    NotFoundError
        Unknown folder, model or version.
    InputError
        The path holds several models and no name says which.
    ArtifactError
        A file is damaged.

    Examples
    --------
    >>> import kanserve, tempfile
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> models = tempfile.mkdtemp()
    >>> kanserve.publish(models, "line", kanserve.compile(kan, ["numpy_source"]))
    1
    >>> card = kanserve.model_card(models)
    >>> card.text.splitlines()[0]
    '# line, version 1'
    >>> [path.name for path in card.save(tempfile.mkdtemp())]
    ['card-1.svg', 'card-1.md']
    """
    from kanserve.repository.model_cards import card_of

    if isinstance(model, Artifact | LoadedModel):
        return card_of(model if isinstance(model, Artifact) else model.artifact, name or "", version)
    artifact, place = _read(model, name, version, None)
    return card_of(artifact, *(place or ()))


def read_artifact(
    path: str | os.PathLike[str], name: str | None = None, version: int | None = None, trusted: Verifier | None = None
) -> Artifact:
    """Read and verify the files of a published model that `load_model` loads; raises the same errors."""
    return _read(path, name, version, trusted)[0]


def _read(
    path: str | os.PathLike[str], name: str | None, version: int | None, trusted: Verifier | None
) -> tuple[Artifact, ModelVersion | None]:
    """The verified files of a published model, and its name and version if known."""
    if not repository.is_remote(path):
        place = local.path(path)
        if place.is_file():
            raise InputError(f"{os.fspath(path)!r} is a file, and a model is a folder. kanserve.load reads a network.")
        if local.is_version(place):
            return _one_version(place, name, version, trusted), signing.place_of(place)
    source = repository.open(path, trusted=trusted)
    if name is None:
        there = source.names()
        inside = model_in(str(path)) if not there and repository.is_remote(path) else None
        if inside and (inside[2] is None or version in (None, inside[2])):
            return _read(*inside[:2], version if inside[2] is None else inside[2], trusted)
        if not there:
            raise NotFoundError(f"{os.fspath(path)!r} holds no model.")
        if len(there) > 1:
            raise InputError(f"{os.fspath(path)!r} has {len(there)} models; say which one by name: {', '.join(there)}.")
        (name,) = there
    try:
        version = source.versions(name)[-1] if version is None else version
    except NotFoundError as error:
        raise NotFoundError(f"{error} {near(name, source.names())}".strip()) from None
    return source.read(name, version), (name, version)


def _one_version(place: Path, name: str | None, version: int | None, trusted: Verifier | None) -> Artifact:
    if name is not None or version is not None:
        raise InputError(f"{os.fspath(place)!r} is one version of one model; leave out name and version.")
    return directory.read(place, trusted)
