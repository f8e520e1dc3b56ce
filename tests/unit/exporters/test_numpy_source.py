import ast
import itertools
import math
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest

from kanserve.errors import DataError, ExportError, FormatError
from kanserve.network.evaluate import evaluate, probabilities
from kanserve.network.export_options import ExportOptions
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer, Variable, make_layer
from kanserve.network.splines import uniform_knots
from kanserve.network.training_range import sample
from kanserve.runtime import numpy_backend as runtime
from kanserve_exporters import numpy_source as exporter
from tests.support.agreement import assert_agrees, eager_float32
from tests.support.networks.kans import ZOO, classifier, hostile_names, mixed, one_edge, raw_features, rows
from tests.support.networks.powers import POWERS

DOUBLE, FLOAT = ExportOptions("net", "double"), ExportOptions("net", "float")


def module(kan: Kan, options: ExportOptions = DOUBLE):
    return runtime.load(exporter.export(kan, options)).module


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", list(ZOO))
def test_the_module_agrees_with_the_reference(name):
    kan = ZOO[name]()
    x = rows(kan)
    got = module(kan).predict(x)
    assert got.dtype == np.float64
    assert_agrees(got, evaluate(kan, x))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", list(ZOO))
def test_the_module_in_float_computes_in_float_and_agrees(name):
    kan = ZOO[name]()
    x = rows(kan)
    got = module(kan, FLOAT).predict(x)
    assert got.dtype == np.float32
    assert_agrees(got, evaluate(kan, x), eager=eager_float32(kan, x))


def wide_layer(outputs: int, intervals: int, **options: object) -> Layer:
    rng = np.random.default_rng(outputs)
    order = options.get("order", 3)
    assert isinstance(order, int)
    coefficients = rng.normal(0, 0.5, (outputs, 5, intervals + order))
    return make_layer(coefficients, **({"knots": uniform_knots(-1, 1, intervals, order)} | options))  # type: ignore[arg-type]  # tests pass any option


@pytest.mark.slow
@pytest.mark.extended
def test_all_forms_of_a_spline_layer_agree():
    cases = ((40, 5, "even"), (12, 30, "sparse"), (2, 5, "sparse"), (2, 30, "sparse"), (40, 30, "sparse"))
    for outputs, intervals, form in (*cases, (40, 5, "dense")):
        for extrapolation, order in itertools.product(("linear", "zero"), (1, 2, 3, 4)):
            knots = uniform_knots(-1, 1, intervals, order)
            if form == "dense":
                knots = knots + np.where(np.arange(len(knots)) == order + 2, 0.1, 0)
            one = wide_layer(outputs, intervals, extrapolation=extrapolation, order=order, knots=knots)
            kan = Kan((one,))
            (source,) = exporter.export(kan, DOUBLE).values()
            assert f"def _{form}_splines".encode() in source
            assert_agrees(module(kan).predict(rows(kan)), evaluate(kan, rows(kan)))


def test_splines_go_on_straight_however_far_a_row_is():
    # The third power of such a distance overflows, but a straight line has none.
    for outputs in (2, 12, 40):
        kan = Kan((wide_layer(outputs, 5),))
        x = np.full((2, 5), [[1e150], [-1e200]])
        got = module(kan).predict(x)
        assert np.isfinite(got).all()
        assert_agrees(got, evaluate(kan, x))
        single = module(kan, FLOAT).predict(np.full((1, 5), 1e20))
        assert np.isfinite(single).all()


def fine_grids(seed: int) -> Kan:
    """Three layers of 50 intervals: what a shift of the pieces does is seen."""
    rng, layers = np.random.default_rng(seed), []
    for i, o in ((4, 10), (10, 10), (10, 1)):
        coefficients = rng.normal(0, i**-0.5, (o, i, 53))
        layers.append(make_layer(coefficients, knots=uniform_knots(-1, 1, 50, 3), extrapolation="zero"))
    return Kan(tuple(layers))


@pytest.mark.slow
def test_origins_that_float_rounds_leave_the_splines_where_they_were():
    kan = fine_grids(0)
    x = np.random.default_rng(1).uniform(-1, 1, (500, 4)).astype(np.float32)
    want, loaded = evaluate(kan, x), module(kan, FLOAT)
    alone = np.concatenate([loaded.predict(row[None]) for row in x])
    for got in (loaded.predict(x), alone):  # 2e-4 with the polynomials as they were
        assert np.abs(got - want).max() <= 8e-5 * np.abs(want).max()


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("extrapolation", ["linear", "zero"])
@pytest.mark.parametrize("outputs", [1, 40])
@pytest.mark.parametrize(("options", "powers"), [(DOUBLE, (-200, -110, 110, 200, 306)), (FLOAT, (-30, -12, 12, 30))])
def test_grids_of_any_size_are_written_in_units_of_their_steps(options, powers, outputs, extrapolation):
    coefficients = np.random.default_rng(0).normal(0, 1, (outputs, 2, 8))
    for size in (10.0**power for power in powers):
        x = np.random.default_rng(1).uniform(-2 * size, 2 * size, (50, 2)).astype(np.dtype(module_type(options)))
        x[0] = np.nan
        for shift in (0.0, 0.1):  # even, uneven
            knots = uniform_knots(-1, 1, 5, 3) + shift * (np.arange(12) == 5)
            one = make_layer(
                coefficients,
                knots=size * knots,
                base_weight=np.full((outputs, 2), 1 / size),
                base="identity",
                extrapolation=extrapolation,
            )
            kan = Kan((one,))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                loaded = module(kan, options)
            want = evaluate(kan, x)
            alone = np.concatenate([loaded.predict(row[None]) for row in x])
            for got in (loaded.predict(x), alone):
                assert_agrees(got, want, tolerance=1e-12 if options is DOUBLE else 1e-5)


