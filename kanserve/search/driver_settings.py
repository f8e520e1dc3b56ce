"""The settings of searches with constraints or a template."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DriverSettings:
    """Settings of `constraints` and `templates`, as `SearchSettings.driver`."""

    # constraints
    unsimplified_complexity_ratio: float = 2.0
    """Complexity of a candidate, relative to `max_complexity`, up to which it is kept: it is not simplified yet."""
