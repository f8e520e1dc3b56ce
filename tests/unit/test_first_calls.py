"""What people type first: each of these calls works, or its error says what to type."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.errors import InputError, NotFoundError, TrainingError
from tests.support.paths import ROOT

X = np.random.default_rng(0).uniform(-1, 1, (40, 2))
Y = X[:, 0] ** 2
DATA = kanserve.Dataset(X, Y)
LINE = kanserve.from_formula("2*a + b", ranges={"a": (0, 1), "b": (0, 1)})


def quick(*arguments: Any, **options: Any) -> kanserve.Kan:
    return kanserve.fit(*arguments, starts=1, steps=5, grid=3, **options)


def test_fit_takes_the_inputs_and_the_targets_one_after_the_other() -> None:
    assert kanserve.equal(quick([2, 1], X, Y), quick([2, 1], (X, Y)))
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    assert [one.name for one in quick([2, 1], pandas.DataFrame(X, columns=["a", "b"]), Y).inputs] == ["a", "b"]
    with pytest.raises(kanserve.KanserveError, match="leave out y"):
        quick([2, 1], DATA, Y)


@pytest.mark.parametrize("data", [DATA, (X, Y)])
@pytest.mark.parametrize("shape", [[2, 1], (2, (1, 1), 1), LINE])
def test_a_fit_whose_data_come_first_says_the_order(data: Any, shape: Any) -> None:
    fit: Any = kanserve.fit
    with pytest.raises(TrainingError, match=r"The shape comes first, then the data: fit\(\[2, 5, 1\], data\)"):
        fit(data, shape)


@pytest.mark.parametrize("samples", [DATA, (X, Y)])
def test_a_network_takes_samples_and_reads_their_inputs(samples: Any) -> None:
    assert np.array_equal(LINE.predict(samples), LINE(X))


def test_categories_of_a_dataset_are_read_by_their_names() -> None:
    names = {"kind": ("a", "b")}
    x = np.array([[0.0], [1.0]] * 20)
    kan = quick([1, 1], kanserve.Dataset(x, x[:, 0], ["kind"], categories=names))
    turned = kanserve.Dataset(1 - x, x[:, 0], ["kind"], categories={"kind": ("b", "a")})
    assert np.array_equal(kan.predict(turned), kan(x))


def test_a_picture_takes_samples() -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    for samples in (DATA, (X, Y), X):
        assert kanserve.plot_network(LINE, samples) is not None


def test_publish_compiles_a_network(tmp_path: Path) -> None:
    assert kanserve.publish(tmp_path / "models", "line", LINE, card=False) == 1
    assert kanserve.load_model(tmp_path / "models", "line").predict([[0.5, 0.5]]).tolist() == [[1.5]]
    publish: Any = kanserve.publish
    with pytest.raises(InputError, match=r"publish takes a network or the result of kanserve.compile"):
        publish(tmp_path / "models", "line", "line.safetensors")


def test_compile_takes_a_data_frame_with_its_target() -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frame = pandas.DataFrame({"b": X[:, 1], "y": 2 * X[:, 0] + X[:, 1], "a": X[:, 0]})
    artifact = kanserve.compile(LINE, "numpy_source", data=frame, target="y")
    assert artifact.manifest.metrics is not None and artifact.manifest.metrics.r2 == (1.0,)
    wrong: Any = kanserve.compile
    with pytest.raises(InputError, match="give samples as data="):
        wrong(LINE, (X, Y))


def test_saving_into_a_missing_folder_names_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"The folder '.*no such' does not exist"):
        kanserve.save(LINE, tmp_path / "no such" / "kan.safetensors")


def test_a_formula_is_an_expression_of_sympy() -> None:
    sympy = pytest.importorskip("sympy", reason="needs sympy")
    a, b = sympy.symbols("a b", real=True)
    assert sympy.simplify(LINE.formula().sympy() - (2 * a + b)) == 0


@pytest.mark.extended
def test_importing_everything_leaves_the_names_of_python() -> None:
    import builtins

    assert not set(kanserve.__all__) & set(dir(builtins))
    program = "from kanserve import *; assert compile('1', '', 'eval') and fit"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert kanserve.compile.__module__ == "kanserve.artifact_compiler"


WRONG: dict[str, tuple[Callable[..., object], dict[str, Any], str]] = {
    "weights of an estimator": (kanserve.KANRegressor, {"weights": [1]}, r"fit\(X, y, sample_weight=...\)"),
    "weights of a fit": (kanserve.KANRegressor().fit, {"X": X, "y": Y, "weights": X}, "'sample_weight'"),
    "the seed of an estimator": (kanserve.KANClassifier, {"seed": 1}, "'random_state'"),
    "verbose": (kanserve.KANRegressor, {"verbose": 1}, "'progress'"),
    "units of an estimator": (kanserve.KANRegressor, {"units": {}}, r"search=\{'units'"),
    "seconds of a classifier": (kanserve.KANClassifier, {"seconds": 1}, "kanserve.simplify"),
    "exporters": (kanserve.compile, {"kan": LINE, "exporters": ["c_source"]}, "'formats'"),
    "data of publish": (kanserve.publish, {"repository": "m", "name": "x", "model": LINE, "data": DATA}, "compile"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_parameter_of_another_name_is_an_error_that_says_what_to_type(name: str) -> None:
    call, options, told = WRONG[name]
    with pytest.raises(TypeError, match=told):
        call(**options)


CALLER = """
import polars

import kanserve

frame = polars.DataFrame({"a": [0.0, 1.0]})
data = kanserve.Dataset(frame, frame["a"])
kan = kanserve.fit([1, 1], frame, frame["a"])
kan.predict(data)
kanserve.plot_network(kan, data)
kanserve.publish("models", "line", kan)
kanserve.fti([1, 1], data)
"""


@pytest.mark.slow
@pytest.mark.extended
def test_a_wrong_name_is_an_error_of_a_type_checker_and_tables_are_none(tmp_path: Path) -> None:
    pytest.importorskip("polars", reason="needs polars")
    pytest.importorskip("mypy", reason="needs mypy")
    (tmp_path / "caller.py").write_text(CALLER)
    # From the root, where `make check` leaves what mypy knows of kanserve.
    words = [sys.executable, "-m", "mypy", "--strict", str(tmp_path / "caller.py")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if "caller.py" in line and ": error" in line]
    assert len(errors) == 1 and 'Module has no attribute "fti"' in errors[0], done.stdout
