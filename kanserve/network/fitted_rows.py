"""Hashes of the rows that a network was fitted to; they travel with the network, since its errors on these rows say too
little about new ones. Only the smallest hashes of a table are kept (a bottom-k sketch, Broder 1997), which are a random
sample of its rows. The share of known rows among the smallest hashes of another table estimates that among all of its
rows."""

from dataclasses import replace
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.kan import Kan
from kanserve.network.kan_checks import MOST_FITTED_ROWS

Array = NDArray[np.float64]
Hashes = NDArray[np.uint64]

# If this share of the rows has no error at all, the quantile .9 of all errors is .895 of those of the unseen rows: the
# promise is off by half a percent, which is less than what the choice of 200 calibration rows changes (2 %).
MOST_SEEN = 0.05
_ROWS_AT_ONCE = 2**16  # so that the hashes of a table larger than memory fit into it


def hash_rows(data: Dataset) -> Hashes:
    """A hash (N,) of each row's inputs and targets. Equal numbers give equal hashes on every machine."""
    result = np.zeros(len(data), np.uint64)
    for start in range(0, len(data), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        for column in (*data.x[rows].T, *data.y[rows].T):
            result[rows] = _mix(result[rows] ^ _bits(column))
    return result


def smallest_hashes(*tables: Hashes) -> Hashes:
    """The smallest distinct hashes of all tables, sorted, which is what a network stores."""
    return np.unique(np.concatenate(tables))[:MOST_FITTED_ROWS]


def record_rows(kan: Kan, *tables: Hashes) -> Kan:
    """Record the hashes of the rows that the network was fitted to. Forgets `members`, since a fitted network is no
    longer the mean of other networks."""
    return replace(kan, fitted_rows=smallest_hashes(*tables), members=())


def share_of_fitted_rows(kan: Kan, data: Dataset) -> float | None:
    """The share of the rows of `data` that the network was fitted to, from 0 to 1; None if that is not recorded. With
    `MOST_FITTED_ROWS` recorded rows, the most that are kept, it is an estimate, and None if the table is too small for
    one."""
    kept = kan.fitted_rows
    if len(kept) == 0:
        return None
    hashes = hash_rows(data)
    if len(kept) == MOST_FITTED_ROWS:
        hashes = hashes[hashes <= kept[-1]]
    return float(np.isin(hashes, kept).mean()) if len(hashes) else None


def too_many_seen(share: float | None) -> TypeGuard[float]:
    """Whether so large a share of the rows was fitted that their errors do not predict those on new rows."""
    return share is not None and share > MOST_SEEN


def _bits(column: Array) -> Hashes:
    """The bits of numbers, equal for -0 and 0 and for all kinds of NaN."""
    plain = np.where(np.isnan(column), np.nan, column + 0.0)
    return plain.astype(np.float64).view(np.uint64)


def _mix(values: Hashes) -> Hashes:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014), by which every bit depends on all bits."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
