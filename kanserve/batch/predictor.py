"""An object that predicts arrays, tables and DataFrames in any process."""

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.artifact.format import Artifact, dumps
from kanserve.batch.result_columns import BatchModel, Column, ResultOptions, keep_columns, to_numbers
from kanserve.errors import ConflictError, DataError
from kanserve.network.evaluate import as_rows
from kanserve.network.kan_methods import likeliest
from kanserve.repository import is_remote
from kanserve.runtime import load_backend, load_preferred
from kanserve.runtime.model import LoadedModel, read_artifact

if TYPE_CHECKING:
    import pyarrow

# A process loads each model once, however often its predictor is unpickled: Dask and joblib do that for every task.
_MODELS: dict[tuple[object, ...], BatchModel] = {}
_LOADING = threading.Lock()


class BatchPredictor:
    """A published model for batch inference: arrays, Arrow tables, DataFrames; in this process or in workers.

    The backend is loaded at the first use in each process, once, and is the fastest that the machine can load: C, else
    ONNX, else NumPy. The object is thread-safe and pickles. The pickle of a path holds the path, which workers must be
    able to read, and a checksum: a worker that finds another model there raises ConflictError. The pickle of anything
    else holds the model's files.

    A row with a NaN, an infinity or a null in an input has NaN in all outputs, and no class.

    Parameters
    ----------
    model : str, path, LoadedModel or Artifact
        The folder of a version, of a model, or a repository (a folder or a URL), as `kanserve.load_model` takes it; or
        what `kanserve.load_model` or `kanserve.compile` returns.
    name : str, optional
        The model in a repository; not needed if there is only one.
    version : int, optional
        Its version; by default the newest. Give it where a newer one may be published while workers run.
    backend : {"c_source", "onnx_graph", "numpy_source"}, optional
        By default the fastest that is there.
    outside : bool, default=False
        Add the column "outside": whether an input of the row is outside the range of the training data.
    gradient : bool, default=False
        Add the derivative of each output (of a classifier's scores) by each input, in columns "dy_dx".
    interval : float, optional
        The level of prediction intervals, such as 0.9: adds the columns "y_low" and "y_high" for each output y. For
        models that were compiled with unseen samples.
    keep : bool or sequence of str, default=False
        Which columns of a table stay beside the results: all, none, or these.
    prefix : str, default=""
        What the names of the result's columns begin with.

    Examples
    --------
    >>> import kanserve, numpy
    >>> from kanserve.batch import BatchPredictor
    >>> kan = kanserve.from_formula("2*a + b", ranges={"a": (0, 1), "b": (0, 1)})
    >>> predictor = BatchPredictor(kanserve.compile(kan, ["numpy_source"]), outside=True)
    >>> predictor.predict([[0.5, 1.0]]).tolist()
    [[2.0]]
    >>> result = predictor({"b": numpy.array([1.0, 0.0]), "a": numpy.array([0.5, 3.0]), "id": numpy.array([7, 8])})
    >>> {name: column.tolist() for name, column in result.items()}
    {'y': [2.0, 6.0], 'outside': [False, True]}
    >>> predictor.inputs, predictor.schema, predictor.labels.tolist()
    (('a', 'b'), {'y': dtype('float64'), 'outside': dtype('bool')}, [''])
    >>> predictor.model.artifact.backends
    ('numpy_source',)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | LoadedModel | Artifact,
        name: str | None = None,
        version: int | None = None,
        *,
        backend: str | None = None,
        outside: bool = False,
        gradient: bool = False,
        interval: float | None = None,
        keep: bool | Sequence[str] = False,
        prefix: str = "",
    ) -> None:
        self._artifact: Artifact | None = None
        self._path: tuple[str, str | None, int | None] | None = None
        if isinstance(model, LoadedModel):
            self._artifact = model.artifact
        elif isinstance(model, Artifact):
            self._artifact = model
        else:
            # Workers may have another working directory.
            place = os.fspath(model) if is_remote(model) else os.fspath(Path(model).absolute())
            self._path = (place, name, version)
        self._checksum = ""
        self._backend = backend
        self._options = ResultOptions(outside, gradient, prefix, interval)
        self._keep = keep if isinstance(keep, bool) else (keep,) if isinstance(keep, str) else tuple(keep)
        self._loaded: BatchModel | None = None
        self._schema: dict[str, np.dtype[Any]] | None = None

    @property
    def model(self) -> BatchModel:
        """The model and its backend, loaded now if no predictor of this process has loaded it."""
        if self._loaded is None:
            with _LOADING:
                self._loaded = self._load()
        return self._loaded

    def _load(self) -> BatchModel:
        key = (self._checksum, self._backend)
        if self._checksum and key in _MODELS:
            return _MODELS[key]
        artifact = self._artifact
        if artifact is None:
            assert self._path is not None
            artifact = read_artifact(*self._path)
        checksum = _checksum(artifact)
        if self._checksum not in ("", checksum):
            assert self._path is not None
            raise ConflictError(
                f"The model at {self._path[0]!r} is not the one that this predictor was made with. Give a version, or "
                "make the predictor of kanserve.load_model(path), which sends the model itself to workers."
            )
        self._checksum, key = checksum, (checksum, self._backend)
        if key not in _MODELS:
            if self._backend is None:
                name, loaded = load_preferred(artifact)
            else:
                name, loaded = self._backend, load_backend(artifact, self._backend)
            _MODELS[key] = BatchModel(artifact, name, loaded)
        return _MODELS[key]

    def __getstate__(self) -> dict[str, Any]:
        if not self._checksum:
            self._checksum = _checksum(self._artifact) if self._artifact else _checksum(self.model.artifact)
        return self.__dict__ | {"_loaded": None, "_schema": None}

    def __repr__(self) -> str:
        return f"BatchPredictor({self._path[0] if self._path else self.model.artifact.manifest.name!r})"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the model's inputs: the columns that a table must have."""
        return self.model.inputs

    @property
    def schema(self) -> dict[str, np.dtype[Any]]:
        """The name and the NumPy type of each column that a result adds; classes are text."""
        if self._schema is None:
            self._schema = self.model.schema(self._options)
        return self._schema

    def predict(self, x: ArrayLike) -> NDArray[Any]:
        """The outputs or the class labels of an array of samples, as `LoadedModel.predict`; no further columns.

        Parameters
        ----------
        x : array_like of shape (n_samples, n_inputs)
            Samples in raw units.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs) or (n_samples,)
            The outputs, or the labels of a classifier.

        Raises
        ------
        DataError
            x is not numbers, or has another number of columns.

        Examples
        --------
        >>> import kanserve, numpy
        >>> kan = kanserve.from_formula("2*a + b", ranges={"a": (0, 1), "b": (0, 1)})
        >>> artifact = kanserve.compile(kan, ["numpy_source"])
        >>> predictor = kanserve.batch.BatchPredictor(artifact)
        >>> predictor.predict([[0.5, 1.0]]).tolist()
        [[2.0]]
        """
        model = self.model
        if type(x) is not np.ndarray or x.dtype.kind != "f":
            x = as_rows(model.artifact.kan(), x)
        values = model.backend.predict(x)
        classes = model.artifact.manifest.classes
        return likeliest(classes, values) if classes else values

    def __call__(self, batch: Any) -> Any:
        """The result for a table by the names of its columns, in the table's own type.

        Parameters
        ----------
        batch : ndarray, mapping of str to ndarray, pyarrow Table or RecordBatch, pandas or polars DataFrame
            Its columns may have any order. What are not inputs is ignored, or kept with `keep`.

        Returns
        -------
        ndarray, dict, Table, RecordBatch or DataFrame
            The kept columns and the columns of `schema`; of an array, what `predict` returns.

        Raises
        ------
        DataError
            A column is missing, or is not numbers.

        Examples
        --------
        >>> import kanserve, numpy
        >>> kan = kanserve.from_formula("2*a + b", ranges={"a": (0, 1), "b": (0, 1)})
        >>> artifact = kanserve.compile(kan, ["numpy_source"])
        >>> predictor = kanserve.batch.BatchPredictor(artifact, keep="id")
        >>> predictor({"id": [7], "a": [0.5], "b": [1.0]})
        {'id': array([7]), 'y': array([2.])}
        """
        if isinstance(batch, Mapping):
            return self._predict_mapping(batch)
        match type(batch).__module__.split(".")[0]:
            case "pyarrow":
                return self.predict_arrow(batch)
            case "pandas" | "polars":
                from kanserve.batch import dataframe_engines

                of_pandas = type(batch).__module__.startswith("pandas")
                run = dataframe_engines.predict_pandas if of_pandas else dataframe_engines.predict_polars
                return run(self, batch)
        return self.predict(batch)

    def predict_arrow(self, table: "pyarrow.Table | pyarrow.RecordBatch") -> Any:
        """The result for an Arrow table; columns of doubles without nulls are read where they are.

        Parameters
        ----------
        table : pyarrow.Table or pyarrow.RecordBatch
            Its columns may have any order; a null is a NaN.

        Returns
        -------
        pyarrow.Table or pyarrow.RecordBatch
            As of `__call__`, in the type of `table`.

        Raises
        ------
        DataError
            A column is missing, or is not numbers.

        Examples
        --------
        >>> import kanserve, numpy
        >>> kan = kanserve.from_formula("2*a + b", ranges={"a": (0, 1), "b": (0, 1)})
        >>> artifact = kanserve.compile(kan, ["numpy_source"])
        >>> predictor = kanserve.batch.BatchPredictor(artifact)
        >>> import pyarrow
        >>> predictor.predict_arrow(pyarrow.table({"a": [0.5], "b": [1.0]}))["y"].to_pylist()
        [2.0]
        """
        from kanserve.batch import arrow_columns

        return arrow_columns.predict(self, table)

    def _predict_mapping(self, batch: Mapping[str, Any]) -> dict[str, Column]:
        self.model.check_inputs(list(batch))
        kept = self.kept(list(batch))
        columns = {name: to_numbers(batch[name], name) for name in self.inputs if name in batch}
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"All columns must have the same length, got {lengths}.")
        results = self.compute(columns, next(iter(lengths.values()), 0))
        return {name: np.asarray(batch[name]) for name in kept} | {
            name: self.labels[column] if self.schema[name].kind == "U" else column for name, column in results.items()
        }

    @property
    def labels(self) -> NDArray[np.str_]:
        """The classes of a classifier by number, followed by "" for a row without a class."""
        return np.array([*self.model.artifact.manifest.classes, ""])

    def kept(self, names: Sequence[str]) -> list[str]:
        """Which of a table's columns stay beside the results.

        Parameters
        ----------
        names : sequence of str
            The table's columns.

        Returns
        -------
        list of str
            Those that `keep` asks for.

        Raises
        ------
        DataError
            A column of `keep` is not there, or a result has the name of a kept one.

        Examples
        --------
        >>> import kanserve, numpy
        >>> kan = kanserve.from_formula("2*a + b", ranges={"a": (0, 1), "b": (0, 1)})
        >>> artifact = kanserve.compile(kan, ["numpy_source"])
        >>> kanserve.batch.BatchPredictor(artifact, keep=True).kept(["id", "a", "b"])
        ['id', 'a', 'b']
        """
        return keep_columns(names, list(self.schema), self._keep)

    def ordered(self, columns: Mapping[str, Column]) -> list[Column | None]:
        """The inputs in the model's order.

        Parameters
        ----------
        columns : mapping of str to ndarray
            Columns by their names.

        Returns
        -------
        list of ndarray or None
            A column for each input, None for one that is absent.

        Examples
        --------
        >>> import kanserve, numpy
        >>> kan = kanserve.from_formula("2*a + b", ranges={"a": (0, 1), "b": (0, 1)})
        >>> artifact = kanserve.compile(kan, ["numpy_source"])
        >>> predictor = kanserve.batch.BatchPredictor(artifact)
        >>> predictor.ordered({"b": numpy.array([1.0])})
        [None, array([1.])]
        """
        return [columns.get(name) for name in self.inputs]

    def compute(self, columns: Mapping[str, Column], rows: int) -> dict[str, Column]:
        """The results for columns of numbers, without the checks and conversions of `__call__`.

        Parameters
        ----------
        columns : mapping of str to ndarray of shape (rows,)
            The inputs by their names.
        rows : int
            Their length.

        Returns
        -------
        dict of str to ndarray of shape (rows,)
            By the names of `schema`; a class by its number in `labels`, -1 for none.

        Examples
        --------
        >>> import kanserve, numpy
        >>> kan = kanserve.from_formula("2*a + b", ranges={"a": (0, 1), "b": (0, 1)})
        >>> artifact = kanserve.compile(kan, ["numpy_source"])
        >>> predictor = kanserve.batch.BatchPredictor(artifact)
        >>> predictor.compute({"a": numpy.array([0.5]), "b": numpy.array([1.0])}, 1)
        {'y': array([2.])}
        """
        return dict(zip(self.schema, self.model.compute(self.ordered(columns), rows, self._options), strict=True))


def _checksum(artifact: Artifact) -> str:
    """The SHA-256 of the manifest, which contains those of all files."""
    return hashlib.sha256(dumps(artifact.manifest)).hexdigest()
