"""Powers as people write and count them: x^1.37 for exp(1.37*log(x)).

Other languages than text and LaTeX keep exponentials of logarithms, as the network computes them.
"""

import math

from kanserve.formula.expressions.linear_forms import renumbered
from kanserve.formula.expressions.tree import Step, Tree
from kanserve.network.powers import is_short, power_name

EXPONENT_DIGITS = 6  # as other numbers have in texts


def with_real_powers(tree: Tree) -> Tree:
    """The tree with x^a*exp(u) for exp(a*log(x) + u), unless a is whole: x^2 is a number where log(x) is none."""
    steps: list[Step] = []
    moved: dict[int, int] = {}

    def added(*step: object) -> int:
        steps.append(step)
        return len(steps) - 1

    for position, step in enumerate(tree):
        powers, others = _powers(tree, step[2]) if step[:2] == ("call", "exp") else ([], [])
        if not powers:
            moved[position] = added(*renumbered(step, moved))
            continue
        factors = [added("call", name, moved[base]) for name, base in powers]
        terms = [moved[n] if scale == 1 else added("mul", added("const", scale), moved[n]) for n, scale in others]
        if terms:
            factors.append(added("call", "exp", terms[0] if len(terms) == 1 else added("add", *terms)))
        moved[position] = factors[0] if len(factors) == 1 else added("mul", *factors)
    return tuple(steps)


def _powers(tree: Tree, exponent: int) -> tuple[list[tuple[str, int]], list[tuple[int, float]]]:
    """The powers, by name and base, whose product is exp of this step; and other terms with their factors."""
    powers: list[tuple[str, int]] = []
    others: list[tuple[int, float]] = []
    left = [(exponent, 1.0)]
    while left:
        position, scale = left.pop()
        match tree[position]:
            case ("add", *terms):
                left += [(term, scale) for term in reversed(terms)]
                continue
            case ("mul", *factors):
                numbers = [n for n in factors if tree[n][0] == "const"]
                rest = [n for n in factors if n not in numbers]
                if numbers and len(rest) == 1 and tree[rest[0]][0] in ("call", "add"):
                    left.append((rest[0], scale * math.prod(tree[n][1] for n in numbers)))
                    continue
            case ("call", "log", base) if not scale.is_integer() and (name := power_name(_rounded(scale))):
                powers.append((name, base))
                continue
        others.append((position, scale))
    return powers, others


def _rounded(exponent: float) -> float:
    """An exponent with the digits of a text; a fraction keeps its own."""
    return exponent if is_short(exponent) else float(f"{exponent:.{EXPONENT_DIGITS}g}")
