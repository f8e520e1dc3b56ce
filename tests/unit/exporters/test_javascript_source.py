"""The JavaScript exporter: one process of node runs all that it writes, and the numbers are the reference's."""

import json
import re
import subprocess
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.errors import ExportError
from kanserve.network.evaluate import evaluate, probabilities
from kanserve.network.export_options import ExportOptions
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Variable, make_layer
from kanserve.network.splines import uniform_knots
from kanserve_exporters import javascript_source as exporter
from kanserve_exporters._shared.source_text import c_identifier, formula_lines
from tests.support.agreement import assert_agrees
from tests.support.faults.hostile_texts import names
from tests.support.networks.kans import ZOO, classifier, mixed, one_edge, raw_features, rows
from tests.support.networks.powers import POWERS
from tests.support.programs import want

Array = NDArray[np.float64]

RUN = """
import { readFileSync } from "node:fs";
const words = (values) => values && values.map((row) => Array.from(row, String)); // JSON has no NaN
const said = {};
for (const [path, texts] of Object.entries(JSON.parse(readFileSync(0, "utf8")))) {
    const { predict, predictProba, information } = await import(path);
    const x = texts.map((row) => row.map(Number));
    const refuse = (...given) => { try { return predict(...given); } catch (error) { return String(error); } };
    const [row] = x;
    said[path] = {
        scores: words(predict(x)),
        typed: words(predict(x.map((one) => Float64Array.from(one)))),
        chances: words(predictProba?.(x)),
        empty: predict([]).length,
        information,
        refused: [
            refuse(undefined), refuse(Float64Array.from(row)), refuse(row), refuse([row, [...row, 0]]), refuse([[]]),
            refuse([[null, ...row.slice(1)]]), refuse([["1", ...row.slice(1)]]), refuse([Array(row.length)]),
        ],
    };
}
console.log(JSON.stringify(said));
"""


def grid(size: float, extrapolation: str) -> Kan:
    """Knots so near or so far that the third power of a step is no double."""
    coefficients = np.random.default_rng(0).normal(0, 1, (2, 2, 8))
    knots = uniform_knots(-size, size, 5, 3)
    return Kan((make_layer(coefficients, knots=knots, extrapolation=extrapolation),))  # type: ignore[arg-type]  # tests pass any option


def one_function(name: str) -> Kan:
    return Kan((make_layer(functions=[[name]]),))


def named(name: str) -> Kan:
    return Kan(one_edge().layers, inputs=(Variable(name, name),), outputs=(Variable(name, name),), classes=(name,))


