"""The zoo: tiny networks that each exist for one reason, and the rows that try them.

Every exporter, backend, importer and formula is compared with `network.evaluate.evaluate` on all of them.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from kanserve.network.encoding import has_no_slope
from kanserve.network.kan import Kan, Layer, Variable, make_layer
from kanserve.network.splines import extend_knots, span, uniform_knots
from kanserve.train.outer_layers import with_arcsinh_inputs, with_clipped_inputs, with_exponential

Array = NDArray[np.float64]


def _random(seed: int, o: int, i: int, intervals: int = 5, order: int = 3, **options: object) -> Layer:
    """A layer of random splines; the scale keeps the values of a deep network near its grids."""
    rng = np.random.default_rng(seed)
    settings: dict[str, object] = {
        "knots": uniform_knots(-1, 1, intervals, order),
        "base_weight": rng.normal(0, 0.3, (o, i)),
        "order": order,
    }
    return make_layer(rng.normal(0, 0.5, (o, i, intervals + order)), **(settings | options))  # type: ignore[arg-type]  # tests pass any option


def _uneven(seed: int, intervals: int, order: int) -> Array:
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0.1, 1.0, intervals)
    return extend_knots(np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum() * 2 - 1, order)


def one_edge() -> Kan:
    """The smallest network there is."""
    return Kan((_random(1, 1, 1),))


def on_a_knot() -> Kan:
    """Order 1 on knots that floats hold exactly: rows fall on them, where the slope jumps."""
    return Kan((_random(2, 2, 1, intervals=4, order=1, base="zero"),))


def outside_linear() -> Kan:
    """Values far outside the range go on with the slope at its end."""
    return Kan((_random(3, 2, 2), _random(4, 1, 2, knots=uniform_knots(-0.2, 0.2, 5, 3))))


def outside_zero() -> Kan:
    """The convention of pykan and efficient-kan: the basis runs out on the extended knots."""
    return Kan((_random(5, 2, 2, extrapolation="zero"), _random(6, 1, 2, extrapolation="zero")))


def uneven_knots() -> Kan:
    """Non-uniform knots, different for each input, one with a repeated and one with clamped knots."""
    repeated = _uneven(8, 6, 3)
    repeated[5] = repeated[4]
    clamped = _uneven(9, 6, 3)
    clamped[:3], clamped[-3:] = clamped[3], clamped[-4]
    return Kan((_random(7, 2, 3, intervals=6, knots=np.stack([_uneven(7, 6, 3), repeated, clamped])),))


def uneven_zero() -> Kan:
    """Non-uniform knots with zero outside, as a trained pykan network has them."""
    return Kan(
        (
            _random(
                10,
                2,
                2,
                intervals=7,
                knots=np.stack([_uneven(10, 7, 3), _uneven(11, 7, 3)]),
                extrapolation="zero",
            ),
        )
    )


def deep() -> Kan:
    """Six layers: errors add up, and each layer has ranges of its own."""
    return Kan(tuple(_random(20 + n, 3 if n < 5 else 1, 3, knots=uniform_knots(-1.5, 1.5 + n, 5, 3)) for n in range(6)))


def wide() -> Kan:
    """More inputs and outputs than a vector register or a function of 200 edges holds."""
    return Kan((_random(30, 24, 20, intervals=8), _random(31, 17, 24, knots=uniform_knots(-3, 3, 5, 3))))


def fine() -> Kan:
    """A grid of 50 intervals: lookups win over dense bases here."""
    return Kan((_random(32, 3, 2, intervals=50), _random(33, 1, 3, intervals=50)))


def pruned() -> Kan:
    """Edges, a node and an input that are gone."""
    one, two = _random(40, 3, 3), _random(41, 1, 3)
    coefficients, weights = one.coefficients.copy(), one.base_weight.copy()
    for j, i in ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1)):
        coefficients[j, i], weights[j, i] = 0, 0
    return Kan((make_layer(coefficients, knots=one.knots, base_weight=weights), two))


def constant() -> Kan:
    """Everything is pruned: what is left is a constant."""
    return Kan((make_layer(shape=(1, 2), node_bias=[2.5]),))


def multiplication() -> Kan:
    """Multiplication nodes of arity 2 and 3 beside a sum node, with scales and biases before and after."""
    rng = np.random.default_rng(50)
    first = _random(
        50,
        6,
        2,
        arity=[1, 2, 3],
        subnode_scale=rng.uniform(0.5, 1.5, 6),
        subnode_bias=rng.normal(0, 0.3, 6),
        node_scale=[1.0, -0.7, 1.3],
        node_bias=[0.1, 0.2, -0.3],
    )
    return Kan((first, _random(51, 2, 3)))


def _symbolic(names: list[list[str]], affine: ArrayLike) -> Layer:
    return make_layer(functions=names, affine=affine)


def mixed() -> Kan:
    """Spline and symbolic edges side by side, one edge that is both, one that is neither."""
    spline = _random(60, 2, 2)
    coefficients, weights = spline.coefficients.copy(), spline.base_weight.copy()
    coefficients[0, 1], weights[0, 1] = 0, 0
    coefficients[1, 1], weights[1, 1] = 0, 0
    first = make_layer(
        coefficients,
        knots=spline.knots,
        base_weight=weights,
        functions=[["sin", "x^2"], ["", ""]],
        affine=[[[2.0, 0.3, 0.7, -0.1], [1.2, -0.4, -0.6, 0.2]], [[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]]],
    )
    return Kan((first, _random(61, 1, 2)))


def symbolic() -> Kan:
    """exp(sin(πx) + y²): every edge has a name, and the formula is closed."""
    first = _symbolic([["sin", "x^2"]], [[[np.pi, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]]])
    return Kan((first, _symbolic([["exp"]], [[[1.0, 0.0, 1.0, 0.0]]])), inputs=(Variable("x"), Variable("y")))


def every_function() -> Kan:
    """Each row of the table of functions once, on arguments inside every domain."""
    from kanserve.network.functions import FUNCTIONS

    names = list(FUNCTIONS)
    rng = np.random.default_rng(62)
    affine = np.stack([np.array([0.2, 0.5, rng.uniform(0.5, 1.5), rng.normal()]) for _ in names])
    return Kan((_symbolic([[name] for name in names], affine[:, None, :]),))


def special() -> Kan:
    """erf, J0 and gamma over all of their branches: near 0, on waves, at large arguments."""
    affine: ArrayLike = [[[1.5, 0.2, 1.3, 0]], [[30.0, 4.0, 1.0, 0.1]], [[3.0, 0.5, -2.0, 0]], [[4.0, 6.0, 1e-3, 0]]]
    return Kan((_symbolic([["erf"], ["j0"], ["j0"], ["gamma"]], affine),))


def domains() -> Kan:
    """Logarithm, root, reciprocal and arcsine that leave their domains on some rows: those rows are NaN."""
    affine: ArrayLike = [[[1.0, 0.5, 1, 0]], [[-1.0, 0.5, 1, 0]], [[2.0, 0, 1, 0]], [[0.9, 0.0, 1, 0]]]
    return Kan((_symbolic([["log"], ["sqrt"], ["1/x"], ["arcsin"]], affine),))


def powers() -> Kan:
    """Powers with real exponents, from below 0 to far above, at 0 too where they are defined everywhere."""
    everywhere = [[name] for name in ("x^(1/3)", "x^(5/3)", "x^(2/3)", "x^(4/3)", "x^(1/3)")]
    positive = [[name] for name in ("x^1.37", "x^(3/4)", "1/x^(5/3)", "1/x^(2/3)", "1/x^1.37")]
    affine = [[[3.0, 0.1, 0.7, 0.0]]] * 4 + [[[1.0, 0.0, 1.0, 0.5]]] + [[[0.5, 2.0, 1.3, -0.2]]] * 5
    return Kan((_symbolic([*everywhere, *positive], affine),))


def classifier() -> Kan:
    """Three classes; the outputs are scores before the softmax."""
    names = ("setosa", "versi color", "virginica")
    return Kan((_random(70, 4, 2), _random(71, 3, 4)), classes=names)


def orders() -> Kan:
    """Orders 1, 2, 3 and 5 in one network."""
    return Kan(tuple(_random(80 + k, 2, 2, order=k, knots=uniform_knots(-1.2, 1.2, 5, k)) for k in (5, 3, 2, 1)))


def raw_features() -> Kan:
    """Inputs of large offset and small spread, an output in other units: the affines at both ends."""
    return Kan(
        (_random(90, 3, 2), _random(91, 2, 3)),
        inputs=(Variable("temperature", "K", 290.0, 310.0), Variable("pressure", "Pa", 1.0e5, 1.02e5)),
        outputs=(Variable("density", "kg/m^3"), Variable("cost", "EUR")),
        input_shift=np.array([300.0, 1.01e5]),
        input_scale=np.array([10.0, 1.0e3]),
        output_shift=np.array([1.2, -4.0e4]),
        output_scale=np.array([0.05, 2.0e4]),
    )


def bases() -> Kan:
    """The identity as base function, then none."""
    return Kan((_random(92, 2, 2, base="identity"), _random(93, 1, 2, base="zero")))


def hostile_names() -> Kan:
    """Names that would be code, comments, escapes or markup if anybody printed them as they are."""
    return Kan(
        (_random(95, 3, 6),),
        inputs=(
            Variable('x; system("rm")', "*/"),
            Variable("lambda", "\\"),
            Variable("??/\n#include <x>", '"'),
            Variable("__import__('os')", "$\\alpha$"),
            Variable("I", "'''"),
            Variable("größe %s {0}", "µm²"),
        ),
        outputs=(Variable('"""'), Variable("errno"), Variable("x1")),
    )


