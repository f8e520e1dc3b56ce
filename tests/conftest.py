"""How a run of pytest is ordered, and what it says at its end.

pytest -n 2 -m "not timing"; pytest -m timing    # what judges by a clock or by memory runs alone, after the rest

Three tiers, each within the next: without `slow` and `extended`, without `extended`, and all.
"""

import gc
from collections.abc import Iterator

import pytest

from tests.tools import skipped_by


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that judge by a clock come last, also where one process runs everything."""
    items.sort(key=lambda item: item.get_closest_marker("timing") is not None)


@pytest.fixture(scope="module", autouse=True)
def _few_objects_to_collect() -> Iterator[None]:
    """Keep what earlier modules and imports left out of garbage collection, which takes up to a second with it."""
    gc.freeze()
    yield
    gc.unfreeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Under xdist this runs where the reports of all processes arrive."""
    reasons = [
        report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        for report in terminalreporter.stats.get("skipped", [])
    ]
    if reasons:
        terminalreporter.write_line(skipped_by(reasons))
