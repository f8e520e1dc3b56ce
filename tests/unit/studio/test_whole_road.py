"""From five tables to a published model that a client asks, in the studio's page: by pointer, and by keys alone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.peers.studio_pages import chromium
from tests.support.peers.studio_road import TABLES, digits, road

pytestmark = [pytest.mark.slow, pytest.mark.extended]

LEAST_FORMULA = 12  # pixels


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


# By keys, digits take minutes more and show nothing new: `python -m tests.support.peers.studio_road digits` has both.
ROADS = [(table, keys) for table in TABLES for keys in (False, True) if table is not digits or not keys]


@pytest.mark.parametrize(
    ("table", "keys"), ROADS, ids=[f"{table.__name__} by {'keys' if keys else 'pointer'}" for table, keys in ROADS]
)
def test_a_table_becomes_a_model_that_a_server_answers_with(
    browser: Any, tmp_path: Path, table: Callable[[Path], tuple[Path, str]], keys: bool
):
    now = road(browser, table, keys, tmp_path)
    assert now.faults == []
    assert "the same" in now.answer and "differs" not in now.answer
    # The splines of ten classes have no formula.
    assert table is digits or now.least_formula >= LEAST_FORMULA - 0.01
    assert now.violations == []
