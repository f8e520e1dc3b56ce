"""The ways in which a layer's splines are written as ONNX: each is right wherever it may be chosen."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from benchmarks import onnx_bodies
from kanserve import native
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan, make_layer
from kanserve.network.splines import Extrapolation, uniform_knots
from kanserve.runtime.onnx_backend import load
from kanserve_exporters._onnx import cardinal as onnx_cardinal
from kanserve_exporters._onnx.costs import CONSTANTS, ROWS, How, Shape, cheapest
from kanserve_exporters.onnx_graph import export_as
from tests.support.agreement import assert_agrees, eager_float32, error
from tests.support.networks.kans import rows

PRECISIONS: tuple[Precision, ...] = ("double", "float")
WAYS: tuple[How, ...] = tuple(CONSTANTS)


def _kan(order: int, extrapolation: Extrapolation, low: float | list[float], intervals: int = 6) -> Kan:
    """Two layers on grids of 2 that begin at `low`, one for all inputs or one each."""
    rng = np.random.default_rng(order)
    lows = np.broadcast_to(low, 3)
    knots = np.stack([uniform_knots(lowest, lowest + 2, intervals, order) for lowest in lows])
    first = make_layer(
        rng.normal(0, 0.3, (4, 3, intervals + order)),
        knots=knots,
        order=order,
        base_weight=rng.normal(0, 0.3, (4, 3)),
        extrapolation=extrapolation,
    )
    second = make_layer(
        rng.normal(0, 0.3, (2, 4, intervals + order)),
        knots=uniform_knots(-2, 2, intervals, order),
        order=order,
        extrapolation=extrapolation,
    )
    return Kan((first, second))


@pytest.fixture(autouse=True)
def _standard_operators() -> Iterator[None]:
    """The bodies themselves are meant, not the native operators that may take their place."""
    with native.disable_kernels():
        yield


@cache
def _cases() -> dict[str, Kan]:
    found = {}
    for order in (1, 2, 3, 4, 5):
        for extrapolation in ("linear", "zero"):
            found[f"order {order}, {extrapolation}"] = _kan(order, extrapolation, -1.0)
            found[f"order {order}, {extrapolation}, grids of their own"] = _kan(order, extrapolation, [-1, -0.5, 0.2])
    found["far from 0"] = _kan(3, "linear", 300.0)
    found["far from 0, grids of their own"] = _kan(2, "zero", [300.0, 200.0, -80.0])
    found["fine"] = _kan(3, "zero", -1.0, intervals=60)
    found["fine, linear"] = _kan(2, "linear", -0.8, intervals=40)
    return found


def _run(kan: Kan, x: NDArray[np.float64], precision: Precision, how: How) -> NDArray[np.floating]:
    return load({"model.onnx": export_as(kan, ExportOptions(precision=precision), how)}).predict(x)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_way_agrees_with_evaluate(how: How, precision: Precision) -> None:
    for name, kan in _cases().items():
        x = rows(kan, 200).astype(np.float32).astype(np.float64)  # what rounding the rows costs is not a body's
        eager = eager_float32(kan, x) if precision == "float" else None
        try:
            assert_agrees(_run(kan, x, precision, how), evaluate(kan, x), eager=eager)
        except AssertionError as found:
            raise AssertionError(f"{name}: {found}") from None


@pytest.mark.slow
@pytest.mark.parametrize("how", WAYS)
def test_a_fine_grid_in_float_costs_no_more_than_twice_what_it_costs_eagerly(how: How) -> None:
    kan = _kan(3, "zero", -1.0, intervals=50)
    x = np.random.default_rng(0).uniform(-1, 1, (500, 3)).astype(np.float32).astype(np.float64)
    want = evaluate(kan, x)
    assert error(_run(kan, x, "float", how), want) <= 2 * error(eager_float32(kan, x), want)


@pytest.mark.slow
@pytest.mark.extended
def test_a_fine_grid_of_many_inputs_costs_no_more_either() -> None:
    kan = onnx_bodies.network(Shape(100, 2, 150, 3))
    x = np.random.default_rng(0).uniform(-1, 1, (300, 100)).astype(np.float32).astype(np.float64)
    want = evaluate(kan, x)
    assert error(_run(kan, x, "float", "bumps"), want) <= error(eager_float32(kan, x), want)


def test_orders_beyond_the_fifth_have_no_bumps() -> None:
    kan = _kan(6, "linear", -1.0)
    grid = onnx_cardinal.grids(kan.layers[0].knots, 6, "double")
    assert grid is not None and not onnx_cardinal.suits(grid, "double")
    x = rows(kan, 10)
    assert_agrees(load({"model.onnx": export_as(kan, ExportOptions())}).predict(x), evaluate(kan, x))


def test_a_node_says_what_a_native_operator_needs() -> None:
    for how in WAYS:
        model = onnx.load_from_string(export_as(_kan(3, "linear", -1.0), ExportOptions(), how))
        for node in model.graph.node:
            if node.domain == "ai.kanserve":
                said = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
                assert said["order"] == 3 and said["base"] in (b"silu", b"zero")
                tables = said["tables"].decode().split(",")
                assert [name.split("_", 1)[1] for name in node.input[1:]] == tables
                bumps = {"middles", "steps", "lowest", "highest", "spline_weights"}
                assert len(tables) == len(set(tables))
                assert node.op_type.startswith("Local") or bumps <= set(tables)
        assert all(set(function.attribute) == {"tables", "order", "base"} for function in model.functions)


def test_the_model_of_costs_chooses_as_measured() -> None:
    """Where it is plain: many intervals are looked up, few are all computed, wide tables are not copied."""
    assert cheapest(Shape(4, 1, 5, 3), bumps=True) in ("bumps", "parts")
    assert cheapest(Shape(64, 64, 5, 3), bumps=True) == "bumps"
    assert cheapest(Shape(784, 64, 50, 3), bumps=True, fine=True) == "bumps"
    assert cheapest(Shape(30, 2, 200, 3), bumps=True) == "polynomials"
    assert cheapest(Shape(10, 2, 200, 3), bumps=False) == "polynomials"
    assert cheapest(Shape(8, 300, 5, 3), bumps=False) == "basis"


def test_the_fit_finds_the_constants_that_made_the_times() -> None:
    shapes = onnx_bodies.FITTED
    times: onnx_bodies.Times = {
        (shape, how, count): 1e-6 * float(np.dot(CONSTANTS[how], shape.terms(how, count)))
        for shape in shapes
        for how in WAYS
        for count in ROWS
    }
    for how, found in onnx_bodies.fit(times).items():
        np.testing.assert_allclose(found, CONSTANTS[how], rtol=1e-6, atol=1e-12)
    assert "at most" in onnx_bodies.report({key: t for key, t in times.items() if key[0].inputs < 10})
