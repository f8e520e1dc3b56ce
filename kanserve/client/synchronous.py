"""The synchronous client."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kanserve.client import describing, predicting
from kanserve.client.calling import Caller
from kanserve.client.connecting import Metadata, Names, Pem, target
from kanserve.client.dataframes import Frame, Rows
from kanserve.client.describing import Steps, Version
from kanserve.client.exporting import write
from kanserve.client.network_responses import Network
from kanserve.client.predicting import Array, Coverage, Memory, Output
from kanserve.client.responses import ModelInfo, ModelStatistics, ModelStatus, Prediction, ServedFormula
from kanserve.client.watch_events import ModelEvent
from kanserve.network.stability_index import InputDrift
from kanserve.v1 import formula_pb2

if TYPE_CHECKING:
    from kanserve.analysis.contributions import Contributions

T = TypeVar("T")


class Client:
    """A client of a server; thread-safe.

    It connects at the first call. An error of the server is raised as the same class here, NotFoundError for an unknown
    model or version. UnreachableError: no server answers; DeadlineError: not in time; BusyError: it is overloaded;
    DrainingError: it is stopping; AccessError: the caller may not do this; InputError: the client is closed.

    Parameters
    ----------
    address : str
        "host:port", "unix:/run/kanserve.sock", or another address that gRPC knows.
    timeout : float, default=30.0
        Seconds for each request with its retries.
    retries : int, default=4
        How often a request is retried, with exponential back-off, if a server cannot be reached or is stopping.
    channels : int, default=1
        Connections, which spread calls over the workers of a server.
    tls : bool, bytes, str or path, default=False
        True, or the CA certificate, as PEM or the path of a file.
    certificate, key : bytes, str or path, optional
        The client's own, as PEM or the path of a file.
    server_name : str, optional
        The name in the server's certificate, if the address has another.
    token : str or callable, optional
        A bearer token, or a function that returns the current one; without TLS it is only sent to this machine.
    metadata : sequence of (str, str or bytes), or callable, optional
        Sent with each request, as [("x-request-id", "7")], which is its id, or a function that returns it.

    Raises
    ------
    InputError
        Options contradict one another, a certificate cannot be read, or a token would leave this machine without TLS.

    Examples
    --------
    >>> import kanserve, tempfile
    >>> from kanserve.serve.server import start
    >>> models = tempfile.mkdtemp()
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.publish(models, "line", kanserve.compile(kan, ["numpy_source"]))
    1
    >>> with start(models, port=0) as server, kanserve.Client(server.address) as client:
    ...     print(client.predict("line", [[0.5]]).tolist(), client.formula("line")[0].text)
    [[2.0]] 2*x + 1
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 30.0,
        retries: int = 4,
        channels: int = 1,
        tls: bool | Pem = False,
        certificate: Pem | None = None,
        key: Pem | None = None,
        server_name: str = "",
        token: str | Callable[[], str] | None = None,
        metadata: Metadata = (),
    ) -> None:
        connection = target(
            address, channels=channels, tls=tls, certificate=certificate, key=key, server_name=server_name, token=token
        )
        self._caller = Caller(connection, Names(token, metadata), address, timeout, retries)
        self._memory = Memory()

    @property
    def retried(self) -> int:
        """The number of retries so far.

        Returns
        -------
        int
            Of all requests together.

        Examples
        --------
        >>> client.retried
        0
        """
        return self._caller.retried

    def close(self) -> None:
        """Close the connections, as `with` does at its end. Later calls end with InputError, and `watch` ends.

        Examples
        --------
        >>> client.close()
        """
        self._caller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @overload
    def predict(
        self, name: str, x: Frame, version: Version = "", *, output: Output = "y", dtype: DTypeLike = np.float64
    ) -> Any: ...
    @overload
    def predict(
        self, name: str, x: Rows, version: Version = "", *, output: Output = "y", dtype: DTypeLike = np.float64
    ) -> NDArray[Any]: ...
    def predict(
        self, name: str, x: Rows | Frame, version: Version = "", *, output: Output = "y", dtype: DTypeLike = np.float64
    ) -> Any:
        """The outputs at raw features x, in raw units; for a classifier the scores.

        Parameters
        ----------
        name : str
            The model.
        x : array_like of shape (n_samples, n_inputs), DataFrame or dict of columns
            Raw features. From a pandas or polars DataFrame, or a dict, the inputs are taken by name.
        version : int or str, optional
            By default the one that the server's version policy serves.
        output : {"y", "probabilities", "label"}, default="y"
            The last two are for a classifier.
        dtype : dtype, default=float64
            With float32, rows are sent and answered in that.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs), or DataFrame
            A DataFrame for a DataFrame; labels have the shape (n_samples,). NaN for a row that is not finite.

        Raises
        ------
        NotFoundError
            Unknown model or version.
        DataError
            x is not rows of numbers, or lacks a column.
        TensorError
            x has another number of columns, or the model has no such output.

        Examples
        --------
        >>> client.predict("line", [[0.0], [0.5]]).tolist()
        [[1.0], [2.0]]
        """
        return self._run(predicting.predict(self._memory, name, x, str(version), output, dtype))

    def predict_interval(
        self, name: str, x: Rows | Frame, version: Version = "", *, level: float = 0.9, dtype: DTypeLike = np.float64
    ) -> tuple[Any, Any]:
        """The ends of prediction intervals at raw features x, each as `predict` gives the outputs.

        A new value is between them with at least the probability `level`, if its row is drawn as those were with which
        the model was compiled (`kanserve.compile(data=)`).

        Parameters
        ----------
        name, x, version, dtype
            As in `predict`.
        level : float, default=0.9
            One of `metadata(name).intervals`.

        Returns
        -------
        low, high : ndarray of shape (n_samples, n_outputs), or DataFrame
            The ends.

        Raises
        ------
        NotFoundError
            The model has no intervals of this level.
        DataError, TensorError
            As in `predict`.

        Examples
        --------
        >>> low, high = client.predict_interval("line", [[0.5]])
        >>> low.round(3).tolist(), high.round(3).tolist()
        ([[1.75]], [[2.25]])
        """
        return self._run(predicting.predict_interval(self._memory, name, x, str(version), level, dtype))

    def infer(self, name: str, x: Rows | Frame, version: Version = "", *, dtype: DTypeLike = np.float64) -> Prediction:
        """All outputs, in raw units, and which rows are outside the training range.

        Parameters
        ----------
        name, x, version, dtype
            As in `predict`.

        Returns
        -------
        Prediction
            With `values`, of a classifier `probabilities` and `labels`, and `outside`: how many rows, and which.

        Examples
        --------
        >>> answer = client.infer("line", [[0.5], [7.0]])
        >>> answer.values.tolist(), answer.outside, answer.outside_rows
        ([[2.0], [15.0]], 1, (1,))
        """
        return self._run(predicting.infer(self._memory, name, x, str(version), dtype))

    @overload
    def differentiate(
        self, name: str, x: Rows | Frame, version: Version = "", *, hessian: Literal[False] = False
    ) -> tuple[Array, Array]: ...
    @overload
    def differentiate(
        self, name: str, x: Rows | Frame, version: Version = "", *, hessian: Literal[True]
    ) -> tuple[Array, Array, Array]: ...
    def differentiate(
        self, name: str, x: Rows | Frame, version: Version = "", *, hessian: bool = False
    ) -> tuple[Array, ...]:
        """The outputs and their exact derivatives, both in raw units; for a classifier those of the scores.

        Parameters
        ----------
        name, x, version
            As in `predict`.
        hessian : bool, default=False
            Also the second derivatives. They take microseconds a row where the model was compiled with
            `ExportOptions(hessian=True)`, otherwise milliseconds (`kanserve.derivatives`).

        Returns
        -------
        y, first, second : ndarray
            The outputs (n_samples, n_outputs), the derivatives (n_samples, n_outputs, n_inputs), and with `hessian` the
            second derivatives (n_samples, n_outputs, n_inputs, n_inputs).

        Raises
        ------
        NotFoundError, DataError
            As in `predict`.
        TensorError
            x has another number of columns, or the derivatives are too many for a message.

        Examples
        --------
        >>> y, first = client.differentiate("line", [[0.5]])
        >>> first.tolist()
        [[[2.0]]]
        """
        return self._run(predicting.differentiate(self._memory, name, x, str(version), hessian))

    def explain(self, name: str, x: Rows | Frame, version: Version = "") -> "Contributions":
        """How much each input contributes to each prediction: `Kan.explain` by the server, without background rows.

        Parameters
        ----------
        name, x, version
            As in `predict`.

        Returns
        -------
        Contributions
            With `base`, `values` and their standard `errors`. It prints as a few lines and has `.plot()`.

        Raises
        ------
        NotFoundError, DataError, TensorError
            As in `predict`; TensorError also of a network that is too large.

        Examples
        --------
        >>> client.explain("line", [[0.5]]).inputs[0].name
        'x'
        """
        return self._run(predicting.explain(self._memory, name, x, str(version)))

    def formula(self, name: str, version: Version = "", *, formats: Sequence[str] = ()) -> tuple[ServedFormula, ...]:
        """One formula for each output, in raw features.

        Parameters
        ----------
        name, version
            As in `predict`.
        formats : sequence of str, optional
            Some of text, latex, python and c, which are the default, and of c_function, fortran, julia, matlab, numpy,
            octave, python_function, rust, sql, postgresql, sqlite, duckdb, bigquery and excel.

        Returns
        -------
        tuple of ServedFormula
            With `text`, `latex`, and `evaluate(x)`.

        Raises
        ------
        InputError
            Unknown format.
        FormulaError
            A format is a function, and the network has splines.

        Examples
        --------
        >>> client.formula("line")[0].text
        '2*x + 1'
        """
        return self._run(describing.formula(name, str(version), formats))

    def network(self, name: str, version: Version = "", *, curve_points: int | None = None) -> Network:
        """The nodes and edges, each edge with its curve in the units of its layer.

        Parameters
        ----------
        name, version
            As in `predict`.
        curve_points : int, optional
            The points of a curve, 0 for no curves; by default the server chooses.

        Returns
        -------
        Network
            With `layers`, and `edges` of all of them.

        Raises
        ------
        InputError
            The points are more than the server can send.

        Examples
        --------
        >>> [edge.function for edge in client.network("line").edges]
        ['x']
        """
        return self._run(describing.network(name, str(version), curve_points))

    def export_source(
        self,
        name: str,
        folder: str | os.PathLike[str] | None = None,
        version: Version = "",
        *,
        format: str = "c_source",
        include_libraries: bool = False,
    ) -> Mapping[str, bytes]:
        """The verified files of a model as source; also written to a new folder if one is given.

        Parameters
        ----------
        name, version
            As in `predict`.
        folder : str or path, optional
            A folder that is empty or not there.
        format : {"c_source", "numpy_source"}, default="c_source"
            The format.
        include_libraries : bool, default=False
            Compiled libraries too.

        Returns
        -------
        mapping of str to bytes
            The files, by path.

        Raises
        ------
        NotFoundError
            The model lacks that format.
        IntegrityError, FormatError, InvalidNameError
            A checksum is wrong, or a path leads out of the folder.
        ConflictError
            The folder is not empty.

        Examples
        --------
        >>> sorted(client.export_source("line", format="numpy_source"))
        ['line.py']
        """
        request = formula_pb2.ExportSourceRequest(
            model_name=name, model_version=str(version), format=format, include_libraries=include_libraries
        )
        files: Mapping[str, bytes] = self._caller.call("ExportSource", request)
        if folder is not None:
            write(files, folder)
        return files

    def watch(self, name: str = "") -> Iterator[ModelEvent]:
        """Yield each version of a model, or of all models, and then each change, also where a connection was lost.

        Parameters
        ----------
        name : str, optional
            The model; by default all.

        Yields
        ------
        ModelEvent
            What changed.

        Raises
        ------
        UnreachableError
            No server is there at first.

        Examples
        --------
        >>> next(client.watch("line")).version
        1
        """
        return self._caller.watch(name)

    def metadata(self, name: str, version: Version = "") -> ModelInfo:
        """What a model is: the names of its inputs, outputs and classes, its versions, precision and backend.

        Parameters
        ----------
        name, version
            As in `predict`.

        Returns
        -------
        ModelInfo
            With `inputs`, `outputs`, `classes`, `versions` and `intervals`.

        Examples
        --------
        >>> info = client.metadata("line")
        >>> info.inputs, info.outputs, info.backend
        (('x',), ('y',), 'numpy_source')
        """
        return self._run(describing.metadata(name, str(version)))

    def models(self) -> tuple[ModelStatus, ...]:
        """Every version that the server found, loaded or not.

        Returns
        -------
        tuple of ModelStatus
            With `name`, `version`, `ready` and `reason`.

        Examples
        --------
        >>> [(model.name, model.version, model.ready) for model in client.models()]
        [('line', 1, True)]
        """
        return self._run(describing.models())

    def statistics(self, name: str = "", version: Version = "") -> tuple[ModelStatistics, ...]:
        """The statistics of all versions, or of one model or version, since the server started; durations in seconds.

        Parameters
        ----------
        name, version : str, optional
            The model, and the version; by default all.

        Returns
        -------
        tuple of ModelStatistics
            One for each version.

        Examples
        --------
        >>> client.statistics("line")[0].name
        'line'
        """
        return self._run(describing.statistics(name, str(version)))

    def drift(self, name: str, version: Version = "") -> tuple[InputDrift, ...]:
        """How the latest rows that a version answered are spread over its inputs, beside its training rows.

        Parameters
        ----------
        name, version
            As in `predict`.

        Returns
        -------
        tuple of InputDrift
            One for each input whose training rows are known.

        Examples
        --------
        >>> client.drift("line")[0].name
        'x'
        """
        return self._run(describing.drift(name, str(version)))

    def feedback(self, name: str, x: Rows | Frame, measured: ArrayLike, version: Version = "") -> Coverage:
        """Report measured values, of which the server counts how many are in its prediction intervals; never retried.

        Parameters
        ----------
        name, x, version
            As in `predict`; the version that predicted.
        measured : array_like of shape (n_samples, n_outputs)
            What was measured at these rows; NaN where nothing was.

        Returns
        -------
        dict of float to (int, int)
            For each level of the intervals, how many of these values were compared and how many were within.

        Examples
        --------
        >>> client.feedback("line", [[0.5]], [[2.0]])[0.9]  # values compared, and within
        (1, 1)
        """
        return self._run(predicting.feedback(self._memory, name, x, measured, str(version)))

    def load(self, name: str) -> None:
        """Make the server load a model's versions from its repository; never retried.

        Parameters
        ----------
        name : str
            The model.

        Raises
        ------
        AccessError
            The caller may not.
        NotFoundError
            The repository has no such model.

        Examples
        --------
        >>> client.load("line")
        """
        self._run(describing.load(name))

    def unload(self, name: str) -> None:
        """Make the server unload a model; never retried.

        Parameters
        ----------
        name : str
            The model.

        Examples
        --------
        >>> client.unload("line")
        >>> client.ready("line")
        False
        >>> client.load("line")
        """
        self._run(describing.unload(name))

    def live(self) -> bool:
        """Whether the server answers.

        Returns
        -------
        bool
            False if no server answers.

        Examples
        --------
        >>> client.live()
        True
        """
        return self._run(describing.live())

    def ready(self, name: str = "", version: Version = "") -> bool:
        """Whether the server, or one of its models, accepts requests.

        Parameters
        ----------
        name, version : str, optional
            A model, and a version of it; by default the server.

        Returns
        -------
        bool
            False for an unknown model, and if no server answers.

        Examples
        --------
        >>> client.ready("line")
        True
        """
        return self._run(describing.ready(name, str(version)))

    def _run(self, steps: Steps[T]) -> T:
        return describing.run(steps, self._caller.call)
