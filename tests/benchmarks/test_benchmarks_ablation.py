"""The ablation, small: each rule has cases and is off only inside, and the figures are what they say."""

import importlib

import numpy as np
import pytest

from benchmarks._ablation_cases import CASES, Case, Result, chosen, measured
from benchmarks._ablation_rules import RULES
from benchmarks.ablate import worth


@pytest.mark.parametrize("rule", [rule for rules in RULES.values() for rule in rules], ids=lambda rule: rule.name)
def test_a_rule_has_cases_and_is_off_only_inside(rule):
    places = [place.split(":") for place, _ in rule.switches]
    owners = [(importlib.import_module(f"kanserve.{module}"), name) for module, name in places]
    before = [getattr(owner, name) for owner, name in owners]
    with rule.off():
        assert all(getattr(owner, name) is not there for (owner, name), there in zip(owners, before, strict=True))
    assert [getattr(owner, name) for owner, name in owners] == before
    assert chosen(rule.kinds)


def test_names_of_rules_and_cases_differ():
    names = [rule.name for rules in RULES.values() for rule in rules]
    assert len(set(names)) == len(names)
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_loss_that_doubles_without_a_rule_is_its_worth():
    on = {("a", seed): Result(1.0 + seed, 2.0, 4) for seed in range(3)}
    off = {("a", seed): Result(2.0 + 2 * seed, 3.0, 8) for seed in range(3)}
    found = worth(on, off)
    assert np.exp(found.mean) == pytest.approx(2) and found.error == pytest.approx(0, abs=1e-12)
    assert (found.changed, found.runs, found.size, found.seconds) == (3, 3, 2.0, 1.5)
    assert found.most == "a 2.000 ± 0.000"


def test_the_error_is_that_over_the_seeds_of_a_case():
    on = {("a", seed): Result(1.0, 1.0, 1) for seed in range(4)}
    off = {("a", seed): Result(float(np.exp(change)), 1.0, 1) for seed, change in enumerate([0.1, -0.1, 0.3, 0.1])}
    assert worth(on, off).error == pytest.approx(np.std([0.1, -0.1, 0.3, 0.1], ddof=1) / 2)


def test_a_rule_that_does_not_act_changes_nothing():
    fit: Case = chosen("few")[0]
    rule = next(rule for rule in RULES["training"] if rule.name == "smoothing of few rows")
    on = measured([fit], [0])
    with rule.off():
        off = measured([fit], [0])
    assert worth(on, measured([fit], [0])).changed == 0 < worth(on, off).changed
