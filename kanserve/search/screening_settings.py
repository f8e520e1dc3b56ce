"""The settings of screening: which of many inputs are looked at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScreeningSettings:
    """Settings of `influential` and `independent_columns`, as `SearchSettings.screening`."""

    fewest_inputs: int = 4
    """Inputs up to which all are kept: the decomposition finds idle ones itself, and surer."""
    lone_degree: int = 8
    """Degree of the polynomials of each input alone."""
    degree: int = 3
    """Degree of those whose products with others are tried."""
    deviations: float = 5.0
    """Deviations from chance at which an input matters."""
    pair_deviations: float = 1.0
    """Added to them for a pair of inputs, of which there are many more."""
    most_inputs: int = 12
    """Inputs that are kept before others are tried on what a polynomial in them leaves, at most."""
    dependent_error: float = 1e-9
    """What is left of a column that follows from others, relative to it, at most."""
    share: float = 0.8
    """Share of the budget for the inputs that matter; the rest is for all of them."""
