"""A grammar of shapes: every way to combine inputs into one number by sums, products and curves, in order of size.

    shape  -> node | curve(node)
    node   -> sum of two or more parts | product of two or more factors
    part   -> curve(input) | product | curve(node)
    factor -> curve(input) | sum | curve(node)

Each input occurs in a shape as often as it is listed. Shapes that compute the same as a smaller one are left out: a sum
in a sum, a product in a product, a curve of a curve.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from kanserve.search.trees.nodes import IDENTITY, Curve, Node, Product, Sum

# Most inputs for which all shapes are listed; with more, only sums and products of all, and curves of these.
MOST_INPUTS = 4

REPEATS = {2: 2, 3: 1}
"""How many times inputs may be repeated in a shape; more would give thousands of shapes."""

Shape = tuple[Any, ...]
"""("in", i), ("sum", part, ..), ("mul", factor, ..), ("curve", node): sorted, so that equal shapes are equal."""


def shapes(inputs: Sequence[int]) -> tuple[Shape, ...]:
    """All shapes of these inputs, which may be repeated, smallest first."""
    found = set(_shapes(tuple(sorted(inputs))))
    return tuple(sorted(found, key=lambda shape: (size(shape), repr(shape))))


def size(shape: Shape) -> float:
    """The number of curves; a product adds 0.1, so that sums come first."""
    kind, *parts = shape
    if kind == "in":
        return 1.0
    own = {"curve": 1.0, "mul": 0.1, "sum": 0.0}[kind]
    return own + sum(size(part) for part in parts)


@cache
def _shapes(inputs: tuple[int, ...]) -> tuple[Shape, ...]:
    nodes = [node for node in _nodes(inputs)]
    return (*nodes, *(("curve", node) for node in nodes))


@cache
def _nodes(inputs: tuple[int, ...]) -> tuple[Shape, ...]:
    if len(inputs) < 2:
        return ()
    found = set()
    for parts in _partitions(inputs):
        if len(parts) < 2:
            continue
        for kind in ("sum", "mul"):
            for chosen in _choices(kind, parts):
                if _sensible(chosen):
                    found.add((kind, *sorted(chosen, key=repr)))
    return tuple(sorted(found, key=repr))


def _choices(kind: str, parts: Sequence[tuple[int, ...]]) -> Iterator[tuple[Shape, ...]]:
    if not parts:
        yield ()
        return
    for first in _members(kind, parts[0]):
        for rest in _choices(kind, parts[1:]):
            yield (first, *rest)


def _members(kind: str, inputs: tuple[int, ...]) -> list[Shape]:
    """The possible parts of a sum or a product over these inputs."""
    if len(inputs) == 1:
        return [("in", inputs[0])]
    return [shape for shape in _shapes(inputs) if shape[0] != kind]


def _sensible(parts: tuple[Shape, ...]) -> bool:
    """Whether no input appears in two curves of the same sum or product, where one curve would do."""
    single = [part for part in parts if part[0] == "in"]
    return len(set(single)) == len(single)


def _partitions(items: tuple[int, ...]) -> Iterator[list[tuple[int, ...]]]:
    """All partitions of the items; equal items lead to duplicates, which the caller removes."""
    if not items:
        yield []
        return
    first, *rest = items
    for others in _partitions(tuple(rest)):
        yield [(first,), *others]
        for k in range(len(others)):
            yield [*others[:k], tuple(sorted((first, *others[k]))), *others[k + 1 :]]


def tree(shape: Shape, lines: frozenset[int] = frozenset()) -> Node:
    """Convert a shape to a tree of splines; inputs in `lines` enter as straight lines."""
    kind, *parts = shape
    match kind:
        case "sum":
            return Sum(tuple(_part(part, lines) for part in parts))
        case "mul":
            return Product(tuple(_factor(part, lines) for part in parts))
        case _:
            return Sum((_part(shape, lines),))


def _part(shape: Shape, lines: frozenset[int]) -> Curve:
    kind, *parts = shape
    match kind:
        case "in":
            return Curve(parts[0], IDENTITY if parts[0] in lines else None)
        case "curve":
            return Curve(tree(parts[0], lines))
        case _:
            return Curve(tree(shape, lines), IDENTITY)


def _factor(shape: Shape, lines: frozenset[int]) -> Sum:
    kind, *parts = shape
    if kind == "sum":
        return Sum(tuple(_part(part, lines) for part in parts))
    return Sum((_part(shape, lines),))


def levels(inputs: int) -> Iterator[list[Shape]]:
    """The shapes of this number of inputs, grouped by size, smallest first."""
    if inputs == 1:
        yield [("in", 0)]
        return
    if inputs > MOST_INPUTS:
        yield [shape for shape in _simple(inputs)]
        return
    every = {shape for listed in _list_inputs(inputs) for shape in shapes(listed)}
    by_size: dict[int, list[Shape]] = {}
    for shape in sorted(every, key=lambda shape: (size(shape), repr(shape))):
        by_size.setdefault(int(size(shape)), []).append(shape)
    yield from (by_size[number] for number in sorted(by_size))


def _list_inputs(inputs: int) -> list[tuple[int, ...]]:
    """The inputs once each, and with some of them repeated."""
    base = tuple(range(inputs))
    found = [base]
    layer = [base]
    for _ in range(REPEATS.get(inputs, 0)):
        layer = sorted({tuple(sorted((*columns, extra))) for columns in layer for extra in base})
        found += layer
    return found


def _simple(inputs: int) -> list[Shape]:
    """The sum and the product of all inputs, and a curve of each."""
    leaves = tuple(("in", i) for i in range(inputs))
    nodes: list[Shape] = [("sum", *leaves), ("mul", *leaves)]
    return [*nodes, *(("curve", node) for node in nodes)]
