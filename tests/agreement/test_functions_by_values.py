"""Functions that no formula expresses, registered by their values: in networks, training, the search and exporters."""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
from numpy.typing import NDArray

import kanserve
from kanserve.errors import DataError, ExportError, FormulaError, InputError
from kanserve.formula import expression, source
from kanserve.formula.printing.languages import LANGUAGES
from kanserve.formula.printing.sql import DIALECTS
from kanserve.network.export_options import ExportOptions
from kanserve.network.functions import FUNCTIONS
from kanserve.network.own_functions import OWN
from kanserve.search.fit import workers as workers_module
from kanserve.search.fit.workers import Workers
from kanserve.search.regression.budget import Budget
from kanserve.train import refine
from kanserve_exporters import c_source, javascript_source
from tests.support.c_builds import STRICT, run, written
from tests.support.paths import ROOT
from tests.support.peers import law_programs
from tests.support.programs import want

X = np.random.default_rng(0).uniform(0.2, 2.0, (200, 2))
NEWTON = """
double w = log1p(x);
int n;
for (n = 0; n < 20; n++) {
    const double e = exp(w);
    w -= (w*e - x)/(e*(1 + w));
}
return w;
"""
IN_JAVASCRIPT = (
    "((x) => { let w = Math.log1p(x); for (let n = 0; n < 20; n++) "
    "{ const e = Math.exp(w); w -= (w*e - x)/(e*(1 + w)); } return w; })(x)"
)
SPELLINGS = {
    "numpy": "scipy.special.lambertw(x).real",
    "python": "scipy.special.lambertw(x).real",
    "javascript": IN_JAVASCRIPT,
    "julia": "LambertW.lambertw(x)",
}

Array = NDArray[np.float64]


def lambert(x: Array) -> Array:
    """The solution w of w*exp(w) = x, for x > 0, by Newton's method."""
    w = np.log1p(x)
    for _ in range(20):
        power = np.exp(w)
        w = w - (w * power - x) / (power * (1 + w))
    result: Array = w
    return result


def slope(x: Array) -> Array:
    w = lambert(x)
    result: Array = w / (x * (1 + w))
    return result


def slope_of_slope(x: Array) -> Array:
    w = lambert(x)
    result: Array = -(w**2) * (w + 2) / (x**2 * (1 + w) ** 3)
    return result


def register(**changes: object) -> None:
    given = {
        "numpy": lambert,
        "derivative": "wlam(x)/(x*(1 + wlam(x)))",
        "sympy": "LambertW",
        "c": NEWTON,
        "spellings": SPELLINGS,
        "domain": "x > 0",
    }
    kanserve.register_function("wlam", **(given | changes))  # type: ignore[arg-type]  # tests pass any argument


@pytest.fixture(autouse=True)
def registered():
    register()


def law() -> kanserve.Kan:
    return kanserve.from_formula("2*wlam(3*t)*u - exp(wlam(t*u))", ranges={"t": (0.2, 2), "u": (0.2, 2)})


def values(x: Array) -> Array:
    t, u = x.T
    return np.asarray(2 * lambert(3 * t) * u - np.exp(lambert(t * u)))


def test_a_network_is_read_evaluated_and_printed():
    kan = law()
    np.testing.assert_allclose(kan(X)[:, 0], values(X), rtol=1e-12)
    formula = kan.formula()
    assert formula.text == "2*u*wlam(3*t) - exp(wlam(t*u))"
    assert formula.python == "2.0*u*wlam(3.0*t) - np.exp(wlam(t*u))"
    assert r"\operatorname{wlam}\left(t u\right)" in formula.latex
    again = kanserve.from_formula(formula.text, inputs=["t", "u"])
    np.testing.assert_allclose(again(X), kan(X), rtol=1e-12)


