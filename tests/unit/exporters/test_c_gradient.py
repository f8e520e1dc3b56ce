import ctypes
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.network.evaluate import evaluate, jacobian
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan, Layer, make_layer
from kanserve.network.splines import uniform_knots
from kanserve.network.training_range import sample
from kanserve_exporters import c_source as exporter
from tests.support.c_builds import STRICT, run, written
from tests.support.c_derivatives import DTYPES, FAR_OUT_AND_CLOSE_IN, each_function, library_of, of_a_new_function
from tests.support.networks.kans import ZOO, domains, mixed, multiplication, one_edge, rows

Array = NDArray[np.float64]


def compiled(folder: Path, kans: dict[str, Kan], precision: Precision = "double", *flags: str) -> ctypes.CDLL:
    return library_of(folder, kans, *flags, precision=precision, gradient=True)


def gradients(library: ctypes.CDLL, name: str, kan: Kan, x: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The codes and the derivatives (N, outputs, inputs) of every row; no place may be left unwritten."""
    function = getattr(library, f"{name}_gradient")
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    got = np.full((len(x), kan.shape[-1], kan.shape[0]), 7, x.dtype)
    codes = [function(x[n].ctypes.data, got[n].ctypes.data) for n in range(len(x))]
    return codes, got


def batch(library: ctypes.CDLL, name: str, kan: Kan, x: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """The code, the outputs and the derivatives of all rows, with room between the rows that must stay as it was."""
    function = getattr(library, f"{name}_gradient_batch")
    size = ctypes.c_size_t
    function.argtypes = [ctypes.c_void_p, size, size, *[ctypes.c_void_p, size] * 2]
    outputs, each = kan.shape[-1], kan.shape[0] * kan.shape[-1]
    wide = np.concatenate([x, np.full((len(x), 2), 9, x.dtype)], axis=1)
    y, slopes = np.full((len(x), outputs + 1), 7, x.dtype), np.full((len(x), each + 3), 7, x.dtype)
    places = (wide.ctypes.data, len(x), wide.shape[1], y.ctypes.data, outputs + 1, slopes.ctypes.data, each + 3)
    code = function(*places)
    assert (y[:, outputs:] == 7).all() and (slopes[:, each:] == 7).all()
    alone = slopes.copy()
    assert function(*places[:3], None, 0, alone.ctypes.data, each + 3) == code
    assert np.array_equal(alone, slopes, equal_nan=True)
    return code, y[:, :outputs], slopes[:, :each].reshape(len(x), outputs, -1)


def predictions(library: ctypes.CDLL, name: str, kan: Kan, x: np.ndarray) -> tuple[list[int], np.ndarray]:
    function = getattr(library, f"{name}_predict")
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    y = np.empty((len(x), kan.shape[-1]), x.dtype)
    return [function(x[n].ctypes.data, y[n].ctypes.data) for n in range(len(x))], y


def moved(kan: Kan, grain: float) -> Kan:
    """The network with the places of all its edges moved by one rounding: what float does to values on the way."""
    layers = []
    for layer in kan.layers:
        affine = layer.affine.copy()
        affine[..., 0] *= 1 + grain
        layers.append(replace(layer, knots=layer.knots * (1 + grain), affine=affine))
    return replace(kan, layers=tuple(layers))


def assert_right(kan: Kan, x: np.ndarray, got: np.ndarray) -> None:
    """Fail unless got is the reference's Jacobian at x and rows that it has not are NaN.

    An error may be `part` of an element's size or its median or, where the slope itself is sensitive, 64 times what
    moving every edge by one rounding changes: as `kanserve.network.rounding_error.allow` has it for values.
    """
    rows64 = x.astype(np.float64)
    want = jacobian(kan, rows64)
    fine = np.isfinite(want).all(axis=(1, 2))
    assert np.isnan(got[~fine]).all() and np.isfinite(got[fine]).all()
    part, grain, measured = (1e-12, 2.0**-53, 2.0**-44) if x.dtype == np.float64 else (1e-5, 2.0**-24, 2.0**-24)
    changes = [np.abs(jacobian(moved(kan, side * measured), rows64) - want)[fine] for side in (1, -1)]
    size = np.abs(want[fine])
    plain = part * np.maximum(size, np.median(size, axis=0))
    allowed = np.maximum(plain, 64 * grain / measured * np.nan_to_num(np.maximum(*changes)))
    assert (np.abs(got[fine] - want[fine]) <= allowed).all()


@pytest.fixture(scope="module", params=DTYPES)
def zoo(request, tmp_path_factory):
    kans = {f"zoo_{name}": make() for name, make in ZOO.items()}
    # One of them optimised, which takes twice as long: gcc then warns of more.
    flags = ("-O1",) if request.param == "double" else ()
    return request.param, kans, compiled(tmp_path_factory.mktemp(request.param), kans, request.param, *flags)


@pytest.mark.slow
@pytest.mark.extended
def test_derivatives_are_the_references_on_the_zoo(zoo):
    precision, kans, library = zoo
    for name, kan in kans.items():
        x = rows(kan).astype(DTYPES[precision])
        try:
            assert_right(kan, x, gradients(library, name, kan, x)[1])
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


@pytest.mark.slow
@pytest.mark.extended
def test_codes_are_those_of_predict(zoo):
    precision, kans, library = zoo
    for name, kan in kans.items():
        x = rows(kan).astype(DTYPES[precision])
        assert gradients(library, name, kan, x)[0] == predictions(library, name, kan, x)[0], name


@pytest.mark.slow
@pytest.mark.extended
def test_many_rows_give_what_each_alone_gives_with_the_outputs_of_predict(zoo):
    precision, kans, library = zoo
    for name, kan in kans.items():
        x = rows(kan).astype(DTYPES[precision])
        codes, slopes = gradients(library, name, kan, x)
        _, y = predictions(library, name, kan, x)
        code, outputs, derivatives = batch(library, name, kan, x)
        assert code == next((code for code in codes if code), 0)
        assert np.array_equal(derivatives, slopes, equal_nan=True), name
        assert np.array_equal(outputs, y, equal_nan=True), name


@pytest.mark.slow
@pytest.mark.extended
def test_derivatives_are_what_small_steps_of_predict_say(tmp_path):
    names = ("multiplication", "raw_features", "every_function", "orders", "uneven_knots", "classifier")
    kans = {name: ZOO[name]() for name in names}
    library = compiled(tmp_path, kans)
    for name, kan in kans.items():
        x = sample(kan, 20)
        got = gradients(library, name, kan, x)[1]
        for i in range(kan.shape[0]):
            step = np.zeros(kan.shape[0])
            step[i] = 1e-5 * kan.input_scale[i]
            after, before = (predictions(library, name, kan, x + side * step)[1] for side in (1, -1))
            want = (after - before) / (2 * step[i])
            assert np.allclose(got[:, :, i], want, rtol=1e-4, atol=1e-4 * np.abs(want).max()), (name, i)


@pytest.mark.slow
@pytest.mark.extended
def test_products_scales_and_both_ways_through_the_layers_agree(tmp_path):
    def shaped(o: int, i: int, seed: int, **options: Any) -> Layer:
        rng = np.random.default_rng(seed)
        names = rng.choice(["", "sin", "x^2", "tanh", "x", "gaussian"], (o, i))
        splines = rng.normal(0, 0.4, (o, i, 8)) * (rng.random((o, i, 1)) < 0.5)
        affine = rng.uniform(0.3, 0.7, (o, i, 4))
        return make_layer(
            splines, knots=uniform_knots(-1, 1, 5, 3), base_weight=rng.normal(0, 0.3, (o, i)),
            functions=names, affine=affine, **options,
        )  # fmt: skip

    def products(seed: int, arity: list[int]) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        total, nodes = sum(arity), len(arity)
        return {
            "arity": arity,
            "subnode_scale": rng.uniform(0.5, 1.5, total),
            "subnode_bias": rng.normal(0, 0.5, total),
            "node_scale": rng.uniform(0.5, 1.5, nodes),
            "node_bias": rng.normal(0, 0.5, nodes),
        }

    first = shaped(5, 3, 1, **products(1, [1, 2, 2]))
    middle = shaped(6, 3, 2, **products(2, [3, 1, 2]))
    scaled = {"subnode_scale": np.array([2.0, 0.5]), "node_scale": np.array([1.0, 3.0])}
    kans = {
        "back": Kan((first, middle, shaped(1, 3, 3))),
        "back_two": Kan((first, middle, shaped(2, 3, 4, **scaled))),
        "back_product": Kan((first, middle, shaped(5, 3, 5, **products(5, [2, 3])))),
        "on": Kan((first, middle, shaped(9, 3, 6, **products(6, [1, 1, 2, 1, 3, 1])))),
        "on_one": Kan((shaped(5, 1, 7, **products(7, [1, 2, 2])), middle, shaped(3, 3, 8))),
        "single": Kan((first,)),
        "scales": Kan((shaped(2, 3, 10, **scaled), shaped(2, 2, 11, **scaled))),
        "affine": Kan(
            (first, middle, shaped(4, 3, 9)),
            input_shift=np.array([1.0, 0, 2]),
            input_scale=np.array([2.0, 0.5, 3]),
            output_scale=np.array([3.0, 1, 1, 9]),
        ),
    }
    library = compiled(tmp_path, kans)
    for name, kan in kans.items():
        x = np.random.default_rng(0).uniform(-1.5, 1.5, (30, kan.shape[0]))
        assert_right(kan, x, gradients(library, name, kan, x)[1])
    # From the outputs back two rows go through the layers, from the inputs on three.
    assert "c < 2;" in (tmp_path / "back_two.c").read_text() and "c < 3;" in (tmp_path / "on.c").read_text()


@pytest.mark.slow
@pytest.mark.extended
def test_every_function_has_its_derivative_far_out_and_close_in(tmp_path):
    kans, places = each_function(), FAR_OUT_AND_CLOSE_IN
    library = compiled(tmp_path, kans)
    for name, kan in kans.items():
        assert_right(kan, places, gradients(library, name, kan, places)[1])


def test_a_new_function_of_the_table_has_its_derivative_in_c(tmp_path, monkeypatch):
    kan = of_a_new_function(monkeypatch)
    library = compiled(tmp_path, {"net": kan})
    x = np.array([[-1.0], [0.0], [2.5]])
    assert_right(kan, x, gradients(library, "net", kan, x)[1])


@pytest.mark.slow
def test_a_bad_row_gives_its_code_and_nan_everywhere(tmp_path):
    root = Kan((make_layer(functions=[["sqrt", "x"]]),))
    exponential = Kan((make_layer(functions=[["exp"]], affine=[[[1000.0, 0, 1, 0]]]),))
    kans = {"root": root, "overflow": exponential, "domains": domains(), "net": mixed()}
    library = compiled(tmp_path, kans)
    assert gradients(library, "net", mixed(), np.array([[np.nan, 0.0], [0.0, np.inf], [0.1, 0.1]]))[0] == [-2, -2, 0]
    assert gradients(library, "domains", domains(), np.array([[-0.5], [0.25]]))[0] == [-3, 0]
    assert gradients(library, "overflow", exponential, np.array([[1.0], [0.1]]))[0] == [-4, 0]
    codes, got = gradients(library, "root", root, np.array([[0.0, 1.0], [4.0, 1.0]]))
    assert codes == [-4, 0] and np.isnan(got[0]).all() and got[1].tolist() == [[0.25, 1.0]]
    some = (ctypes.c_double * 2)()
    assert library.net_gradient(None, some) == -1 and library.net_gradient(some, None) == -1
    code, outputs, slopes = batch(library, "root", root, np.array([[4.0, 1.0], [0.0, 1.0], [np.nan, 1.0]]))
    assert code == -4 and outputs.ravel()[:2].tolist() == [3.0, 1.0] and np.isnan(outputs[2]).all()
    assert slopes[0].tolist() == [[0.25, 1.0]] and np.isnan(slopes[1:]).all()
    many = library.root_gradient_batch
    assert many(None, 1, 2, None, 0, some, 2) == -1 and many(some, 1, 2, None, 0, None, 2) == -1
    assert many(some, 1, 1, None, 0, some, 2) == many(some, 1, 2, some, 0, some, 2) == -5
    assert many(some, 1, 2, None, 0, some, 1) == many(some, 2**63, 2, None, 0, some, 2) == -5
    assert many(None, 0, 2, None, 0, None, 2) == 0


def test_the_slope_at_a_kink_is_the_one_to_the_right(tmp_path):
    kan = Kan((make_layer(np.array([[[0.0, 1.0, 0.0]]]), knots=uniform_knots(-1, 1, 2, 1), base="zero", order=1),))
    size = Kan((make_layer(functions=[["abs"]]),))
    library = compiled(tmp_path, {"net": kan, "size": size})
    x = np.array([[-2.0], [-1.0], [-0.5], [0.0], [0.5], [1.0], [2.0]])
    assert gradients(library, "net", kan, x)[1].ravel().tolist() == [1, 1, 1, -1, -1, -1, -1]
    assert gradients(library, "size", size, x[2:5])[1].ravel().tolist() == [-1, 0, 1]  # as the reference has it


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("precision", DTYPES)
def test_it_builds_as_cpp_as_well(tmp_path, precision):
    kans = {"functions": ZOO["every_function"](), "net": multiplication(), "flat": ZOO["constant"]()}
    for name, kan in kans.items():
        written(tmp_path, kan, name, precision=precision, gradient=True)
    strict = ("-x", "c++", "-std=c++17", "-pedantic", "-Wall", "-Wextra", "-Werror")
    for name in kans:
        run("g++", *strict, f"{name}.c", f"{name}_test.c", "-o", name, at=tmp_path)
        assert "ok" in run(f"./{name}", at=tmp_path)


@pytest.mark.slow
@pytest.mark.extended
def test_it_is_there_only_when_asked_for_and_can_be_left_out(tmp_path):
    plain = exporter.export(mixed(), ExportOptions("net"))
    assert not any(b"gradient" in data for data in plain.values())
    written(tmp_path, mixed(), gradient=True)
    for form in ((), ("-Dnet_FAST", "-march=native")):
        run("gcc", *STRICT, "-Wshadow", *form, "-c", "net.c", at=tmp_path)
        run("gcc", *STRICT, *form, "-c", "net.c", "-Dnet_NO_GRADIENT", at=tmp_path)
        assert "gradient" not in run("nm", "net.o", at=tmp_path)
    run("gcc", *STRICT, "-c", "net.c", at=tmp_path)
    symbols = run("nm", "net.o", at=tmp_path)
    assert all(re.search(rf"T net_{name}$", symbols, re.MULTILINE) for name in ("gradient", "gradient_batch"))


def test_it_has_no_tables_of_its_own_for_splines():
    plain = exporter.export(ZOO["fine"](), ExportOptions("net"))["net.c"]
    assert len(exporter.export(ZOO["fine"](), ExportOptions("net", gradient=True))["net.c"]) - len(plain) < 6000


def test_a_layer_of_600_edges_is_split_into_functions_of_at_most_200():
    rng = np.random.default_rng(0)
    kan = Kan(
        (make_layer(functions=[["sin"] * 20] * 30, affine=rng.normal(0, 0.5, (30, 20, 4))), make_layer(shape=(1, 30)))
    )
    code = exporter.export(kan, ExportOptions("net", gradient=True))["net.c"].decode()
    bodies = re.findall(r"static void net_slopes_0_\d+\([^)]*\)\n\{\n(.*?)\n\}", code, re.DOTALL)
    assert [len(re.findall(r"v\[\d+\]", body)) for body in bodies] == [200, 200, 200]


def test_undefined_behaviour_does_not_happen_on_nasty_rows(tmp_path):
    kan = one_edge()
    written(tmp_path, kan, gradient=True)
    (tmp_path / "main.c").write_text(
        '#include "net.h"\n#include <math.h>\nint main(void)\n{\n'
        "    const double v[] = {0, -0.0, 1e19, -1e10, 1e300, -1e300, 1e-310, NAN, INFINITY, -INFINITY};\n"
        "    for (int n = 0; n < 10; n++) { double d; if ((net_gradient(v + n, &d) == 0) != (n < 7)) return 1; }\n"
        "    return 0;\n}\n"
    )
    sanitizers = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all")
    run("gcc", "-std=c99", *sanitizers, "net.c", "main.c", "-lm", "-o", "main", at=tmp_path)
    run("./main", at=tmp_path)
    assert np.isfinite(evaluate(kan, [[1e300]])).all()  # far out a straight line is still a number
