"""docs/batch.md: its blocks run in order, and its results are those of the model."""

from typing import Any

import numpy as np
import pytest

import kanserve
from tests.support.paths import ROOT
from tests.support.readme_blocks import blocks

PAGE = (ROOT / "docs" / "batch.md").read_text("utf-8")


def test_the_blocks_of_the_page_run_and_give_what_the_network_gives(tmp_path, monkeypatch):
    pytest.importorskip("polars")
    pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    kan = kanserve.from_formula(
        {"price": "2000*area + 300*(year - 1950) + 10000*rooms"},
        inputs=["area", "rooms", "year"],
        ranges={"area": (40, 220), "rooms": (1, 7), "year": (1950, 2025)},
    )
    kanserve.publish("models", "houses", kanserve.compile(kan, ["c_source", "numpy_source"], name="houses"))
    wanted: Any = kan([[120.0, 3.0, 1990.0], [80.0, 2.0, 2010.0]])[:, 0]
    names: dict[str, Any] = {}
    first, in_polars, in_duckdb, stream = blocks("python", PAGE)
    exec(compile(first, "batch.md", "exec"), names)
    assert names["predictor"].inputs == ("area", "rooms", "year")
    exec(compile(in_polars, "batch.md", "exec"), names)
    np.testing.assert_allclose(names["frame"].with_columns(names["price"])["price"].to_numpy(), wanted)
    exec(compile(in_duckdb, "batch.md", "exec"), names)
    found = names["connection"].sql("SELECT price(area, rooms, year) FROM houses ORDER BY id").fetchall()
    np.testing.assert_allclose(np.ravel(found), wanted)
    exec(compile(stream.replace("results.read_all()", "table = results.read_all()"), "batch.md", "exec"), names)
    assert names["table"].column_names == ["id", "price"]
    np.testing.assert_allclose(names["table"].sort_by("id")["price"].to_numpy(), wanted)


def test_the_tables_of_the_page_are_whole():
    tables = [block.splitlines() for block in PAGE.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({row.count("|") for row in table}) == 1
