"""The complexity of a formula: how much a reader has to take in, as a number for comparing formulas.

It counts the formula as printed, repetitions included:

- 1 for each variable and for each number; a sign costs nothing;
- 1 for each +, -, * and /;
- for each power and function, its complexity in the table of functions minus 1 (that of x itself): 1 for a square,
  1.5 for a cube, 2 for a fourth power and 0.1 more for each higher power; exp(a*log(x)) counts as x^a.

So a/b has 3, 0.5*m*v^2 has 6, n*exp(-x) has 4.2, 1/sqrt(1 - v^2) has 7.2.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kanserve.formula.expressions.real_powers import with_real_powers
from kanserve.formula.expressions.tree import Step, Table, check_tree, references
from kanserve.network.functions import FUNCTIONS
from kanserve.network.powers import exponent_of, power_name

ONE_OVER = 2.0  # the number and the sign of what is printed as 1/x
SPLINE = 20.0  # a table of numbers

_POWERS = {1: 0.0, 2: 1.0, 3: 1.5, 4: 2.0}
_A_TABLE = Table(np.zeros(0), np.zeros(1), np.zeros((1, 1)))


def complexity(tree: Sequence[Sequence[Any]]) -> float:
    """The complexity of a formula; a spline counts 20."""
    splines = {step[1]: _A_TABLE for step in tree if len(step) == 3 and step[0] == "spline"}
    steps = with_real_powers(check_tree(tree, splines))
    totals: list[float] = []
    for step in steps:
        below = references(step)
        totals.append(weight(step, [steps[operand] for operand in below]) + sum(totals[operand] for operand in below))
    return totals[-1] + whole(steps[-1])


def weight(step: Step, operands: Sequence[Step]) -> float:
    """What a step adds to the complexity of its operands. Of these, only the operation and its number matter."""
    match step[0]:
        case "const" | "var":
            return 1.0
        case "mul":
            signs = sum(operand == ("const", -1) for operand in operands)
            factors = len(operands) - signs
            below = factors > 0 and sum(is_reciprocal(operand) for operand in operands) == factors
            return max(factors - 1.0, 0.0) - signs + ONE_OVER * below
        case "add":
            own = len(operands) - 1.0
        case "pow":
            size = abs(step[2])
            own = float(_POWERS.get(size, _POWERS[4] + 0.1 * (size - 4)))
        case "call":
            name, exponent = str(step[1]), exponent_of(str(step[1]))
            if exponent is not None and exponent < 0:
                name = power_name(-exponent) or name
            own = float(FUNCTIONS[name].complexity) - 1
        case _:
            own = SPLINE
    return own + sum(whole(operand) for operand in operands)


def whole(step: Step) -> float:
    """The extra cost of a step that is not a factor of a product."""
    return ONE_OVER if is_reciprocal(step) else 0.0


def is_reciprocal(step: Step) -> bool:
    """Whether a step is printed as a denominator."""
    if step[0] == "pow":
        return int(step[2]) < 0
    return step[0] == "call" and str(step[1]).startswith("1/")
