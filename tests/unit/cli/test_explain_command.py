"""`kanserve explain`: contributions in words, as CSV and as JSON."""

import csv
import json

import numpy as np
import pytest

import kanserve as library
from kanserve.network import serialization


def test_contributions_are_printed_written_and_add_up_to_the_predictions(folder, kanserve):
    code, out, err = kanserve("explain", "law.safetensors", "good.csv", "--data", "good.csv")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("y = ") and out.splitlines()[-1] == "and 77 more rows"
    code, _, _ = kanserve("explain", "law.safetensors", "good.csv", "--data", "good.csv", "--out", "parts.csv")
    assert code == 0
    rows = list(csv.DictReader((folder / "parts.csv").read_text().splitlines()))
    kan = serialization.load(folder / "law.safetensors")
    names = ["base", *(variable.name for variable in kan.inputs)]
    x = np.loadtxt(folder / "good.csv", delimiter=",", skiprows=1)[:, :2]
    parts = np.array([[float(row[name]) for name in names] for row in rows])
    np.testing.assert_allclose(parts.sum(axis=1), library.evaluate(kan, x)[:, 0], rtol=1e-9)
    assert len(rows) == 80 and {row["output"] for row in rows} == {"y"}


def test_json_has_null_where_the_network_is_not_finite_and_a_row_for_each_class(folder, kanserve):
    kan = library.from_formula("log(a) + base", inputs=["a", "base"], ranges={"a": (1, 2), "base": (0, 1)})
    serialization.save(kan, folder / "log.safetensors")
    (folder / "rows.csv").write_text("base,a,id\n0.5,-1,first\n0.5,1.5,second\n")
    code, out, _ = kanserve("explain", "log.safetensors", "rows.csv", "--json")
    found = json.loads(out)
    parts = found["contributions"]
    assert code == 0 and parts["a"][0] is None and parts["a"][1] is not None
    assert found["prediction"][1] == pytest.approx(found["base"][1] + parts["a"][1] + parts["base"][1])
    classes = serialization.load(folder / "classifier.safetensors")
    names = [variable.name for variable in classes.inputs]
    (folder / "new.csv").write_text(",".join(names) + "\n" + ",".join(["0.1"] * len(names)) + "\n")
    code, out, _ = kanserve("explain", "classifier.safetensors", "new.csv", "--json")
    found = json.loads(out)
    assert code == 0 and found["output"] == [f"score of {name}" for name in classes.classes]
    assert sum(found["prediction"]) == pytest.approx(0, abs=1e-12)


def test_a_file_that_is_there_is_not_replaced(folder, kanserve):
    code, _, err = kanserve("explain", "law.safetensors", "good.csv", "--out", "good.csv")
    assert code == 2 and "good.csv" in err


def test_the_report_is_written_whole_and_not_over_a_file(folder, kanserve):
    code, out, err = kanserve("report", "law.safetensors", "good.csv", "--out", "page.html")
    assert (code, out, err) == (0, "", "")
    assert (folder / "page.html").read_text().startswith("<!doctype html>")
    code, _, err = kanserve("report", "law.safetensors", "good.csv", "--out", "page.html")
    assert code == 2 and "--force" in err
