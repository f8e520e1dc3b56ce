"""Laws are taken apart: each reduction on a law that needs it, and put together again exactly."""

import time

import numpy as np
import pytest

from kanserve.search import budget
from kanserve.search.dimensions import dimensionless
from kanserve.search.problem import Problem, Search, settles
from kanserve.search.reducing import solved, solved_with
from kanserve.search.scaling import Scaling
from kanserve.search.trees import inputs, text

X = np.random.default_rng(0).uniform(0.3, 2.0, (500, 4))
A, B, C, D = X.T


def search_of(seconds=40.0):
    log: list[str] = []
    return Search(time.perf_counter() + seconds, np.random.default_rng(0), log=log.append), log


@pytest.mark.parametrize(
    ("count", "y", "reduction"),
    [
        (2, 2.5 * A**2 / np.sqrt(B), "power law"),
        (4, A**2 * B**-1.5 * C**0.5 / D, "power law"),
        (4, np.sin(2 * A) * B + B**2, "of (0, 1) only"),
        (3, A * np.exp(-B / C), "scales as ['1', '0', '0']"),
        (3, A**2 * B * (1 + np.sin(3 * C)), "scales as ['2', '1', '0']"),
        (3, np.sin(4 * A * B / C) ** 2, "of product (1.0, 1.0, -1.0) alone"),
        (3, np.exp(A) + np.sin(2 * B) * C, "identity sum ((0,), (1, 2))"),
        (3, np.log(np.exp(A) + B**2) + 0 * C, "of (0, 1) only"),
        (3, np.exp(-((A - B) ** 2) / C), "log product"),
        (4, np.sin(A * B) + C * np.exp(-A * D), "scales as ['0', '0', '0', '0']"),
        (3, np.exp((A - B) * C) + C, "merged sum (0, 1) -1.0"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_law_is_taken_apart_where_it_can_be_and_exact_when_it_is_put_together(count, y, reduction):
    search, log = search_of()
    problem = Problem(X[:, :count], y)
    found = solved(problem, search)
    assert found is not None and max(found.error, found.held) < 1e-9 and settles(found, problem)
    assert any(line.lstrip().startswith(reduction) for line in log), log


def test_a_constant_is_its_own_law():
    search, _ = search_of()
    found = solved(Problem(X, np.full(len(X), -2.5)), search)
    assert found is not None and found.error == 0 and "0*" not in text(found.tree)


def test_what_was_found_for_a_part_is_not_offered_for_the_whole():
    search, _ = search_of()
    y = np.exp(A) + np.sin(2 * B) * C
    solved(Problem(X[:, :3], y), search)
    assert search.found and all(inputs(one.tree) <= {0, 1, 2} for one in search.found)
    least = min(search.found, key=lambda one: one.held)
    assert inputs(least.tree) == {0, 1, 2} and least.held < 1e-9


def test_units_lead_to_the_law_of_their_groups_or_to_the_power_law_that_they_alone_allow():
    search, _ = search_of()
    known = dimensionless(("m", "m", "s"), "m/s")
    scaling = Scaling(known.scales[0], known.groups, known.grouped(X[:, :3]), 0.0)
    found = solved_with(Problem(X[:, :3], A / C * np.sin(2 * B / A)), search, scaling)
    assert found is not None and found.error < 1e-9
    energy = dimensionless(("kg", "m/s"), "J")
    assert energy.groups == ()
    found = solved_with(Problem(X[:, :2], 0.5 * A * B**2), search, Scaling(energy.scales[0], (), X[:, :0], 0.0))
    assert found is not None and found.error < 1e-12


def test_a_search_that_is_over_looks_at_nothing():
    search, log = search_of(-1.0)
    assert solved(Problem(X, A * B), search) is None and log == []


def test_a_step_that_would_take_long_is_left_when_the_time_is_over():
    x = np.random.default_rng(1).uniform(0.5, 1.5, (800, 20))
    y = np.exp(x[:, 0]) * (x**2).sum(axis=1)
    search, _ = search_of(0.3)
    began = time.perf_counter()
    with pytest.raises(budget.OutOfTimeError), budget.until(search.deadline):
        solved(Problem(x, y), search)
    assert time.perf_counter() - began < 2
    budget.check()  # outside, there is no end
