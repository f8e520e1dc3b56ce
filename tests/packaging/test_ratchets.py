"""Branches and rules only become fewer: who removes some lowers the figure here."""

import pytest

from tests.support.ratchets import Room, measured, rooms

BRANCHING = 15  # functions whose cyclomatic complexity is over 15
RULES = 12.2  # comparisons with a threshold in 1,000 lines of code


@pytest.fixture(scope="module")
def whole() -> Room:
    pytest.importorskip("radon")
    return sum(rooms().values(), Room())


@pytest.mark.extended  # `make check-ratchets` runs it, too
def test_no_more_functions_branch_much(whole):
    assert len(whole.branching) <= BRANCHING, "\n".join(whole.branching)
    assert len(whole.branching) > BRANCHING - 5, "lower BRANCHING"


@pytest.mark.extended  # `make check-ratchets` runs it, too
def test_no_more_rules_hang_on_a_number(whole):
    assert round(whole.density, 1) <= RULES
    assert whole.density > RULES - 0.5, "lower RULES"


def test_rules_lines_and_branches_are_counted():
    pytest.importorskip("radon")
    rules = "if x > 3 or x <= LIMIT or settings.most < x or -x < -0.5:\n    pass\n"
    others = "if x > 0 or x < 1 or x == 7 or x < y or flag > True:\n    pass\n"
    assert measured(rules).rules == 4
    assert measured(others).rules == 0
    text = '"""What it is."""\n\n# A reason.\nx = [\n    1,\n]\n\ndef f():\n    """It."""\n    return x\n'
    assert (measured(text).code, measured(text).docstrings) == (5, 2)
    many = "def f(x):\n" + "".join(f"    if x == {i}:\n        return {i}\n" for i in range(15))
    assert measured(many, "f.py").branching == ("f.py: f (16)",)
    assert measured(many.replace("    if x == 14:\n        return 14\n", ""), "f.py").branching == ()
