"""The encoding of raw inputs as numbers, before the first layer: what stands in for a missing value, and categories.

The raw value of a categorical input is the code of its category, 0, 1, ..; the network sees the category's number. NaN
is a missing value: the network sees the input's `fill_value`, as it does for a code that is not a category.
Infinities are never missing. Without a fill value such a number stays, or becomes, NaN, and so do the outputs of the
row.

Derivatives with respect to a categorical input, or to one that is missing in the row, are 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.frames import Categories
from kanserve.errors import DataError
from kanserve.network.kan import Kan, Variable

Array = NDArray[np.float64]


def encodes(kan: Kan) -> bool:
    """Whether any input has a fill value or categories."""
    return any(map(is_encoded, kan.inputs))


def is_encoded(variable: Variable) -> bool:
    """Whether an input has a fill value or categories."""
    return variable.fill_value is not None or bool(variable.categories)


def encode(kan: Kan, x: Array) -> Array:
    """Convert raw rows x (N, inputs) to the numbers that the network uses; x itself if nothing is encoded."""
    if not encodes(kan):
        return x
    return encode_columns(x, kan.inputs, range(len(kan.inputs)))


def encode_columns(x: Array, variables: Sequence[Variable], columns: Iterable[int]) -> Array:
    """Rows x (N, inputs) with the given columns encoded."""
    result = x.copy()
    for variable, i in zip(variables, columns, strict=True):
        if is_encoded(variable):
            result[:, i] = encode_column(variable, x[:, i])
    return result


def encode_column(variable: Variable, raw: Array) -> Array:
    """Convert raw values (N,) of this input to the numbers that the network uses."""
    fill = np.nan if variable.fill_value is None else variable.fill_value
    if not variable.categories:
        return np.where(np.isnan(raw), fill, raw)
    known = is_category(variable, raw)
    numbers = np.array(variable.category_values)[np.where(known, raw, 0).astype(np.intp)]
    return np.where(known, numbers, np.where(np.isinf(raw), raw, fill))


def is_category(variable: Variable, raw: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask of the raw values (N,) of a categorical input that are codes of its categories."""
    with np.errstate(invalid="ignore"):
        found: NDArray[np.bool_] = (raw >= 0) & (raw < len(variable.categories)) & (raw == np.floor(raw))
    return found


def is_outside(variable: Variable, raw: NDArray[Any], low: float, high: float) -> NDArray[np.bool_]:
    """Mask of the raw values (N,) outside the range of an input. Codes of no category count as outside, and so does NaN
    unless the input has a fill value."""
    within = is_category(variable, raw) if variable.categories else (raw >= low) & (raw <= high)
    if variable.fill_value is not None:
        within |= np.isnan(raw)
    result: NDArray[np.bool_] = ~within
    return result


def has_no_slope(kan: Kan, x: Array) -> NDArray[np.bool_]:
    """Mask (N, inputs) of where derivatives with respect to the raw input are 0: categories and missing values."""
    categorical = np.array([bool(variable.categories) for variable in kan.inputs])
    fills = np.array([variable.fill_value is not None for variable in kan.inputs])
    result: NDArray[np.bool_] = categorical | (fills & np.isnan(x))
    return result


def without_encoding(kan: Kan) -> Kan:
    """The network without its encoding: it takes already encoded numbers."""
    return replace(kan, inputs=tuple(map(encode_variable, kan.inputs)))


def encode_variable(variable: Variable) -> Variable:
    """The variable of the encoded numbers: its range is that of the categories' numbers, or unchanged. A fill value may
    lie outside the range of a number, but not of categories."""
    if not variable.categories:
        return replace(variable, fill_value=None)
    numbers = [*variable.category_values, *([] if variable.fill_value is None else [variable.fill_value])]
    return Variable(variable.name, variable.unit, min(numbers), max(numbers))


def in_codes_of(kan: Kan, data: Dataset) -> Dataset:
    """Recode the samples to the network's category codes; an unknown category gets the next code."""
    if len(data.inputs) != len(kan.inputs):
        return data
    known = {name: variable.categories for name, variable in zip(data.inputs, kan.inputs, strict=True)}
    for name in data.categories:
        if not known[name]:
            raise DataError(f"Input {name!r} has categories in the data, and is a number in the network.")
    return recode(data, known)


def recode(data: Dataset, known: Categories) -> Dataset:
    changed = {name: own for name, own in data.categories.items() if own != known[name]}
    if not changed:
        return data
    x = data.x.copy()
    for name, own in changed.items():
        i = data.inputs.index(name)
        place = {category: code for code, category in enumerate(known[name])}
        codes = np.array([place.get(category, len(known[name])) for category in own], np.float64)
        given = ~np.isnan(x[:, i])
        x[given, i] = np.append(codes, len(known[name]))[np.minimum(x[given, i], len(own)).astype(np.intp)]
    return replace(data, x=x, categories={name: known[name] for name in data.categories})
