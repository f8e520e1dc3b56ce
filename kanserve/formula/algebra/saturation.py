"""Steps: tanh(a·u + b) whose argument is large on nearly all rows is sign(u - t), with t the shortest number that fits.

A fit approaches a step by an ever larger a. The rows tell only between which of them the step is.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.expressions.numbers import shortest_between
from kanserve.formula.expressions.tree import Step, Tree, evaluate_tree

Array = NDArray[np.float64]

ARGUMENT = 3.0  # size of the argument from which a tanh is nearly 1 or -1
SHARE = 0.98  # share of the rows with such an argument for which it is a step


def without_saturation(tree: Tree, x: Array) -> Tree:
    """The tree with each tanh that is a step on the rows x (N, inputs) as a sign."""
    steps: list[Step] = []
    places: list[int] = []  # of the given steps among the new ones

    def add(step: Step) -> int:
        steps.append(step)
        return len(steps) - 1

    for step in tree:
        moved = _moved(step, places)
        if step[:2] == ("call", "tanh") and _is_step(evaluate_tree(tree[: step[2] + 1], {}, x)):
            scale, operand, shift = _linear(tree, step[2])
            low, high = _gap(evaluate_tree(tree[: operand + 1], {}, x), -shift / scale)
            at = shortest_between(low, high)
            inner = places[operand]
            if at:
                inner = add(("add", inner, add(("const", -at))))
            moved = ("call", "sign", inner)
            if scale < 0:
                places.append(add(("mul", add(moved), add(("const", -1.0)))))
                continue
        places.append(add(moved))
    return tuple(steps)


def _moved(step: Step, places: Sequence[int]) -> Step:
    match step:
        case ("add" | "mul" as kind, *operands):
            return (kind, *(places[operand] for operand in operands))
        case ("pow", operand, exponent):
            return ("pow", places[operand], exponent)
        case ("call", name, operand):
            return ("call", name, places[operand])
        case _:
            return step


def _is_step(argument: Array) -> bool:
    """Whether the argument is large on nearly all rows, with either sign."""
    known = argument[np.isfinite(argument)]
    if len(known) < len(argument) or known.min() > 0 or known.max() < 0:
        return False
    return float(np.mean(np.abs(known) > ARGUMENT)) >= SHARE


def _linear(tree: Tree, place: int) -> tuple[float, int, float]:
    """A step as scale·operand + shift."""
    match tree[place]:
        case ("add", *operands):
            constants = [operand for operand in operands if tree[operand][0] == "const"]
            others = [operand for operand in operands if tree[operand][0] != "const"]
            if len(others) == 1 and constants:
                scale, operand, shift = _linear(tree, others[0])
                return scale, operand, shift + math.fsum(tree[constant][1] for constant in constants)
        case ("mul", *operands):
            constants = [operand for operand in operands if tree[operand][0] == "const"]
            others = [operand for operand in operands if tree[operand][0] != "const"]
            if len(others) == 1 and constants:
                factor = math.prod(tree[constant][1] for constant in constants)
                if factor:
                    scale, operand, shift = _linear(tree, others[0])
                    return factor * scale, operand, factor * shift
    return 1.0, place, 0.0


def _gap(values: Array, at: float) -> tuple[float, float]:
    """The neighbours of a number among values, from the last below it to the first that is not."""
    below, above = values[values < at], values[values >= at]
    return float(below.max(initial=-np.inf)), float(above.min(initial=np.inf))
