"""The benchmark of prediction intervals, small: it measures every way, and tells of those that cover too little."""

import numpy as np
import pytest

from benchmarks import interval_coverage
from benchmarks.interval_coverage import FITTED, FOLDS, Coverage

pytestmark = pytest.mark.extended


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:Too few rows")  # a small run has few
def test_every_way_has_an_interval_but_rows_of_the_fit():
    found = interval_coverage.measure(["sine and product"], 40, 1, list(interval_coverage.WAYS))
    assert [one.way for one in found if one.share is None] == [f"compile, {FITTED}"]
    shares = {one.way: one.share for one in found if one.share is not None}
    assert set(shares) == {"README", "publish", "estimator", FOLDS, FITTED}
    assert shares[FITTED] < 0.8 < np.mean([shares["README"], shares["publish"], shares["estimator"], shares[FOLDS]])


@pytest.mark.parametrize("name", interval_coverage.TABLES)
def test_a_table_has_new_rows_beside_the_given_ones(name):
    rows = interval_coverage.TABLES[name](np.random.default_rng(0), 150)
    assert len(rows) == 150 and len(np.unique(np.hstack([rows.x, rows.y]), axis=0)) > 140


def test_a_table_that_is_too_small_is_passed_over():
    assert interval_coverage.measure(["diabetes"], 400, 1, ["README"]) == []


def test_the_exact_coverage_is_that_of_the_held_out_rows():
    exact = [interval_coverage.exact_coverage(rows) for rows in (40, 60, 396)]
    assert exact == pytest.approx([10 / 11, 15 / 16, 0.9])
    assert interval_coverage.exact_coverage(40, FOLDS) == pytest.approx(37 / 41)


def test_rounding_the_rank_up_explains_what_few_rows_cover_beyond_the_promise():
    words = interval_coverage.rank_alone(60, 20).split()
    assert words[:4] == ["60", "rows,", "rank", "alone:"] and words[-1] == "0.938"
    assert float(words[4]) == pytest.approx(0.938, abs=0.03)


def test_a_way_that_covers_too_little_and_intervals_from_rows_of_the_fit_are_told():
    found = [
        Coverage("README", "a", 396, 0.8),
        Coverage("README", "b", 396, 0.7),
        Coverage("publish", "a", 396, 0.89),
        Coverage("estimator", "a", 396, None),
        Coverage(f"compile, {FITTED}", "b", 396, 0.5),
        Coverage(FITTED, "b", 396, 0.5),
    ]
    assert interval_coverage.verdict(found).splitlines() == [
        "MISSED: each way covers the exact share within 0.03 (README 396: 0.750)",
        "MISSED: compile makes no interval from rows of the fit (b)",
    ]
    lines = interval_coverage.report(found).splitlines()
    assert lines[2].split() == ["396", "README", "0.900", "0.750", "0.050", "2", "of", "2"]
    assert lines[4].split()[-5:] == ["-", "-", "0", "of", "1"]


def test_without_a_choice_every_way_is_measured(monkeypatch, capsys):
    def measure(names, rows, draws, ways):
        return [Coverage(way, names[0], rows, 0.9) for way in ways]

    monkeypatch.setattr(interval_coverage, "measure", measure)
    interval_coverage.main(["--small", "--sizes", "40"])
    printed = capsys.readouterr().out
    assert all(way in printed for way in interval_coverage.WAYS)
