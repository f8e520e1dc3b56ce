"""Expressions: equal ones are one object, and what follows from them is what NumPy computes."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from kanserve.errors import DataError
from kanserve.formula.expressions.intervals import intervals
from kanserve.network import expression
from kanserve.network.expression import PRIMITIVES, call, compile_expression, derivative, steps
from kanserve.network.functions import FUNCTIONS
from kanserve.network.spellings import SPELLINGS
from tests.support import function_tables
from tests.support.networks.powers import POWERS

X: Any = expression.X  # NumPy's types know arrays alone


def test_equal_expressions_are_one():
    assert X * X is X**2 and X * X * X is X**3
    assert 2 * (3 * np.sin(X)) is 6 * np.sin(X)
    assert derivative(X**2 + np.sin(X)) is 2 * X + np.cos(X)
    assert derivative(X**-0.5) is -0.5 * X**-1.5


@pytest.mark.parametrize(
    ("made", "plain"),
    [
        (X - 1 / (2 - X), lambda x: x - 1 / (2 - x)),
        (np.sqrt(X) * X**3, lambda x: np.sqrt(x) * (x * x * x)),
        ((1 + X) ** 6, lambda x: (1 + x) * (1 + x) * ((1 + x) * (1 + x)) * ((1 + x) * (1 + x))),
        (X ** Fraction(1, 3), np.cbrt),
        (np.where(X < 1, X, -X), lambda x: np.where(x < 1, x, -x)),
        (np.maximum(X, 1) ** X, lambda x: np.maximum(x, 1) ** x),
        (0 * X + 3, lambda x: np.full_like(x, 3)),
    ],
    ids=("quotient", "root", "products", "cube root", "choice", "power", "constant"),
)
def test_it_computes_what_is_written(made, plain):
    x = np.linspace(0.1, 1.9, 50)
    np.testing.assert_allclose(compile_expression(made)(x), plain(x), rtol=2e-15)  # some roundings, of each processor
    middle = (plain(x + 1e-6) - plain(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(compile_expression(derivative(made))(x), middle, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", [name for name, row in PRIMITIVES.items() if row.definition])
def test_a_definition_is_the_primitive(name):
    x = np.linspace(0.1, 30, 100)
    define = PRIMITIVES[name].definition
    assert define is not None
    written = compile_expression(define(X))
    np.testing.assert_allclose(written(x), PRIMITIVES[name].numpy(x), rtol=1e-14, atol=1e-16)


def test_what_numpy_computes_otherwise_is_refused():
    for attempt in (lambda: np.floor(X), lambda: np.add.reduce(X), lambda: np.clip(X, 0, 1)):
        with pytest.raises(DataError, match="cannot hold"):
            attempt()


def test_long_sums_need_no_recursion():
    total = sum((np.sin(n * X) for n in range(1, 3000)), 0 * X)
    assert compile_expression(derivative(total))(np.zeros(2)) == pytest.approx(2999 * 3000 / 2)


def test_steps_have_an_inner_sum_once_and_definitions_for_what_is_not_spelled():
    s = 1 + np.exp(X)
    written = (("var", 0), ("const", 1.0), ("call", "exp", 0), ("add", 1, 2), ("call", "log", 3), ("mul", 3, 4))
    assert steps(s * np.log(s), {"exp", "log"}) == written
    assert ("call", "sigmoid", 0) not in steps(call("sigmoid", X), {"exp"})


def test_every_language_spells_roots_and_logarithms():
    for language, spelled in SPELLINGS.items():
        assert {"sqrt", "exp", "log"} <= set(spelled), language


def test_files_that_cannot_read_the_table_have_it():
    pytest.importorskip("ruff")
    for path, text in function_tables.written().items():
        assert path.read_text() == text, f"make functions writes {path}"


@pytest.mark.parametrize("name", [*FUNCTIONS, *POWERS])
def test_parity_follows_from_the_expression(name):
    row, x = FUNCTIONS[name], np.linspace(0.05, 0.95, 10)
    with np.errstate(all="ignore"):
        here, there = row.numpy(x), row.numpy(-x)
    assert row.parity == np.array_equal(here, there) - np.array_equal(here, -there)


@pytest.mark.parametrize("name", [*FUNCTIONS, *POWERS])
def test_bounds_follow_from_the_expression(name):
    tree = (("var", 0), ("call", name, 0))
    for low, high in ((-0.9, 0.4), (0.1, 0.8), (-3.0, 5.0)):
        least, most = intervals(tree, {}, [(low, high)])[-1]
        with np.errstate(all="ignore"):
            values = FUNCTIONS[name].numpy(np.linspace(low, high, 101))
        values = values[np.isfinite(values)]
        assert ((least <= values) & (values <= most)).all()
