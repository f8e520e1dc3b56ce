"""Find inputs that deserve a warning: codes for missing values, copies of each other or of the target, row numbers."""

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.near_names import first_names

Array = NDArray[np.float64]

FEWEST_ROWS = 20
"""Of fewer, columns are equal, consecutive or all different by chance."""
ROWS = 2000
"""That are compared: with 500 inputs all of 20,000 rows would take seconds, and columns that agree in so many agree."""
SPAN = 2
"""Times the number of rows, from the least to the largest number: held-out rows leave gaps in those of the others."""
FEWEST_CODES, FEWEST_OTHERS = 3, 3
"""Rows with a code, and different other values: a value that is there once is a row far out, and an input of two values
has no code."""
SHOWN = 5
"""Names, or pairs of names, in a warning: more are not read."""


def describe_inputs(data: Dataset) -> list[str]:
    """A sentence and a remedy for each kind of suspicious input, naming them and their encoded categories. Only exact
    copies are reported: learning tables often have a column and its multiple."""
    if len(data) < FEWEST_ROWS:
        return []
    rows = data.sample(ROWS, 0)
    found = []
    codes = [
        f"{name!r} is {code:g} in {count} of {len(rows)} rows" for name, (code, count) in missing_codes(rows).items()
    ]
    if codes:
        found.append(
            f"Inputs that seem to have a code for missing values: {first_names(codes, SHOWN)}, far from all other "
            "values, and the splines would have to pass through it. Replace it by NaN, or in a file by nothing: the "
            "network then learns a number for what is missing."
        )
    if len(data.inputs) < 2:
        return found
    if copies := first_names(_copies(rows), SHOWN):
        found.append(
            f"Inputs with the values of other inputs: {copies}. They add nothing, and the importance is "
            "shared between them in any way. Leave out one of each."
        )
    if leaks := first_names(_leaks(rows), SHOWN):
        found.append(
            f"Inputs that are the answers: {leaks}. The network copies them and learns nothing else. Leave "
            "them out, unless they are there when predictions are made."
        )
    named = zip(rows.inputs, data.x.T, strict=True)
    if numbers := first_names([repr(name) for name, column in named if _numbers_rows(column)], SHOWN):
        found.append(
            f"Inputs that number the rows: {numbers}. Their values are whole, each is there "
            "once, and few between are missing. New rows have other numbers, so leave out what is an identifier; of a "
            "time, predictions for later rows are extrapolated."
        )
    return found


def missing_codes(rows: Dataset) -> dict[str, tuple[float, int]]:
    """The inputs with a code for missing values such as -9999 or 999, with the code and its number of rows. A code
    consists of nines, is the smallest or largest value, and is further from all others than these from each other."""
    found = {}
    for name, column in zip(rows.inputs, rows.x.T, strict=True):
        values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
        if len(values) <= FEWEST_OTHERS:
            continue
        for end, inner in ((0, slice(1, None)), (-1, slice(None, -1))):
            others = values[inner]
            gap = np.abs(others - values[end]).min()
            if {*f"{abs(values[end]):g}"} == {"9"} and counts[end] >= FEWEST_CODES and gap > np.ptp(others):
                found[name] = (float(values[end]), int(counts[end]))
    return found


def _copies(rows: Dataset) -> list[str]:
    """The pairs of inputs that are equal in every row and not constant."""
    first, found = dict[bytes, str](), []
    for name, column in zip(rows.inputs, rows.x.T, strict=True):
        if np.ptp(column) > 0:
            other = first.setdefault((column + 0.0).tobytes(), name)  # -0.0 + 0.0 is 0.0
            found += [f"{name!r} is {other!r}"] if other != name else []
    return found


def _leaks(rows: Dataset) -> list[str]:
    """The inputs that equal a target in every row, or have one value for each class."""
    if rows.classes:
        labels = rows.y.argmax(axis=1)
        most = len(np.unique(labels))
        named = zip(rows.inputs, rows.x.T, strict=True)
        return [f"{name!r} is the class" for name, column in named if _renames(column, labels, most)]
    answers = {(answer + 0.0).tobytes(): name for answer, name in zip(rows.y.T, rows.outputs, strict=True)}
    equal = {
        name: answers.get((column + 0.0).tobytes())
        for name, column in zip(rows.inputs, rows.x.T, strict=True)
        if np.ptp(column) > 0
    }
    return [f"{name!r} is {answer!r}" for name, answer in equal.items() if answer is not None]


def _renames(column: Array, labels: NDArray[np.int64], most: int) -> bool:
    """Whether the column's values and the labels correspond one to one."""
    if len(np.unique(column)) != most:
        return False
    return len(np.unique(np.column_stack([column, labels]), axis=0)) == most


def _numbers_rows(column: Array) -> bool:
    """Whether the values look like row numbers: distinct integers with few gaps."""
    if not (np.isfinite(column).all() and (column == np.floor(column)).all()):
        return False
    return bool(np.ptp(column) < SPAN * len(column) and len(np.unique(column)) == len(column))
