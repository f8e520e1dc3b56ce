"""Powers with a real exponent in every format: at 0, of negative and of extreme numbers, as the reference has them."""

import json
import subprocess

import numpy as np
import pytest

import kanserve
from kanserve.formula import evaluate_tree, source
from kanserve.formula.from_network.formulas import formulas
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.network.export_options import ExportOptions
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, make_layer
from kanserve.network.powers import exponent_of
from kanserve.runtime import numpy_backend, onnx_backend
from kanserve.train import refine
from kanserve.train.torch.modules import KanModule
from kanserve_exporters import javascript_source, numpy_source, onnx_graph
from tests.support.c_libraries import compiled, predict
from tests.support.networks.powers import POWERS
from tests.support.peers import law_programs
from tests.support.programs import want

torch = pytest.importorskip("torch")
EVERY_POWER = ("sqrt", "1/sqrt", "x^1.5", *POWERS)
X = np.array([0.0, -0.0, 1.0, -1.0, 8.0, -8.0, 1e-30, -1e-30, 1e30, -1e30, 2.7, -2.7, np.nan, np.inf, -np.inf])[:, None]
DEFINED_AT_ZERO = [(exponent_of(name) or 0.0) > 0 for name in EVERY_POWER]


def edge(name: str) -> Kan:
    return Kan((make_layer(functions=[[name]], affine=[[[1.0, 0.0, 1.5, 0.5]]]),))


KANS = {f"power{number}": edge(name) for number, name in enumerate(EVERY_POWER)}
WANTED = {name: evaluate(kan, X) for name, kan in KANS.items()}


def agrees(name: str, got: np.ndarray, tolerance: float = 1e-13) -> None:
    np.testing.assert_allclose(got, WANTED[name], rtol=tolerance, atol=0, equal_nan=True, err_msg=name)


def test_a_power_is_0_at_0_or_infinite_and_of_a_negative_number_the_real_root():
    for name, defined in zip(EVERY_POWER, DEFINED_AT_ZERO, strict=True):
        with np.errstate(all="ignore"):
            at_zero, of_minus_eight = FUNCTIONS[name].numpy(np.array([0.0, -8.0])).tolist()
        assert at_zero == 0 if defined else at_zero == np.inf, name
        real = {"x^(1/3)": -2, "x^(5/3)": -32, "x^(2/3)": 4, "x^(4/3)": 16, "1/x^(1/3)": -0.5, "1/x^(2/3)": 0.25}
        if name in real:
            assert of_minus_eight == pytest.approx(real[name]), name
        elif name != "1/x^(5/3)":
            assert np.isnan(of_minus_eight), name


def test_the_modules_of_numpy_and_onnx_are_the_power():
    for name, kan in KANS.items():
        agrees(name, numpy_backend.load(numpy_source.export(kan, ExportOptions(name))).predict(X))
        agrees(name, onnx_backend.load(onnx_graph.export(kan, ExportOptions(name))).predict(X))


def test_one_row_at_a_time_in_python_is_the_power():
    for name, kan in KANS.items():
        backend = numpy_backend.load(numpy_source.export(kan, ExportOptions(name)))
        agrees(name, np.concatenate([backend.predict(row[None]) for row in X]))


@pytest.mark.extended
@pytest.mark.parametrize("precision", ["double", "float"])
def test_the_c_source_is_the_power(tmp_path, precision):
    library = compiled(tmp_path, KANS, precision)
    kept = (
        np.ones(len(X), bool) if precision == "double" else ~np.isin(np.abs(X[:, 0]), (1e30, 1e-30))
    )  # 1e50 is no float
    x = X[kept].astype(np.float64 if precision == "double" else np.float32)
    for name in KANS:
        _, got = predict(library, name, x, 1)
        np.testing.assert_allclose(got, WANTED[name][kept], rtol=1e-13 if precision == "double" else 2e-5, err_msg=name)


