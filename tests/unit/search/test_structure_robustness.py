"""Structure tests on rows that are not what one hopes for: an answer or nothing, never a crash or a wild claim."""

import warnings

import numpy as np
import pytest

from kanserve.search.regression.surrogates import surrogates
from kanserve.search.structure.affine import affine_inputs
from kanserve.search.structure.factors import irrelevant, power_factors
from kanserve.search.structure.input_merges import merges
from kanserve.search.structure.power_laws import monomial
from kanserve.search.structure.scaling import scalings
from kanserve.search.structure.separation import separations

STRUCTURES = (irrelevant, power_factors, separations, affine_inputs, merges, scalings)
SOLVED_BEFORE = ("constant y", "y is zero")  # the search asks such rows for no structure


def of_rows(question, x, y):
    """The answer to a question of the structure of rows, from their surrogates."""
    return question(x, y, surrogates(x, y))


def hard_rows():
    generator = np.random.default_rng(0)
    x = generator.uniform(0.5, 2, (300, 3))
    plain = x[:, 0] * np.exp(-x[:, 1]) + x[:, 2]
    constant, doubled, few = x.copy(), x.copy(), x[:12]
    constant[:, 1] = 3.0
    doubled[:, 2] = doubled[:, 0]
    with_zero = x.copy()
    with_zero[::7, 0] = 0.0
    signed = generator.uniform(-1, 1, (300, 3))
    decades = 10 ** generator.uniform(-8, 8, (300, 3))
    correlated = x.copy()
    correlated[:, 1] = correlated[:, 0] + 0.05 * correlated[:, 2]
    return {
        "constant input": (constant, constant[:, 0] + constant[:, 2] ** 2),
        "all inputs constant": (np.ones((50, 2)), generator.normal(size=50)),
        "doubled input": (doubled, doubled[:, 0] * doubled[:, 1] + doubled[:, 2]),
        "few rows": (few, plain[:12]),
        "two rows": (x[:2], plain[:2]),
        "constant y": (x, np.full(300, 2.0)),
        "y is zero": (x, np.zeros(300)),
        "zeros": (with_zero, with_zero[:, 0] * with_zero[:, 1]),
        "signs": (signed, signed[:, 0] * signed[:, 1] - signed[:, 2]),
        "large": (x * 1e6, plain * 1e12),
        "small": (x * 1e-9, plain * 1e-12),
        "decades": (decades, decades[:, 0] / decades[:, 1]),
        "correlated": (correlated, correlated[:, 0] * correlated[:, 2]),
        "noise alone": (x, generator.normal(size=300)),
        "spikes": (signed, 1 / (signed[:, 0] - signed[:, 1])),
        "steps": (signed, np.sign(signed[:, 0]) + np.round(2 * signed[:, 1])),
        "integers": (np.round(4 * x), np.round(4 * x)[:, 0]),
        "one input": (x[:, :1], np.log(x[:, 0])),
        "nine inputs": (generator.uniform(1, 2, (200, 9)), generator.uniform(1, 2, 200)),
    }


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", list(hard_rows()))
def test_every_question_has_an_answer(name):
    x, y = hard_rows()[name]
    before = x.copy(), y.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surrogates(x, y)
        monomial(x, y)
        for structure in STRUCTURES if name not in SOLVED_BEFORE and x.shape[1] > 1 else ():
            of_rows(structure, x, y)
    assert np.array_equal(x, before[0]) and np.array_equal(y, before[1])


@pytest.mark.slow
def test_noise_alone_has_no_structure():
    x, y = hard_rows()["noise alone"]
    assert of_rows(irrelevant, x, y) == ()
    for question in (power_factors, separations, affine_inputs, merges, scalings):
        assert of_rows(question, x, y) == (), question.__name__


def test_of_an_input_that_stands_there_twice_one_is_kept():
    x, y = hard_rows()["doubled input"]
    assert set(of_rows(irrelevant, x, y)) < {0, 2}


def test_the_units_of_the_rows_change_no_answer():
    x, y = hard_rows()["signs"]
    for scale in (1e-9, 1e6):
        assert [separation.parts for separation in of_rows(separations, x * scale, y * scale)] == [
            separation.parts for separation in of_rows(separations, x, y)
        ]
