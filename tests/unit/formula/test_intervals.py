import numpy as np
import pytest

from kanserve.formula.expressions.intervals import intervals
from kanserve.network.expression import PRIMITIVES, steps
from kanserve.network.functions import FUNCTIONS

ENDS = [(-0.52, -0.5), (-0.01, 0.02), (0.0, 0.1), (0.3, 0.31), (0.2, 0.9), (2.0, 3.0)]


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_and_their_slopes_stay_within_their_bounds(name, order):
    function = FUNCTIONS[name]
    expression = function.slope_expression(order) if order else function.expression
    for low, high in ENDS:
        if order and name in ("abs", "sign") and low <= 0 <= high:
            continue  # no slope tells of a kink or of a jump
        bottom, top = intervals(steps(expression, PRIMITIVES), {}, [(low, high)])[-1]
        x = np.linspace(low, high, 301)
        with np.errstate(all="ignore"):
            values = function.numpy(x)
            for _ in range(order):  # by differences, which know nothing of the expression
                values, x = np.diff(values) / np.diff(x), (x[1:] + x[:-1]) / 2
        values = values[np.isfinite(values)]
        slack = 1e-6 * (1 + np.abs(values).max(initial=0.0))
        assert (values >= bottom - slack).all() and (values <= top + slack).all(), (low, high, bottom, top)


@pytest.mark.parametrize("name", ["sigmoid", "silu"])
def test_pieces_chosen_by_a_condition_have_the_bounds_of_those_that_can_be_chosen(name):
    curve = steps(FUNCTIONS[name].slope_expression(2), PRIMITIVES)
    assert max(map(abs, intervals(curve, {}, [(0.3, 0.31)])[-1])) < 0.6  # where one piece alone can be chosen
    assert max(map(abs, intervals(curve, {}, [(-0.1, 0.1)])[-1])) < 3
