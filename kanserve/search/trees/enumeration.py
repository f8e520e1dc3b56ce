"""The order in which shapes are tried for a problem: by their number of curves."""

from collections.abc import Iterator

from kanserve.search.trees.shapes import Shape, shapes, size

# Most inputs for which all shapes are listed; with more, only sums and products of all, and curves of these.
MOST_INPUTS = 4

MOST_SHAPES = {2: 400, 3: 500, 4: 700}
REPEATS = {2: 2, 3: 1}
"""How many times inputs may be repeated in a shape; more would give thousands of shapes."""


def levels(inputs: int) -> Iterator[list[Shape]]:
    """Shapes of this number of inputs, level by level, in order of size."""
    if inputs == 1:
        yield [("in", 0)]
        return
    if inputs > MOST_INPUTS:
        yield [shape for shape in _simple(inputs)]
        return
    every = {shape for listed in _listed(inputs) for shape in shapes(listed)}
    by_size: dict[int, list[Shape]] = {}
    for shape in sorted(every, key=lambda shape: (size(shape), repr(shape))):
        by_size.setdefault(int(size(shape)), []).append(shape)
    yield from (by_size[number] for number in sorted(by_size))


def _listed(inputs: int) -> list[tuple[int, ...]]:
    """The inputs once each, and with some of them repeated."""
    base = tuple(range(inputs))
    found = [base]
    layer = [base]
    for _ in range(REPEATS.get(inputs, 0)):
        layer = sorted({tuple(sorted((*columns, extra))) for columns in layer for extra in base})
        found += layer
    return found


def _simple(inputs: int) -> list[Shape]:
    """The sum and the product of all inputs, and curves of these."""
    leaves = tuple(("in", i) for i in range(inputs))
    nodes: list[Shape] = [("sum", *leaves), ("mul", *leaves)]
    return [*nodes, *(("curve", node) for node in nodes)]
