"""The synchronous client."""

import os
from collections.abc import Iterator, Mapping, Sequence

import grpc

from kanserve.client import describing, retrying
from kanserve.client.blocking_predictions import BlockingPredictions
from kanserve.client.exporting import write
from kanserve.client.network_responses import Network
from kanserve.client.responses import ModelInfo, ModelStatistics, ModelStatus, ServedFormula
from kanserve.client.watch_events import Known, ModelEvent
from kanserve.v1 import formula_pb2


class Client(BlockingPredictions):
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
        Sent with each request, as [("traceparent", "00-...")], or a function that returns it; an "x-request-id" in it
        is the request id.

    Attributes
    ----------
    retried : int
        The number of retries so far.

    Raises
    ------
    InputError
        The options contradict one another, a certificate cannot be read, or a token would leave this machine without
        TLS.

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

    def formula(self, name: str, version: int | str = "", *, formats: Sequence[str] = ()) -> tuple[ServedFormula, ...]:
        """One formula for each output, in raw features.

        Parameters
        ----------
        name : str
            The model.
        version : int or str, optional
            By default the one that the server's version policy serves.
        formats : sequence of str, optional
            Some of text, latex, python and c, which are the default, and of c_function, fortran, julia, matlab, numpy,
            octave, python_function, rust, sql, postgresql, sqlite, duckdb, bigquery and excel.

        Returns
        -------
        tuple of ServedFormula
            With `text`, `latex`, and `evaluate(x)`.

        Raises
        ------
        NotFoundError
            There is no such model or version.
        InputError
            There is no such format.
        FormulaError
            A format is a function, and the network has splines.

        Examples
        --------
        >>> client.formula("line")[0].text
        '2*x + 1'
        """
        return self._run(describing.formula(name, str(version), formats))

    def network(self, name: str, version: int | str = "", *, curve_points: int | None = None) -> Network:
        """The nodes and edges, each edge with its curve in the units of its layer.

        Parameters
        ----------
        name : str
            The model.
        version : int or str, optional
            By default the one that the server's version policy serves.
        curve_points : int, optional
            The points of a curve, 0 for no curves; by default the server chooses.

        Returns
        -------
        Network
            With `layers`, and `edges` of all of them.

        Raises
        ------
        NotFoundError
            There is no such model or version.
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
        version: int | str = "",
        *,
        format: str = "c_source",
        include_libraries: bool = False,
    ) -> Mapping[str, bytes]:
        """The verified files of a model as source; also written to a new folder if one is given.

        Parameters
        ----------
        name : str
            The model.
        folder : str or path, optional
            A folder that is empty or not there.
        version : int or str, optional
            By default the one that the server's version policy serves.
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
        IntegrityError
            A checksum is wrong.
        FormatError, InvalidNameError
            A path leads out of the folder.
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
        files: Mapping[str, bytes] = self._call("ExportSource", request)
        if folder is not None:
            write(files, folder)
        return files

    def watch(self, name: str = "") -> Iterator[ModelEvent]:
        """Yield each version of a model, or of all models, and then each change, without end.

        A lost connection is made again, and only changes in between are yielded.

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
        request, known, failures = formula_pb2.WatchRequest(model_name=name), Known(), 0
        while not self._closed.is_set():
            called, metadata = self._names.next()
            stream = next(self._turns)["Watch"](request, metadata=metadata)
            try:
                for response in stream:
                    failures = 0
                    yield from known.events(response)
            except grpc.RpcError as error:
                passing = retrying.is_passing(error) and (known.heard or failures < self._retries)
                if not passing and not self._closed.is_set():
                    raise self._error(error, called, failures + 1) from None
            finally:
                stream.cancel()
            failures += 1
            self._closed.wait(retrying.delay(failures))

    def metadata(self, name: str, version: int | str = "") -> ModelInfo:
        """What a model is: the names of its inputs, outputs and classes, its versions, precision and backend.

        Parameters
        ----------
        name : str
            The model.
        version : int or str, optional
            By default the one that the server's version policy serves.

        Returns
        -------
        ModelInfo
            With `inputs`, `outputs`, `classes`, `versions` and `intervals`.

        Raises
        ------
        NotFoundError
            There is no such model or version.

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
        >>> [(one.name, one.version, one.ready) for one in client.models()]
        [('line', 1, True)]
        """
        return self._run(describing.models())

    def statistics(self, name: str = "", version: int | str = "") -> tuple[ModelStatistics, ...]:
        """The statistics of all versions, or of one model or version, since the server started; durations in seconds.

        Parameters
        ----------
        name, version : str, optional
            The model, and the version; by default all.

        Returns
        -------
        tuple of ModelStatistics
            One for each version.

        Raises
        ------
        NotFoundError
            There is no such model or version.

        Examples
        --------
        >>> client.statistics("line")[0].name
        'line'
        """
        return self._run(describing.statistics(name, str(version)))

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

        Raises
        ------
        AccessError
            The caller may not.

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

    def ready(self, name: str = "", version: int | str = "") -> bool:
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
