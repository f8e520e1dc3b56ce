"""The stages of a fit: their order is a list, and one that is left out leaves the others as they are."""

import inspect

import numpy as np

from kanserve.network.kan import Kan
from kanserve.train import fit
from kanserve.train.problem import FitOptions, Problem
from kanserve.train.stages import STAGES, clipped, recorded, through


def problem(**given) -> Problem:
    x = np.random.default_rng(0).uniform(-1, 1, (60, 2))
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(fit).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return Problem.of([2, 1], (x, x[:, 0] + x[:, 1] ** 2), FitOptions(**defaults | given))


def untrained(one: Problem) -> Kan:
    assert one.plan is not None and one.plan.settings.method == "lm"
    return one.kan


def test_a_stage_that_is_left_out_leaves_the_others_as_they_are():
    one = problem(extrapolation="clip")
    whole = through(STAGES, one, untrained)
    assert len(whole.layers) == 3 and len(whole.fitted_rows) == 60
    plain = through([stage for stage in STAGES if stage is not clipped], one, untrained)
    assert len(plain.layers) == 1 and len(plain.fitted_rows) == 60
    unknown = through([stage for stage in STAGES if stage is not recorded], one, untrained)
    assert len(unknown.layers) == 3 and len(unknown.fitted_rows) == 0


def test_without_stages_the_last_function_gets_the_problem():
    one = problem()
    assert through([], one, lambda given: given.kan) is one.kan
