"""The ONNX exporter and its backend: the zoo and what the zoo leaves out, in onnxruntime, against the reference."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from kanserve import native
from kanserve.errors import DataError, ExportError, MissingDependencyError
from kanserve.network.evaluate import evaluate, probabilities
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Variable, make_layer
from kanserve.network.own_functions import OWN, OwnFunction
from kanserve.runtime.onnx_backend import OPERATORS, load
from kanserve_exporters._onnx import functions as onnx_functions
from kanserve_exporters._onnx.body import Body
from kanserve_exporters.onnx_graph import DOMAIN, export
from tests.support.agreement import assert_agrees, eager_float32
from tests.support.networks.kans import ZOO, rows
from tests.support.networks.onnx_networks import ALL, OTHERS, model_bytes
from tests.support.networks.powers import POWERS

Array = NDArray[np.float64]
PRECISIONS: tuple[Precision, ...] = ("double", "float")


def _run(data: bytes, x: Array) -> NDArray[np.floating]:
    return load({"model.onnx": data}).predict(x)


def _layer_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.domain == DOMAIN]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ALL)
def test_the_graph_agrees_with_evaluate(name: str, precision: Precision) -> None:
    kan = ALL[name]()
    x = rows(kan)
    got = _run(model_bytes(name, precision), x)
    assert got.dtype == (np.float64 if precision == "double" else np.float32)
    assert_agrees(got, evaluate(kan, x), eager=eager_float32(kan, x) if precision == "float" else None)


@pytest.mark.extended
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ALL)
def test_the_graph_is_valid_and_has_one_node_a_layer(name: str, precision: Precision) -> None:
    kan = ALL[name]()
    model = onnx.load_from_string(model_bytes(name, precision))
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (9, 18)
    nodes = _layer_nodes(model)
    assert len(nodes) == len(kan.layers)
    assert {node.op_type for node in nodes} == {function.name for function in model.functions}
    assert all(node.doc_string for node in nodes)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.extended) if name.endswith("divided, zero") else name for name in OTHERS],
)
def test_a_layer_gets_the_body_that_suits_it(name: str) -> None:
    kind, *_ = name.split(",")
    node = _layer_nodes(onnx.load_from_string(model_bytes(name, "double")))[0]
    assert node.op_type.startswith(kind) and node.doc_string.startswith(kind)


def test_layers_that_differ_in_their_numbers_share_a_function() -> None:
    model = onnx.load_from_string(model_bytes("deep", "float"))
    assert [node.op_type for node in _layer_nodes(model)] == ["CardinalCubic"] * 5 + ["CardinalCubic2"]
    assert [function.name for function in model.functions] == [
        "CardinalCubic",
        "CardinalCubic2",
    ]  # the last one guards the end


@pytest.mark.parametrize("name", [*FUNCTIONS, *POWERS])
def test_a_function_keeps_its_last_digits_in_double(name: str) -> None:
    """To 2e-15 of itself (down to 1e-290), at small and large arguments and up to the ends of the domain."""
    rng = np.random.default_rng(0)
    small = 10.0 ** rng.uniform(-30, 0, 500)
    ends = np.array([0.0, 1.0, 1 + 1e-15, 2.0, np.pi / 2, 1.5 * np.pi, 100001 * np.pi / 2, 1e5, 1e300])
    one_side = np.concatenate([small, 1 - small, rng.uniform(0, 30, 2000), 10 ** rng.uniform(1, 5, 200), ends])
    kan = Kan((make_layer(functions=[[name]]),))
    x = np.concatenate([one_side, -one_side])[:, None]
    got, want = _run(export(kan, ExportOptions())["model.onnx"], x), evaluate(kan, x)
    fine = np.isfinite(want)
    assert np.array_equal(np.isfinite(got), fine)
    # Sines and J0 are right to 1e-15 of 1: near their zeros that is not of themselves.
    allowed = 1e-15 if name in ("sin", "cos", "j0") else 2e-15 * np.maximum(np.abs(want[fine]), 1e-290)
    assert (np.abs(got[fine] - want[fine]) <= allowed).all()


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["deep", "uneven_knots", "uneven_zero", "LocalBasis", "LocalBasis, zero", "symbolic"])
def test_a_row_that_is_not_finite_is_nan_and_nobody_elses_trouble(name: str, precision: Precision) -> None:
    kan = ALL[name]()
    good = rows(kan)[:30]
    clean = _run(model_bytes(name, precision), good)
    for bad in (np.nan, np.inf, -np.inf):
        for i in range(len(kan.inputs)):
            x = good.copy()
            x[1::3, i] = bad
            got = _run(model_bytes(name, precision), x)
            assert np.isnan(got[1::3]).all()
            # Not bit by bit: a vector with a NaN among its lanes may take the slower of two ways to a sine.
            got, want = np.delete(got, np.s_[1::3], axis=0), np.delete(clean, np.s_[1::3], axis=0)
            np.testing.assert_allclose(got, want, rtol=8 * float(np.finfo(got.dtype).eps))


@pytest.mark.parametrize("name", ["1/x", "tanh", "exp", "sign"])
def test_an_infinite_node_is_not_forgotten_by_a_function_that_is_finite_there(name: str) -> None:
    middle = make_layer(functions=[["log"], ["x"]])
    kan = Kan((middle, make_layer(functions=[[name, "x"], ["", "x"]])))
    x = np.array([[1.0], [0.0], [2.0]])  # log 0 is -infinity
    for precision in PRECISIONS:
        got = _run(export(kan, ExportOptions(precision=precision))["model.onnx"], x)
        assert np.isnan(got).all(axis=1).tolist() == np.isnan(evaluate(kan, x)).all(axis=1).tolist()
        assert np.isnan(got[1]).all()


def test_the_base_of_splines_keeps_its_last_digits_in_double() -> None:
    """silu far below 0 is tiny, and onnxruntime's own Sigmoid has an absolute error there."""
    layer = make_layer(np.zeros((1, 1, 8)), knots=np.linspace(-1.6, 1.6, 12)[None, :], base_weight=[[1.0]])
    kan, x = Kan((layer,)), np.linspace(-36, 36, 200)[:, None]
    np.testing.assert_allclose(_run(export(kan, ExportOptions())["model.onnx"], x), evaluate(kan, x), rtol=1e-14)


