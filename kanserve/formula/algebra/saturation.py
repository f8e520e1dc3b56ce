"""Steps: tanh(a·u + b) whose argument is large on nearly all rows becomes sign(u - t). The rows only tell between which
of them the step t is; it is the shortest number there."""

import math

import numpy as np
from numpy.typing import NDArray

from kanserve.formula.expressions.linear_forms import renumber
from kanserve.formula.expressions.numbers import shortest_between
from kanserve.formula.expressions.tree import Step, Tree, evaluate_tree

Array = NDArray[np.float64]

ARGUMENT = 3.0  # size of the argument from which a tanh is nearly 1 or -1
SHARE = 0.98  # share of the rows with such an argument for which it is a step


def without_saturation(tree: Tree, x: Array) -> Tree:
    """Replace each tanh that is a step on rows x (N, inputs) by a sign."""
    steps: list[Step] = []
    places: dict[int, int] = {}  # of the given steps among the new ones

    def add(step: Step) -> int:
        steps.append(step)
        return len(steps) - 1

    for place, step in enumerate(tree):
        moved = renumber(step, places)
        if step[:2] == ("call", "tanh") and _is_step(evaluate_tree(tree[: step[2] + 1], {}, x)):
            scale, operand, shift = _linear(tree, step[2])
            low, high = _gap(evaluate_tree(tree[: operand + 1], {}, x), -shift / scale)
            at = shortest_between(low, high)
            inner = places[operand]
            if at:
                inner = add(("add", inner, add(("const", -at))))
            moved = ("call", "sign", inner)
            if scale < 0:
                moved = ("mul", add(moved), add(("const", -1.0)))
        places[place] = add(moved)
    return tuple(steps)


def _is_step(argument: Array) -> bool:
    """Whether the argument is large on nearly all rows, with either sign."""
    known = argument[np.isfinite(argument)]
    if len(known) < len(argument) or known.min() > 0 or known.max() < 0:
        return False
    return float(np.mean(np.abs(known) > ARGUMENT)) >= SHARE


def _linear(tree: Tree, place: int) -> tuple[float, int, float]:
    """A step as scale·operand + shift."""
    kind, *operands = tree[place]
    if kind not in ("add", "mul"):
        return 1.0, place, 0.0
    constants = [tree[operand][1] for operand in operands if tree[operand][0] == "const"]
    others = [operand for operand in operands if tree[operand][0] != "const"]
    if len(others) != 1 or not constants or (kind == "mul" and not math.prod(constants)):
        return 1.0, place, 0.0
    scale, operand, shift = _linear(tree, others[0])
    if kind == "add":
        return scale, operand, shift + math.fsum(constants)
    factor = math.prod(constants)
    return factor * scale, operand, factor * shift


def _gap(values: Array, at: float) -> tuple[float, float]:
    """The neighbours of a number among `values`: the last below it and the first not below it."""
    below, above = values[values < at], values[values >= at]
    return float(below.max(initial=-np.inf)), float(above.min(initial=np.inf))
