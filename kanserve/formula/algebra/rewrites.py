"""Expressions while they are compared: what they are made of, and what they cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kanserve.errors import FormulaError
from kanserve.formula.expressions.complexity import weight
from kanserve.formula.expressions.linear_forms import Steps
from kanserve.formula.expressions.numbers import named
from kanserve.formula.expressions.tree import MAX_POWER, Step, Tree

SAME = 1e-12  # coefficients this close, relatively, and costs this close differ by rounding
_NAMELESS = 60.0  # bits of a number without a name
_OF_BITS = 0.01  # of a bit beside an operation
_OF_A_VARIABLE = 0.03  # beside an operation: n*(1 + a) is simpler than n + n*a
_SIGN = 0.005  # beside an operation: b - a is simpler than -(a - b)


@dataclass(frozen=True, eq=False)
class Node:
    """An expression: a step without its references, what it is made from, and what it costs: its complexity, and next
    to nothing for its numbers, the simpler the less."""

    head: Step
    below: tuple["Node", ...]
    cost: float


class Nodes:
    """Makes expressions."""

    def __init__(self) -> None:
        self._bits: dict[float, float] = {}

    def tree(self, node: Node) -> Tree:
        steps = Steps()
        return steps.tree(_step(steps, node))

    def number(self, value: float) -> Node:
        if value not in self._bits:
            found = named(value)
            self._bits[value] = found.bits if found is not None else _NAMELESS
        return Node(("const", value), (), 1 + _OF_BITS * self._bits[value])

    def variable(self, column: int) -> Node:
        return Node(("var", column), (), 1 + _OF_A_VARIABLE)

    def call(self, name: str, argument: Node) -> Node:
        return self._made(("call", name), argument)

    def power(self, node: Node, exponent: int) -> Node:
        if node.head[0] == "pow":
            exponent, node = exponent * node.head[2], node.below[0]
        if exponent == 1:
            return node
        if abs(exponent) > MAX_POWER:
            raise FormulaError("A power larger than the language of formulas has.")
        return self._made(("pow", 0, exponent), node)

    def total(self, nodes: Sequence[Node]) -> Node:
        """The sum."""
        parts = [part for node in nodes for part in (node.below if node.head[0] == "add" else (node,))]
        if len(parts) == 1:
            return parts[0]
        negative = sum(part.head[0] == "mul" and part.below[0].head == ("const", -1.0) for part in parts)
        whole = self._made(("add",), *parts)
        return Node(whole.head, whole.below, whole.cost - _SIGN * (negative - 2 * (negative == len(parts))))

    def times(self, coefficient: float, above: Sequence[Node], under: Sequence[Node] = ()) -> Node:
        """coefficient·above/under, with one number in front."""
        parts = [part for one in above for part in _factors(one)]
        parts += [part for one in under for part in self._under(one)]
        factors = [part for part in parts if part.head[0] != "const"]
        coefficient *= math.prod(part.head[1] for part in parts if part.head[0] == "const")
        if not factors:
            return self.number(coefficient)
        if abs(coefficient - 1) <= SAME:
            return factors[0] if len(factors) == 1 else self._made(("mul",), *factors)
        if abs(coefficient + 1) > SAME:
            return self._made(("mul",), self.number(coefficient), *factors)
        whole = self._made(("mul",), self.number(-1.0), *factors)
        return Node(whole.head, whole.below, whole.cost + _SIGN)

    def _under(self, node: Node) -> list[Node]:
        """The factors of 1/node."""
        if node.head[0] == "mul":
            return [part for one in node.below for part in self._under(one)]
        if node.head == ("call", "sqrt"):
            return [self.call("1/sqrt", node.below[0])]
        if node.head[0] == "const":
            return [self.number(1 / node.head[1])]
        return [self.power(node, -1)]

    def _made(self, head: Step, *below: Node) -> Node:
        return Node(head, below, weight(head, [one.head for one in below]) + sum(one.cost for one in below))


def simplest(nodes: Sequence[Node]) -> Node:
    """The one of the smallest cost, the first of equal ones."""
    return min(nodes, key=lambda one: one.cost)


def _factors(node: Node) -> tuple[Node, ...]:
    return node.below if node.head[0] == "mul" else (node,)


def _step(steps: Steps, node: Node) -> int:
    below = [_step(steps, one) for one in node.below]
    match node.head[0]:
        case "const":
            return steps.constant(node.head[1])
        case "pow":
            return steps.add("pow", below[0], node.head[2])
        case _:
            return steps.add(*node.head, *below)
