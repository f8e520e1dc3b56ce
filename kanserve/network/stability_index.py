"""Drift: whether the rows that a model answers are spread over its inputs as its training rows were.

The measure is the population stability index of the shares q of the latest rows and p of the training rows in bins,

    PSI = sum((q - p) * log(q / p)),

the divergence of Kullback and Leibler in both directions. By custom 0.1 is a moderate change and 0.25 a large one. Of n
rows and m training rows in k bins that do not differ, PSI is not 0: PSI / (1/n + 1/m) is then distributed as chi-square
with k - 1 degrees of freedom (Yurdakul and Naranjo, Journal of Risk Model Validation 14, 2020). So beside PSI there is
PSI above chance: PSI less what unchanged inputs exceed once in a million looks. An input has drifted if that is over
DRIFTED, so neither few rows nor a change too small to matter raises an alarm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

DRIFTED = 0.1  # PSI above chance: a moderate change by custom; half of it finds smaller changes and needs more rows
# What a chi-square variable of 1 to 10 degrees of freedom exceeds once in a million. In 100,000 windows of each of 54
# sizes PSI above chance was over DRIFTED once; with once in a thousand it would be more often where there are few rows.
_CHANCE = (23.93, 27.63, 30.66, 33.38, 35.89, 38.26, 40.52, 42.70, 44.81, 46.86)
_PRIOR = 0.5  # rows added to each bin, so that an empty bin has a finite share; the bias is below that of chance


@dataclass(frozen=True)
class InputDrift:
    """How the latest rows that a version answered are spread over an input, as `Client.drift` returns it.

    Parameters
    ----------
    name : str
        The input.
    rows : int
        The rows that were counted: one of each request.
    psi : float
        The population stability index; by custom 0.1 is a moderate change and 0.25 a large one.
    psi_above_chance : float
        The index less what unchanged inputs exceed once in a million, for so many rows; at least 0.
    outside : float
        The share of the rows in which the input was outside its training range.

    Examples
    --------
    >>> from kanserve.client import InputDrift
    >>> InputDrift("area", rows=2000, psi=0.24, psi_above_chance=0.21, outside=0.01).drifted
    True
    """

    name: str
    rows: int
    psi: float
    psi_above_chance: float
    outside: float

    @property
    def drifted(self) -> bool:
        """Whether the index above chance is over 0.1, as the alert asks."""
        return self.psi_above_chance > DRIFTED


def stability_index(expected: Sequence[int], counts: Sequence[int]) -> tuple[float, float]:
    """The population stability index of counts of rows in bins beside the expected counts, and the same above chance;
    both 0 if one has no rows or there are not two bins."""
    bins = [(before, now) for before, now in zip(expected, counts, strict=True) if before or now]
    m, n, k = sum(expected), sum(counts), len(bins)
    if m == 0 or n == 0 or k < 2:
        return 0.0, 0.0
    psi = 0.0
    for before, now in bins:
        p, q = (before + _PRIOR) / (m + _PRIOR * k), (now + _PRIOR) / (n + _PRIOR * k)
        psi += (q - p) * log(q / p)
    return psi, max(0.0, psi - (1 / n + 1 / m) * _CHANCE[k - 2])
