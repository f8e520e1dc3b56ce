"""A search that starts from known formulas, and one that goes on after it was killed."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy

import kanserve
from kanserve import Findings, find_formulas
from kanserve.data.dataset import Dataset
from kanserve.errors import FormatError, InputError, NotFoundError
from kanserve.search.findings import find_formulas as driver
from kanserve.search.findings.rows import search_rows

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(0.5, 2, (300, 2))
NOISE = GENERATOR.normal(size=300)
LAW = X[:, 0] * np.exp(-0.7 * X[:, 1]) / (1 + np.sin(2 * X[:, 0] * X[:, 1]) ** 2)
TEXT = "2*x1*exp(-0.9*x2)/(1.1 + sin(1.8*x1*x2)^2)"


@pytest.fixture
def no_search(monkeypatch):
    """Fail if a search is begun."""
    monkeypatch.setattr(driver._Plan, "search", lambda *_: pytest.fail("this searches"))


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_law_that_settles_the_search_ends_it_at_once_with_its_constants_fitted(noise, no_search):
    found = find_formulas((X, LAW + noise * NOISE), start=TEXT)
    assert found.ended == "settled" and found.status == ("within noise" if noise else "exact")
    assert found[0].complexity == 1 and len(found) == 2
    assert np.abs(found.best(X) - LAW).max() < max(noise, 1e-12)


@pytest.mark.parametrize(
    "form",
    [
        lambda text: sympy.sympify(text.replace("^", "**")),
        lambda text: kanserve.from_formula(text, inputs=["x2", "x1"]),
        lambda text: ["x1", text],
        lambda text: find_formulas((X, LAW), start=text),
        lambda text: find_formulas((X, LAW), start=text).best,
    ],
    ids=["sympy", "network", "list", "findings", "formula"],
)
def test_a_formula_to_start_from_has_any_form(form, no_search):
    assert find_formulas((X, LAW), start=form(TEXT)).status == "exact"


@pytest.mark.extended
def test_a_good_formula_stays_on_the_list_and_a_bad_one_does_not():
    y = LAW + 0.04 * np.sin(9 * X[:, 0])
    without = find_formulas((X, y), max_fits=2)
    found = find_formulas((X, y), max_fits=2, start=[TEXT, "x1^2 + log(0.1*x2 - 100)"])
    assert found.best.validation < 0.9 * without.best.validation and "sin(" in found.best.formula.text
    assert not any("log(" in formula.formula.text for formula in found)


def test_each_output_has_its_own_start(no_search):
    y = np.column_stack([LAW, 2 * LAW])
    found: Any = find_formulas((X, y), start={"y1": TEXT, "y2": TEXT})
    assert [findings.status for findings in found.values()] == ["exact", "exact"]
    again: Any = find_formulas((X, y), start=found)
    assert [findings.status for findings in again.values()] == ["exact", "exact"]


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("x1 +", "the end"),
        ("x1*t", "'t' is not an input"),
        (kanserve.from_formula("a + x1"), "has the input 'a'; those of the data are x1, x2"),
        (kanserve.create([2, 1]), "no splines"),
        (kanserve.from_formula(["x1", "x2"]), "one output"),
        (3.5, "text or a sympy expression"),
        ({"y": "x1"}, "several outputs"),
    ],
)
def test_formulas_that_cannot_be_a_start_are_refused_in_words(start, message):
    with pytest.raises(InputError, match=message):
        find_formulas((X, LAW), start=start)


def test_a_start_for_several_outputs_goes_by_their_names():
    for start in ("x1", {"z": "x1"}):
        with pytest.raises(InputError, match="y1, y2"):
            find_formulas((X, X), start=start)
    with pytest.raises(InputError, match="one output"):
        find_formulas((X, X), checkpoint="file")


# Checkpoints.


def test_a_search_that_is_killed_leaves_its_formulas_and_the_next_one_starts_from_them(tmp_path):
    path = tmp_path / "search.safetensors"
    rows = X[:60], (LAW + 0.2 * np.sin(5 * X[:, 0]) + 0.05 * NOISE)[:60]
    events = []

    class KilledError(BaseException):
        pass

    def kill(event):
        events.append(event)
        if len(events) == 2:
            raise KilledError

    with pytest.raises(KilledError):
        find_formulas(rows, max_fits=30, progress=kill, checkpoint=path)
    left = Findings.load(path)
    assert left.ended == "interrupted"
    held = search_rows(Dataset(*rows), 0, "auto").held
    least = min(formula.validation for formula in left)
    for event in events:  # each is in the file, or one that validates as well
        told = kanserve.from_formula(event.text, inputs=["x1", "x2"])(held.x)[:, 0]
        assert least <= 1.05 * np.sqrt(np.mean((held.y[:, 0] - told) ** 2))
    found = find_formulas(rows, max_fits=1, checkpoint=path)
    assert found.select("accuracy").validation <= 1.05 * left.select("accuracy").validation
    assert str(Findings.load(path)) == str(found)


def test_a_finished_search_is_not_repeated(tmp_path, monkeypatch):
    path = tmp_path / "search.safetensors"
    y = 2 * X[:, 0] / X[:, 1]
    found = find_formulas((X, y), max_fits=100, checkpoint=path, selection="accuracy")
    assert str(Findings.load(path)) == str(found)
    monkeypatch.setattr(driver._Plan, "search", lambda *_: pytest.fail("this searches"))
    assert find_formulas((X, y), max_fits=100, checkpoint=path).status == "exact"


@pytest.mark.extended
def test_a_checkpoint_changes_no_result(tmp_path):
    rows = X[:60], (LAW + 0.05 * NOISE)[:60]
    plain = find_formulas(rows, max_fits=20)
    assert str(find_formulas(rows, max_fits=20, checkpoint=tmp_path / "file")) == str(plain)


def test_a_file_that_cannot_be_a_checkpoint_is_refused_before_the_search(tmp_path, no_search):
    with pytest.raises(NotFoundError, match="no folder"):
        find_formulas((X, LAW), checkpoint=tmp_path / "nothing" / "file")
    (tmp_path / "text").write_text("x1 + x2")
    with pytest.raises(FormatError, match="holds no findings"):
        find_formulas((X, LAW), checkpoint=tmp_path / "text")
    other = tmp_path / "other"
    find_formulas((X, LAW), start=TEXT).save(other)
    with pytest.raises(InputError, match="those of the data are a, b"):
        find_formulas(pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": LAW}), target="y", checkpoint=other)