def test_the_javascript_module_is_the_power(tmp_path):
    node = want("node")
    for name, kan in KANS.items():
        for path, data in javascript_source.export(kan, ExportOptions(name)).items():
            (tmp_path / path).write_bytes(data)
    rows = "[" + ",".join(f"[{'NaN' if x != x else str(x).replace('inf', 'Infinity')}]" for x in X[:, 0]) + "]"
    lines = [f'import {{predict as {name}}} from "./{name}.mjs";' for name in KANS]
    texts = ", ".join(f"{name}: {name}({rows}).map((y) => String(y[0]))" for name in KANS)
    (tmp_path / "run.mjs").write_text("\n".join([*lines, f"console.log(JSON.stringify({{{texts}}}));"]))
    said = subprocess.run([node, "run.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for name, values in json.loads(said).items():
        agrees(name, np.array([float(value.replace("Infinity", "inf")) for value in values])[:, None])


def test_the_formula_its_python_code_and_its_network_are_the_power():
    rows = X[:12]
    for name, kan in KANS.items():
        (formula,) = formulas(kan, strict=False)
        with np.errstate(all="ignore"):
            tree = evaluate_tree(formula.tree, formula.tables, rows)[:, None]
            python = eval(formula.python, {"np": np, formula.identifiers[0]: rows[:, 0]})
            again = evaluate(kanserve.from_formula(formula.text, inputs=["x1"]), rows)
        fine = np.isfinite(WANTED[name][:12, 0])
        for got in (tree, np.asarray(python)[:, None], again):
            np.testing.assert_allclose(got[fine], WANTED[name][:12][fine], rtol=1e-13, err_msg=name)
        assert np.isnan(tree[~fine]).all() and np.isnan(again[~fine]).all()


MARKS: dict[str, list[pytest.MarkDecorator]] = {"numpy": [], "python": [], "c": [pytest.mark.slow]}


@pytest.mark.parametrize(
    "language",
    [
        pytest.param(language, marks=MARKS.get(language, [pytest.mark.extended]))
        for language in sorted(law_programs.RUNNERS)
    ],
)
def test_a_formula_in_every_language_is_the_power(language, tmp_path):
    rows = X[:12]
    for name, kan in KANS.items():
        got = law_programs.run(language, source(kan, language, name="law"), "law", rows, 1, tmp_path)
        fine = np.isfinite(WANTED[name][:12, 0])
        np.testing.assert_allclose(got[fine], WANTED[name][:12][fine], rtol=1e-13, err_msg=f"{language} {name}")
        assert not np.isfinite(got[~fine]).any(), f"{language} {name}"


def test_torch_has_the_power_and_gradients_that_are_never_nan_at_0():
    for name, defined in zip(KANS, DEFINED_AT_ZERO, strict=True):
        module = KanModule(KANS[name])
        agrees(name, module(torch.tensor(X)).detach().numpy())
        if defined:
            x = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
            module(x).sum().backward()
            assert torch.isfinite(x.grad).all() or KANS[name].layers[0].functions[0, 0] == "sqrt"


def test_slopes_are_those_of_small_steps_and_0_at_0_above_an_exponent_of_1():
    rows = np.array([[0.3], [2.0], [-0.3], [-2.0]])
    for name, kan in KANS.items():
        with np.errstate(all="ignore"):
            small = (evaluate(kan, rows + 1e-6) - evaluate(kan, rows - 1e-6)) / 2e-6
        fine = np.isfinite(small[:, 0])
        np.testing.assert_allclose(jacobian(kan, rows)[fine, 0], small[fine], rtol=1e-6, err_msg=name)
        exponent = exponent_of(EVERY_POWER[list(KANS).index(name)]) or 0.0
        if exponent > 1:
            assert jacobian(kan, np.zeros((1, 1))).item() == 0


def test_a_fit_with_a_row_at_0_moves_the_constants_of_a_power():
    x = np.append(np.linspace(0.1, 3, 60), 0.0)[:, None]
    for name in ("x^(1/3)", "x^(2/3)", "x^1.37"):
        y = 2 * FUNCTIONS[name].numpy(x)
        fitted = refine(edge(name), x, y, steps=60)
        assert np.abs(evaluate(fitted, x) - y).max() < 1e-2, name  # 0.5 at the start
