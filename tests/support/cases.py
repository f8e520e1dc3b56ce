"""Which of many like cases run in CI."""

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(count: int, cases: Iterable[Any]) -> list[Any]:
    """The cases of a parametrized test: one in so many is run by CI, the others are exhaustive."""
    return [
        case if number % count == 0 else pytest.param(case, marks=pytest.mark.exhaustive)
        for number, case in enumerate(cases)
    ]