def module_type(options: ExportOptions) -> str:
    return "float64" if options is DOUBLE else "float32"


def test_splines_that_no_table_holds_are_refused_with_what_to_do():
    knots = np.concatenate([-1e-150 * np.arange(4.0, 0, -1), [0.0, 1.0, 2.0, 3.0]])
    uneven = make_layer(np.ones((1, 1, 4)), knots=knots)
    tiny = make_layer(np.full((1, 1, 8), 1e-3), knots=uniform_knots(-1e-200, 1e-200, 5, 3))
    for second, advice, options in ((uneven, "onnx_graph or c_source", DOUBLE), (tiny, '"double"', FLOAT)):
        kan = Kan((make_layer(functions=[["x"]]), second))
        with warnings.catch_warnings(), pytest.raises(ExportError, match=f"Layer 1 has .* overflow.*{advice}"):
            warnings.simplefilter("error")
            exporter.export(kan, options)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("options", [DOUBLE, FLOAT])
@pytest.mark.parametrize("name", list(ZOO))
def test_one_row_is_computed_as_it_is_among_others(name, options):
    kan = ZOO[name]()
    x = rows(kan)
    loaded = module(kan, options)
    alone = np.concatenate([loaded.predict(row[None]) for row in x])
    assert alone.dtype == loaded.DTYPE
    assert_agrees(alone, evaluate(kan, x), eager=eager_float32(kan, x) if options is FLOAT else None)


def test_one_row_of_a_small_network_takes_pythons_numbers_and_the_arrays_where_those_give_up():
    loaded = module(raw_features())
    assert loaded._predict_row([300.0, 1.01e5]) is not None
    assert loaded._predict_row([math.nan, 1.01e5]) is None
    assert not hasattr(module(ZOO["wide"]()), "_predict_row")
    steep = Kan((make_layer(functions=[["exp"], ["silu"]], affine=[[[900.0, 0.0, 1.0, 0.0]]] * 2),))
    x = np.array([[1.0], [-1.0], [0.1], [np.inf]])
    loaded = module(steep)
    got = np.concatenate([loaded.predict(row[None]) for row in x])
    assert_agrees(got, evaluate(steep, x))
    assert np.isfinite(got[[1, 2]]).all() and np.isnan(got[[0, 3]]).all()


def test_many_symbolic_edges_are_computed_together():
    rng = np.random.default_rng(0)
    functions = np.array(["sin", "x", "x^2", "silu", ""])[rng.integers(0, 5, (6, 7))]
    functions[0] = "sin"
    affine = rng.normal(0, 1, (6, 7, 4))
    affine[functions == "x^2", :2] = 1, 0
    plain = np.tile([1.0, 0.0, 0.7, 0.1], (5, 6, 1))
    kan = Kan((make_layer(functions=functions, affine=affine), make_layer(functions=[["tanh"] * 6] * 5, affine=plain)))
    x = rows(kan)
    (source,) = exporter.export(kan, DOUBLE).values()
    assert source.count(b"numpy.sin(") == source.count(b"numpy.tanh(") == 1 and source.count(b"reduceat") >= 3
    assert_agrees(module(kan).predict(x), evaluate(kan, x))


def test_many_rows_are_computed_in_parts_and_come_out_in_order(monkeypatch):
    kan, x = mixed(), sample(mixed(), 1000)
    loaded = module(kan)
    whole = loaded.predict(x)
    monkeypatch.setattr(loaded, "_ROWS", 7)
    assert_agrees(loaded.predict(x), whole)
    assert loaded.predict(x[:0]).shape == (0, 1)


def test_the_rows_given_are_not_changed():
    x = rows(mixed())
    before = x.copy()
    module(mixed()).predict(x)
    assert np.array_equal(x, before, equal_nan=True)


