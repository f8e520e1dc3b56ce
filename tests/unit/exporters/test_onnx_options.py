"""What can be asked of the ONNX exporter: versions, and a form for runtimes that know no functions of a file's own."""

import json

import numpy as np
import onnx
import pytest

from kanserve.errors import ExportError
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions, OnnxForm, Precision
from kanserve.network.kan import Kan
from kanserve.runtime.onnx_backend import load
from kanserve_exporters.onnx_graph import export
from tests.support.agreement import assert_agrees, eager_float32
from tests.support.networks.kans import ZOO, rows

PRECISIONS: tuple[Precision, ...] = ("double", "float")
FORMS: tuple[OnnxForm, ...] = ("functions", "operators")
NAMES = ("classifier", "multiplication", "mixed", "uneven_knots", "orders", "raw_features")


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(("opset", "ir_version"), [(15, 8), (17, 8), (18, 9), (21, 10), (22, 10), (23, 11)])
def test_every_version_that_can_be_asked_for_is_valid_and_runs(opset: int, ir_version: int) -> None:
    for name in NAMES:
        kan = ZOO[name]()
        for precision in PRECISIONS:
            _check(kan, ExportOptions(precision=precision, opset=opset, ir_version=ir_version))


def _check(kan: Kan, options: ExportOptions) -> None:
    x = rows(kan, 10)
    data = export(kan, options)["model.onnx"]
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == options.ir_version
    assert {opset.version for opset in model.opset_import if not opset.domain} == {options.opset}
    assert all(function.opset_import[0].version == options.opset for function in model.functions)
    eager = eager_float32(kan, x) if options.precision == "float" else None
    assert_agrees(load({"model.onnx": data}).predict(x), evaluate(kan, x), eager=eager)


@pytest.mark.parametrize("options", [{"opset": 14}, {"opset": 1000}, {"ir_version": 7}, {"ir_version": 1000}])
def test_other_versions_are_refused_with_those_that_there_are(options: dict[str, int]) -> None:
    ((name, asked),) = options.items()
    with pytest.raises(ExportError, match=rf"{name} must be from \d+ to \d+ .*, got {asked}"):
        export(ZOO["one_edge"](), ExportOptions(**options))  # type: ignore[arg-type]  # two of its fields are numbers


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", ZOO)
def test_standard_operators_alone_compute_the_same(name: str) -> None:
    kan = ZOO[name]()
    x = rows(kan, 10)
    data = export(kan, ExportOptions(onnx_form="operators"))["model.onnx"]
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert not model.functions and all(not node.domain for node in model.graph.node)
    used = {name for node in model.graph.node for name in node.input}
    assert {tensor.name for tensor in model.graph.initializer} <= used, "tables that nothing uses"
    assert_agrees(load({"model.onnx": data}).predict(x), evaluate(kan, x))


def test_the_shape_and_the_formula_are_in_the_model() -> None:
    model = onnx.load_from_string(export(ZOO["symbolic"](), ExportOptions())["model.onnx"])
    shape, formula = model.doc_string.splitlines()
    assert "[2, 1, 1]" in shape and formula.startswith("y") and "exp" in formula and "sin" in formula
    assert json.loads({prop.key: prop.value for prop in model.metadata_props}["formula"]) == [formula]


def test_equal_options_give_equal_bytes_in_either_form() -> None:
    for form in FORMS:
        options = ExportOptions(onnx_form=form)
        assert export(ZOO["mixed"](), options) == export(ZOO["mixed"](), options)


def test_the_affine_of_inputs_and_outputs_costs_no_node_of_its_own() -> None:
    kinds = [
        node.op_type
        for node in onnx.load_from_string(export(ZOO["raw_features"](), ExportOptions())["model.onnx"]).graph.node
        if not node.domain
    ]
    assert not kinds


def test_a_probability_of_a_broken_row_is_nan_and_its_label_none() -> None:
    kan = ZOO["classifier"]()
    x = np.array([[0.0, 0.5], [np.inf, 0.0]])
    for form in FORMS:
        data = export(kan, ExportOptions(onnx_form=form))["model.onnx"]
        chances, labels = load({"model.onnx": data}).session.run(["probabilities", "label"], {"x": x})
        assert np.isfinite(chances[0]).all() and np.isnan(chances[1]).all()
        assert labels.tolist() == [int(evaluate(kan, x)[0].argmax()), -1]
