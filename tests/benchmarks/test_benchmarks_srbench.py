"""The method folder of SRBench: its scripts can import it, and its models parse as they are parsed there."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import sympy
import yaml
from sklearn.base import clone
from sympy.parsing.sympy_parser import parse_expr

import kanserve
from benchmarks.srbench import evaluate
from tests.support.paths import ROOT

pytestmark = pytest.mark.extended

FOLDER = ROOT / "benchmarks" / "srbench"
INSTALL = FOLDER / "algorithms" / "kanserve"


@pytest.fixture(scope="module")
def method() -> ModuleType:
    path = FOLDER / "experiment" / "methods" / "kanserve" / "regressor.py"
    spec = importlib.util.spec_from_file_location("kanserve_of_srbench", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_law_is_found_in_the_names_of_the_columns(method):
    x = pd.DataFrame(np.random.default_rng(0).uniform(1, 3, (200, 3)), columns=["p", "lambda_1", "T_0"])
    est = clone(method.est)
    est.random_state, est.max_time = 42, 60  # as evaluate_model.py sets them
    est.set_params(**method.eval_kwargs["test_params"])
    est.fit(x, (3 * x["p"] / x["lambda_1"] * np.sin(x["T_0"])).to_numpy())
    text = method.model(est, x)
    names = {name: sympy.Symbol(name) for name in x.columns}
    law = 3 * names["p"] / names["lambda_1"] * sympy.sin(names["T_0"])
    assert sympy.simplify(parse_expr(text, local_dict=names) - law) == 0
    rows = x.to_numpy()
    assert est.predict(x) == pytest.approx(3 * rows[:, 0] / rows[:, 1] * np.sin(rows[:, 2]))
    assert not re.search(r"p/|aq", text)  # the assessment takes these for operators


def test_a_constant_parses_too(method):
    x = pd.DataFrame(np.random.default_rng(0).uniform(1, 3, (50, 1)), columns=["x"])
    est = clone(method.est).set_params(max_fits=20).fit(x, np.full(50, 2.5))
    assert float(parse_expr(method.model(est, x))) == pytest.approx(2.5)


def test_the_arguments_are_those_that_its_tests_allow(method):
    kinds = {"test_params": dict, "scale_x": bool, "scale_y": bool}
    assert {name: type(value) for name, value in method.eval_kwargs.items()} == kinds
    assert set(method.eval_kwargs["test_params"]) <= set(method.est.get_params())
    json.dumps(method.est.get_params())


def test_the_folder_says_what_a_pull_request_must():
    about = yaml.safe_load((INSTALL / "metadata.yml").read_text("utf-8"))
    assert about["name"] == "kanserve" and about["authors"] and about["description"]
    assert about["url"] in (ROOT / "pyproject.toml").read_text("utf-8")
    environment = yaml.safe_load((INSTALL / "environment.yml").read_text("utf-8"))
    assert environment["dependencies"] == ["python=3.12"]
    (line,) = (INSTALL / "requirements.txt").read_text("utf-8").splitlines()
    assert line.startswith("kanserve[export,train]>=")
    assert kanserve.__version__.split(".") >= line.split("=")[1].split(".")


def test_the_problems_are_written_as_it_reads_them(tmp_path):
    problems = evaluate.problems()
    assert [problem.name for problem in problems[:2]] == ["feynman_I_6_2", "feynman_I_14_3"]
    assert [len(problem.data) for problem in problems] == [1000] * 5 + [400] * 7
    for problem in (problems[0], problems[-1]):
        file = evaluate.write(problem, tmp_path)
        table = pd.read_csv(file, sep="\t", compression="gzip")
        assert list(table.columns) == [*problem.data.inputs, "target"]
        description = yaml.safe_load((file.parent / "metadata.yaml").read_text("utf-8"))["description"]
        (law,) = [line.split("=")[-1] for line in description.split("\n") if "=" in line]
        names = {name: sympy.Symbol(name) for name in problem.data.inputs}
        values = sympy.lambdify(list(names.values()), parse_expr(law, local_dict=names))(*problem.data.x.T)
        assert table["target"].to_numpy() == pytest.approx(values)


def test_a_law_counts_as_found_as_its_assessment_says(tmp_path: Path):
    result = {"r2_test": 0.5, "model_size": 9, "time_time": 2.0, "symbolic_model": "x"}
    written = tmp_path / "p_kanserve_42.json"
    assert evaluate.read("p", written).model == "none"
    written.write_text(json.dumps(result))
    assert not evaluate.read("p", written).solved
    assessed = result | {"symbolic_error_is_zero": False, "symbolic_fraction_is_constant": True, "r2_test": 1.0}
    (tmp_path / "p_kanserve_42.json.updated").write_text(json.dumps(assessed | {"simplified_complexity": 3}))
    found = evaluate.read("p", written)
    assert found.solved and found.size == 3
    text = evaluate.report([found, evaluate.read("q", tmp_path / "none.json")])
    assert "1 of 2 laws found" in text and "nan" in text
