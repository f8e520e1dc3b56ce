"""A table on the page of the studio: its columns are described, chosen and fitted, and what cannot be is a sentence."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanserve.cli.commands.studio import _opened_table
from kanserve.errors import DataError, InputError
from kanserve.studio.opened_model import choose_table
from kanserve.studio.table_choice import copies_of, example, look_at_table, read_choice, save_upload
from kanserve.studio.workspace import Workspace
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


@pytest.mark.parametrize(("classify", "classes"), [(None, ("0", "1", "2")), (True, ("0", "1", "2")), (False, ())])
def test_on_the_command_line_whole_labels_are_classes_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classify: bool | None, classes: tuple[str, ...]
):
    path = tmp_path / "labels.csv"
    path.write_text("a,label\n" + "".join(f"{n / 7},{n % 3}\n" for n in range(60)))
    opened = _opened_table(path, ["label"], None, classify, "2", None, None)
    assert opened.data is not None and opened.data.classes == classes
    assert ("--no-classify learns them as numbers" in capsys.readouterr().err) == (classify is None)


def test_rows_without_a_target_are_left_out_and_counted(table: Path):
    data, gone = read_choice(table, "price", ["area", "energy"], "auto")
    assert gone == 1 and len(data) == 10 and data.categories == {"energy": ("A", "B", "C")}
    with pytest.raises(DataError, match="no column 'prize'"):
        read_choice(table, "prize", ["area"], "auto")


def test_a_dropped_table_keeps_a_name_that_is_safe_as_a_file(tmp_path: Path):
    path = save_upload(tmp_path, "../../my table (1).csv", "a,b\n1,2\n")
    assert path == tmp_path / "my_table_1.csv" and path.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("name", ["houses", "flowers", "pendulum"])
def test_an_example_is_a_table_with_a_target(tmp_path: Path, name: str):
    found = look_at_table(example(tmp_path, name))
    assert found.rows >= 150 and found.target in ("price", "kind", "period")


def test_an_unknown_example_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no example"):
        example(tmp_path, "none")


def test_nothing_is_left_of_the_tables_that_a_page_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    space = Workspace(choose_table())
    space.open_table(save_upload(space.folder, "rows.csv", "a,b\n1,2\n,3\n4,\n"))
    data, gone = read_choice(space.folder / "rows.csv", "b", ["a"], "auto")
    assert len(data) == 2 and gone == 1 and [path.parent for path in tmp_path.rglob("*.csv")] == [space.folder]
    space.close()
    assert not list(tmp_path.iterdir())


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
        assert studio.get("snapshot")["phase"] == "choosing" and studio.get("table")["table"] is None
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


def test_from_a_fit_that_fails_the_columns_are_chosen_again(table: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("none is left")

    monkeypatch.setattr("kanserve.studio.workspace.Worker.run", fail)
    with running(choose_table(table)) as studio:
        studio.post("table/fit", {"target": "price", "inputs": ["area"], "kind": "regression", "hidden": []})
        while not studio.studio.workspace.trouble:
            threading.Event().wait(0.01)
        found = studio.get("snapshot")
        assert "MemoryError: none is left" in found["trouble"]
        studio.post("table/again", {})
        found = studio.get("snapshot")
        assert found["phase"] == "choosing" and not found["trouble"]
