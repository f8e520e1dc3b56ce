"""Samples with categories and missing values in the numbers that a network sees of them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset, Target, TrainingData, dataset
from kanserve.data.frames import Categories
from kanserve.errors import DataError
from kanserve.network.encoding import encode, without_encoding
from kanserve.network.kan import Kan

Array = NDArray[np.float64]


def is_encoded(data: Dataset) -> bool:
    """Whether an input of the samples is categorical, or missing in some row."""
    return bool(data.categories) or bool(np.isnan(data.x.min()))  # without an array of all rows


def samples_for(kan: Kan, data: TrainingData, target: Target = None) -> Dataset:
    """The samples of a caller for a network; a DataFrame's categories by their names, whatever the column's type."""
    known = {one.name: one.categories for one in kan.inputs if one.categories}
    wanted = [one.name for one in kan.inputs]
    return in_codes_of(kan, dataset(data, target, classes=kan.classes, tables=True, known=known, wanted=wanted))


def in_numbers(kan: Kan, data: Dataset) -> tuple[Kan, Dataset]:
    """The network that takes the numbers which `kan` sees, and the samples in these numbers.

    DataError where a value is missing, or no known category, and the network has no number for it.
    """
    rows = in_codes_of(kan, data)
    numbers = replace(rows, x=encode(kan, rows.x), categories={})
    numbers.check_numbers()
    return without_encoding(kan), numbers


def with_categories(data: Dataset, kan: Kan) -> Dataset:
    """The samples with the categories of the network's inputs, where the data do not say theirs."""
    if len(data.inputs) != len(kan.inputs):
        return data
    known = {name: one.categories for name, one in zip(data.inputs, kan.inputs, strict=True) if one.categories}
    return replace(data, categories={**known, **data.categories}) if known else data


def in_codes_of(kan: Kan, data: Dataset) -> Dataset:
    """The samples with the codes of the network's categories; a category that it does not know has the next code."""
    if len(data.inputs) != len(kan.inputs):
        return data
    known = {name: one.categories for name, one in zip(data.inputs, kan.inputs, strict=True)}
    for name in data.categories:
        if not known[name]:
            raise DataError(f"Input {name!r} has categories in the data, and is a number in the network.")
    return recoded(data, known)


def recoded(data: Dataset, known: Categories) -> Dataset:
    """The samples with the codes of these categories instead of their own."""
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
