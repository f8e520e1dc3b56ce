"""The categories of samples in the codes that a network has for them."""

from dataclasses import replace

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.data.frames import Categories
from kanserve.errors import DataError
from kanserve.network.kan import Kan


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
