"""Numbers with a name: found at the right value, written so that the parser reads them, the simplest first."""

import math

import pytest

from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.numbers import name_number, near
from kanserve.formula.to_network.from_formula import from_formula
from kanserve.network.evaluate import evaluate


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.pi / 2, "pi/2"),
        (-1 / (4 * math.pi), "-1/(4*pi)"),
        (1 / math.sqrt(2 * math.pi), "1/sqrt(2*pi)"),
        (1 / 3, "1/3"),
        (-0.5, "-0.5"),
        (1 / 18, "1/18"),
        (9.81, "9.81"),
        (299.8, "299.8"),
        (6.674e-11, "6.674e-11"),
        (3 * math.pi**2, "3*pi^2"),
        (1 / math.log(10), "1/log(10)"),
        (math.sqrt(2 / 3), "sqrt(6)/3"),
        (0.0, "0"),
    ],
)
def test_a_number_is_known_by_its_name_and_the_name_is_the_number(value, text):
    found = name_number(value)
    assert found is not None and found.text == text
    read = evaluate(from_formula(f"x*0 + ({text})", inputs=["x"]), [[0.0]])[0, 0]
    assert read == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("value", [1.2345678901234, math.e**2 + 1, 0.3333333, math.nan, math.inf])
def test_a_number_without_a_name_has_none(value):
    found = name_number(value)
    assert found is None or found.text == "0.3333333"


def test_the_simplest_number_is_the_first_and_none_is_named_twice():
    found = near(0.3334, 0.001)
    assert found[0].text == "1/3"
    assert [candidate.bits for candidate in found] == sorted(candidate.bits for candidate in found)
    assert len({candidate.value for candidate in found}) == len(found)
    assert all(abs(candidate.value - 0.3334) <= 0.001 for candidate in found)
    assert near(-2.0001, 0.001)[0].value == -2.0


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ((("var", 0), ("var", 1), ("pow", 1, -1), ("mul", 0, 2)), 3.0),  # a/b
        ((("const", 0.5), ("var", 0), ("var", 1), ("pow", 2, 2), ("mul", 0, 1, 3)), 6.0),  # 0.5·m·v²
        ((("var", 0), ("const", -1.0), ("mul", 1, 0), ("call", "exp", 2), ("var", 1), ("mul", 4, 3)), 4.2),  # n·exp(-x)
        ((("var", 0), ("pow", 0, -1)), 3.0),  # 1/x
        ((("var", 0), ("var", 1), ("const", -1.0), ("mul", 2, 1), ("add", 0, 3)), 3.0),  # a - b
        ((("var", 0), ("var", 1), ("pow", 0, -1), ("pow", 1, -1), ("mul", 2, 3)), 5.0),  # 1/(a·b)
        ((("var", 0), ("call", "x^1.37", 0)), 3.4),
        ((("var", 0), ("call", "1/x^(3/2)", 0)), 5.2),  # as 1/x^1.5, which the table lists by another name
        ((("var", 0), ("call", "log", 0), ("const", 1.37), ("mul", 2, 1), ("call", "exp", 3)), 3.4),  # x^1.37
    ],
)
def test_complexity_counts_what_is_printed(tree, expected):
    assert complexity(tree) == pytest.approx(expected)
