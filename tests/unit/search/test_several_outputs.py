"""A search for several outputs: findings by name, which share the limits."""

import time
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kanserve import Findings, find_formulas
from kanserve.errors import DataError, FormatError, InputError, NotFoundError
from kanserve.search import FindingsByOutput
from kanserve.search.findings.several_outputs import by_output

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(0.5, 2, (100, 2))
TABLE = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "sum": X.sum(axis=1), "area": 2 * X.prod(axis=1)})


def test_each_output_has_its_findings_by_name():
    found: Any = find_formulas(TABLE, target=["sum", "area"], max_fits=100)
    assert isinstance(found, FindingsByOutput) and list(found) == ["sum", "area"] and len(found) == 2
    assert [found[name].best.formula.text for name in found] == ["a + b", "2*a*b"]
    assert str(found).startswith("sum: exact: ") and "\narea: exact: " in repr(found)
    np.testing.assert_allclose(found.predict(TABLE), TABLE[["sum", "area"]])
    assert [variable.name for variable in found.kan.outputs] == ["sum", "area"]
    np.testing.assert_allclose(found.kan(X), TABLE[["sum", "area"]])
    assert "<mi>area</mi>" in found._repr_html_()
    with pytest.raises(KeyError, match="there are sum, area"):
        found["total"]


def test_arrays_of_several_columns_are_several_outputs_and_one_is_one():
    y = TABLE[["sum", "area"]].to_numpy()
    assert list(find_formulas((X, y), max_fits=50)) == ["y1", "y2"]
    alone = find_formulas((X, y[:, :1]), max_fits=50)
    assert isinstance(alone, Findings)
    together: Any = find_formulas((X, y), max_fits=100)
    assert str(together["y1"]).partition(":")[0] == str(alone).partition(":")[0]


def test_units_are_those_of_each_output():
    units = {"a": "m", "b": "m", "sum": "m", "area": "m^2"}
    found: Any = find_formulas(TABLE, target=["sum", "area"], max_fits=100, units=units)
    assert found["area"].best.kan.outputs[0].unit == "m^2" and found["sum"].best.kan.outputs[0].unit == "m"
    with pytest.raises(InputError, match="lacks area"):
        find_formulas(TABLE, target=["sum", "area"], units={"a": "m", "b": "m", "sum": "m"})


def test_the_outputs_share_the_limits(monkeypatch):
    rows = find_formulas(TABLE, target=["sum"], max_fits=10)[0].data
    many = type(rows)(rows.x, np.column_stack([rows.y, rows.y, rows.y]))
    given: list[Any] = []
    monkeypatch.setattr(time, "perf_counter", count().__next__)  # each search takes one of 30 seconds
    by_output(many, lambda data, **options: given.append((data.outputs, options)), None, None, 30, 100)  # type: ignore[arg-type]
    assert [outputs for outputs, _ in given] == [("y1",), ("y2",), ("y3",)]
    assert [options["max_fits"] for _, options in given] == [33, 33, 33]
    assert [options["seconds"] for _, options in given] == [10, 14.5, 28]


def test_one_output_that_cannot_be_searched_is_refused_before_any_search():
    with pytest.raises(DataError, match="other units"):
        find_formulas((X, np.column_stack([X[:, 0], 1e300 * X[:, 0]])))


def test_they_come_back_from_a_file_and_are_one_table(tmp_path):
    found: Any = find_formulas(TABLE, target=["sum", "area"], max_fits=100)
    found.save(tmp_path / "found.safetensors")
    again = FindingsByOutput.load(tmp_path / "found.safetensors")
    assert repr(again) == repr(found) and list(again) == ["sum", "area"]
    np.testing.assert_array_equal(again.fitted_rows, found.fitted_rows)
    np.testing.assert_array_equal(again.kan(X), found.kan(X))
    frame = found.to_frame()
    assert frame[frame["best"]]["output"].tolist() == ["sum", "area"]
    assert len(frame) == sum(len(findings) for findings in found.values())


def test_a_file_of_one_output_and_a_damaged_one_are_told_apart(tmp_path):
    path = tmp_path / "found.safetensors"
    find_formulas((X, X.sum(axis=1)), max_fits=50).save(path)
    with pytest.raises(FormatError, match=r"Findings\.load reads those of one output"):
        FindingsByOutput.load(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match="damaged"):
        FindingsByOutput.load(path)
    with pytest.raises(NotFoundError):
        FindingsByOutput.load(tmp_path / "none.safetensors")
