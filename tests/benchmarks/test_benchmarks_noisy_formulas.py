"""The ablation of the search, small: a stage is left out of one run only, and the table counts what is said of laws."""

import time

import numpy as np
import pytest

from benchmarks import noisy_formulas
from benchmarks._near_forms import near_pairs
from benchmarks.noisy_formulas import Outcome, on_cpu_time, status_rows, without
from kanserve.search.findings import decompose
from kanserve.search.findings.results import DECIDED_MARGIN

pytestmark = pytest.mark.extended


def test_a_stage_is_left_out_only_inside():
    before = decompose.STAGES
    with without("forms of one input"):
        assert {stage.name for stage in before} - {stage.name for stage in decompose.STAGES} == {"forms of one input"}
    assert decompose.STAGES is before
    with pytest.raises(ValueError, match="no stage 'forms'"), without("forms"):
        pass


def test_limits_count_the_time_of_this_process_only():
    with on_cpu_time():
        begun = time.perf_counter()
        time.sleep(0.2)
        assert time.perf_counter() - begun < 0.1


def test_a_wrong_form_is_believed_if_its_status_says_so():
    assert Outcome("a", "within noise", False, False, 1.0).believed
    assert not Outcome("a", "not decided", False, True, 1.0).believed
    assert not Outcome("a", "exact", True, True, 1.0).believed
    assert not Outcome("a", "within noise", False, False, 1.0, equivalent=True).believed


def test_pairs_are_made_again_and_are_within_the_margin():
    first, again = ([pair for pair in near_pairs(range(2))] for _ in range(2))
    for pair, same in zip(first, again, strict=True):
        assert pair.law.text == same.law.text and (pair.rows.y == same.rows.y).all()
        assert abs(pair.gap) < DECIDED_MARGIN
        np.testing.assert_allclose(pair.law(pair.fresh.x), pair.fresh.y[:, 0], rtol=1e-9)


def test_statuses_are_counted_against_the_truth_of_each_set():
    right, wrong = Outcome("a", "exact", True, False, 1.0), Outcome("b", "refuted", False, False, 1.0)
    like = Outcome("c", "exact", False, False, 1.0, equivalent=True)
    lines = status_rows({"first": [right, wrong], "second": [like]})
    assert [line[:3] for line in lines] == [
        ["first", "2", "1 + 0 + 0"],
        ["second", "1", "0 + 1 + 0"],
        ["all", "3", "1 + 1 + 0"],
    ]
    assert lines[0][-2:] == ["0 + 0 + 1", "-"]


@pytest.mark.slow
def test_what_is_in_the_file_is_not_measured_again(capsys, tmp_path, monkeypatch):
    path = tmp_path / "found.jsonl"
    call = ["--table", "toys", "--only", "product", "--rows", "100", "--noise", "0", "0.01", "--seconds", "3"]
    noisy_formulas.main([*call, "--keep", str(path)])
    first = capsys.readouterr().out
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    monkeypatch.setattr(noisy_formulas, "measured", None)
    noisy_formulas.main([*call, "--keep", str(path)])
    assert capsys.readouterr().out.splitlines()[-4:] == first.splitlines()[-4:]


@pytest.mark.slow
def test_the_table_has_a_row_without_the_stage(capsys):
    law = ["--table", "toys", "--only", "product", "--rows", "200", "--noise", "0", "--seconds", "3"]
    noisy_formulas.main([*law, "--without", "power law"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "1 laws of toys, noise 0, 3 CPU s for each"
    assert any(line.split()[:3] == ["all", "stages", "1"] for line in shown)
    assert any(line.split()[:4] == ["without", "power", "law", "1"] for line in shown)
    assert shown[-1] == "without power law: lost none; gained none"
