"""The synchronous client's calls that take rows: predictions, intervals and derivatives."""

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kanserve.client import predicting
from kanserve.client.blocking_connection import BlockingConnection
from kanserve.client.dataframes import Frame, Rows
from kanserve.client.predicting import Array, Output
from kanserve.client.responses import Prediction


class BlockingPredictions(BlockingConnection):
    """The calls of `Client` that take rows."""

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
        x: Rows,
        version: int | str = "",
        *,
        output: Output = "y",
        dtype: DTypeLike = np.float64,
    ) -> NDArray[Any]: ...
    def predict(
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
            There is no such model or version.
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
        self,
        name: str,
        x: Rows | Frame,
        version: int | str = "",
        *,
        level: float = 0.9,
        dtype: DTypeLike = np.float64,
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

    def infer(
        self, name: str, x: Rows | Frame, version: int | str = "", *, dtype: DTypeLike = np.float64
    ) -> Prediction:
        """All outputs, in raw units, and which rows are outside the training range.

        Parameters
        ----------
        name, x, version, dtype
            As in `predict`.

        Returns
        -------
        Prediction
            With `values`, of a classifier `probabilities` and `labels`, and `outside`: how many rows, and which.

        Raises
        ------
        NotFoundError, DataError, TensorError
            As in `predict`.

        Examples
        --------
        >>> answer = client.infer("line", [[0.5], [7.0]])
        >>> answer.values.tolist(), answer.outside, answer.outside_rows
        ([[2.0], [15.0]], 1, (1,))
        """
        return self._run(predicting.infer(self._memory, name, x, str(version), dtype))

    @overload
    def differentiate(
        self, name: str, x: Rows | Frame, version: int | str = "", *, hessian: Literal[False] = False
    ) -> tuple[Array, Array]: ...

    @overload
    def differentiate(
        self, name: str, x: Rows | Frame, version: int | str = "", *, hessian: Literal[True]
    ) -> tuple[Array, Array, Array]: ...

    def differentiate(
        self, name: str, x: Rows | Frame, version: int | str = "", *, hessian: bool = False
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