def test_the_first_and_the_second_derivative_are_those_of_the_values():
    step = np.array([1e-4, 0])
    first = (values(X + step) - values(X - step)) / 2e-4
    second = (values(X + step) - 2 * values(X) + values(X - step)) / 1e-8
    np.testing.assert_allclose(kanserve.jacobian(law(), X)[:, 0, 0], first, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(kanserve.derivatives(law(), X, order=2)[:, 0, 0, 0], second, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_sympy_form_is_the_given_one_or_an_undefined_function():
    sympy = pytest.importorskip("sympy")
    t = sympy.Symbol("t", real=True)
    assert expression(kanserve.from_formula("wlam(t)").formula()) == sympy.LambertW(t)
    kanserve.register_function("bare", numpy=np.tanh, derivative="1 - bare(x)^2")
    found = expression(kanserve.from_formula("bare(t)").formula())
    assert found == sympy.Function("bare")(t)
    assert kanserve.from_formula(found).formula().text == "bare(t)"
    kanserve.register_function("called", numpy=np.tanh, derivative="1 - called(x)^2", sympy=lambda x: sympy.tanh(x))
    assert expression(kanserve.from_formula("called(t)").formula()) == sympy.tanh(t)
    kanserve.register_function("amiss", numpy=np.tanh, derivative="1 - amiss(x)^2", sympy="nothing_like_it")
    with pytest.raises(FormulaError, match="sympy has no function 'nothing_like_it', as which 'amiss' was registered"):
        expression(kanserve.from_formula("amiss(t)").formula())


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", ["c_source", "numpy_source"])
@pytest.mark.parametrize("precision", ["double", "float"])
def test_exported_files_give_the_same_values(name, precision, tmp_path):
    model = kanserve.compile(law(), [name], name="own", precision=precision)
    kanserve.publish(tmp_path, "own", model)
    folder = tmp_path / "own" / "1"
    close = 1e-9 if precision == "double" else 1e-4
    loaded = kanserve.load_model(folder)
    np.testing.assert_allclose(loaded.predict(X)[:, 0], values(X), rtol=close, atol=close)
    for n in range(3):  # another way, with Python's numbers
        np.testing.assert_allclose(loaded.predict(X[n : n + 1])[:, 0], values(X[n : n + 1]), rtol=close, atol=close)


@pytest.mark.slow
def test_a_process_that_does_not_know_the_function_refuses_its_models_and_says_why(tmp_path):
    kanserve.publish(tmp_path, "own", kanserve.compile(law(), ["c_source"], name="own"))
    folder = tmp_path / "own" / "1"
    words = [sys.executable, "-c", "import kanserve, sys; kanserve.load_model(sys.argv[1])", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "FormatError" in done.stderr and "No function is called 'wlam'" in done.stderr
    assert "registered first in each process, by kanserve.register_function" in done.stderr


def test_the_gradient_in_c_is_that_of_the_formula_of_the_derivative(tmp_path):
    written(tmp_path, law(), "own", gradient=True)
    run("gcc", *STRICT, "-O0", "-shared", "-fPIC", "own.c", "-o", "own.so", "-lm", at=tmp_path)
    gradient = ctypes.CDLL(str(tmp_path / "own.so")).own_gradient
    gradient.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    wanted = kanserve.jacobian(law(), X)[:, 0]
    for row, slopes in zip(X, wanted, strict=True):
        found = np.empty(2)
        assert gradient(row.ctypes.data, found.ctypes.data) == 0
        np.testing.assert_allclose(found, slopes, rtol=1e-9)


def test_the_javascript_gives_the_same_values(tmp_path):
    want("node")
    (path, text), *_ = javascript_source.export(law(), ExportOptions(name="own")).items()
    (tmp_path / path).write_bytes(text)
    script = f"import {{ predict }} from './{path}'; console.log(JSON.stringify(predict({X.tolist()})));"
    (tmp_path / "run.mjs").write_text(script)
    done = subprocess.run(["node", "run.mjs"], capture_output=True, text=True, cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.array(json.loads(done.stdout))[:, 0], values(X), rtol=1e-12)


def test_an_onnx_spelling_is_written_as_operators(tmp_path):
    kanserve.register_function(
        "softsign",
        numpy=lambda x: x / (1 + np.abs(x)),
        derivative=lambda x: 1 / (1 + np.abs(x)) ** 2,
        spellings={"onnx": "Div(x, Add(1, Abs(x)))"},
    )
    kan = kanserve.from_formula("softsign(3*t - 2)", ranges={"t": (0, 2)})
    kanserve.publish(tmp_path, "own", kanserve.compile(kan, ["onnx_graph"], name="own"))
    folder = tmp_path / "own" / "1"
    np.testing.assert_allclose(kanserve.load_model(folder).predict(X[:, :1]), kan(X[:, :1]), rtol=1e-12)


@pytest.mark.parametrize("language", ["c", "numpy", "python"])
def test_a_law_in_a_language_gives_the_same_values(language, tmp_path):
    found = law_programs.run(language, source(law(), language), "law", X, 1, tmp_path)
    np.testing.assert_allclose(found[:, 0], values(X), rtol=1e-12)


def test_a_law_in_c_of_float_compiles_without_a_warning_and_gives_the_same_values(tmp_path):
    text = source(law(), "c", precision="float")
    law_programs.compiles("c", text, tmp_path)
    np.testing.assert_allclose(law_programs.run("c", text, "law", X, 1, tmp_path)[:, 0], values(X), rtol=1e-4)


def test_a_module_of_a_spelling_is_imported():
    assert "import LambertW\n" in source(law(), "julia") and "LambertW.lambertw(3.0*t)" in source(law(), "julia")
    assert "import scipy.special\n" in source(law(), "numpy")


@pytest.mark.parametrize("language", sorted({*LANGUAGES} - {"c", "numpy", "python", "julia"}))
def test_a_language_without_a_spelling_says_what_to_give(language):
    key = "matlab" if language == "octave" else "sql" if language in DIALECTS else language
    message = rf"The function 'wlam' has no spelling for {key}.*kanserve.register_function spellings={{\"{key}\": "
    with pytest.raises(FormulaError, match=message):
        source(law(), language)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("c_source", 'c="..."'),
        ("onnx_graph", 'spellings={"onnx": "..."}, calls of ONNX operators'),
        ("numpy_source", 'spellings={"numpy": "..."}'),
        ("javascript_source", 'spellings={"javascript": "..."}'),
    ],
)
def test_a_format_without_a_spelling_says_what_to_give(name, wanted):
    kanserve.register_function("bare", numpy=np.tanh, derivative="1 - bare(x)^2")
    with pytest.raises(ExportError) as raised:
        import_module(f"kanserve_exporters.{name}").export(kanserve.from_formula("bare(t)"), ExportOptions(name="bare"))
    assert wanted in str(raised.value) and "'bare'" in str(raised.value)


def test_c_that_differs_from_the_values_is_found_when_it_is_compiled():
    kanserve.register_function("wrong", numpy=np.tanh, derivative="1 - wrong(x)^2", c="tanh(1.001*x)")
    kan = kanserve.from_formula("wrong(t)", ranges={"t": (-2, 2)})
    with pytest.raises(kanserve.KanserveError, match="The backend disagrees with golden row"):
        kanserve.compile(kan, ["c_source"], name="wrong")


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "close"), [("lm", 1e-12), ("lbfgs", 1e-4)])
def test_a_fit_changes_the_constants_of_such_edges(optimizer, close):
    def bent(x: Array) -> Array:
        return np.where(x > 0, np.arctan(x), x)

    kanserve.register_function("bent", numpy=bent, derivative=lambda x: np.where(x > 0, 1 / (1 + x * x), 1.0))
    y = 2.5 * bent(1.7 * X[:, 0] - 1.3) + 0.25
    begun = kanserve.from_formula("2*bent(1.5*t - 1.4) + u*0", inputs=["t", "u"])
    fitted = kanserve.fit(begun, (X, y), noise_free=True, optimizer=optimizer)
    assert kanserve.score(fitted, (X, y)).rmse[0] < close