def test_probabilities_are_the_softmax_and_nan_where_a_row_is_bad():
    kan = classifier()
    x = rows(kan)
    got = module(kan).predict_proba(x)
    assert np.allclose(got, probabilities(kan, x), rtol=1e-12, atol=0, equal_nan=True)
    assert np.isnan(got[-4]).all()
    steep = Kan(kan.layers, classes=kan.classes, output_scale=np.full(3, 1e4))
    assert np.allclose(module(steep).predict_proba(x[:9]).sum(axis=1), 1)
    assert not hasattr(module(mixed()), "predict_proba")


def test_the_module_holds_names_units_and_ranges():
    loaded = module(raw_features())
    assert (loaded.INPUTS, loaded.INPUT_UNITS) == (("temperature", "pressure"), ("K", "Pa"))
    assert loaded.INPUT_RANGES == ((290.0, 310.0), (1.0e5, 1.02e5))
    assert (loaded.OUTPUTS, loaded.OUTPUT_UNITS) == (("density", "cost"), ("kg/m^3", "EUR"))
    unknown, classes = module(one_edge()), module(classifier())
    assert unknown.INPUT_RANGES[0] == (-np.inf, np.inf)
    assert classifier().classes == classes.CLASSES


@pytest.mark.parametrize("name", ['"""', "'''", "\\", "\n", "{0}", "%s", "import os", "größe", "\0", "\\u0041"])
def test_names_are_texts_and_never_code(name):
    kan = Kan(one_edge().layers, inputs=(Variable(name, name),), outputs=(Variable(name, name),))
    for options in (DOUBLE, ExportOptions(name)):
        loaded = module(kan, options)
        assert loaded.INPUTS == loaded.OUTPUTS == loaded.INPUT_UNITS == (name,)


@pytest.mark.parametrize("name", [*ZOO, *FUNCTIONS, *POWERS])
def test_the_module_has_only_what_the_network_needs(name):
    kan = ZOO[name]() if name in ZOO else Kan((make_layer(functions=[[name]]),))
    (text,) = exporter.export(kan, DOUBLE).values()
    tree = ast.parse(text)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    made = {alias.name for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
    made |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    made |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    public = {"predict", "predict_proba", "INPUTS", "INPUT_UNITS", "INPUT_RANGES", "OUTPUTS", "OUTPUT_UNITS", "CLASSES"}
    assert made - used <= public


def test_the_module_imports_numpy_only_and_is_quiet_where_warnings_are_errors(tmp_path):
    (path, source), *_ = exporter.export(hostile_names(), ExportOptions("hostile")).items()
    (tmp_path / path).write_bytes(source)
    program = (
        "import sys, numpy; before = set(sys.modules); import hostile;"
        "assert set(sys.modules) - before - {'bisect', '_bisect'} == {'hostile'};"  # of Python
        "print(hostile.predict([[0.0] * 6, [float('nan')] * 6, [1e308] * 6]).shape)"
    )
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "(3, 3)\n" and done.stderr == ""


def test_nothing_warns_whatever_the_rows():
    loaded = [
        module(ZOO[name](), options) for name in ("domains", "every_function", "wide") for options in (DOUBLE, FLOAT)
    ]
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        for exported_module in loaded:
            x = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 1e-308, 0.0, -1.0, 1.0])
            assert exported_module.predict(np.repeat(x[:, None], len(exported_module.INPUTS), axis=1)).shape == (
                9,
                len(exported_module.OUTPUTS),
            )


def test_the_backend_checks_the_shape_and_says_what_it_is():
    backend = runtime.load(exporter.export(mixed(), FLOAT), threads=2)
    assert (backend.inputs, backend.outputs, backend.dtype) == (2, 1, np.dtype(np.float32))
    with pytest.raises(DataError, match=r"\(N, 2\), got \(4, 3\)"):
        backend.predict(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"\(N, 2\), got \(3,\)"):
        backend.module.predict([1.0, 2.0, 3.0])


def test_threads_share_a_backend():
    backend, x = runtime.load(exporter.export(mixed(), DOUBLE)), sample(mixed(), 5000)
    want = backend.predict(x)
    wrong: list[int] = []

    def work():
        wrong.extend(number for number in range(5) if not np.array_equal(backend.predict(x), want))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_two_loaded_modules_do_not_meet():
    one, two = module(one_edge()), module(mixed())
    assert (len(one.INPUTS), len(two.INPUTS)) == (1, 2)
    assert "net" not in sys.modules


@pytest.mark.parametrize(
    "source", [b"", b"1 +", b"\xff", b"raise RuntimeError('no')", b"raise SystemExit", b"INPUTS = 3"]
)
def test_what_is_no_module_of_ours_is_refused(source):
    with pytest.raises(FormatError, match=r"net\.py"):
        runtime.load({"net.py": source})


def test_an_artifact_without_its_module_is_refused():
    for files in ({}, {"a.txt": b""}, {"a.py": b"", "b.py": b""}):
        with pytest.raises(FormatError, match="one Python file"):
            runtime.load(files)
