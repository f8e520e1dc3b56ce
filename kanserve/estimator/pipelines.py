"""A scikit-learn pipeline as one network: scalers, encoders and imputers become parts of it. A scaler becomes shifts
and scales of the network, an imputer's value the fill value of the input, an encoder's numbers those of a categorical
input. The columns that a one-hot encoder makes of one raw column become one categorical input, with the sum of their
edges. What the steps do to a column is found by transforming rows in which one raw column changes."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted

from kanserve.data.frames import category_text
from kanserve.errors import InputError
from kanserve.estimator.base import NetworkEstimator
from kanserve.estimator.merged_inputs import Merged, with_inputs
from kanserve.estimator.pipeline_columns import Column, Walk
from kanserve.network.encoding import encode_column
from kanserve.network.kan import Kan, Variable

Array = NDArray[np.float64]
Unknown = Literal["exact", "missing"]
FORMATS = ("onnx_graph", "c_source", "numpy_source")
AGREE = 1e-9  # of a third point, so that a step is a line


def from_pipeline(pipeline: Any, unknown: Unknown = "exact") -> Kan:
    """The network that takes a fitted pipeline's raw columns and predicts what the pipeline does.

    Parameters
    ----------
    pipeline : Pipeline or TransformedTargetRegressor
        Fitted; its last step is a KANRegressor or KANClassifier. The others are scalers (standard, min-max, max-abs,
        robust), SimpleImputer, OneHotEncoder, OrdinalEncoder, TargetEncoder, selections of columns, ColumnTransformer,
        and pipelines of these. Answers may be scaled by TransformedTargetRegressor.
    unknown : {"exact", "missing"}, default="exact"
        A network has one number for what is missing and for unknown categories. Where the pipeline encodes the two
        differently, "exact" refuses it, and "missing" takes unknown categories as missing ones.

    Returns
    -------
    Kan
        Its inputs are the raw columns that the network depends on, by name. What is missing is imputed, and an unknown
        category is encoded, as in the pipeline; a category that the pipeline refuses is like a missing one.

    Raises
    ------
    InputError
        A step cannot be part of a network; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from kanserve.estimator import KANRegressor, from_pipeline
    >>> x = np.random.default_rng(0).uniform(10, 20, (100, 2))
    >>> model = make_pipeline(StandardScaler(), KANRegressor(hidden=(), random_state=0)).fit(x, x[:, 0] ** 2)
    >>> bool(np.allclose(from_pipeline(model)(x)[:, 0], model.predict(x)))
    True
    """
    check_is_fitted(pipeline)
    if isinstance(pipeline, TransformedTargetRegressor):
        return _with_scaled_answers(from_pipeline(pipeline.regressor_, unknown), pipeline.transformer_)
    if isinstance(pipeline, NetworkEstimator):
        return pipeline.kan_
    if not isinstance(pipeline, Pipeline) or not isinstance(pipeline.steps[-1][1], NetworkEstimator):
        raise InputError("A pipeline whose last step is a KANRegressor or KANClassifier is needed.")
    kan = pipeline.steps[-1][1].kan_
    if len(pipeline.steps) == 1:
        return kan
    named = getattr(pipeline, "feature_names_in_", None)
    names = [f"x{i + 1}" for i in range(pipeline.n_features_in_)] if named is None else [str(name) for name in named]
    walk = Walk()
    columns = walk.pipeline(pipeline[:-1], [Column(name) for name in names], "")
    raw = _Raw(pipeline[:-1], names, named is not None, walk.categories)
    inputs = [_input(raw, kan, columns, name, unknown) for name in names if any(one.source == name for one in columns)]
    return with_inputs(kan, inputs)


def export_pipeline(
    pipeline: Any,
    folder: str | os.PathLike[str],
    formats: Sequence[str] = FORMATS,
    *,
    unknown: Unknown = "exact",
    **options: Any,
) -> tuple[Path, ...]:
    """Write a fitted pipeline as source, graph and library files, by `from_pipeline(pipeline).export(folder, ...)`.

    Parameters
    ----------
    pipeline : Pipeline or TransformedTargetRegressor
        As for `from_pipeline`.
    folder : str or path
        A new folder; each format gets a folder of its own in it.
    formats : sequence of str
        As for `KANRegressor.export`.
    unknown : {"exact", "missing"}
        As for `from_pipeline`.
    **options
        name, precision, options and targets, as `kanserve.export` takes them.

    Returns
    -------
    tuple of Path
        The files that were written, sorted.

    Raises
    ------
    InputError
        A step cannot be part of a network; the message names it.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from kanserve.estimator import KANRegressor, export_pipeline
    >>> x = np.random.default_rng(0).uniform(10, 20, (100, 2))
    >>> model = make_pipeline(StandardScaler(), KANRegressor(hidden=(), random_state=0)).fit(x, x[:, 0] ** 2)
    >>> [path.suffix for path in export_pipeline(model, tempfile.mkdtemp() + "/out", ["numpy_source"])]
    ['.py']
    """
    return from_pipeline(pipeline, unknown).export(folder, formats, **options)


@dataclass
class _Raw:
    """The steps before the network, applied to raw rows in which one column changes."""

    steps: Any
    names: list[str]
    named: bool
    categories: dict[str, list[Any]]

    def transform(self, name: str, values: Sequence[Any]) -> list[list[Any] | None]:
        """The output columns of the steps for these values of a raw column; None for values that they refuse."""
        return [self._transform_value(name, value) for value in values]

    def _transform_value(self, name: str, value: Any) -> list[Any] | None:
        row = [
            value if one == name else self.categories[one][0] if one in self.categories else 0.0 for one in self.names
        ]
        rows: Any = np.array([row], object if self.categories else np.float64)
        if self.named:
            import pandas

            kinds = [object if self._is_text(one) else np.float64 for one in self.names]
            rows = pandas.DataFrame(
                {one: pandas.Series([own], dtype=kind) for one, own, kind in zip(self.names, row, kinds, strict=True)}
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = self.steps.transform(rows)
            except ValueError:
                return None
        found = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
        listed: list[Any] = found[0].tolist()
        return listed

    def _is_text(self, name: str) -> bool:
        return any(isinstance(value, str) for value in self.categories.get(name, ()))


def _input(raw: _Raw, kan: Kan, columns: Sequence[Column], name: str, unknown: Unknown) -> Merged:
    """Convert a raw column to an input of the network."""
    places = [i for i, one in enumerate(columns) if one.source == name]
    if name in raw.categories:
        return _categorical(raw, kan, places, name, unknown)
    if len(places) > 1:
        raise InputError(f"The column {name!r} goes into the network {len(places)} times, as numbers; use it once.")
    one = kan.inputs[places[0]]
    if columns[places[0]].plain:
        return Merged(replace(one, name=name), places, kan.input_shift[places[0]], kan.input_scale[places[0]])
    slope, constant, missing = _line(raw, places[0], name)
    fill = one.fill_value if missing is None else missing
    low, high = sorted(((one.low - constant) / slope, (one.high - constant) / slope))
    variable = Variable(name, "", low, high, None if fill is None else (fill - constant) / slope)
    shift, scale = (kan.input_shift[places[0]] - constant) / slope, kan.input_scale[places[0]] / slope
    return Merged(variable, places, shift, scale)


def _line(raw: _Raw, place: int, name: str) -> tuple[float, float, float | None]:
    """Slope and intercept of the linear map that the steps apply to a raw number, and the number for a missing one."""

    def at(values: Sequence[float]) -> list[float]:
        found = raw.transform(name, values)
        if any(one is None for one in found):
            raise InputError(f"The pipeline does not take numbers in the column {name!r}.")
        return [float(one[place]) for one in found if one is not None]

    first = at([0.0, 1.0])
    rough = first[1] - first[0]
    middle = -first[0] / rough if rough else 0.0  # where the result is about 0, and has no rounding of a large shift
    ends = [middle - 1 / rough, middle + 1 / rough] if rough else [-1.0, 1.0]
    low, centre, high = at([ends[0], middle, ends[1]])
    slope = (high - low) / (ends[1] - ends[0])
    if slope == 0 or abs(centre - (low + high) / 2) > AGREE * abs(high - low):
        raise InputError(f"The steps of the pipeline do not scale the column {name!r} by a factor.")
    missing = raw.transform(name, [np.nan])[0]
    number = None if missing is None or np.isnan(missing[place]) else float(missing[place])
    return slope, (low + high) / 2 - slope * (ends[0] + ends[1]) / 2, number


def _categorical(raw: _Raw, kan: Kan, places: list[int], name: str, unknown: Unknown) -> Merged:
    """Convert a raw column of categories: find the numbers that the network gets for each category."""
    known = raw.categories[name]
    texts = [category_text(value) for value in known]
    number = all(isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in known)
    new: Any = max(known) + 1 if number else max(map(str, known), key=len) + "?"
    found = raw.transform(name, [*known, np.nan, new])
    table = [None if one is None else _first_layer_inputs(kan, places, one) for one in found]
    missing, other = table[-2:]
    same = missing is None or other is None or np.allclose(missing, other, rtol=0, atol=1e-12, equal_nan=True)
    if not same and unknown == "exact":
        raise InputError(
            f"The pipeline encodes a missing value of {name!r} unlike an unknown one, and a network has one number for "
            'both. With unknown="missing" unknown categories are taken as missing ones.'
        )
    fill = other if missing is None else missing
    rows = [one for one in table[:-2] if one is not None]
    if len(rows) < len(known):
        raise InputError(f"The pipeline refuses a category of {name!r} that it was fitted on.")
    values = np.array([*rows, *([] if fill is None or np.isnan(fill).any() else [fill])])
    return Merged.categorical(kan, name, tuple(texts), places, values)


def _first_layer_inputs(kan: Kan, places: list[int], row: list[Any]) -> Array:
    """The numbers of these inputs that the network's first layer gets."""
    return np.array([encode_column(kan.inputs[i], np.array([float(row[i])]))[0] for i in places])


def _with_scaled_answers(kan: Kan, transformer: Any) -> Kan:
    """Append the inverse of a target scaler to the network."""
    if not isinstance(transformer, StandardScaler | MinMaxScaler | MaxAbsScaler | RobustScaler):
        raise InputError(
            f"Answers are transformed by {type(transformer).__name__}, which cannot be made part of a network; scalers "
            "can."
        )
    ends = np.asarray(transformer.inverse_transform(np.array([np.zeros(len(kan.outputs)), np.ones(len(kan.outputs))])))
    shift, scale = ends[0], ends[1] - ends[0]
    outputs = [
        replace(one, low=scale[q] * one.low + shift[q], high=scale[q] * one.high + shift[q])
        for q, one in enumerate(kan.outputs)
    ]
    return replace(
        kan,
        outputs=tuple(outputs),
        output_shift=scale * kan.output_shift + shift,
        output_scale=scale * kan.output_scale,
    )
