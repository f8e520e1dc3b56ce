"""What rounding left in the constants of a fitted network is not printed, and nothing else is left out."""

import numpy as np
import pytest

from kanserve.formula import evaluate_tree, formulas, from_formula
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, Layer, Variable, make_layer
from kanserve.network.training_range import sample
from tests.support.formula_agreement import check

SHARE = 0.7310585786300049


def named(*rows, **also) -> Layer:
    """A layer on grids as splines were fitted on them; for each subnode its edges, (function, a, b, c, d) or None."""
    edges = [[edge or ("", 1.0, 0.0, 1.0, 0.0) for edge in row] for row in rows]
    return make_layer(
        np.zeros((len(rows), len(rows[0]), 8)),
        functions=[[edge[0] for edge in row] for row in edges],
        affine=[[edge[1:] for edge in row] for row in edges],
        **also,
    )


def hello() -> Kan:
    """exp(sin(pi*x) + y^2) as a fit in double leaves it, the share of two scales in the square left to chance."""
    sine = ("sin", np.pi * (1 + 2e-13), 3.5657e-12 / 7, 0.9999999999991, 0)
    square = ("x^2", SHARE, -4.4e-14 / 3, 1 / SHARE**2, 0)
    return Kan((named([sine, square]), named([("exp", 1, 0, 1 + 2e-12, -1e-12 / 7)])))


def centred() -> Kan:
    """A product of inputs that were centred on their means, which the offsets of its edges undo."""
    shift, scale = np.array([0.1234567, -0.0345678]), np.array([0.5772157, 0.5612345])
    first = named(
        [("x", scale[0], shift[0] * (1 + 3e-16), 1, 0), ("x", 1.1e-17, 0, 1, 0)],
        [None, ("x", scale[1] * 3, shift[1] * 3 - 1.7e-17, 1, 0)],
        arity=[2],
        node_scale=[1 / 3],
        node_bias=[2.3e-17 / 7],
    )
    return Kan((first,), input_shift=shift, input_scale=scale)


def root() -> Kan:
    """sqrt(x^2 + y^2 + 1), its three numbers equal but for what a fit leaves, and taken out of the root again."""
    inner = named([("x^2", 1, 7e-18 / 3, 1.2037, 0), ("x^2", 1, 0, 1.2037 * (1 - 3e-13), 1.2037 * (1 + 2e-13))])
    return Kan((inner, named([("sqrt", 1, 0, 1.2037**-0.5, -4.4e-16 / 7)])))


@pytest.mark.parametrize(
    ("make", "wanted"),
    [(hello, "exp(sin(3.14159*x1) + x2^2)"), (centred, "x1*x2"), (root, "sqrt(x1^2 + x2^2 + 1)")],
)
def test_what_rounding_left_in_the_constants_of_a_fit_is_not_printed(make, wanted):
    kan = make()
    (formula,) = found = formulas(kan)
    assert formula.text == wanted
    assert "e-1" not in formula.latex + formula.python + formula.c
    assert not {step for step in formula.tree if step[0] == "const" and abs(step[1]) < 0.1}
    check(kan, found)


def test_a_term_of_rounding_takes_its_input_with_it():
    kan = Kan((named([("x^2", 1, 0, 1, 0), ("x", 1, 0, 8.66536e-18 / 7, 0), ("sin", 2, 1, 3e-17 / 7, 0)]),))
    (formula,) = formulas(kan)
    assert (formula.text, [variable.name for variable in formula.variables]) == ("x1^2", ["x1"])


def test_constants_of_nature_stay_where_what_they_multiply_is_large():
    law, ranges = "h*f/(2*pi) + k*T/3", {"f": (1e13, 1e15), "T": (1.0, 3000.0)}
    told = from_formula(law, h=6.62607015e-34, k=1.380649e-23, ranges=ranges)
    inputs = tuple(Variable(name, low=low, high=high) for name, (low, high) in ranges.items())
    edges = [("x", 1, 0, 6.62607015e-34 / 2 / np.pi, 0), ("x", 1, 0, 1.380649e-23 / 3, 0)]
    for kan in (told, Kan((named(edges),), inputs=inputs)):
        found = formulas(kan)
        assert found[0].text == "1.05457e-34*f + 4.602e-24*T"
        check(kan, found)


def test_a_network_made_from_a_formula_keeps_its_constants_however_small():
    # Nobody said what f is, and on -1 to 1 the term would be nothing.
    (formula,) = formulas(from_formula("x + h*f/(2*pi)", h=6.62607015e-34))
    assert formula.text == "x + 1.05457e-34*f"
    assert formula.python == "x + 1.0545718176461565e-34*f"


def test_a_number_of_few_digits_was_told_and_stays():
    (formula,) = formulas(Kan((named([("x", 1, 0, 1, 1e-15)]),)))
    assert formula.text == "x1 + 1e-15"


@pytest.mark.parametrize(("reach", "kept"), [(np.inf, True), (1.0, False), (1e4, True)])
def test_a_term_stays_that_may_count_in_the_range_of_its_input(reach, kept):
    edges = [("x", 1, 0, 1, 0)], [("x^4", 1, 0, 1.2345678901234567e-12, 0)]
    first = named(*edges, arity=[1, 1])
    kan = Kan((first, named([("x", 1, 0, 1, 0)] * 2)), inputs=(Variable("x", low=-reach, high=reach),))
    assert formulas(kan)[0].text.startswith("1.23") is kept


def test_a_constant_stays_that_a_later_layer_makes_large():
    first = named([("x", 1, 0, 1, 1.2345678901234567e-13)], [("x", 1, 0, 1, 0)])
    second = named([("sin", 1, 0, 1e12, 0), ("sin", 1, 0, -1e12, 0)])
    kan = Kan((first, second))
    (formula,) = formulas(kan)
    x = sample(kan, 100)
    assert "1.23457e-13" in formula.text
    assert np.allclose(evaluate_tree(formula.tree, {}, x), evaluate(kan, x)[:, 0], atol=1e-3)


def test_what_is_not_always_defined_stays():
    kan = Kan((named([("x", 1, 0, 1, 0), ("log", 1, 2.5, 1.2345678901234567e-15, 0)]),))
    assert formulas(kan)[0].text == "x1 + 1.23457e-15*log(x2 + 2.5)"


def test_a_factor_that_is_1_to_the_digits_shown_is_not_shown():
    (formula,) = formulas(Kan((named([("sin", 1, 0, 1.00000004, 0), ("exp", 1, 0, -0.99999998, 0)]),)))
    assert (formula.text, formula.latex) == ("sin(x1) - exp(x2)", r"\sin\left(x_{1}\right) - e^{x_{2}}")
    assert formula.python == "1.00000004*np.sin(x1) - 0.99999998*np.exp(x2)"
