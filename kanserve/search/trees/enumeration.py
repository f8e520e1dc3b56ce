"""The order in which shapes are tried for a problem: by their number of curves, through each link of the answers."""

from collections.abc import Iterator

from kanserve.search.trees.shapes import Shape, shapes, size

MOST_SHAPES = {2: 400, 3: 500, 4: 700}
REPEATS = {2: 2, 3: 1}
"""How often inputs may stand in a shape beyond once: with more inputs there would be thousands of shapes."""
MOST_INPUTS = 4


def levels(inputs: int) -> Iterator[list[Shape]]:
    """Shapes of so many inputs, each level with one curve more than the one before."""
    if inputs == 1:
        yield [("in", 0)]
        return
    if inputs > MOST_INPUTS:
        yield [one for one in _simple(inputs)]
        return
    every = {shape for listed in _listed(inputs) for shape in shapes(listed)}
    by_size: dict[int, list[Shape]] = {}
    for one in sorted(every, key=lambda one: (size(one), repr(one))):
        by_size.setdefault(int(size(one)), []).append(one)
    yield from (by_size[number] for number in sorted(by_size))


def _listed(inputs: int) -> list[tuple[int, ...]]:
    """The inputs once each, and with some of them again."""
    base = tuple(range(inputs))
    found = [base]
    layer = [base]
    for _ in range(REPEATS.get(inputs, 0)):
        layer = sorted({tuple(sorted((*one, extra))) for one in layer for extra in base})
        found += layer
    return found


def _simple(inputs: int) -> list[Shape]:
    """Sums and products of all of many inputs, and curves of these."""
    leaves = tuple(("in", i) for i in range(inputs))
    nodes: list[Shape] = [("sum", *leaves), ("mul", *leaves)]
    return [*nodes, *(("curve", node) for node in nodes)]
