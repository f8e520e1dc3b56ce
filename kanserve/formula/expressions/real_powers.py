"""Powers as people write and count them: x^1.37 for exp(1.37*log(x)), x^(3/2) for x*sqrt(x) or sqrt(x^3). Only text and
LaTeX have them: other languages keep exponentials of logarithms and products of roots, which are faster and more
accurate than pow."""

import math

from kanserve.formula.expressions.linear_forms import renumber
from kanserve.formula.expressions.tree import Step, Tree
from kanserve.network.powers import is_short, power_name

_ROOTS = {"sqrt": 0.5, "1/sqrt": -0.5}


def with_half_powers(tree: Tree) -> Tree:
    """Replace half-integer powers beyond 1 by a step such as ("pow", base, 1.5), which only printing understands."""
    steps: list[Step] = []
    moved: dict[int, int] = {}

    def add(step: Step) -> int:
        steps.append(step)
        return len(steps) - 1

    for position, step in enumerate(tree):
        if step[0] != "mul":
            moved[position] = add(renumber(_as_power(tree, step), moved))
            continue
        factors: list[int] = []
        for factor in _merge(tree, step[1:]):
            factors.append(moved[factor] if isinstance(factor, int) else add(renumber(factor, moved)))
        moved[position] = factors[0] if len(factors) == 1 else len(steps)
        if len(factors) > 1:
            add(("mul", *factors))
    return tuple(steps)


def _as_power(tree: Tree, step: Step) -> Step:
    """sqrt(u^3) or sqrt(u)^3 as u^(3/2); any other step unchanged. sqrt(u^2) is |u|, and stays."""
    match step:
        case ("call", "sqrt" | "1/sqrt" as root, argument) if tree[argument][0] == "pow":
            _, base, exponent = tree[argument]
            return ("pow", base, exponent * _ROOTS[root]) if exponent > 0 and exponent % 2 else step
        case ("pow", root, exponent) if exponent % 2 and abs(exponent) > 1 and tree[root][:2] == ("call", "sqrt"):
            return ("pow", tree[root][2], exponent * _ROOTS["sqrt"])
    return step


def _merge(tree: Tree, factors: Step) -> list[int | Step]:
    """Merge a root and an integer power of the same base in a product, if both are above or both below."""
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


EXPONENT_DIGITS = 6  # as other numbers have in texts


def with_real_powers(tree: Tree) -> Tree:
    """Replace exp(a*log(x) + u) by x^a*exp(u), unless a is an integer: x^2 is defined for x < 0, log(x) is not."""
    steps: list[Step] = []
    moved: dict[int, int] = {}

    def add(*step: object) -> int:
        steps.append(step)
        return len(steps) - 1

    for position, step in enumerate(tree):
        powers, others = _powers(tree, step[2]) if step[:2] == ("call", "exp") else ([], [])
        if not powers:
            moved[position] = add(*renumber(step, moved))
            continue
        factors = [add("call", name, moved[base]) for name, base in powers]
        terms = [moved[n] if scale == 1 else add("mul", add("const", scale), moved[n]) for n, scale in others]
        if terms:
            factors.append(add("call", "exp", terms[0] if len(terms) == 1 else add("add", *terms)))
        moved[position] = factors[0] if len(factors) == 1 else add("mul", *factors)
    return tuple(steps)


def _powers(tree: Tree, exponent: int) -> tuple[list[tuple[str, int]], list[tuple[int, float]]]:
    """The powers (name, base) whose product is exp of this step, and the remaining terms with their factors."""
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
            case ("call", "log", base) if not scale.is_integer() and (name := power_name(_round(scale))):
                powers.append((name, base))
                continue
        others.append((position, scale))
    return powers, others


def _round(exponent: float) -> float:
    """Round an exponent to the digits of the text; a fraction is kept."""
    return exponent if is_short(exponent) else float(f"{exponent:.{EXPONENT_DIGITS}g}")
