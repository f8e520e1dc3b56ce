"""Samples with categories and missing values in the numbers that a network sees of them."""

from dataclasses import replace

import numpy as np

from kanserve.data.dataset import Dataset, Target, TrainingData, dataset
from kanserve.network.encoding import encode, in_codes_of, recode, without_encoding
from kanserve.network.kan import Kan

__all__ = ["in_codes_of", "in_numbers", "is_encoded", "recode", "samples_for", "with_categories"]


def is_encoded(data: Dataset) -> bool:
    """Whether an input of the samples is categorical, or missing in some row."""
    return bool(data.categories) or bool(np.isnan(data.x.min()))  # without an array of all rows


def samples_for(kan: Kan, data: TrainingData, target: Target = None) -> Dataset:
    """The samples of a caller for a network; a DataFrame's categories by their names, whatever the column's type."""
    known = {variable.name: variable.categories for variable in kan.inputs if variable.categories}
    wanted = [variable.name for variable in kan.inputs]
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
    known = {
        name: variable.categories for name, variable in zip(data.inputs, kan.inputs, strict=True) if variable.categories
    }
    return replace(data, categories={**known, **data.categories}) if known else data
