"""Functions that a user registers: in networks, formulas, training, the search and every exporter."""

import subprocess
import sys

import numpy as np
import pytest

import kanserve
from kanserve.errors import ExportError, InputError
from kanserve.formula import expression, source
from kanserve.network.functions import FUNCTIONS
from tests.support.paths import ROOT

FORMULAS = {
    "lorentz": "1/(1 + x^2)",
    "wavelet": "x*exp(-x^2)/2 - 0.1*sin(2*x)",
    "softplus": "log(1 + exp(x))",
    "root": "sqrt(x)*(1 - x)^3",
}
X = np.random.default_rng(0).uniform(0.1, 1.5, (200, 2))


@pytest.fixture(autouse=True)
def registered():
    for name, formula in FORMULAS.items():
        kanserve.register_function(name, formula, domain="x >= 0" if name == "root" else "")


def law() -> kanserve.Kan:
    text = "2*lorentz(3*t) + wavelet(t*u)*softplus(u) - root(t + u)"
    return kanserve.from_formula(text, ranges={"t": (0.1, 1.5), "u": (0.1, 1.5)})


def values(x: np.ndarray) -> np.ndarray:
    t, u = x.T
    wave = t * u * np.exp(-((t * u) ** 2)) / 2 - 0.1 * np.sin(2 * t * u)
    result: np.ndarray = 2 / (1 + 9 * t**2) + wave * np.log(1 + np.exp(u)) - np.sqrt(t + u) * (1 - t - u) ** 3
    return result


@pytest.mark.parametrize("name", FORMULAS)
def test_a_row_has_its_values_and_its_derivative(name):
    row, x = FUNCTIONS[name], np.linspace(0.1, 2, 50)
    slope = (row.numpy(x + 1e-6) - row.numpy(x - 1e-6)) / 2e-6
    np.testing.assert_allclose(row.derivative(x), slope, rtol=1e-7, atol=1e-9)
    again = kanserve.from_formula(FORMULAS[name].replace("x", "z").replace("ezp", "exp"))
    np.testing.assert_allclose(row.numpy(x), again(x[:, None])[:, 0], rtol=1e-13)


def test_a_network_with_such_functions_is_read_evaluated_printed_and_differentiated():
    kan = law()
    np.testing.assert_allclose(kan(X)[:, 0], values(X), rtol=1e-12)
    formula = kan.formula()
    assert formula.text == "2*lorentz(3*t) + wavelet(t*u)*softplus(u) - root(t + u)"
    np.testing.assert_allclose(kanserve.from_formula(formula.text, inputs=["t", "u"])(X), kan(X), rtol=1e-12)
    step = np.array([1e-5, 0])
    slope = (values(X + step) - values(X - step)) / 2e-5
    np.testing.assert_allclose(kanserve.jacobian(kan, X)[:, 0, 0], slope, rtol=1e-5, atol=1e-8)
    curvature = (values(X + step) - 2 * values(X) + values(X - step)) / 1e-10
    second = kanserve.derivatives(kan, X, order=2)[:, 0, 0, 0]
    np.testing.assert_allclose(second, curvature, rtol=1e-3, atol=1e-3)
    assert r"\operatorname{wavelet}\left(t u\right)" in formula.latex
    assert "0.5*t1*exp(-t1*t1)" in source(kan, "julia")


def test_a_law_can_be_written_out_for_those_who_do_not_know_the_functions():
    written = kanserve.from_formula(expression(law().formula()), inputs=["t", "u"])
    used = {name for layer in written.layers for name in layer.functions.ravel().tolist()}
    assert not used & {*FORMULAS}
    np.testing.assert_allclose(written(X)[:, 0], values(X), rtol=1e-12)


@pytest.mark.parametrize("name", ["c_source", "onnx_graph", "numpy_source"])
def test_exported_files_give_the_same_values(name, tmp_path):
    model = kanserve.compile(law(), [name], name="own")
    kanserve.publish(tmp_path, "own", model)
    folder = tmp_path / "own" / "1"
    loaded = kanserve.load_model(folder)
    np.testing.assert_allclose(loaded.predict(X)[:, 0], values(X), rtol=1e-9, atol=1e-12)


def test_a_fit_changes_the_constants_of_such_edges():
    y = 2.5 * FUNCTIONS["lorentz"].numpy(1.7 * X[:, 0] - 0.3) + 0.25
    begun = kanserve.from_formula("2*lorentz(1.5*t) + u*0", inputs=["t", "u"])
    fitted = kanserve.fit(begun, (X, y), noise_free=True)
    assert kanserve.score(fitted, (X, y)).rmse[0] < 1e-8


@pytest.mark.extended
def test_the_search_names_curves_after_such_functions():
    y = X[:, 1] * FUNCTIONS["wavelet"].numpy(1.3 * X[:, 0] + 0.2)
    found = kanserve.find_formulas((X, y), functions=["x", "exp", "wavelet"], max_fits=1000)
    assert found.status == "exact" and found.best.formula.text == "x2*wavelet(1.3*x1 + 0.2)"


def test_another_process_must_register_it_first_and_says_so(tmp_path):
    law().save(tmp_path / "kan.safetensors")
    script = "import kanserve, sys; kanserve.load(sys.argv[1])"
    words = [sys.executable, "-c", script, str(tmp_path / "kan.safetensors")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "No function is called" in done.stderr
    register = "".join(f"kanserve.register_function({name!r}, {formula!r}); " for name, formula in FORMULAS.items())
    register = register.replace("^3')", "^3', domain='x >= 0')")
    words[2] = f"import kanserve, sys; {register}print(kanserve.load(sys.argv[1]))"
    assert subprocess.run(words, capture_output=True, text=True, cwd=ROOT).stdout.startswith("Kan(2-")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sin", "x^2"), "'sin' already"),
        (("lorentz", "x^2"), "already, as 1/(1 + x^2)"),
        (("e", "x^2"), "'e' already"),
        (("a longer name", "x^2"), "up to 12 letters"),
        (("twelveletters", "x^2"), "up to 12 letters"),
        (("new", "x*t"), "'t' is not an input"),
        (("new", "x +"), "the end"),
        (("new", "3"), "is a constant"),
        (("new", "log(x)"), "not finite at x = -3. Say where it is, as domain"),
        (("new", "log(x)", 3.0, "x > 0 and more"), "domain is one of"),
        (("new", "x^2", 0.5), "complexity is a number of 1 or more"),
    ],
)
def test_functions_that_cannot_be_registered_are_refused_in_words(arguments, message):
    name, formula, *rest = arguments
    options = dict(zip(("complexity", "domain"), rest, strict=False))
    with pytest.raises(InputError) as raised:
        kanserve.register_function(name, formula, **options)
    assert message in str(raised.value) and "new" not in FUNCTIONS
    kanserve.register_function("lorentz", FORMULAS["lorentz"])  # the same again is no mistake


def test_a_torch_module_that_runs_elsewhere_is_refused():
    with pytest.raises(ExportError, match="'lorentz', which was added by register_function"):
        kanserve.to_torch(law())
