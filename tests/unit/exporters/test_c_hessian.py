"""The second derivatives in C are those of the reference; what is not finite is NaN, with a code."""

import ctypes
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import kanserve
from kanserve.errors import ExportError
from kanserve.network.derivatives import derivatives
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan, Layer, make_layer
from kanserve.network.splines import extend_knots, span, uniform_knots
from kanserve_exporters import c_source as exporter
from tests.support.c_builds import SANITIZED, STRICT, run, written
from tests.support.c_derivatives import DTYPES, FAR_OUT_AND_CLOSE_IN, each_function, library_of, of_a_new_function
from tests.support.networks import sized_networks
from tests.support.networks.kans import ZOO, domains, mixed, multiplication, one_edge, powers, rows

Array = NDArray[np.float64]


def compiled(folder: Path, kans: dict[str, Kan], precision: Precision = "double", *flags: str) -> ctypes.CDLL:
    return library_of(folder, kans, *flags, precision=precision, hessian=True)


def hessians(library: ctypes.CDLL, name: str, kan: Kan, x: NDArray[Any]) -> tuple[list[int], Any, Any, Any]:
    """The codes, outputs, derivatives and second derivatives of every row; no place may be left unwritten."""
    function = getattr(library, f"{name}_hessian")
    function.argtypes = [ctypes.c_void_p] * 4
    inputs, outputs = kan.shape[0], kan.shape[-1]
    shapes = ((outputs,), (outputs, inputs), (outputs, inputs, inputs))
    y, slopes, second = (np.full((len(x), *shape), 7, x.dtype) for shape in shapes)
    codes = [function(*(part[n].ctypes.data for part in (x, y, slopes, second))) for n in range(len(x))]
    return codes, y, slopes, second


def moved(kan: Kan, grain: float) -> Kan:
    """The network with its edges moved by one rounding, their places and their coefficients: of a fine grid a second
    derivative is a small difference of large products."""
    layers = []
    for layer in kan.layers:
        affine = layer.affine.copy()
        affine[..., 0] *= 1 + grain
        turns = 1 + grain * (-1.0) ** np.arange(layer.coefficients.shape[2])
        coefficients = layer.coefficients * turns
        layers.append(replace(layer, knots=layer.knots * (1 + grain), affine=affine, coefficients=coefficients))
    return replace(kan, layers=tuple(layers))


def assert_right(kan: Kan, x: NDArray[Any], got: NDArray[Any]) -> None:
    """Fail unless got are the reference's second derivatives at x, and rows that have some not finite are NaN.

    An error may be `part` of an element's size or its median; in float also of the size of a mixed derivative's terms,
    which cancel: the geometric mean of the medians of both plain ones. Or 64 times what moving every edge by one
    rounding changes: as `kanserve.network.rounding_error.allow` has it for values.
    """
    rows64 = x.astype(np.float64)
    want = derivatives(kan, rows64, order=2)
    fine = np.isfinite(want).all(axis=(1, 2, 3)) & np.isfinite(jacobian(kan, rows64)).all(axis=(1, 2))
    assert np.isnan(got[~fine]).all() and np.isfinite(got[fine]).all()
    assert np.array_equal(got, got.swapaxes(2, 3), equal_nan=True)
    part, grain, measured = (1e-12, 2.0**-53, 2.0**-44) if x.dtype == np.float64 else (1e-5, 2.0**-24, 2.0**-24)
    changes = [np.abs(derivatives(moved(kan, side * measured), rows64, order=2) - want)[fine] for side in (1, -1)]
    size = np.abs(want[fine])
    median = np.median(size, axis=0)
    plain_ones = np.sqrt(np.diagonal(median, axis1=1, axis2=2))
    terms = plain_ones[:, :, None] * plain_ones[:, None, :]
    plain = part * np.maximum(size, median if x.dtype == np.float64 else np.maximum(median, terms))
    allowed = np.maximum(plain, 64 * grain / measured * np.nan_to_num(np.maximum(*changes)))
    assert (np.abs(got[fine] - want[fine]) <= allowed).all()


