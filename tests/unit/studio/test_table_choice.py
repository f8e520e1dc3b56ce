"""A table on the page of the studio: its columns are described, chosen and fitted, and what cannot be is a sentence."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanserve.errors import DataError, InputError
from kanserve.studio.opened_model import choose_table
from kanserve.studio.table_choice import copies_of, example, look_at_table, read_choice, save_upload
from tests.support.servers.studios import Running, running

TABLE = """id,area,energy,sold,country,name,price,price_eur
1,30.5,A,2020-01-02,FR,ab,10.5,10500
2,60,B,2020-02-02,FR,ac,20.5,20500
3,,A,2020-03-02,FR,ad,30.5,30500
4,90,C,2020-04-02,FR,ae,,
5,95,,2020-05-02,FR,af,41,41000
6,40,B,2020-06-02,FR,ag,12,12000
7,35,A,2020-07-02,FR,ah,11,11000
8,70,A,2020-08-02,FR,ai,25,25000
9,75,B,2020-09-02,FR,aj,26,26000
10,80,C,2020-10-02,FR,ak,28,28000
11,85,C,2020-11-02,FR,al,29,29000
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "houses.csv"
    path.write_text(TABLE)
    return path


def test_columns_are_described_and_those_that_say_nothing_are_left_out(table: Path):
    found = look_at_table(table)
    kinds = {column.name: (column.kind, column.use, column.missing) for column in found.columns}
    assert found.rows == 11 and found.title == "houses" and found.target == "price_eur"
    assert kinds == {
        "id": ("numbers", False, 0),
        "area": ("numbers", True, 1),
        "energy": ("categories", True, 1),
        "sold": ("dates", False, 0),
        "country": ("constant", False, 0),
        "name": ("text", False, 0),
        "price": ("numbers", True, 1),
        "price_eur": ("numbers", True, 1),
    }
    notes = {column.name: column.note for column in found.columns}
    assert "looks like an id" in notes["id"] and "year" in notes["sold"] and "same in every row" in notes["country"]


def test_a_column_that_is_a_line_through_the_target_looks_like_a_copy_of_it(table: Path):
    assert copies_of(table, "price_eur") == ["price"]
    assert copies_of(table, "energy") == []


def test_rows_without_a_target_are_left_out_and_counted(table: Path):
    data, gone = read_choice(table, "price", ["area", "energy"], "auto")
    assert gone == 1 and len(data) == 10 and data.categories == {"energy": ("A", "B", "C")}
    with pytest.raises(DataError, match="no column 'prize'"):
        read_choice(table, "prize", ["area"], "auto")


def test_a_dropped_table_keeps_a_name_that_is_safe_as_a_file():
    path = save_upload("../../my table (1).csv", "a,b\n1,2\n")
    assert path.name == "my_table_1.csv" and path.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("name", ["houses", "flowers", "pendulum"])
def test_an_example_is_a_table_with_a_target(name: str):
    found = look_at_table(example(name))
    assert found.rows >= 150 and found.target in ("price", "kind", "period")


def test_an_unknown_example_is_refused():
    with pytest.raises(InputError, match="no example"):
        example("none")


def fitted(studio: Running) -> Any:
    pause = threading.Event()
    while (found := studio.get("snapshot"))["phase"] == "fitting" and not found.get("trouble"):
        pause.wait(0.1)
    return found


@pytest.mark.slow
def test_a_table_is_dropped_its_columns_chosen_and_fitted(tmp_path: Path):
    x = np.random.default_rng(0).uniform(0, 1, (60, 2))
    text = "a,b,label\n" + "\n".join(f"{a:.3f},{b:.3f},{int(a > b)}" for a, b in x)
    with running(choose_table()) as studio:
        assert studio.get("snapshot")["phase"] == "choosing" and studio.get("table") == {"table": None}
        assert studio.ask("/api/table/fit", {"target": "a", "inputs": ["b"]}).status == 422
        assert studio.ask("/api/table", {"path": str(tmp_path / "none.csv")}).status == 422
        found = studio.post("table", {"name": "rows.csv", "text": text})["table"]
        assert [column["name"] for column in found["columns"]] == ["a", "b", "label"]
        assert found["columns"][2]["classes"] and not found["columns"][0]["classes"]
        refused = studio.ask("/api/table/fit", {"target": "label", "inputs": ["c"], "kind": "classification"})
        assert refused.status == 422 and "no column 'c'" in refused.data["error"]
        body = {"target": "label", "inputs": ["a", "b"], "kind": "classification", "hidden": []}
        assert studio.post("table/fit", body) == {"left_out": 0}
        now = fitted(studio)
        assert now["phase"] == "ready" and studio.get("snapshot")["model"]["classes"] == ["0", "1"]
        assert studio.ask("/api/table", {"example": "houses"}).status == 409


@pytest.mark.slow
def test_from_a_fit_that_fails_the_columns_are_chosen_again(table: Path):
    with running(choose_table(table)) as studio:
        studio.post("table/fit", {"target": "price", "inputs": ["area"], "kind": "regression", "hidden": []})
        pause = threading.Event()
        while studio.studio.workspace.fitting and not studio.studio.workspace.trouble:
            pause.wait(0.05)
        if studio.studio.workspace.trouble:
            studio.post("table/again", {})
            assert studio.get("snapshot")["phase"] == "choosing"
