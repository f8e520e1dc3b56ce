"""Several fits of one structure, from other seeds, and their mean: a network."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.network.encoding import without_encoding
from kanserve.network.kan import Kan
from kanserve.train import average, fit
from kanserve.train.encoded_data import is_encoded
from kanserve.train.encoding_search import in_numbers
from kanserve.train.fit_warnings import TrainingWarning

SEEDS = 2**31


def mean_of_fits(begin: Kan, data: Dataset, count: int, seed: int, options: Mapping[str, Any]) -> Kan:
    """The mean of so many fits of this structure; all have the numbers for categories that the first has learned."""
    first: Kan = fit(begin, data, seed=seed, **options)
    if count == 1:
        return first
    numbers = in_numbers(data, first.inputs) if is_encoded(data) else data
    fits = [without_encoding(first)]
    for other in np.random.default_rng(seed).integers(SEEDS, size=count - 1).tolist():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)  # the first has said it
            fits.append(fit(begin, numbers, seed=other, **options))
    return replace(average(fits), inputs=first.inputs, fitted_rows=first.fitted_rows)