@pytest.mark.slow
@pytest.mark.extended
def test_second_derivatives_are_the_references_on_the_zoo(tmp_path):
    """On its rows: on knots, outside of the grid, with NaN and infinity."""
    kans = {f"zoo_{name}": make() for name, make in ZOO.items()}
    library = compiled(tmp_path, kans, "double", "-O1")  # optimised, gcc warns of more
    for name, kan in kans.items():
        x = rows(kan)
        codes, y, slopes, second = hessians(library, name, kan, x)
        assert_right(kan, x, second)
        predict, gradient = (getattr(library, f"{name}_{what}") for what in ("predict", "gradient"))
        predict.argtypes = gradient.argtypes = [ctypes.c_void_p] * 2
        wanted, first = np.empty_like(y), np.empty_like(slopes)
        assert [predict(x[n].ctypes.data, wanted[n].ctypes.data) for n in range(len(x))] == codes
        assert [gradient(x[n].ctypes.data, first[n].ctypes.data) for n in range(len(x))] == codes
        np.testing.assert_array_equal(y, wanted)
        size = np.nanmax(np.abs(first), initial=0.0)
        np.testing.assert_allclose(slopes, first, rtol=1e-11, atol=1e-13 * size)


@pytest.mark.slow
@pytest.mark.extended
def test_in_float_they_are_the_references_but_for_the_ends_of_the_range(tmp_path):
    """At an end the second derivative of a spline jumps to 0, and an input rounded to float may be on either side."""
    kans = {f"zoo_{name}": make() for name, make in ZOO.items()}
    library = compiled(tmp_path, kans, "float")
    for name, kan in kans.items():
        x = rows(kan)[:40]
        first = kan.layers[0]
        low, high = np.array([span(first.knots[i], first.order) for i in range(first.inputs)]).T
        x = np.concatenate([x, (np.stack([low - 0.1, high + 0.1, low - 5]) * kan.input_scale + kan.input_shift)])
        x = x.astype(np.float32)
        assert_right(kan, x, hessians(library, name, kan, x)[3])


