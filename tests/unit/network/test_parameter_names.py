"""Errors for a parameter of another name: they say what it is called here."""

from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve import pde
from kanserve.network.parameter_names import SYNONYMS, names_parameters

DATA = np.linspace(-1, 1, 12)[:, None], np.linspace(-1, 1, 12)
LINE = kanserve.from_formula("2*x", ranges={"x": (-1, 1)})
WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "rng": (lambda **options: kanserve.fit([1, 1], DATA, **options), {"rng": 1}, "'seed'"),
    "grids": (lambda **options: kanserve.fit([1, 1], DATA, **options), {"grids": (3, 5)}, "'grid'"),
    "kan": (lambda **options: kanserve.fit(data=DATA, **options), {"kan": [1, 1]}, "'shape'"),
    "a slip": (lambda **options: kanserve.fit([1, 1], DATA, **options), {"learning_rte": 1}, "'learning_rate'"),
    "weights": (lambda **options: kanserve.fit([1, 1], DATA, **options), {"weights": 1}, "kanserve.Dataset"),
    "jobs": (lambda **options: kanserve.find_formulas(DATA, **options), {"jobs": 2}, "'n_jobs'"),
    "intervals": (lambda **options: kanserve.Session(LINE, DATA).free("x->y", **options), {"intervals": 8}, "'grid'"),
    "callback": (lambda **options: pde.solve([1, 1], [], **options), {"callback": print}, "'progress'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_another_name_is_an_error_that_says_the_right_one(name: str) -> None:
    call, options, right = WRONG[name]
    with pytest.raises(TypeError, match=right):
        call(**options)


def test_a_name_like_no_other_is_an_error_of_python_itself() -> None:
    @names_parameters()
    def call(seed: int = 0) -> int:
        return seed

    wrong: Any = call
    assert call(seed=2) == 2
    with pytest.raises(TypeError, match="unexpected keyword argument 'zzz'"):
        wrong(zzz=1)


def test_no_name_is_a_synonym_of_two_terms_of_one_call() -> None:
    terms = [name for name in SYNONYMS if name not in ("random_state", "sample_weight")]
    every = [one for name in terms for one in SYNONYMS[name]]
    assert len(every) == len(set(every))
