"""Half-integer powers as people write them, for text and LaTeX: x^(3/2) for x*sqrt(x) or sqrt(x^3).

Other languages keep products and roots, which are faster and more accurate than pow.
"""

from kanserve.formula.expressions.linear_forms import renumbered
from kanserve.formula.expressions.tree import Step, Tree

_ROOTS = {"sqrt": 0.5, "1/sqrt": -0.5}


def with_half_powers(tree: Tree) -> Tree:
    """The tree with a step ("pow", base, 1.5) for each half-integer power beyond 1; only printing knows such steps."""
    steps: list[Step] = []
    moved: dict[int, int] = {}

    def added(step: Step) -> int:
        steps.append(step)
        return len(steps) - 1

    for position, step in enumerate(tree):
        if step[0] != "mul":
            moved[position] = added(renumbered(_as_power(tree, step), moved))
            continue
        factors: list[int] = []
        for factor in _merged(tree, step[1:]):
            factors.append(moved[factor] if isinstance(factor, int) else added(renumbered(factor, moved)))
        moved[position] = factors[0] if len(factors) == 1 else len(steps)
        if len(factors) > 1:
            added(("mul", *factors))
    return tuple(steps)


def _as_power(tree: Tree, step: Step) -> Step:
    """sqrt(u^3) or sqrt(u)^3 as u^(3/2); the step itself if it is no such power. sqrt(u^2) is |u|, and stays."""
    match step:
        case ("call", "sqrt" | "1/sqrt" as root, argument) if tree[argument][0] == "pow":
            _, base, exponent = tree[argument]
            return ("pow", base, exponent * _ROOTS[root]) if exponent > 0 and exponent % 2 else step
        case ("pow", root, exponent) if exponent % 2 and abs(exponent) > 1 and tree[root][:2] == ("call", "sqrt"):
            return ("pow", tree[root][2], exponent * _ROOTS["sqrt"])
    return step


def _merged(tree: Tree, factors: Step) -> list[int | Step]:
    """The factors of a product, with a root and a whole power of one base, both above or both below, as one step."""
    result: list[int | Step] = list(factors)
    for n, factor in enumerate(factors):
        match tree[factor]:
            case ("call", "sqrt" | "1/sqrt" as root, base):
                half = _ROOTS[root]
            case _:
                continue
        for m, beside in enumerate(factors):
            power = tree[beside][2] if tree[beside][:2] == ("pow", base) else 1 if beside == base else 0
            if power * half > 0 and isinstance(result[m], int):
                result[min(m, n)], result[max(m, n)] = ("pow", base, power + half), -1
                break
    return [factor for factor in result if factor != -1]
