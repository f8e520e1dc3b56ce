"""A closed form as a network: the same numbers."""

import numpy as np
import pytest

import kanserve
from kanserve.data.datasets import load_equations
from kanserve.errors import FormulaError, InputError
from kanserve.formula.expressions.tree import evaluate_tree
from kanserve.formula.to_network.from_formula import kan_of
from kanserve.network import evaluate
from kanserve.network.encoding import without_encoding
from kanserve.network.kan import Variable
from kanserve.network.training_range import finite_rows
from tests.support.networks.kans import ZOO

TABLES = ("feynman", "feynman_dimensional", "sciences")


def _agree(tree, kan, x):
    wanted = evaluate_tree(tree, {}, x)
    np.testing.assert_allclose(evaluate.evaluate(kan, x)[:, 0], wanted, rtol=1e-12, atol=1e-12 * np.nanmax(abs(wanted)))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("table", TABLES)
def test_the_network_of_a_law_gives_the_numbers_of_its_tree(table):
    rng = np.random.default_rng(0)
    for law in load_equations(table):
        tree = kanserve.formulas(kanserve.from_formula(law.formula, inputs=list(law.ranges), ranges=law.ranges))[0].tree
        x = np.stack([rng.uniform(low, high, 200) for low, high in law.ranges.values()], axis=1)
        _agree(tree, kan_of(tree, list(law.ranges)), x)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", list(ZOO))
def test_the_network_of_a_closed_form_of_the_zoo_gives_its_numbers(name):
    kan = without_encoding(ZOO[name]())
    for formula in kanserve.formulas(kan):
        if formula.closed_form:
            _agree(formula.tree, kan_of(formula.tree, kan.inputs), finite_rows(kan, 200))


def test_several_trees_are_several_outputs_and_inputs_need_not_occur():
    square, sine = (("var", 1), ("pow", 0, 2)), (("var", 0), ("call", "sin", 0))
    kan = kan_of([square, sine], [Variable("a", "m"), "b", "unused"], ["p", "q"])
    assert [variable.name for variable in kan.inputs] == ["a", "b", "unused"]
    assert kan.inputs[0].unit == "m"
    np.testing.assert_allclose(evaluate.evaluate(kan, [[0.5, 3.0, 7.0]]), [[9.0, np.sin(0.5)]], rtol=1e-15)


def test_a_spline_and_a_missing_input_are_refused():
    with pytest.raises(InputError, match="inputs, got 1"):
        kan_of((("var", 1), ("pow", 0, 2)), ["a"])
    with pytest.raises(InputError, match="as many outputs, got 2"):
        kan_of((("var", 0), ("pow", 0, 2)), ["a"], ["p", "q"])
    with pytest.raises(FormulaError, match="a constant that is not finite"):
        kan_of((("const", 1e200), ("pow", 0, 2), ("var", 0), ("mul", 1, 2)), ["a"])