def test_rows_far_away_keep_every_digit() -> None:
    """No power of the distance overflows, no index is cast from a number that no integer holds."""
    for name in ("one_edge", "uneven_knots", "uneven_zero", "LocalBasis", "LocalPolynomials, divided"):
        kan = ALL[name]()
        x = np.tile(np.array([[1e3], [-1e19], [1e19], [1e120], [-1e120], [1e200]]), (1, len(kan.inputs)))
        assert_agrees(_run(model_bytes(name, "double"), x), evaluate(kan, x))


@pytest.mark.parametrize("count", [0, 1, 2, 333])
def test_any_number_of_rows_can_be_asked_for(count: int) -> None:
    for name in ("classifier", "multiplication", "fine", "LocalBasis", "Symbolic"):
        kan = ALL[name]()
        x = np.random.default_rng(1).uniform(-1, 1, (count, len(kan.inputs)))
        assert_agrees(_run(model_bytes(name, "double"), x), evaluate(kan, x).reshape(count, len(kan.outputs)))


def test_a_large_batch_is_computed_in_parts() -> None:
    model = onnx.load_from_string(model_bytes("wide", "double"))
    next(prop for prop in model.metadata_props if prop.key == "batch").value = "7"
    x = rows(ZOO["wide"]())
    with native.disable_kernels():  # the operators need no parts so small
        backend = load({"model.onnx": model.SerializeToString()})
    assert backend.batch == 7 and len(x) % 7
    np.testing.assert_allclose(backend.predict(x), _run(model_bytes("wide", "double"), x), rtol=1e-12, atol=1e-12)


def test_a_classifier_gives_probabilities_and_labels() -> None:
    kan = ZOO["classifier"]()
    x = rows(kan)
    session = load({"model.onnx": model_bytes("classifier", "double")}).session
    scores, chances, labels = session.run(["y", "probabilities", "label"], {"x": x})
    assert_agrees(chances, probabilities(kan, x))
    broken = np.isnan(scores).any(axis=1)
    assert broken.any() and (labels[broken] == -1).all()
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels[~broken], evaluate(kan, x)[~broken].argmax(axis=1))


def test_names_are_data_in_the_metadata_and_nowhere_else() -> None:
    kan = ZOO["hostile_names"]()
    model = onnx.load_from_string(model_bytes("hostile_names", "double"))
    metadata = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert [(variable["name"], variable["unit"]) for variable in metadata["inputs"]] == [
        (variable.name, variable.unit) for variable in kan.inputs
    ]
    assert [variable["name"] for variable in metadata["outputs"]] == [output.name for output in kan.outputs]
    assert metadata["inputs"][0]["low"] is None and metadata["classes"] == []
    del model.metadata_props[:]
    assert "\\n#include" in model.doc_string and model.doc_string.isascii()  # the formula, escaped
    model.doc_string = ""
    assert b"system" not in model.SerializeToString() and b"errno" not in model.SerializeToString()