def test_the_constants_inside_a_domain_are_refined():
    y = 2.5 * lambert(1.7 * X[:, 0] + 0.3) + 0.25
    refined = refine(kanserve.from_formula("2*wlam(1.5*t + 0.4)"), X[:, :1], y)
    assert kanserve.score(refined, (X[:, :1], y)).rmse[0] < 1e-12


def test_torch_has_the_values_and_both_derivatives():
    torch = pytest.importorskip("torch")
    from kanserve.train.torch.modules import KanModule

    x = torch.tensor(X[:5], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(KanModule(law())(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), x)
    np.testing.assert_allclose(first.detach(), kanserve.jacobian(law(), X[:5])[:, 0], rtol=1e-12)
    np.testing.assert_allclose(second[:, 0], kanserve.derivatives(law(), X[:5], order=2)[:, 0, 0, 0], rtol=1e-10)


@pytest.mark.slow
@pytest.mark.extended
def test_the_search_finds_a_law_again():
    x = X[:, :1]
    y = 2 * lambert(3 * x[:, 0]) + 1
    found = kanserve.find_formulas((x, y), functions=["x", "exp", "wlam"], max_fits=300)
    assert found.status == "exact" and found.best.formula.text == "2*wlam(3*x1) + 1"


class Asked:
    """A step of a search that says where it runs, and what the function gives there."""

    def __call__(self) -> tuple[int, float]:
        time.sleep(0.05)
        return os.getpid(), float(FUNCTIONS["shifted"].numpy(np.ones(1))[0])


@pytest.mark.slow
@pytest.mark.extended
def test_a_callable_without_a_name_reaches_the_workers_of_a_search(monkeypatch):
    kanserve.register_function("shifted", numpy=lambda x: np.tanh(x) + 3, derivative=lambda x: 1 - np.tanh(x) ** 2)
    monkeypatch.setattr(workers_module, "AFTER_SECONDS", 0)
    with Workers(2) as workers:
        ran = [taken() for taken in workers.ahead([Asked() for _ in range(6)], Budget())]
    assert len({process for process, _ in ran}) > 1
    assert {value for _, value in ran} == {np.tanh(1.0) + 3}


def test_a_derivative_is_a_callable_or_a_formula_or_the_name_of_a_function():
    kanserve.register_function("wslope", numpy=slope, derivative=slope_of_slope, domain="x > 0")
    ways: tuple[Callable[[Array], Array] | str, ...] = (slope, "wlam(x)/(x*(1 + wlam(x)))", "wslope")
    for number, derivative in enumerate(ways):
        name = f"again{number}"
        kanserve.register_function(name, numpy=lambert, derivative=derivative, domain="x > 0")
        found = kanserve.derivatives(kanserve.from_formula(f"{name}(t)"), X[:, :1], order=2)[:, 0, 0, 0]
        np.testing.assert_allclose(FUNCTIONS[name].derivative(X[:, 0]), slope(X[:, 0]), rtol=1e-12)
        np.testing.assert_allclose(found, slope_of_slope(X[:, 0]), rtol=1e-9)


def test_a_callable_of_arrays_alone_has_a_first_derivative_but_no_second_and_says_so():
    kanserve.register_function(
        "opaque",
        numpy=np.tanh,
        derivative=lambda x: np.array([1 - np.tanh(float(one)) ** 2 for one in x]),
        c="tanh(x)",
    )
    kan = kanserve.from_formula("opaque(t)", ranges={"t": (0, 1)})
    kanserve.jacobian(kan, X[:, :1])
    message = "The derivative of 'opaque' is a callable that takes arrays alone.*Give register_function derivative"
    with pytest.raises(DataError, match=message):
        kanserve.derivatives(kan, X[:, :1], order=2)
    with pytest.raises(ExportError, match=message):
        c_source.export(kan, ExportOptions(name="own", gradient=True))
    assert "c_source/own.c" in kanserve.compile(kan, ["c_source"], name="own").files  # without a gradient


def test_the_function_is_asked_for_finite_numbers_of_its_domain_only():
    asked: list[Array] = []

    def kept(x: Array) -> Array:
        asked.append(x)
        return np.asarray(np.log(x))

    kanserve.register_function("kept", numpy=kept, derivative="1/x", domain="x > 0")
    found = FUNCTIONS["kept"].numpy(np.array([[1.0, -1.0, np.nan], [np.inf, 0.0, np.e]]))
    np.testing.assert_allclose(found, [[0, np.nan, np.nan], [np.nan, np.nan, 1]], atol=1e-15)
    assert all(x.ndim == 1 and np.isfinite(x).all() and (x > 0).all() for x in asked)


def test_the_same_function_again_is_no_mistake_and_another_is():
    register(numpy=lambda x: lambert(x))  # as a cell of a notebook that is run again
    with pytest.raises(InputError, match="'wlam' already"):
        register(numpy=lambda x: lambert(x) * 2, derivative=slope)
    with pytest.raises(InputError, match="'wlam' already"):
        register(c="log(x)")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Give either formula"),
        ({"formula": "x^2", "numpy": np.tanh}, "Give either formula"),
        ({"formula": "x^2", "c": "x*x"}, "belong to numpy"),
        ({"numpy": np.tanh}, "needs its derivative"),
        ({"numpy": np.tanh, "derivative": "1 + new(x)^2"}, "differs from its values: at x ="),
        ({"numpy": np.tanh, "derivative": np.cos}, "differs from its values: at x ="),
        ({"numpy": np.tanh, "derivative": "1 - nev(x)^2"}, "No function is called nev"),
        ({"numpy": lambda x: 1.0, "derivative": "x"}, "numpy= must give a float64 array of shape"),
        ({"numpy": lambda x: np.tanh(x).astype(np.float32), "derivative": "x"}, "got float32 of shape"),
        ({"numpy": lambda x: float(x), "derivative": "x"}, "numpy.vectorize makes one of a function of a number"),
        ({"numpy": lambda x: np.cumsum(x), "derivative": "x"}, "must depend on its own x alone"),
        ({"numpy": lambda x: np.exp(x, out=x), "derivative": "new(x)"}, "changes the array that it is given"),
        ({"numpy": np.log, "derivative": "1/x"}, "not finite at x = -3. Say where it is, as domain"),
        ({"numpy": np.ones_like, "derivative": np.zeros_like}, "is a constant"),
        (
            {"numpy": np.tanh, "derivative": "1 - new(x)^2", "spellings": {"cobol": "x"}},
            "A language of spellings is one",
        ),
        ({"numpy": np.tanh, "derivative": "1 - new(x)^2", "c": "tanh(y)"}, "with the variable x"),
        ({"numpy": np.tanh, "derivative": "1 - new(x)^2", "c": "tanh(@x)"}, "without @ and"),
    ],
)
def test_functions_that_cannot_be_registered_are_refused_in_words(given, message):
    with pytest.raises(InputError) as raised:
        kanserve.register_function("new", **given)
    assert message in str(raised.value)
    assert "new" not in FUNCTIONS and "new" not in OWN
    kanserve.register_function("new", numpy=np.tanh, derivative="1 - new(x)^2")


def test_a_formula_of_such_a_function_is_no_function_of_its_own():
    with pytest.raises(InputError, match="'wlam' was registered by its values"):
        kanserve.register_function("twice", "2*wlam(x)", domain="x > 0")