def log_link() -> Kan:
    """Two outputs behind a log link, as a fit with loss="poisson" returns them, with units at both ends."""
    kan = Kan(
        (_random(96, 3, 2), _random(97, 2, 3, knots=uniform_knots(-1.5, 1.5, 5, 3))),
        input_shift=np.array([3.0, -20.0]),
        input_scale=np.array([2.0, 5.0]),
        output_shift=np.array([0.4, -1.3]),
        output_scale=np.array([0.7, 0.2]),
    )
    return with_exponential(kan)


def clipped_inputs() -> Kan:
    """Inputs kept in their range by two layers of named edges, as a fit with extrapolation="clip" returns them."""
    layers = (_random(98, 2, 2), _random(99, 1, 2))
    return with_clipped_inputs(Kan(layers, input_shift=np.array([1.0, -2.0]), input_scale=np.array([2.0, 0.5])))


def log_scaled_inputs() -> Kan:
    """An input on a logarithmic scale that may be missing, one that is not, and one clipped behind its logarithm."""
    inputs = (Variable("income", "$", 0.0, 900.0, fill_value=30.0), Variable("b", low=-1.0, high=1.0), Variable("c"))
    kan = Kan((_random(104, 2, 3), _random(105, 1, 2)), inputs, input_shift=np.array([2.5, 0.0, -1.0]))
    kan = replace(kan, input_scale=np.array([2.5, 1.0, 4.0]))
    return with_arcsinh_inputs(with_clipped_inputs(kan), (12.5, 0.0, 0.25))


