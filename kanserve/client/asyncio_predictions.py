"""The asyncio client's calls that take rows: predictions, intervals and derivatives."""

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kanserve.client import predicting
from kanserve.client.asyncio_connection import AsyncConnection
from kanserve.client.dataframes import Frame, Rows
from kanserve.client.predicting import Array, Output
from kanserve.client.responses import Prediction


class AsyncPredictions(AsyncConnection):
    """The calls of `AsyncClient` that take rows."""

    @overload
    async def predict(
        self,
        name: str,
        x: Frame,
        version: int | str = "",
        *,
        output: Output = "y",
        dtype: DTypeLike = np.float64,
    ) -> Any: ...
    @overload
    async def predict(
        self,
        name: str,
        x: Rows,
        version: int | str = "",
        *,
        output: Output = "y",
        dtype: DTypeLike = np.float64,
    ) -> NDArray[Any]: ...
    async def predict(
        self,
        name: str,
        x: Rows | Frame,
        version: int | str = "",
        *,
        output: Output = "y",
        dtype: DTypeLike = np.float64,
    ) -> Any:
        """The outputs at raw features x, in raw units; for a classifier the scores.

        Parameters
        ----------
        name, x, version, output, dtype
            As in `Client.predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_outputs), or DataFrame
            A DataFrame for a DataFrame; labels have the shape (n_samples,).

        Raises
        ------
        NotFoundError, DataError, TensorError
            As in `Client.predict`.

        Examples
        --------
        >>> (await client.predict("line", [[0.0], [0.5]])).tolist()
        [[1.0], [2.0]]
        """
        return await self._run(predicting.predict(self._memory, name, x, str(version), output, dtype))

    async def predict_interval(
        self,
        name: str,
        x: Rows | Frame,
        version: int | str = "",
        *,
        level: float = 0.9,
        dtype: DTypeLike = np.float64,
    ) -> tuple[Any, Any]:
        """The ends of prediction intervals at raw features x, each as `predict` gives the outputs.

        Parameters
        ----------
        name, x, version, level, dtype
            As in `Client.predict_interval`.

        Returns
        -------
        low, high : ndarray of shape (n_samples, n_outputs), or DataFrame
            The ends.

        Raises
        ------
        NotFoundError, DataError, TensorError
            As in `Client.predict_interval`.

        Examples
        --------
        >>> low, high = await client.predict_interval("line", [[0.5]])
        >>> low.round(3).tolist(), high.round(3).tolist()
        ([[1.75]], [[2.25]])
        """
        return await self._run(predicting.predict_interval(self._memory, name, x, str(version), level, dtype))

    async def infer(
        self, name: str, x: Rows | Frame, version: int | str = "", *, dtype: DTypeLike = np.float64
    ) -> Prediction:
        """All outputs, in raw units, and which rows are outside the training range.

        Parameters
        ----------
        name, x, version, dtype
            As in `Client.infer`.

        Returns
        -------
        Prediction
            With `values`, of a classifier `probabilities` and `labels`, and `outside`: how many rows, and which.

        Raises
        ------
        NotFoundError, DataError, TensorError
            As in `Client.infer`.

        Examples
        --------
        >>> answer = await client.infer("line", [[0.5], [7.0]])
        >>> answer.values.tolist(), answer.outside, answer.outside_rows
        ([[2.0], [15.0]], 1, (1,))
        """
        return await self._run(predicting.infer(self._memory, name, x, str(version), dtype))

    @overload
    async def differentiate(
        self, name: str, x: Rows | Frame, version: int | str = "", *, hessian: Literal[False] = False
    ) -> tuple[Array, Array]: ...

    @overload
    async def differentiate(
        self, name: str, x: Rows | Frame, version: int | str = "", *, hessian: Literal[True]
    ) -> tuple[Array, Array, Array]: ...

    async def differentiate(
        self, name: str, x: Rows | Frame, version: int | str = "", *, hessian: bool = False
    ) -> tuple[Array, ...]:
        """The outputs and their exact derivatives, both in raw units; for a classifier those of the scores.

        Parameters
        ----------
        name, x, version, hessian
            As in `Client.differentiate`.

        Returns
        -------
        y, first, second : ndarray
            (n_samples, n_outputs), then an axis of inputs more for each order; `second` only with `hessian`.

        Raises
        ------
        NotFoundError, DataError, TensorError
            As in `Client.differentiate`.

        Examples
        --------
        >>> y, first = await client.differentiate("line", [[0.5]])
        >>> first.tolist()
        [[[2.0]]]
        """
        return await self._run(predicting.differentiate(self._memory, name, x, str(version), hessian))
