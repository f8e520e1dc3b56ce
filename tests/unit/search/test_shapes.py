"""The grammar of shapes: all of them, each once, in order of size."""

import pytest

from kanserve.search.trees.nodes import curves, inputs, price, text
from kanserve.search.trees.shapes import levels, shapes, size, tree


def leaves(shape):
    kind, *parts = shape
    return [parts[0]] if kind == "in" else [leaf for part in parts for leaf in leaves(part)]


def nodes(shape):
    kind, *parts = shape
    if kind != "in":
        yield shape
        for part in parts:
            yield from nodes(part)


@pytest.mark.parametrize(("listed", "count"), [((0,), 0), ((0, 1), 4), ((0, 1, 2), 40), ((0, 0), 0)])
def test_so_many_shapes_there_are(listed, count):
    assert len(shapes(listed)) == count


def test_the_shapes_of_two_inputs_are_a_sum_a_product_and_a_curve_of_each():
    assert [text(tree(shape)) for shape in shapes((0, 1))] == [
        "s(0) + s(1)",
        "s(0)*s(1)",
        "s(s(0) + s(1))",
        "s(s(0)*s(1))",
    ]


@pytest.mark.parametrize("listed", [(0, 1), (0, 1, 2), (0, 0, 1), (0, 1, 2, 3), (0, 1, 1, 2)])
def test_each_shape_has_the_inputs_that_were_listed_and_none_is_there_twice(listed):
    found = shapes(listed)
    assert all(sorted(leaves(shape)) == sorted(listed) for shape in found)
    assert len(set(found)) == len(found) and len({text(tree(shape)) for shape in found}) == len(found)


@pytest.mark.parametrize("listed", [(0, 1, 2), (0, 1, 2, 3)])
def test_no_shape_computes_what_a_smaller_one_does(listed):
    for shape in shapes(listed):
        for kind, *parts in nodes(shape):
            below = [part[0] for part in parts]
            assert kind not in below, shape  # a sum in a sum, a product in a product, a curve of a curve
            single = [part for part in parts if part[0] == "in"]
            assert len(set(single)) == len(single)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_levels_go_from_few_curves_to_many_and_name_no_shape_twice(count):
    found = list(levels(count))
    sizes = [{int(size(shape)) for shape in level} for level in found]
    assert all(len(counts) == 1 for counts in sizes) and sizes == sorted(sizes, key=min)
    every = [shape for level in found for shape in level]
    assert len(set(every)) == len(every) and all(set(leaves(shape)) == set(range(count)) for shape in every)


@pytest.mark.parametrize("count", [1, 5, 12])
def test_there_are_shapes_for_any_number_of_inputs(count):
    every = [shape for level in levels(count) for shape in level]
    assert every and all(set(leaves(shape)) == set(range(count)) for shape in every) and len(every) < 10


def test_the_size_of_a_shape_is_the_number_of_its_curves_and_products_come_later():
    for shape in shapes((0, 1, 2)):
        splines = [curve for curve in curves(tree(shape)) if curve.symbolic is None]
        assert int(size(shape)) == len(splines)
        assert inputs(tree(shape)) == {0, 1, 2} and price(tree(shape)) >= 5 * len(splines)
    assert size(("sum", ("in", 0), ("in", 1))) < size(("mul", ("in", 0), ("in", 1)))
