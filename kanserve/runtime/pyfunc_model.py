"""A model for MLflow's `pyfunc` interface: DataFrames in and out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.data.frames import encode_columns, is_frame
from kanserve.errors import DataError
from kanserve.network.evaluate import softmax
from kanserve.network.kan import Kan
from kanserve.runtime.model import LoadedModel


class PyfuncModel:
    """A model as `mlflow.pyfunc` and `mlflow models serve` call it.

    Parameters
    ----------
    model : LoadedModel
        The model.

    Examples
    --------
    >>> import kanserve, kanserve.mlflow
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> model = kanserve.mlflow.PyfuncModel(kanserve.LoadedModel(kanserve.compile(kan, ["numpy_source"])))
    >>> model.predict([[0.0], [0.5]])["y"].tolist()
    [1.0, 2.0]
    """

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """The outputs, or a classifier's labels or probabilities.

        Parameters
        ----------
        data : DataFrame or array_like of shape (n_samples, n_inputs)
            A DataFrame's columns are found by name and may be more than the inputs; one that may be missing may be left
            out.
        params : mapping, optional
            {"probabilities": True} asks a classifier for probabilities.

        Returns
        -------
        DataFrame
            A column per output; of a classifier the column "label", or one per class. It has the index of `data`.

        Raises
        ------
        DataError
            A column is missing, or the rows have another width.

        Examples
        --------
        >>> import kanserve, kanserve.mlflow
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> model = kanserve.mlflow.PyfuncModel(kanserve.LoadedModel(kanserve.compile(kan, ["numpy_source"])))
        >>> import pandas as pd
        >>> model.predict(pd.DataFrame({"x": [0.0, 0.5]}))["y"].tolist()
        [1.0, 2.0]
        """
        import pandas as pd

        kan, index = self.model.kan, getattr(data, "index", None) if is_frame(data) else None
        rows = _rows(kan, data)
        if kan.classes and not (params or {}).get("probabilities"):
            return pd.DataFrame({"label": self.model.predict(rows)}, index=index)
        values = self.model(rows)
        names = kan.classes or [variable.name for variable in kan.outputs]
        return pd.DataFrame(softmax(values) if kan.classes else values, index=index, columns=list(names))


def _rows(kan: Kan, data: Any) -> NDArray[Any]:
    names = [variable.name for variable in kan.inputs]
    if not is_frame(data):
        return np.asarray(data, np.float64)
    there = list(data.columns)
    if not set(names) & set(there) and len(there) == len(names):  # numbered columns, as MLflow makes of an array
        return encode_columns(data, there)[0]
    missing = [variable.name for variable in kan.inputs if variable.name not in there and variable.fill_value is None]
    if missing:
        raise DataError(f"The columns {', '.join(missing[:30])} are missing; the model takes {', '.join(names[:30])}.")
    rows = np.full((data.shape[0], len(names)), np.nan)
    known = [i for i, name in enumerate(names) if name in there]
    categories = {variable.name: variable.categories for variable in kan.inputs if variable.categories}
    if known:
        rows[:, known] = encode_columns(data, [names[i] for i in known], categories)[0]
    return rows
