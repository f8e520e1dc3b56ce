"""Formulas in bad shape: texts as trees with nothing folded, and equal trees that a search could have come up with."""

import math

import numpy as np

from kanserve.formula.expressions.linear_forms import Steps
from kanserve.formula.expressions.parsing import TABLE_NAMES, Add, Call, Multiply, Name, Number, Power, parse
from kanserve.formula.expressions.tree import evaluate_tree

NUMBERS = {"pi": math.pi, "e": math.e}


def tree_of(text, names):
    """The steps of a text, one for each operation, with no identity used; powers that vary by exp and log."""
    steps = Steps(fold=False)
    return steps.tree(_step(steps, parse(text), names))


def _step(steps, one, names):
    match one:
        case Number(value):
            return steps.constant(value)
        case Name(name):
            return steps.add("var", names.index(name)) if name in names else steps.constant(NUMBERS[name])
        case Add(terms):
            return steps.add("add", *(_step(steps, term, names) for term in terms))
        case Multiply(factors, divisors):
            parts = [_step(steps, factor, names) for factor in factors]
            parts += [steps.add("pow", _step(steps, divisor, names), -1) for divisor in divisors]
            return steps.add("mul", *parts) if len(parts) > 1 else parts[0]
        case Power(base, Number(value)) if value.is_integer():
            return steps.add("pow", _step(steps, base, names), int(value))
        case Power(base, exponent):
            logarithm = steps.add("call", "log", _step(steps, base, names))
            return steps.add("call", "exp", steps.add("mul", _step(steps, exponent, names), logarithm))
        case Call(function, argument):
            return steps.add("call", TABLE_NAMES[function], _step(steps, argument, names))
    raise AssertionError(one)


def disguised(tree, x, rng, rate):
    """An equal tree (on the rows x, but for rounding): each step is put in another way with this probability."""
    return _Disguise(tree, x, rng, rate).tree()


class _Disguise:
    def __init__(self, tree, x, rng, rate):
        self._given, self._rng, self._rate = tree, rng, rate
        self._positive = [bool((evaluate_tree(tree[: n + 1], {}, x) > 0).all()) for n in range(len(tree))]
        self._steps = Steps(fold=False)
        self._made = []

    def tree(self):
        for position, step in enumerate(self._given):
            changed = self._rng.random() < self._rate
            made = getattr(self, f"_{step[0]}")(position, *step[1:], changed=changed)
            self._made.append(made)
        root = self._made[-1]
        if self._positive[-1] and self._rng.random() < 0.5:
            root = self._exp(self._log(root))
        return self._steps.tree(root)

    # Parts.

    def _number(self, value):
        return self._steps.constant(float(value))

    def _sum(self, *parts):
        return self._steps.add("add", *parts)

    def _product(self, *parts):
        return self._steps.add("mul", *parts) if len(parts) > 1 else parts[0]

    def _exp(self, part):
        return self._steps.add("call", "exp", part)

    def _log(self, part):
        return self._steps.add("call", "log", part)

    def _scaled(self, factor, *parts):
        return self._product(self._number(factor), *parts)

    # Steps, each as it is or in another way.

    def _const(self, _, value, *, changed):
        return self._number(value)

    def _var(self, position, column, *, changed):
        plain = self._steps.add("var", column)
        if not changed:
            return plain
        a, b = self._rng.uniform(0.5, 2), self._rng.uniform(-1, 1)
        affine = self._sum(
            self._scaled(1 / a, self._sum(self._scaled(a, plain), self._number(b))), self._number(-b / a)
        )
        ways = [affine, self._scaled(1 / a, self._scaled(a, plain))]
        ways += [self._exp(self._log(plain))] if self._positive[position] else []
        return ways[self._rng.integers(len(ways))]

    def _add(self, _, *terms, changed):
        plain = self._sum(*(self._made[term] for term in terms))
        k = self._rng.uniform(-2, 2)
        return self._sum(self._sum(plain, self._number(k)), self._number(-k)) if changed else plain

    def _mul(self, _, *factors, changed):
        parts = [self._made[factor] for factor in factors]
        if not changed:
            return self._product(*parts)
        k, others = self._rng.uniform(0.5, 2), self._product(*parts[1:])
        gauge = self._sum(self._product(self._sum(parts[0], self._number(k)), others), self._scaled(-k, others))
        ways = [gauge, self._product(self._number(k), *parts, self._number(1 / k))]
        if all(self._positive[factor] for factor in factors):
            ways.append(self._exp(self._sum(*(self._log(part) for part in parts))))
        sums = [n for n, factor in enumerate(factors) if self._given[factor][0] == "add"]
        if sums:
            rest = parts[: sums[0]] + parts[sums[0] + 1 :]
            terms = [self._made[term] for term in self._given[factors[sums[0]]][1:]]
            ways.append(self._sum(*(self._product(term, *rest) for term in terms)))
        return ways[self._rng.integers(len(ways))]

    def _pow(self, _, base, exponent, *, changed):
        part = self._made[base]
        if changed and self._positive[base]:
            return self._exp(self._scaled(exponent, self._log(part)))
        if changed and exponent == 2 and self._given[base][0] == "add":
            terms = [self._made[term] for term in self._given[base][1:]]
            return self._sum(*(self._product(term, right) for term in terms for right in terms))
        return self._steps.add("pow", part, exponent)

    def _call(self, _, name, argument, *, changed):
        part = self._made[argument]
        if changed and name in ("sin", "cos"):
            return self._wave(name, part)
        if changed and name == "sqrt" and self._positive[argument]:
            return self._exp(self._scaled(0.5, self._log(part)))
        if changed and name == "exp":
            return self._scaled(math.exp(0.7), self._exp(self._sum(part, self._number(-0.7))))
        if changed and name == "log":
            return self._sum(self._log(self._scaled(1.3, part)), self._number(-math.log(1.3)))
        if changed and name == "tanh":
            twice = self._exp(self._scaled(2, part))
            below = self._steps.add("pow", self._sum(twice, self._number(1)), -1)
            return self._product(self._sum(twice, self._number(-1)), below)
        return self._steps.add("call", name, part)

    def _wave(self, name, part):
        """As the other wave, half a turn further, or by half the angle."""
        other, quarter = ("cos", -math.pi / 2) if name == "sin" else ("sin", math.pi / 2)
        way = self._rng.integers(3)
        if way == 0:
            return self._steps.add("call", other, self._sum(part, self._number(quarter)))
        if way == 1:
            return self._scaled(-1, self._steps.add("call", name, self._sum(part, self._number(3 * math.pi))))
        sine = self._steps.add("call", "sin", self._scaled(0.5, part))
        if name == "sin":
            return self._scaled(2, sine, self._steps.add("call", "cos", self._scaled(0.5, part)))
        return self._sum(self._number(1), self._scaled(-2, self._steps.add("pow", sine, 2)))


def rows_of(ranges, count, seed):
    """Rows uniform in the ranges."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(low, high, count) for low, high in ranges.values()], axis=1)
