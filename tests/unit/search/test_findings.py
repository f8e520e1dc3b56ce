"""`Findings`: a sequence of formulas that predicts, is shown as a table, and is saved and loaded."""

import math
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import kanserve
from kanserve import find_formulas
from kanserve.errors import ConflictError, DataError, FormatError, InputError, MissingDependencyError, NotFoundError
from kanserve.search import Findings, ScoredFormula

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(0.5, 2, (200, 2))
Y = 1.234 * X[:, 0] * np.exp(-0.777 * X[:, 1]) + 0.01 * GENERATOR.normal(size=200)


@pytest.fixture(scope="module")
def found():
    table = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y})
    return find_formulas(table, target="y", max_fits=100)


def test_findings_are_a_sequence_of_formulas(found):
    assert len(found) == len(found.candidates) > 2
    assert found[0] is found.candidates[0] and found[-1] is found.candidates[-1] and found.best in found
    assert found[:2] == found.candidates[:2] and list(found) == list(found.candidates)
    assert all(isinstance(formula, ScoredFormula) for formula in reversed(found))
    assert repr(found) == str(found) and str(found).startswith(f"{found.status}: ")


def test_a_formula_is_called_and_predicts_from_rows_and_from_tables_by_name(found):
    x = X[:5]
    want = found.best.kan(x)[:, 0]
    table = pd.DataFrame({"b": x[:, 1], "other": "text", "a": x[:, 0]})
    for got in (found.best(x), found.best.predict(table), found.predict(x), found.predict(pl.from_pandas(table))):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(found.predict(x, 0), found[0].predict(x))
    assert found.predict(x, 0).tolist() == [found.predict(x, 0)[0]] * 5
    low, high = found.best.interval(table)
    assert (low < want).all() and (want < high).all()
    with pytest.raises(DataError, match="lacks the column 'a'"):
        found.best(table[["b"]])
    with pytest.raises(DataError, match=r"shape \(N, 2\)"):
        found.best(X[:, :1])


def test_the_score_is_the_fall_of_the_logarithm_of_the_loss_per_unit_of_complexity(found):
    assert found.scores[0] == 0 and len(found.scores) == len(found)
    for score, (before, after) in zip(found.scores[1:], pairwise(found), strict=True):
        fall = -math.log(after.validation**2 / before.validation**2)
        assert score == pytest.approx(fall / (after.complexity - before.complexity))


def test_a_rule_selects_the_best_formula(found):
    assert found.select("best") is found.best
    assert found.select("accuracy").validation == min(formula.validation for formula in found)
    assert found.scores[found.candidates.index(found.select("score"))] == max(found.scores)
    errors = ((1, 1.0), (2, 0.9), (3, 0.21), (9, 0.2))
    listed = tuple(replace(found[0], complexity=size, validation=error) for size, error in errors)
    unsettled = Findings(listed, listed[-1], "exhausted")
    assert unsettled.select("best") is unsettled.select("score") is listed[2]
    assert unsettled.select("accuracy") is replace(unsettled, ended="settled").select("best") is listed[3]
    accurate = find_formulas((X, Y), max_fits=20, selection="accuracy")
    assert accurate.best is accurate.select("accuracy")
    for call in (found.select, lambda rule: find_formulas((X, Y), selection=rule)):
        with pytest.raises(InputError, match="best, accuracy, score"):
            call("prettiest")


def test_the_table_has_a_row_for_each_formula(found, monkeypatch):
    table = found.to_frame()
    assert list(table["formula"]) == [formula.formula.text for formula in found]
    assert list(table["score"]) == list(found.scores) and table["best"].sum() == 1
    assert list(table["validation"]) == [formula.validation for formula in found]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        found.to_frame()


def test_the_latex_table_has_a_line_for_each_formula(found):
    lines = found.latex_table().splitlines()
    assert len(lines) == len(found) + 6 and lines[0] == r"\begin{tabular}{lrrr}"
    for line, formula in zip(lines[4:-2], found, strict=True):
        assert line.startswith(f"${formula.formula.latex}$ & ") and line.endswith(r" \\")
    assert r"\cdot 10^{-2}" in found.latex_table(["error"], digits=2) or "0.0" in found.latex_table(["error"])
    wrong: list[dict[str, Any]] = [{"columns": ["loss"]}, {"columns": "formula"}, {"columns": []}, {"digits": 0}]
    for options in wrong:
        with pytest.raises(InputError, match=next(iter(options))):
            found.latex_table(**options)


def test_what_is_saved_is_loaded_bit_for_bit(found, tmp_path):
    path = tmp_path / "found.safetensors"
    found.save(path)
    again = Findings.load(path)
    assert str(again) == str(found) and again.ended == found.ended
    assert again.candidates.index(again.best) == found.candidates.index(found.best)
    for formula, want in zip(again, found, strict=True):
        # As text, in which NaN equals NaN: a constant without a standard error has NaN there.
        assert kanserve.equal(formula.kan, want.kan) and repr(formula.constants) == repr(want.constants)
        assert (formula.error, formula.validation, formula.defined) == (want.error, want.validation, want.defined)
    np.testing.assert_array_equal(again.best.interval(X), found.best.interval(X))
    again.save(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_files_that_hold_no_findings_are_refused_in_words(found, tmp_path):
    path = tmp_path / "found.safetensors"
    found.save(path)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[-9] ^= 1
    later = whole.replace(rb"\"version\": 1", rb"\"version\": 2")
    kanserve.save(found.best.kan, tmp_path / "kan.safetensors")
    damaged = [bytes(changed), whole[:200], b"", b"\x80\x04K\x01.", later, (tmp_path / "kan.safetensors").read_bytes()]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(FormatError, match="damaged"):
            Findings.load(path)
    with pytest.raises(FormatError, match="folder"):
        Findings.load(tmp_path)
    with pytest.raises(NotFoundError, match="no file"):
        Findings.load(tmp_path / "nothing")
    with pytest.raises(NotFoundError, match="no folder"):
        found.save(tmp_path / "nothing" / "found")
    with pytest.raises(ConflictError, match="folder"):
        found.save(tmp_path)


def test_a_later_version_of_the_format_is_named(found, tmp_path, monkeypatch):
    path = tmp_path / "found.safetensors"
    monkeypatch.setattr("kanserve.search.findings.file.VERSION", 2)
    found.save(path)
    monkeypatch.undo()
    with pytest.raises(FormatError, match="version 2; this kanserve reads 1"):
        Findings.load(path)