def test_units_ranges_and_classes_are_in_the_metadata() -> None:
    model = onnx.load_from_string(model_bytes("raw_features", "double"))
    metadata = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    assert metadata["inputs"][0] == {"name": "temperature", "unit": "K", "low": 290.0, "high": 310.0}
    model = onnx.load_from_string(model_bytes("classifier", "double"))
    assert json.loads({prop.key: prop.value for prop in model.metadata_props}["classes"])[1] == "versi color"


def test_equal_networks_give_equal_bytes() -> None:
    for name in ("mixed", "every_function", "fine"):
        again = export(ALL[name](), ExportOptions(name="other", precision="float"))["model.onnx"]
        assert again == model_bytes(name, "float")


def test_a_number_that_float_cannot_hold_is_refused_in_float_only() -> None:
    kan = Kan((make_layer(functions=[["x"]], affine=[[[1.0, 0.0, 1e60, 0.0]]]),))
    assert export(kan, ExportOptions())
    with pytest.raises(ExportError, match="double precision"):
        export(kan, ExportOptions(precision="float"))


def test_a_spelling_is_calls_of_known_operators_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for spelling in ("__import__('os')", "x.real", "Loop(x)", "Sin(x, axis=1)", "y", "Sin("):
        monkeypatch.setitem(OWN, "sin", OwnFunction("sin", numpy=np.sin, spellings={"onnx": spelling}))
        with pytest.raises(ExportError, match="ONNX spelling"):
            onnx_functions.apply(Body("double"), "sin", "x")


def test_without_onnx_the_exporter_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"kanserve\[export\]"):
        export(ZOO["one_edge"](), ExportOptions())


def test_without_onnxruntime_the_backend_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"kanserve\[onnx\]"):
        load({"model.onnx": model_bytes("one_edge", "double")})


def test_a_fresh_interpreter_without_torch_sympy_and_onnx_serves_the_bytes() -> None:
    program = """
import sys
for name in ("torch", "sympy", "onnx"):
    sys.modules[name] = None  # importing it raises ImportError
import numpy
from kanserve.runtime.onnx_backend import load
backend = load({"model.onnx": sys.stdin.buffer.read()})
print(backend.predict(numpy.array([[0.25, -0.5]])).tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=model_bytes("symbolic", "double"),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == b""
    want = evaluate(ZOO["symbolic"](), [[0.25, -0.5]])
    np.testing.assert_allclose(json.loads(done.stdout), want, rtol=1e-14)


def test_rows_of_the_wrong_width_are_refused() -> None:
    backend = load({"model.onnx": model_bytes("symbolic", "float")})
    for shape in ((3,), (2, 3), (1, 1, 2)):
        with pytest.raises(DataError, match=r"\(N, 2\)"):
            backend.predict(np.zeros(shape))


def test_a_row_too_large_for_float_is_nan() -> None:
    backend = load({"model.onnx": model_bytes("symbolic", "float")})
    assert np.isnan(backend.predict(np.array([[1e200, 0.0], [0.0, 0.0]]))).tolist() == [[True], [False]]


@pytest.mark.slow
@pytest.mark.extended
def test_what_is_exported_and_what_is_allowed_are_the_same_operators() -> None:
    single = {name: Kan((make_layer(functions=[[name]]),)) for name in FUNCTIONS}
    files = [model_bytes(name, precision) for name in ALL for precision in PRECISIONS]
    files += [
        export(kan, ExportOptions(precision=precision))["model.onnx"]
        for kan in single.values()
        for precision in PRECISIONS
    ]
    written = set()
    for model in map(onnx.load_from_string, files):
        nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
        written |= {node.op_type for node in nodes if node.domain != DOMAIN}
    assert written == OPERATORS
    assert not OPERATORS & {"ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Loop", "If", "Scan"}


def test_names_of_any_text_can_be_exported() -> None:
    kan = Kan((make_layer(shape=(1, 1)),), inputs=(Variable("\ud800 \x00 \U0001f600"),))
    assert _run(export(kan, ExportOptions(name="../\x00 name"))["model.onnx"], np.zeros((1, 1))).tolist() == [[0.0]]
