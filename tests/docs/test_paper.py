"""The studies of the KAN papers: every number is measured, and what falls short is printed as MISSED."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import _random_fits as random_fits
from benchmarks._equations import EXACT
from examples import anderson, continual, poisson
from examples.paper import (
    __main__ as command,
)
from examples.paper import (
    _claims,
    feynman_shapes,
    knot_signatures,
    mobility_edges,
    pareto_fronts,
    repeated,
    scaling,
    toy_formulas,
    unsupervised,
)
from examples.paper._baselines import Baseline, by_gradient, by_levenberg, perceptrons
from kanserve import Dataset, create
from tests.support.cases import one_in
from tests.support.paths import DOCS

pytestmark = pytest.mark.usefixtures("torch_threads")


def baseline(error: float) -> Baseline:
    return Baseline(error, 100, "MLP")


def test_a_wrong_result_is_missed_on_the_screen_and_on_the_page():
    good, bad = _claims.Claim("error ≤ 1", "0.5", True), _claims.Claim("error ≤ 1", "7", False, why="It is 7.")
    rows = [_claims.Row("1", "first", [good], 1.0), _claims.Row("2", "second", [good, bad], 2.0)]
    for text in (_claims.report(rows), _claims.markdown(rows, "# Head")):
        assert "1 of 2 studies met all their claims" in text
        assert text.count("MISSED") == 2  # in the table, and with its reason
        assert "2 second MISSED: error ≤ 1. It is 7." in text
    assert "MISSED" not in _claims.report(rows[:1])


def test_a_scaling_law_that_is_too_flat_is_missed():
    def runs(power: float) -> scaling.Runs:
        return {grid: [scaling.Run(grid**power, grid**power, 0.0, 10)] for grid in (5, 10, 20)}

    assert scaling._curve("f", runs(-4.0), (5, 10, 20)).met
    assert not scaling._curve("f", runs(-2.0), (5, 10, 20)).met


def test_a_front_behind_the_perceptrons_is_missed_with_its_functions():
    def found(error: float) -> pareto_fronts.Found:
        return pareto_fronts.Found([(100, error), (900, 1e-9)], baseline(1e-3), baseline(1e-3), 1.0)

    (met,) = pareto_fronts.claims({"jv": found(1e-4), "yv": found(1e-4)})
    (missed,) = pareto_fronts.claims({"jv": found(1e-2), "yv": found(1e-4)})
    assert met.met
    assert not missed.met and "worse: jv" in missed.why


def test_a_shape_with_more_edges_than_the_papers_is_missed():
    one = feynman_shapes.Found("I.27.6", (2, 1, 1), 3, 1e-4, 1e-5, baseline(1e-3), baseline(1e-3), 1.0)
    assert all(claim.met for claim in feynman_shapes.claims([one]))
    assert not feynman_shapes.claims([replace(one, edges=4)])[0].met
    assert not feynman_shapes.claims([replace(one, error=0.02, finer=0.02)])[0].met
    assert not feynman_shapes.claims([replace(one, error=0.02, finer=0.02)])[1].met


def test_a_wrong_solution_and_a_network_that_forgets_are_missed():
    good, bad = poisson.Result(1e-9, 1.0, 690), poisson.Result(1e-5, 1.0, 30701)
    names = poisson.POISSON.ours, f"{poisson.PAPER} by LBFGS"
    assert all(claim.met for claim in repeated.poisson_claims(dict(zip(names, ([good], [bad]), strict=True))))
    assert not any(claim.met for claim in repeated.poisson_claims(dict(zip(names, ([bad], [good]), strict=True))))
    kept, forgot = [1e-6] * 5, [1e-6, 1.0, 1.0, 1.0, 1.0]
    assert repeated.continual_claims({continual.BEST: kept, continual.PERCEPTRON: forgot})[0].met
    assert not repeated.continual_claims({continual.BEST: forgot, continual.PERCEPTRON: forgot})[0].met
    assert not repeated.continual_claims({continual.BEST: kept, continual.PERCEPTRON: kept})[0].met


def test_an_exception_a_nan_and_a_formula_that_is_not_exact_are_missed():
    assert repeated.robustness_claims({"lm": random_fits.Tally(3)})[0].met
    failed = random_fits.Tally(3, exceptions=["7: ValueError()"])
    (missed,) = repeated.robustness_claims({"lm": failed})
    assert not missed.met and "7: ValueError()" in missed.why
    assert not repeated.robustness_claims({"lm": random_fits.Tally(3, not_finite=[1])})[0].met
    assert repeated.recovery_claims({"feynman": {"I.12.1": EXACT / 2}})[0].met
    (missed,) = repeated.recovery_claims({"feynman": {"I.12.1": EXACT}})
    assert not missed.met and "I.12.1" in missed.why


def test_a_mobility_edge_that_is_off_is_missed():
    good = anderson.Result(0.99, 1.0, anderson.THEORY)
    assert all(claim.met for claim in mobility_edges.gaam_claims(0.99, [good]))
    off = replace(good, accuracy=0.9, edge={**anderson.THEORY, "λ": 2.2})
    assert not any(claim.met for claim in mobility_edges.gaam_claims(0.99, [good, off]))


def test_a_free_variable_in_a_relation_is_missed():
    runs = [unsupervised.Found(np.array(shares)) for shares in ([3, 1, 3, 0, 0, 0.1], [1, 0, 1, 3, 3, 0.1])]
    assert unsupervised.claims(runs)[0].met
    assert not unsupervised.claims(runs[:1])[0].met
    assert not unsupervised.claims([*runs, unsupervised.Found(np.array([0, 0, 0, 0, 3.0, 3.0]))])[0].met


def test_a_knot_network_that_is_too_large_or_needs_other_inputs_is_missed():
    shares = dict.fromkeys(knot_signatures.TRANSLATIONS, 0.3) | {"volume": 0.1}
    good = knot_signatures.Run(0.9, 150, 0.8, shares, 0.85, 0.85, 150, 0.81)
    assert all(claim.met for claim in knot_signatures.claims([good], [0.95], []))
    wrong = replace(good, parameters=400, shares=shares | {"volume": 0.9}, one_node=0.79)
    assert not any(claim.met for claim in knot_signatures.claims([wrong], [0.9], []))


@pytest.mark.slow
@pytest.mark.extended
def test_the_perceptrons_learn_within_their_parameters():
    x = np.random.default_rng(0).uniform(-1, 1, (200, 2))
    data = Dataset(x, x[:, 0] * x[:, 1])
    chosen = perceptrons(2, 60)
    assert {mlp.size <= 60 for mlp in chosen} == {True}
    for found in (by_gradient(chosen, data, data, 2.0), by_levenberg(40, data, data, 2.0)):
        assert found.error < 0.1 * data.y.std()
        assert 0 < found.parameters <= 60


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("number", one_in(4, ["1", "4", "5", "6", "7", "9", "12"]))
def test_a_small_study_is_one_command_that_prints_claims_and_saves_its_picture(number, tmp_path, capsys):
    kept, page = tmp_path / "rows.json", tmp_path / "paper.md"
    options = ["--only", number, "--small", "--pictures", str(tmp_path), "--markdown", str(page), "--keep", str(kept)]
    assert command.main(options) == 0
    printed = capsys.readouterr().out
    (row,) = (json.loads(line) for line in kept.read_text("utf-8").splitlines())
    assert row["number"] == number and row["claims"] and row["seconds"] > 0
    for claim in row["claims"]:
        assert claim["ours"] and claim["wanted"].replace("|", r"\|") in page.read_text("utf-8")
    assert printed.count("MISSED") == 2 * sum(not claim["met"] for claim in row["claims"])
    assert len(list(tmp_path.glob("*.png"))) == 1
    assert command.main(["--keep", str(kept), "--only", number]) == 0  # from the file, without measuring
    assert len(kept.read_text("utf-8").splitlines()) == 1


@pytest.mark.extended
@pytest.mark.parametrize("number", one_in(2, ["2", "8", "3", "10", "11"]))
def test_the_longer_studies_print_claims_when_small(number, capsys):
    assert command.main(["--only", number, "--small"]) == 0
    assert f"\n{number:2}  {command.STUDIES[number][0]}" in capsys.readouterr().out


def test_a_toy_whose_formula_is_not_exact_is_missed():
    one = toy_formulas.Found(create([2, 1, 1]), "x*y", 1e-9, 1.0)
    assert toy_formulas.claim("x*y", (2, 2, 1), "", [one]).met
    assert not toy_formulas.claim("x*y", (2, 2, 1), "", [replace(one, error=0.1)]).met
    assert not toy_formulas.claim("x*y", (2, 2, 1), "", [replace(one, kan=create([2, 5, 1]))]).met
    assert not toy_formulas.claim("x*y", (2, 2, 1), "", [replace(one, seconds=21.0)]).met


def test_the_page_has_every_study_and_a_sentence_for_each_miss():
    page = (DOCS / "paper.md").read_text("utf-8")
    for number, (title, _) in command.STUDIES.items():
        assert f"| {number} | **{title}** |" in page
    assert page.count("| **MISSED** |") == len(re.findall(r"MISSED:\s", page))