X = np.array([*np.linspace(-9, 9, 73), 1e-9, -1e-9, 170.5, -170.5, 172.0, 1e3, -1e3, 1e300, -1e300, np.nan, np.inf])
NETWORKS = {name: (make(), rows(make())) for name, make in ZOO.items()}
NETWORKS |= {
    f"function_{number}": (one_function(name), X[:, None]) for number, name in enumerate([*FUNCTIONS, *POWERS])
}
NETWORKS |= {
    f"grid_{number}_{extrapolation}": (kan, size * np.random.default_rng(1).uniform(-2, 2, (50, 2)))
    for number, size in enumerate((1e-200, 1e-110, 1e110, 1e200))
    for extrapolation in ("linear", "zero")
    for kan in (grid(size, extrapolation),)
}
NETWORKS |= {
    "far": (grid(1.0, "linear"), np.array([[1e150, -1e200], [1e307, 1e307]])),
    "steep": (Kan(classifier().layers, classes=classifier().classes, output_scale=np.full(3, 1e4)), rows(classifier())),
    "many_edges": (Kan((make_layer(functions=[["sin", "x^2", "x"] * 1500]),)), np.linspace(-1, 1, 9000).reshape(2, -1)),
}
STRANGERS = names()


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What node says of each network."""
    want("node")
    folder = tmp_path_factory.mktemp("javascript")
    (folder / "run.mjs").write_text(RUN)
    asked: dict[str, list[list[str]]] = {}
    strangers = {f"stranger_{number}": (named(name), np.ones((1, 1))) for number, name in enumerate(STRANGERS)}
    for name, (kan, x) in {**NETWORKS, **strangers}.items():
        ((path, source),) = exporter.export(kan, ExportOptions(name)).items()
        (folder / path).write_bytes(source)
        asked[f"./{path}"] = [[repr(value).replace("inf", "Infinity") for value in row] for row in x.tolist()]
    command = ["node", "run.mjs"]
    done = subprocess.run(command, cwd=folder, input=json.dumps(asked), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def said(answers: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = answers[f"./{c_identifier(name)}.mjs"]
    return found


def numbers(texts: list[list[str]]) -> Array:
    return np.array([[float(text) for text in row] for row in texts])


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", NETWORKS)
def test_node_gives_the_numbers_of_the_reference(name, answers):
    kan, x = NETWORKS[name]
    got = said(answers, name)
    assert_agrees(numbers(got["scores"]), evaluate(kan, x))
    assert got["typed"] == got["scores"] and got["empty"] == 0


@pytest.mark.slow
@pytest.mark.extended
def test_probabilities_are_those_of_the_reference_and_of_classifiers_alone(answers):
    kan, x = NETWORKS["classifier"]
    assert_agrees(numbers(said(answers, "classifier")["chances"]), probabilities(kan, x))
    steep = said(answers, "steep")["chances"]
    assert np.allclose(numbers(steep)[:9].sum(axis=1), 1)
    assert "chances" not in said(answers, "mixed")


@pytest.mark.slow
@pytest.mark.extended
def test_rows_of_another_length_or_of_no_numbers_are_refused_with_what_is_wanted(answers):
    given = said(answers, "raw_features")["refused"]
    wanted = "2 numbers (temperature, pressure)"
    assert given[:2] == ["TypeError: predict takes an array of rows, each an array of numbers."] * 2
    assert given[2] == f"TypeError: Row 0 must be an array of {wanted}, got number."
    assert given[3] == f"RangeError: Row 1 must have {wanted}, got 3."
    assert given[4] == f"RangeError: Row 0 must have {wanted}, got 0."
    missing = "TypeError: Row 0 must hold numbers, and NaN where one is missing; number 0 is"
    assert given[5:] == [f"{missing} null.", f"{missing} 1.", f"{missing} undefined."]


@pytest.mark.slow
@pytest.mark.extended
def test_the_module_says_what_goes_in_and_comes_out(answers):
    assert said(answers, "raw_features")["information"] == {
        "name": "raw_features",
        "shape": [2, 3, 2],
        "inputs": [
            {"name": "temperature", "unit": "K", "low": 290.0, "high": 310.0},
            {"name": "pressure", "unit": "Pa", "low": 1.0e5, "high": 1.02e5},
        ],
        "outputs": [
            {"name": "density", "unit": "kg/m^3", "low": None, "high": None},
            {"name": "cost", "unit": "EUR", "low": None, "high": None},
        ],
        "classes": [],
        "formula": formula_lines(raw_features()),
    }
    assert said(answers, "classifier")["information"]["classes"] == list(classifier().classes)


@pytest.mark.extended
@pytest.mark.slow
def test_names_of_strangers_come_out_as_they_are(answers):
    for number, name in enumerate(STRANGERS):
        found = said(answers, f"stranger_{number}")["information"]
        (given,) = found["inputs"]
        assert (given["name"], given["unit"], found["classes"]) == (name, name, [name])


def test_no_name_ends_the_script_of_a_page_or_names_a_file():
    name = "</script><!--<script>"
    ((path, source),) = exporter.export(named(name), ExportOptions(name)).items()
    assert path == "script_script.mjs" and b"<script" not in source and b"</" not in source and b"<!" not in source


@pytest.mark.parametrize("name", [*ZOO, *FUNCTIONS, *POWERS])
def test_the_module_has_only_what_the_network_needs_and_imports_nothing(name):
    kan = ZOO[name]() if name in ZOO else one_function(name)
    (data,) = exporter.export(kan, ExportOptions("net")).values()
    text = data.decode()
    assert "import " not in text and "numpy" not in text
    made = re.findall(r"^(?:function|const) (\w+)", text, re.MULTILINE)
    assert [one for one in made if len(re.findall(rf"\b{one}\b", text)) < 2] == []


def test_float_is_refused_with_what_has_it():
    with pytest.raises(ExportError, match=r"double.*onnx_graph"):
        exporter.export(mixed(), ExportOptions("net", "float"))