def shaped(seed: int, o: int, i: int, arity: list[int] | None = None) -> Layer:
    """Splines and functions on the edges, some on both; products with scales and biases."""
    rng = np.random.default_rng(seed)
    names = rng.choice(["", "sin", "x^2", "tanh", "x", "gaussian"], (o, i))
    splines = rng.normal(0, 0.4, (o, i, 8)) * (rng.random((o, i, 1)) < 0.5)
    total, nodes = sum(arity or [1] * o), len(arity or [1] * o)
    return make_layer(
        splines, knots=uniform_knots(-1, 1, 5, 3), base_weight=rng.normal(0, 0.3, (o, i)),
        functions=names, affine=rng.uniform(0.3, 0.7, (o, i, 4)), arity=arity,
        subnode_scale=rng.uniform(0.5, 1.5, total), subnode_bias=rng.normal(0, 0.5, total),
        node_scale=rng.uniform(0.5, 1.5, nodes), node_bias=rng.normal(0, 0.5, nodes),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.extended
def test_products_and_scales_agree_in_every_layer(tmp_path):
    kans = {
        "first": Kan((shaped(1, 5, 3, [1, 2, 2]), shaped(2, 1, 3))),
        "middle": Kan((shaped(3, 4, 2), shaped(4, 6, 4, [3, 1, 2]), shaped(5, 2, 3))),
        "last": Kan((shaped(6, 3, 2), shaped(7, 7, 3, [4, 3]))),
        "only": Kan((shaped(8, 5, 3, [2, 3]),)),
        "each": Kan((shaped(9, 5, 3, [1, 2, 2]), shaped(10, 6, 3, [3, 1, 2]), shaped(11, 4, 3, [2, 2]))),
        "affine": Kan(
            (shaped(12, 5, 3, [1, 2, 2]), shaped(13, 3, 3)),
            input_shift=np.array([1.0, 0, 2]),
            input_scale=np.array([2.0, 0.5, 3]),
            output_scale=np.array([3.0, 1, 9]),
        ),
    }
    library = compiled(tmp_path, kans)
    for name, kan in kans.items():
        x = np.random.default_rng(0).uniform(-1.5, 1.5, (30, kan.shape[0]))
        assert_right(kan, x, hessians(library, name, kan, x)[3])


@pytest.mark.slow
@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
def test_on_knots_and_at_the_ends_of_the_range_the_interval_is_the_references(tmp_path, extrapolation):
    """Order 2: the second derivative jumps at every knot, which floating-point numbers hold here."""
    even, uneven = uniform_knots(-1, 1, 4, 2), extend_knots(np.array([-1.0, -0.75, 0, 0.5, 1]), 2)
    kans = {}
    for name, knots in (("even", even), ("uneven", uneven)):
        coefficients = np.random.default_rng(0).normal(0, 1, (1, 1, 6))
        layer = make_layer(coefficients, knots=knots, base="zero", order=2, extrapolation=extrapolation)
        kans[name] = Kan((layer,))
    for precision, dtype in DTYPES.items():
        library = compiled(tmp_path / precision, kans, precision)
        for name, kan in kans.items():
            knots = kan.layers[0].knots[0]
            x = np.concatenate([knots, (knots[1:] + knots[:-1]) / 2, [-9.0, 9.0]])[:, None].astype(dtype)
            want = derivatives(kan, x.astype(np.float64), order=2)
            assert len(np.unique(want.round(9))) > 4
            np.testing.assert_allclose(hessians(library, name, kan, x)[3], want, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.extended
def test_every_function_has_its_second_derivative_far_out_and_close_in(tmp_path):
    kans, places = each_function(), FAR_OUT_AND_CLOSE_IN
    library = compiled(tmp_path, kans)
    for name, kan in kans.items():
        assert_right(kan, places, hessians(library, name, kan, places)[3])


def test_a_new_function_of_the_table_has_its_second_derivative_in_c(tmp_path, monkeypatch):
    kan = of_a_new_function(monkeypatch)
    library = compiled(tmp_path, {"net": kan})
    x = np.array([[-1.0], [0.0], [2.5]])
    assert_right(kan, x, hessians(library, "net", kan, x)[3])


def test_a_function_of_a_user_has_its_second_derivative_if_that_is_known(tmp_path):
    kanserve.register_function(
        "bump", numpy=lambda x: x / (1 + x * x), derivative="1/(1 + x^2) - 2*x*bump(x)/(1 + x^2)", c="x/(1 + x*x)"
    )
    kanserve.register_function(
        "dark", numpy=lambda x: x * x, derivative=lambda x: 2 * np.asarray(x, np.float64), c="x*x"
    )
    kan = Kan((make_layer(functions=[["bump"]], affine=[[[2.0, 0.5, 3.0, 1.0]]]),))
    library = compiled(tmp_path, {"net": kan})
    x = np.array([[-1.0], [0.0], [2.5]])
    assert_right(kan, x, hessians(library, "net", kan, x)[3])
    with pytest.raises(ExportError, match="'dark' is a callable that takes arrays alone"):
        exporter.export(Kan((make_layer(functions=[["dark"]]),)), ExportOptions(hessian=True))


@pytest.mark.slow
def test_a_bad_row_gives_its_code_and_nan_where_nothing_is_finite(tmp_path):
    root = Kan((make_layer(functions=[["sqrt", "x"]]),))
    power = Kan((make_layer(functions=[["x^(4/3)", "x"]]),))
    kans = {"root": root, "power": power, "domains": domains(), "net": mixed()}
    library = compiled(tmp_path, kans)
    codes, y, slopes, second = hessians(library, "net", mixed(), np.array([[np.nan, 0.0], [0.0, np.inf], [0.1, 0.1]]))
    assert codes == [-2, -2, 0]
    assert all(np.isnan(part[:2]).all() and np.isfinite(part[2]).all() for part in (y, slopes, second))
    assert hessians(library, "domains", domains(), np.array([[-0.5], [0.25]]))[0] == [-3, 0]
    # A root has no slope at 0, and its outputs stay; x^(4/3) only no second derivative, and both stay.
    codes, y, slopes, second = hessians(library, "root", root, np.array([[0.0, 1.0], [4.0, 1.0]]))
    assert codes == [-4, 0] and y.ravel().tolist() == [1.0, 3.0] and np.isnan(slopes[0]).all()
    assert np.isnan(second[0]).all() and second[1].tolist() == [[[-0.03125, 0.0], [0.0, 0.0]]]
    codes, y, slopes, second = hessians(library, "power", power, np.array([[0.0, 1.0], [1.0, 1.0]]))
    assert codes == [-4, 0] and y.ravel().tolist() == [1.0, 2.0] and slopes[0].tolist() == [[0.0, 1.0]]
    assert np.isnan(second[0]).all() and np.isfinite(second[1]).all()


def test_outputs_and_derivatives_may_be_left_out_and_strides_are_checked(tmp_path):
    kan = multiplication()
    library = compiled(tmp_path, {"net": kan})
    inputs, outputs = kan.shape[0], kan.shape[-1]
    x = rows(kan)[:5]
    _, y, slopes, second = hessians(library, "net", kan, x)
    wide = np.concatenate([x, np.full((5, 2), 9.0)], axis=1)
    parts = [np.full((5, size + 3), 7.0) for size in (outputs, outputs * inputs, outputs * inputs**2)]
    many, size = library.net_hessian_batch, ctypes.c_size_t
    many.argtypes = [ctypes.c_void_p, size, size, *([ctypes.c_void_p, size] * 3)]  # type: ignore[list-item]
    places = [place for part in parts for place in (part.ctypes.data, part.shape[1])]
    assert many(wide.ctypes.data, 5, inputs + 2, *places) == 0
    for got, want in zip(parts, (y, slopes, second), strict=True):
        assert np.array_equal(got[:, :-3], want.reshape(5, -1)) and (got[:, -3:] == 7).all()
    alone = np.full_like(parts[2], 7.0)
    assert many(wide.ctypes.data, 5, inputs + 2, None, 0, None, 0, alone.ctypes.data, alone.shape[1]) == 0
    assert np.array_equal(alone, parts[2])
    some = x.ctypes.data
    assert library.net_hessian(None, None, None, None) == -1 and many(None, 1, inputs, None, 0, None, 0, some, 99) == -1
    assert many(some, 1, inputs, None, 0, None, 0, None, 99) == -1 and many(None, 0, 2, None, 0, None, 0, None, 99) == 0
    each = outputs * inputs**2
    assert many(some, 1, inputs - 1, None, 0, None, 0, some, each) == -5
    assert many(some, 1, inputs, some, outputs - 1, None, 0, some, each) == -5
    assert many(some, 1, inputs, None, 0, some, outputs * inputs - 1, some, each) == -5
    assert many(some, 1, inputs, None, 0, None, 0, some, each - 1) == -5
    assert many(some, 2**62, inputs, None, 0, None, 0, some, each) == -5


@pytest.mark.slow
@pytest.mark.extended
def test_they_are_there_only_when_asked_for_and_can_be_left_out(tmp_path):
    files = exporter.export(mixed(), ExportOptions("net", gradient=True))
    assert not any(b"hessian" in data or b"_second" in data for data in files.values())
    written(tmp_path, mixed(), hessian=True)
    assert "`net_hessian(x, y, dy_dx, d2y_dx2)`" in (tmp_path / "README.md").read_text()
    for form in ((), ("-Dnet_FAST", "-march=native")):
        run("gcc", *STRICT, "-Wshadow", *form, "-c", "net.c", at=tmp_path)
        run("gcc", *STRICT, *form, "-c", "net.c", "-Dnet_NO_GRADIENT", at=tmp_path)
        assert "hessian" not in run("nm", "net.o", at=tmp_path)
    run("gcc", *STRICT, "-c", "net.c", at=tmp_path)
    symbols = run("nm", "net.o", at=tmp_path)
    names = ("gradient", "gradient_batch", "hessian", "hessian_batch")
    assert all(re.search(rf"T net_{name}$", symbols, re.MULTILINE) for name in names)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("precision", DTYPES)
def test_it_builds_as_cpp_as_well(tmp_path, precision):
    kans = {"functions": ZOO["every_function"](), "net": multiplication(), "flat": ZOO["constant"](), "power": powers()}
    for name, kan in kans.items():
        written(tmp_path, kan, name, precision=precision, hessian=True)
        strict = ("-x", "c++", "-std=c++17", "-pedantic", "-Wall", "-Wextra", "-Werror")
        run("g++", *strict, f"{name}.c", f"{name}_test.c", "-o", name, at=tmp_path)
        assert "ok" in run(f"./{name}", at=tmp_path)


def test_a_network_that_would_need_too_much_of_the_stack_is_refused():
    kan = sized_networks.splines(200, 100, 1)
    with pytest.raises(ExportError, match=r"\[200, 100, 1\] need \d+ numbers on the stack.*Export without hessian"):
        exporter.export(kan, ExportOptions(hessian=True))
    assert exporter.export(sized_networks.splines(64, 64, 1), ExportOptions(hessian=True))


def test_undefined_behaviour_does_not_happen_on_nasty_rows(tmp_path):
    kan = one_edge()
    written(tmp_path, kan, hessian=True)
    (tmp_path / "main.c").write_text(
        '#include "net.h"\n#include <math.h>\nint main(void)\n{\n'
        "    const double v[] = {0, -0.0, 1e19, -1e10, 1e300, -1e300, 1e-310, NAN, INFINITY, -INFINITY};\n"
        "    for (int n = 0; n < 10; n++) { double d; if ((net_hessian(v + n, 0, 0, &d) == 0) != (n < 7)) return 1; }\n"
        "    return 0;\n}\n"
    )
    run("gcc", "-std=c99", *SANITIZED, "net.c", "main.c", "-lm", "-o", "main", at=tmp_path)
    run("./main", at=tmp_path)
    assert np.isfinite(evaluate(kan, [[1e300]])).all()  # far out a straight line is still a number
