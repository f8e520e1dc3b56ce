"""Laws are taken apart: each reduction on a law that needs it, and put together again exactly."""

import time
from itertools import count

import numpy as np
import pytest

import kanserve
from kanserve.formula import evaluate_tree
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.search.findings import decompose
from kanserve.search.findings.decompose import solve, solve_with
from kanserve.search.fit.problem import Search, SearchProblem, settles
from kanserve.search.regression.budget import Budget, OutOfBudgetError, check, count_fit
from kanserve.search.structure.dimensions import dimensionless
from kanserve.search.structure.scaling import Scaling
from kanserve.search.trees.nodes import inputs, text

X = np.random.default_rng(0).uniform(0.3, 2.0, (500, 4))
A, B, C, D = X.T


def search_of(budget=None):
    log: list[str] = []
    return Search(budget or Budget(), log=log.append), log


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("count", "y", "reduction"),
    [
        (2, 2.5 * A**2 / np.sqrt(B), "power law"),
        (4, A**2 * B**-1.5 * C**0.5 / D, "power law"),
        (4, np.sin(2 * A) * B + B**2, "of (0, 1) only"),
        (3, A * np.log(1 + B / C), "scales as ['1', '0', '0']"),
        (3, A**2 * B * (1 + np.sin(3 * C)), "scales as ['2', '1', '0']"),
        (3, np.sin(4 * A * B / C) ** 2, "of product (1.0, 1.0, -1.0) alone"),
        (3, np.exp(A) + np.sin(2 * B) * C, "identity sum ((0,), (1, 2))"),
        (3, np.log(np.exp(A) + B**2) + 0 * C, "of (0, 1) only"),
        (3, np.exp(-((A - B) ** 2) / C), "log product"),
        (4, np.sin(A * B) + C * np.exp(-A * D), "scales as ['0', '0', '0', '0']"),
        pytest.param(3, np.exp((A - B) * C) + C, "merged sum (0, 1) -1.0", marks=pytest.mark.extended),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_law_is_taken_apart_where_it_can_be_and_exact_when_it_is_put_together(count, y, reduction):
    search, log = search_of()
    problem = SearchProblem(X[:, :count], y)
    found = solve(problem, search)
    assert found is not None and max(found.error, found.held) < 1e-9 and settles(found, problem)
    assert any(line.lstrip().startswith(reduction) for line in log), log


def test_a_stage_that_is_left_out_leaves_the_others_to_find_the_law(monkeypatch):
    problem = SearchProblem(X[:, :2], 2.5 * A**2 / np.sqrt(B))
    others = tuple(stage for stage in decompose.STAGES if stage.name != "power law")
    monkeypatch.setattr(decompose, "STAGES", others)
    search, log = search_of()
    found = solve(problem, search)
    assert found is not None and settles(found, problem)
    assert not any(line.startswith("power law:") for line in log), log


def test_no_two_stages_have_one_name():
    assert len({stage.name for stage in decompose.STAGES}) == len(decompose.STAGES)


def test_forms_of_one_input_are_tried_early_only_where_the_outputs_scatter():
    """Exact outputs have quicker ways: they need the forms only where these fail."""
    x = np.random.default_rng(2).uniform(0.1, 4, (300, 1))
    noise = np.random.default_rng(3).normal(size=300)
    for y in (np.sqrt(1 + x[:, 0] ** 3), np.sin(9 * x[:, 0]), np.abs(x[:, 0] - 2.3)):
        for noisy, early in ((False, False), (True, True)):
            one = SearchProblem(x, y + noisy * 0.01 * y.std() * noise)
            names = [stage.name for stage in decompose.STAGES if stage.applies(one)]
            forms = names.index("forms of one input" if early else "forms of one exact input")
            assert (forms < names.index("shapes of one input")) is early


def test_the_rows_of_a_divided_law_weigh_what_the_noise_of_their_outputs_says():
    noisy = A**2 * (1 + B) + 0.1 * np.random.default_rng(1).normal(size=len(X))
    usable = A > 1
    part = SearchProblem(X[:, :2], noisy).divide(X[:, 1:2], A**2, usable)
    np.testing.assert_allclose(part.y, noisy[usable] / A[usable] ** 2)
    assert part.weights is not None
    np.testing.assert_allclose(part.weights / part.weights[0], (A[usable] / A[usable][0]) ** 4)
    weighted_part = SearchProblem(X[:, :2], noisy, weights=B).divide(X[:, 1:2], A**2, usable)
    np.testing.assert_allclose(np.asarray(weighted_part.weights), part.weights * B[usable])
    assert SearchProblem(X[:, :2], A**2 * (1 + B)).divide(X[:, 1:2], A**2, usable).weights is None


@pytest.mark.slow
@pytest.mark.extended
def test_the_noise_of_a_product_does_not_hide_its_other_factor():
    generator = np.random.default_rng(0)
    x = generator.uniform((1, 3, 0, 0.2), (4, 5, 2.5, 1), (600, 4))
    force, length, at, offset = x.T
    moment = force * (length - at) * (at + offset) / 2
    y = moment + 0.1 * moment.std() * generator.normal(size=600)
    found = kanserve.find_formulas((x, y), max_fits=1500)
    fitted = refit(found.best.formula.tree, x, moment)
    np.testing.assert_allclose(evaluate_tree(fitted, {}, x), moment, atol=1e-9)


def test_a_constant_is_its_own_law():
    search, _ = search_of()
    found = solve(SearchProblem(X, np.full(len(X), -2.5)), search)
    assert found is not None and found.error == 0 and "0*" not in text(found.tree)


@pytest.mark.slow
@pytest.mark.extended
def test_what_was_found_for_a_part_is_not_offered_for_the_whole():
    search, _ = search_of()
    y = np.exp(A) + np.sin(2 * B) * C
    solve(SearchProblem(X[:, :3], y), search)
    assert search.found and all(inputs(fitted.tree) <= {0, 1, 2} for fitted in search.found)
    least = min(search.found, key=lambda one: one.held)
    assert inputs(least.tree) == {0, 1, 2} and least.held < 1e-9


@pytest.mark.slow
def test_units_lead_to_the_law_of_their_groups_or_to_the_power_law_that_they_alone_allow():
    search, _ = search_of()
    known = dimensionless(("m", "m", "s"), "m/s")
    scaling = Scaling(known.scales[0], known.groups, known.group_inputs(X[:, :3]), 0.0)
    found = solve_with(SearchProblem(X[:, :3], A / C * np.sin(2 * B / A)), search, scaling)
    assert found is not None and found.error < 1e-9
    energy = dimensionless(("kg", "m/s"), "J")
    assert energy.groups == ()
    found = solve_with(SearchProblem(X[:, :2], 0.5 * A * B**2), search, Scaling(energy.scales[0], (), X[:, :0], 0.0))
    assert found is not None and found.error < 1e-12


def test_a_search_that_is_over_looks_at_nothing():
    search, log = search_of(Budget(max_fits=0))
    assert solve(SearchProblem(X, A * B), search) is None and log == []


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("limit", ["time", "fits"])
def test_a_step_that_would_take_long_is_left_when_there_is_nothing_left_to_spend(limit, monkeypatch):
    x = np.random.default_rng(1).uniform(0.5, 1.5, (800, 20))
    y = np.exp(x[:, 0]) * (x**2).sum(axis=1)
    monkeypatch.setattr(time, "perf_counter", count().__next__)  # a second for each look at the clock
    budget = Budget(deadline=50) if limit == "time" else Budget(max_fits=50)
    search, log = search_of(budget)
    with pytest.raises(OutOfBudgetError), budget.enforce():
        solve(SearchProblem(x, y), search)
    assert 0 < budget.fits <= 50 and len(log) <= 3  # closed forms, which take milliseconds, and one step
    check()  # outside, there is no end


def test_rivals_of_a_law_take_no_more_fits_than_they_may_nor_than_are_left():
    whole = Budget(max_fits=30)
    search, _ = search_of(whole)
    with search.within_fits(10):
        assert search.budget.max_fits == 10
        whole.count(10)
        assert search.over() and not whole.limit_reached()
    with search.within_fits(100):
        assert search.budget.max_fits == 30 and not search.over()
    assert search.budget is whole


def test_a_hypothesis_may_spend_its_share_of_what_is_left_and_what_it_spends_is_gone(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", lambda: 20.0)
    whole = Budget(deadline=100.0, max_fits=30)
    search, _ = search_of(whole)
    with whole.enforce():
        for _ in range(10):
            count_fit()
        with search.within(0.5):
            assert (search.budget.deadline, search.budget.max_fits) == (60.0, 20)
            for _ in range(10):
                assert not search.over()
                count_fit()
            assert search.over() and search.reached == "max_fits"
        assert search.budget is whole and not search.over() and whole.fits == 20
        for _ in range(10):
            count_fit()
        with pytest.raises(OutOfBudgetError):
            count_fit()
    assert whole.fits == 30
