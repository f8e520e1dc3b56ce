"""The synchronous client."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import grpc
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kanserve.client import describing, predicting, retrying
from kanserve.client.connecting import Metadata, Names, Pem, calls, target
from kanserve.client.dataframes import Frame
from kanserve.client.exporting import Received, write
from kanserve.client.predicting import Array, Memory, Output, Steps
from kanserve.client.responses import ModelInfo, ModelStatistics, ModelStatus, Network, Prediction, ServedFormula
from kanserve.client.watch_events import Known, ModelEvent
from kanserve.errors import InputError, KanserveError
from kanserve.v1 import formula_pb2

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
        to = target(
            address,
            channels=channels,
            tls=tls,
            certificate=certificate,
            key=key,
            server_name=server_name,
            token=token,
        )
        self._address, self._timeout, self._retries = address, timeout, retries
        self._channels = to.open()
        self._turns = itertools.cycle([calls(channel) for channel in self._channels])
        self._names = Names(token, metadata)
        self._memory = Memory()
        self._closed = Event()
        self._retried = itertools.count()
        self.retried = 0  # the number of retries

    @overload
    def predict(
        self,
        name: str,
        x: Frame,
        version: int | str = "",
        *,
        output: Output = "y",
        dtype: DTypeLike = np.float64,
    ) -> Any: ...
    @overload
    def predict(
        self,
        name: str,
        x: ArrayLike,
        version: int | str = "",
        *,
        output: Output = "y",
        dtype: DTypeLike = np.float64,
    ) -> NDArray[Any]: ...
    def predict(
        self,
        name: str,
        x: ArrayLike | Frame,
        version: int | str = "",
        *,
        output: Output = "y",
        dtype: DTypeLike = np.float64,
    ) -> Any:
        """The outputs (N, outputs) at raw features x (N, inputs), in raw units; for a classifier the scores.

        `output` may also be a classifier's "probabilities" (N, classes) or "label" (N,). From a pandas or polars
        DataFrame the model's inputs are taken by name, and the answer is a DataFrame too. With dtype float32, rows are
        sent and answered in that. A row in which anything is not finite is NaN. DataError for x that is not rows of
        numbers or lacks a column, TensorError for another number of columns, or for an output that the model does not
        have.
        """
        return self._run(predicting.predict(self._memory, name, x, str(version), output, dtype))

    def predict_interval(
        self,
        name: str,
        x: ArrayLike | Frame,
        version: int | str = "",
        *,
        level: float = 0.9,
        dtype: DTypeLike = np.float64,
    ) -> tuple[Any, Any]:
        """The ends (low, high) of prediction intervals at raw features x, each as `predict` gives the outputs.

        A new value is between them with at least the probability `level`, if its row is drawn as those were with which
        the model was compiled (`kanserve.compile(data=)`). NotFoundError if the model has no intervals of this level:
        `metadata(name).intervals` has them. Other errors are those of `predict`.
        """
        return self._run(predicting.predict_interval(self._memory, name, x, str(version), level, dtype))

    def infer(
        self, name: str, x: ArrayLike | Frame, version: int | str = "", *, dtype: DTypeLike = np.float64
    ) -> Prediction:
        """All outputs, in raw units, and which rows of x (N, inputs) are outside the training range.

        Errors are those of `predict`.
        """
        return self._run(predicting.infer(self._memory, name, x, str(version), dtype))

    @overload
    def differentiate(
        self, name: str, x: ArrayLike | Frame, version: int | str = "", *, hessian: Literal[False] = False
    ) -> tuple[Array, Array]: ...

    @overload
    def differentiate(
        self, name: str, x: ArrayLike | Frame, version: int | str = "", *, hessian: Literal[True]
    ) -> tuple[Array, Array, Array]: ...

    def differentiate(
        self, name: str, x: ArrayLike | Frame, version: int | str = "", *, hessian: bool = False
    ) -> tuple[Array, ...]:
        """The outputs (N, outputs) and their exact derivatives (N, outputs, inputs), both in raw units.

        With `hessian` also the second derivatives (N, outputs, inputs, inputs). They take microseconds a row where the
        model was compiled with `ExportOptions(hessian=True)`, otherwise milliseconds: see `kanserve.derivatives`. For a
        classifier these are the scores. Errors are those of `predict`; TensorError also for a network whose second
        derivatives are too many for a message.
        """
        return self._run(predicting.differentiate(self._memory, name, x, str(version), hessian))

    def formula(self, name: str, version: int | str = "", *, formats: Sequence[str] = ()) -> tuple[ServedFormula, ...]:
        """One formula per output, in raw features.

        `formats` selects among text, latex, python and c, which are the default, and c_function, fortran, julia,
        matlab, numpy, octave, python_function and rust. InputError for another; FormulaError for one of the latter if
        the network has splines.
        """
        return self._run(describing.formula(name, str(version), formats))

    def network(self, name: str, version: int | str = "", *, curve_points: int | None = None) -> Network:
        """The nodes and edges, each edge with its curve in the units of its layer.

        A curve has `curve_points` points (0: no curves); by default the server chooses. InputError for more than it can
        send.
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
        """The verified files of "c_source" or "numpy_source" by path; also written to a new folder if one is given.

        NotFoundError if the model lacks that format, IntegrityError for a wrong checksum, FormatError or
        InvalidNameError for a path that leaves the folder, ConflictError for a folder that is not empty.
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

        A lost connection is re-established, and only changes in between are yielded; UnreachableError if no server is
        there at first.
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
                    raise retrying.raised(error, self._address, self._timeout, called, failures + 1) from None
            finally:
                stream.cancel()
            failures += 1
            self._closed.wait(retrying.delay(failures))

    def metadata(self, name: str, version: int | str = "") -> ModelInfo:
        """The names of a model's inputs, outputs and classes, its versions, precision and backend."""
        return self._run(describing.metadata(name, str(version)))

    def models(self) -> tuple[ModelStatus, ...]:
        """Every version that the server found, loaded or not."""
        return self._run(describing.models())

    def statistics(self, name: str = "", version: int | str = "") -> tuple[ModelStatistics, ...]:
        """The statistics of all versions, or of one model or version, since the server started.

        Durations are in seconds.
        """
        return self._run(describing.statistics(name, str(version)))

    def load(self, name: str) -> None:
        """Make the server load a model's versions from its repository; never retried.

        AccessError if the caller may not.
        """
        self._run(describing.load(name))

    def unload(self, name: str) -> None:
        """Make the server unload a model; never retried. AccessError if the caller may not."""
        self._run(describing.unload(name))

    def live(self) -> bool:
        """Whether the server answers."""
        return self._run(describing.live())

    def ready(self, name: str = "", version: int | str = "") -> bool:
        """Whether the server, or one of its models, accepts requests.

        False for an unknown model, and if no server answers.
        """
        return self._run(describing.ready(name, str(version)))

    def close(self) -> None:
        """Close the connections. Later calls raise InputError, and `watch` ends."""
        self._closed.set()
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        try:
            call, request = next(steps)
            while True:
                try:
                    response = self._call(call, request)
                except KanserveError as failed:
                    call, request = steps.throw(failed)
                else:
                    call, request = steps.send(response)
        except StopIteration as done:
            result: T = done.value
            return result

    def _call(self, call: str, request: Any) -> Any:
        """The response, after as many attempts as it takes within the timeout."""
        if self._closed.is_set():
            raise InputError("The client is closed. Make another.")
        name, metadata = self._names.next()
        left, begun, failures = self._timeout, time.monotonic(), 0
        while True:
            method = next(self._turns)[call]
            try:
                if call == "ExportSource":
                    return _received(method(request, timeout=left, metadata=metadata), request.format)
                return method(request, timeout=left, metadata=metadata)
            except grpc.RpcError as error:
                failures += 1
                pause = retrying.delay(failures)
                left = self._timeout - (time.monotonic() - begun) - pause
                again = retrying.is_passing(error) and call not in retrying.ONCE and failures <= self._retries
                if not again or left <= 0 or self._closed.is_set():
                    raise retrying.raised(error, self._address, self._timeout, name, failures) from None
            self._closed.wait(pause)
            self.retried = next(self._retried) + 1


def _received(stream: Any, kind: str) -> Mapping[str, bytes]:
    received = Received(kind)
    try:
        for part in stream:
            received.add(part)
        return received.files()
    finally:
        stream.cancel()
