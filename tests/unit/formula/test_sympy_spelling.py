"""The spellings for sympy: each is its function, and only arithmetic and sympy's functions are read."""

import numpy as np
import pytest
import sympy

from kanserve.formula.printing.sympy_spelling import spelled
from kanserve.network.functions import FUNCTIONS
from tests.support.powers import POWERS


@pytest.mark.parametrize("name", [*FUNCTIONS, *POWERS])
def test_a_spelling_is_its_function(name):
    x = sympy.Symbol("x", real=True)
    expression = spelled(sympy, FUNCTIONS[name].sympy, x)
    for value in (0.3, 0.7):  # inside every domain
        assert float(expression.subs(x, value).evalf()) == pytest.approx(float(FUNCTIONS[name].numpy(np.array(value))))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getcwd()",
        "sympy.sqrt.__call__(x)",
        "y",
        "x if x else 1",
        "sympy.sqrt(x, evaluate=False)",
        "'x'",
    ],
)
def test_other_code_is_refused(text):
    with pytest.raises(ValueError, match="cannot be read"):
        spelled(sympy, text, sympy.Symbol("x"))
