"""The asyncio client, with the same calls as the synchronous one."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence

import grpc

from kanserve.client import describing, retrying
from kanserve.client.asyncio_predictions import AsyncPredictions
from kanserve.client.exporting import write
from kanserve.client.network_responses import Network
from kanserve.client.responses import ModelInfo, ModelStatistics, ModelStatus, ServedFormula
from kanserve.client.watch_events import Known, ModelEvent
from kanserve.v1 import formula_pb2


class AsyncClient(AsyncPredictions):
    """As Client, for asyncio: the same calls, to be awaited, with the same errors.

    It may be created anywhere, but is used in one event loop. The examples of its methods can be typed in a
    notebook or in `python -m asyncio`; their `client` is connected to the server below.

    Parameters
    ----------
    address, timeout, retries, channels, tls, certificate, key, server_name, token, metadata
        As in `Client`.

    Attributes
    ----------
    retried : int
        The number of retries so far.

    Raises
    ------
    InputError
        As in `Client`.

    Examples
    --------
    >>> import asyncio, kanserve, tempfile
    >>> from kanserve.serve.server import start
    >>> models = tempfile.mkdtemp()
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.publish(models, "line", kanserve.compile(kan, ["numpy_source"]))
    1
    >>> async def ask(address):
    ...     async with kanserve.AsyncClient(address) as client:
    ...         return await client.predict("line", [[0.5]])
    >>> with start(models, port=0) as server:
    ...     print(asyncio.run(ask(server.address)).tolist())
    [[2.0]]
    """

    async def formula(
        self, name: str, version: int | str = "", *, formats: Sequence[str] = ()
    ) -> tuple[ServedFormula, ...]:
        """One formula for each output, in raw features.

        Parameters
        ----------
        name, version, formats
            As in `Client.formula`.

        Returns
        -------
        tuple of ServedFormula
            With `text`, `latex`, and `evaluate(x)`.

        Raises
        ------
        NotFoundError, InputError, FormulaError
            As in `Client.formula`.

        Examples
        --------
        >>> (await client.formula("line"))[0].text
        '2*x + 1'
        """
        return await self._run(describing.formula(name, str(version), formats))

    async def network(self, name: str, version: int | str = "", *, curve_points: int | None = None) -> Network:
        """The nodes and edges, each edge with its curve in the units of its layer.

        Parameters
        ----------
        name, version, curve_points
            As in `Client.network`.

        Returns
        -------
        Network
            With `layers`, and `edges` of all of them.

        Raises
        ------
        NotFoundError, InputError
            As in `Client.network`.

        Examples
        --------
        >>> [edge.function for edge in (await client.network("line")).edges]
        ['x']
        """
        return await self._run(describing.network(name, str(version), curve_points))

    async def export_source(
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
        name, folder, version, format, include_libraries
            As in `Client.export_source`.

        Returns
        -------
        mapping of str to bytes
            The files, by path.

        Raises
        ------
        NotFoundError, IntegrityError, FormatError, InvalidNameError, ConflictError
            As in `Client.export_source`.

        Examples
        --------
        >>> sorted(await client.export_source("line", format="numpy_source"))
        ['line.py']
        """
        request = formula_pb2.ExportSourceRequest(
            model_name=name, model_version=str(version), format=format, include_libraries=include_libraries
        )
        files: Mapping[str, bytes] = await self._call("ExportSource", request)
        if folder is not None:
            await asyncio.to_thread(write, files, folder)
        return files

    async def watch(self, name: str = "") -> AsyncIterator[ModelEvent]:
        """Yield each version of a model, or of all models, and then each change, without end.

        It is iterated by `async for`. A lost connection is made again, and only changes in between are yielded.

        Parameters
        ----------
        name
            As in `Client.watch`.

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
        >>> async for event in client.watch("line"):
        ...     print(event.version, event.state)
        ...     break
        1 ready
        """
        request, known, failures = formula_pb2.WatchRequest(model_name=name), Known(), 0
        while not self._closed.is_set():
            called, metadata = self._names.next()
            stream = self._turn()["Watch"](request, metadata=metadata)
            try:
                async for response in stream:
                    failures = 0
                    for event in known.events(response):
                        yield event
            except grpc.RpcError as error:
                passing = retrying.is_passing(error) and (known.heard or failures < self._retries)
                if not passing and not self._closed.is_set():
                    raise (await self._error(error, called, failures + 1)) from None
            except asyncio.CancelledError:
                if not self._closed.is_set():
                    raise
                return
            finally:
                stream.cancel()
            failures += 1
            await asyncio.sleep(retrying.delay(failures))

    async def metadata(self, name: str, version: int | str = "") -> ModelInfo:
        """What a model is: the names of its inputs, outputs and classes, its versions, precision and backend.

        Parameters
        ----------
        name, version
            As in `Client.metadata`.

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
        >>> info = await client.metadata("line")
        >>> info.inputs, info.outputs, info.backend
        (('x',), ('y',), 'numpy_source')
        """
        return await self._run(describing.metadata(name, str(version)))

    async def models(self) -> tuple[ModelStatus, ...]:
        """Every version that the server found, loaded or not.

        Returns
        -------
        tuple of ModelStatus
            With `name`, `version`, `ready` and `reason`.

        Examples
        --------
        >>> [(one.name, one.version, one.ready) for one in await client.models()]
        [('line', 1, True)]
        """
        return await self._run(describing.models())

    async def statistics(self, name: str = "", version: int | str = "") -> tuple[ModelStatistics, ...]:
        """The statistics of all versions, or of one model or version, since the server started; durations in seconds.

        Parameters
        ----------
        name, version
            As in `Client.statistics`.

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
        >>> (await client.statistics("line"))[0].name
        'line'
        """
        return await self._run(describing.statistics(name, str(version)))

    async def load(self, name: str) -> None:
        """Make the server load a model's versions from its repository; never retried.

        Parameters
        ----------
        name
            As in `Client.load`.

        Raises
        ------
        AccessError, NotFoundError
            As in `Client.load`.

        Examples
        --------
        >>> await client.load("line")
        """
        await self._run(describing.load(name))

    async def unload(self, name: str) -> None:
        """Make the server unload a model; never retried.

        Parameters
        ----------
        name
            As in `Client.unload`.

        Raises
        ------
        AccessError
            The caller may not.

        Examples
        --------
        >>> await client.unload("line")
        >>> await client.ready("line")
        False
        >>> await client.load("line")
        """
        await self._run(describing.unload(name))

    async def live(self) -> bool:
        """Whether the server answers.

        Returns
        -------
        bool
            False if no server answers.

        Examples
        --------
        >>> await client.live()
        True
        """
        return await self._run(describing.live())

    async def ready(self, name: str = "", version: int | str = "") -> bool:
        """Whether the server, or one of its models, accepts requests.

        Parameters
        ----------
        name, version
            As in `Client.ready`.

        Returns
        -------
        bool
            False for an unknown model, and if no server answers.

        Examples
        --------
        >>> await client.ready("line")
        True
        """
        return await self._run(describing.ready(name, str(version)))
