"""Convert samples with categories and missing values to the numbers that a network uses for them."""

from dataclasses import replace

import numpy as np

from kanserve.data.dataset import Dataset, Target, TrainingData, dataset
from kanserve.network.encoding import encode, in_codes_of, recode, without_encoding
from kanserve.network.kan import Kan

__all__ = ["in_codes_of", "in_numbers", "is_encoded", "recode", "samples_for", "with_categories"]


def is_encoded(data: Dataset) -> bool:
    """Whether an input is categorical, or has missing values."""
    return bool(data.categories) or bool(np.isnan(data.x.min()))  # without an array of all rows


def samples_for(kan: Kan, data: TrainingData, target: Target = None) -> Dataset:
    """The user's data as samples for a network. Categories in a DataFrame are matched by name."""
    known = {variable.name: variable.categories for variable in kan.inputs if variable.categories}
    wanted = [variable.name for variable in kan.inputs]
    return in_codes_of(kan, dataset(data, target, classes=kan.classes, tables=True, known=known, wanted=wanted))


def in_numbers(kan: Kan, data: Dataset) -> tuple[Kan, Dataset]:
    """The network without its encoding, and the encoded samples. Raises DataError if a value is missing or an unknown
    category, and the network has no number for it."""
    rows = in_codes_of(kan, data)
    numbers = replace(rows, x=encode(kan, rows.x), categories={})
    numbers.check_numbers()
    return without_encoding(kan), numbers


def with_categories(data: Dataset, kan: Kan) -> Dataset:
    """Add the network's categories for inputs whose categories the data do not define."""
    if len(data.inputs) != len(kan.inputs):
        return data
    known = {
        name: variable.categories for name, variable in zip(data.inputs, kan.inputs, strict=True) if variable.categories
    }
    return replace(data, categories={**known, **data.categories}) if known else data
