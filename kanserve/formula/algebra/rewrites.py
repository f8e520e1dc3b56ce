"""Candidate expressions during simplification, with their costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kanserve.errors import FormulaError
from kanserve.formula.expressions.complexity import weight
from kanserve.formula.expressions.linear_forms import Steps
from kanserve.formula.expressions.numbers import name_number
from kanserve.formula.expressions.tree import TREE_MAX_POWER, Step, Tree
from kanserve.network.powers import exponent_of, power_name

REWRITES_SAME = 1e-12  # coefficients this close, relatively, and costs this close differ by rounding
NAMELESS = 60.0  # bits of a number without a name
OF_BITS = 0.01  # cost of a bit, where an operation costs 1
OF_A_VARIABLE = 0.03  # extra cost, where an operation costs 1: n*(1 + a) is simpler than n + n*a
SIGN = 0.005  # cost of a sign, where an operation costs 1: b - a is simpler than -(a - b)


@dataclass(frozen=True, eq=False)
class Node:
    """An expression: a step without its references, its operands, and its cost: the complexity, plus a small
    tie-breaker that prefers simpler numbers."""

    head: Step
    below: tuple["Node", ...]
    cost: float


class Nodes:
    def __init__(self) -> None:
        self._bits: dict[float, float] = {}

    def tree(self, node: Node) -> Tree:
        steps = Steps()
        return steps.tree(_step(steps, node))

    def number(self, value: float) -> Node:
        if value not in self._bits:
            found = name_number(value)
            self._bits[value] = found.bits if found is not None else NAMELESS
        return Node(("const", value), (), 1 + OF_BITS * self._bits[value])

    def variable(self, column: int) -> Node:
        return Node(("var", column), (), 1 + OF_A_VARIABLE)

    def call(self, name: str, argument: Node) -> Node:
        return self._make(("call", name), argument)

    def power(self, node: Node, exponent: int) -> Node:
        if node.head[0] == "pow":
            exponent, node = exponent * node.head[2], node.below[0]
        if exponent == 1:
            return node
        if abs(exponent) > TREE_MAX_POWER:
            raise FormulaError("A power is larger than a formula may have.")
        return self._make(("pow", 0, exponent), node)

    def total(self, nodes: Sequence[Node]) -> Node:
        parts = [part for node in nodes for part in (node.below if node.head[0] == "add" else (node,))]
        if len(parts) == 1:
            return parts[0]
        negative = sum(part.head[0] == "mul" and part.below[0].head == ("const", -1.0) for part in parts)
        whole = self._make(("add",), *parts)
        return Node(whole.head, whole.below, whole.cost - SIGN * (negative - 2 * (negative == len(parts))))

    def times(self, coefficient: float, above: Sequence[Node], under: Sequence[Node] = ()) -> Node:
        """coefficient·above/under, with a single number in front."""
        parts = [part for node in above for part in _factors(node)]
        parts += [part for node in under for part in self._under(node)]
        factors = [part for part in parts if part.head[0] != "const"]
        coefficient *= math.prod(part.head[1] for part in parts if part.head[0] == "const")
        if not factors:
            return self.number(coefficient)
        if abs(coefficient - 1) <= REWRITES_SAME:
            return factors[0] if len(factors) == 1 else self._make(("mul",), *factors)
        if abs(coefficient + 1) > REWRITES_SAME:
            return self._make(("mul",), self.number(coefficient), *factors)
        whole = self._make(("mul",), self.number(-1.0), *factors)
        return Node(whole.head, whole.below, whole.cost + SIGN)

    def _under(self, node: Node) -> list[Node]:
        """The factors of 1/node."""
        if node.head[0] == "mul":
            return [part for factor in node.below for part in self._under(factor)]
        exponent = exponent_of(str(node.head[1])) if node.head[0] == "call" else None
        if exponent is not None and exponent > 0 and (name := power_name(-exponent)):
            return [self.call(name, node.below[0])]
        if node.head[0] == "const":
            return [self.number(1 / node.head[1])]
        return [self.power(node, -1)]

    def _make(self, head: Step, *below: Node) -> Node:
        return Node(head, below, weight(head, [node.head for node in below]) + sum(node.cost for node in below))


def simplest(nodes: Sequence[Node]) -> Node:
    """The node with the smallest cost, the first among equals."""
    return min(nodes, key=lambda node: node.cost)


def _factors(node: Node) -> tuple[Node, ...]:
    return node.below if node.head[0] == "mul" else (node,)


def _step(steps: Steps, node: Node) -> int:
    below = [_step(steps, argument) for argument in node.below]
    match node.head[0]:
        case "const":
            return steps.constant(node.head[1])
        case "pow":
            return steps.add("pow", below[0], node.head[2])
        case _:
            return steps.add(*node.head, *below)