def missing_values() -> Kan:
    """Two of three inputs may be missing, of which one has a fill value outside its training range."""
    inputs = (Variable("a", "m", -2.0, 2.0, fill_value=2.3), Variable("b"), Variable("c", fill_value=-0.4))
    kan = Kan((_random(100, 3, 3), _random(101, 2, 3)), inputs, classes=("no", "yes"))
    return replace(kan, input_scale=np.array([2.0, 1.0, 1.0]), input_shift=np.array([0.0, 0.5, 0.0]))


def categories() -> Kan:
    """Categorical inputs with and without a number for what is unknown, one category, and an input of numbers."""
    inputs = (
        Variable("colour", categories=("red", "green", "blue"), category_values=(0.4, -0.9, 0.1), fill_value=0.05),
        Variable("size", "cm"),
        Variable("kind", categories=('a "b"\n*/', "é"), category_values=(-0.2, 0.7)),
        Variable("only", categories=("one",), category_values=(0.3,), fill_value=-0.6),
    )
    return Kan((_random(102, 3, 4, arity=[1, 2]), _random(103, 1, 2)), inputs)


def named_categories() -> Kan:
    """The same with named functions alone, whose C source has a form of its own for batches."""
    first = _symbolic([["sin", "x^2"], ["exp", "x"]], [[[1.5, 0.2, 0.7, -0.1], [1.2, -0.4, -0.6, 0.2]]] * 2)
    second = _symbolic([["tanh", "x"]], [[[1.0, 0.1, 1.3, 0.0], [1.0, 0.0, 0.5, 0.0]]])
    kind = Variable("kind", categories=("p", "q", "r"), category_values=(0.5, 1.5, -0.25), fill_value=0.75)
    kan = Kan((first, second), (kind, Variable("y", low=-2.0, high=2.0, fill_value=0.5)))
    return replace(kan, input_scale=np.array([0.5, 2.0]), output_shift=np.array([1.0]))


