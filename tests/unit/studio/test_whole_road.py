"""From four tables to a published model that a client asks, in the studio's page: by pointer, and by keys alone."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.peers.studio_pages import chromium
from tests.support.peers.studio_road import TABLES, road

pytestmark = [pytest.mark.slow, pytest.mark.extended]

LEAST_FORMULA = 12  # pixels
# Candidates for the edges of digits take minutes: `python -m tests.support.peers.studio_road digits`.
QUICK = [table for table in TABLES if table.__name__ != "digits"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.mark.parametrize("keys", [False, True], ids=["pointer", "keys"])
@pytest.mark.parametrize("table", QUICK, ids=[table.__name__ for table in QUICK])
def test_a_table_becomes_a_model_that_a_server_answers_with(
    browser: Any, tmp_path: Path, table: Callable[[Path], tuple[Path, str]], keys: bool
):
    now = road(browser, table, keys, tmp_path)
    assert now.faults == []
    assert "the same" in now.answer and "differs" not in now.answer
    assert now.least_formula >= LEAST_FORMULA - 0.01
    assert now.violations == []