ZOO: dict[str, Callable[[], Kan]] = {
    make.__name__: make
    for make in (
        one_edge,
        on_a_knot,
        outside_linear,
        outside_zero,
        uneven_knots,
        uneven_zero,
        deep,
        wide,
        fine,
        pruned,
        constant,
        multiplication,
        mixed,
        symbolic,
        every_function,
        special,
        domains,
        classifier,
        orders,
        raw_features,
        bases,
        hostile_names,
        powers,
        log_link,
        clipped_inputs,
        log_scaled_inputs,
        missing_values,
        categories,
        named_categories,
    )
}

# For tests that take long for a network of 720 edges: it is for CI and `make test-extended`.
LARGE_LAST = [pytest.param(name, marks=pytest.mark.extended) if name == "wide" else name for name in ZOO]


def rows(kan: Kan, count: int = 40) -> Array:
    """Raw feature rows: inside, on knots, just and far outside, NaN and infinity (the last four rows but one)."""
    rng = np.random.default_rng(0)
    first = kan.layers[0]
    spans = np.array([span(first.knots[i], first.order) for i in range(first.inputs)])
    low, high = spans[:, 0], spans[:, 1]
    inside = rng.uniform(low, high, (count, first.inputs))
    on_knots = first.knots.T
    just_outside = np.stack([low - 1e-9, high + 1e-9, low - 0.1, high + 0.1, low - 0.7, high + 0.7])
    far = np.stack([low - 5, high + 5])
    broken = rng.uniform(low, high, (4, first.inputs))
    broken[0, 0], broken[1, -1], broken[2, 0] = np.nan, np.inf, -np.inf
    values = np.concatenate([inside, on_knots, just_outside, far, broken]) * kan.input_scale + kan.input_shift
    return with_codes(kan, values)


def small_steps(kan: Kan, x: Array) -> list[tuple[Array, float]]:
    """For each input a small step of it alone from each row, for differences, and its size; 0 where it has no slope."""
    sizes = 1e-6 * kan.input_scale
    flat = has_no_slope(kan, x)
    return [(np.where(flat, 0.0, step), float(step.sum())) for step in np.diag(sizes)]


def with_codes(kan: Kan, x: Array) -> Array:
    """The rows with values missing here and there where they may be, and of categorical inputs with codes: all known
    ones, unknown ones, what is no whole number, and infinities."""
    result = x.copy()
    for i, one in enumerate(kan.inputs):
        if one.categories:
            count = len(one.categories)
            odd = [count, -1.0, 0.5, np.nan, np.inf, -0.0, 1e30, 1 - 1e-3, -np.inf]
            turn = np.arange(len(x)) + 2 * i
            result[:, i] = np.where(turn % 4 == 0, np.array(odd)[turn // 4 % len(odd)], turn % count)
        elif one.fill_value is not None:
            result[1 + i :: 5, i] = np.nan
    return result


def small() -> Kan:
    """Splines, a named function, an edge that is both, a multiplication node with scales and biases, affines."""
    rng = np.random.default_rng(3)
    first = make_layer(
        rng.normal(0, 0.5, (3, 2, 6)),
        knots=uniform_knots(-1, 1, 3, 3),
        base_weight=rng.normal(0, 0.3, (3, 2)),
        functions=[["sin", ""], ["", "x^2"], ["", ""]],
        affine=rng.uniform(0.3, 1.2, (3, 2, 4)),
        arity=[1, 2],
        subnode_scale=[1.0, 0.8, 1.2],
        subnode_bias=[0.0, 0.1, -0.2],
        node_scale=[1.1, -0.9],
        node_bias=[0.2, 0.1],
    )
    second = make_layer(functions=[["tanh", "exp"]], affine=rng.uniform(0.3, 1.0, (1, 2, 4)))
    return Kan((first, second), input_shift=np.array([1.0, -2.0]), input_scale=np.array([2.0, 0.5]))
