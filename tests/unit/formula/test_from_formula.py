"""From formula to network: names, shapes, and that the network is the formula, in every export."""

import math
import subprocess
import sys
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import sympy

from kanserve import equal, evaluate, formulas, from_formula
from kanserve.data.datasets import load_equations
from kanserve.errors import InputError
from kanserve.formula.expressions.parsing import PARSING_MAX_NESTING
from kanserve.network.export_options import ExportOptions
from kanserve.network.training_range import sample
from kanserve.runtime import numpy_backend as numpy_runtime
from kanserve.runtime import onnx_backend as onnx_runtime
from kanserve.train import refine
from kanserve.train.grids import regrid
from kanserve_exporters import numpy_source, onnx_graph
from tests.support.agreement import DOUBLE, error
from tests.support.c_libraries import compiled, predict

EQUATIONS = [*load_equations("feynman"), *load_equations("feynman_dimensional"), *load_equations("sciences")]
LAWS = [from_formula(equation.formula, inputs=list(equation.ranges), ranges=equation.ranges) for equation in EQUATIONS]
ROWS = 40


def value(text: str, *x: float, **options: object) -> float:
    """The one output at one row."""
    return float(evaluate(from_formula(text, **options), [x])[0, 0])  # type: ignore[arg-type]  # tests pass any option


# Names


def test_inputs_are_found_in_the_order_of_their_appearance():
    kan = from_formula({"p": "b/t", "q": "a*b + t*c"}, c=2.0)
    assert [variable.name for variable in kan.inputs] == ["b", "t", "a"]
    assert [output.name for output in kan.outputs] == ["p", "q"]
    assert evaluate(kan, [[1.0, 2.0, 3.0]]).tolist() == [[0.5, 7.0]]


def test_a_sympy_expression_has_its_inputs_by_the_alphabet():
    kan = from_formula(sympy.sympify("v - a*t"))
    assert [variable.name for variable in kan.inputs] == ["a", "t", "v"]
    assert evaluate(kan, [[2.0, 3.0, 10.0]]).tolist() == [[4.0]]


def test_named_inputs_have_the_order_and_the_columns_that_are_asked_for():
    kan = from_formula("x - y", inputs=["y", "unused", "x"])
    assert [variable.name for variable in kan.inputs] == ["y", "unused", "x"]
    assert evaluate(kan, [[1.0, 5.0, 3.0]]).tolist() == [[2.0]]
    with pytest.raises(InputError, match="'z' is not an input, and no parameter") as caught:
        from_formula("x + z", inputs=["x"])
    assert str(caught.value).endswith("\n      ^")
    for wrong, message in (("xy", r"inputs=\['xy'\]"), (["x", "x"], "must differ"), ([], "no input")):
        with pytest.raises(InputError, match=message):
            from_formula("x*2", inputs=wrong)


def test_parameters_come_by_keyword_or_in_a_mapping_that_may_hold_more():
    constants = {"g": 9.81, "c": 3e8, "inputs": 2.0}
    assert equal(from_formula("g*t^2/2", constants), from_formula("g*t^2/2", g=9.81))
    assert equal(from_formula("g*t^2/2", parameters=constants), from_formula("9.81*t^2/2"))
    with pytest.raises(InputError, match=r"'G' does not occur in the formula, whose names are \['g', 't'\]"):
        from_formula("g*t^2/2", G=9.81)
    with pytest.raises(InputError, match="given twice"):
        from_formula("g*t^2/2", constants, g=9.8)
    with pytest.raises(InputError, match="an input and a parameter"):
        from_formula("g*t", inputs=["g", "t"], g=1.0)
    for wrong in (math.nan, math.inf, "two", None):
        with pytest.raises(InputError, match="'g' must be a finite number"):
            from_formula("g*t", g=wrong)  # type: ignore[arg-type]  # what is wrong is the point


def test_pi_and_e_are_constants_unless_the_caller_says_otherwise():
    assert value("pi*x", 1.0) == math.pi and value("e*x", 1.0) == math.e
    assert value("e*x", 2.0, e=1.6e-19) == 3.2e-19
    assert value("e*x", 2.0, 5.0, inputs=["e", "x"]) == 10.0


def test_a_formula_without_inputs_needs_their_names():
    with pytest.raises(InputError, match=r"inputs=\['x'\]"):
        from_formula("2*pi")
    kan = from_formula("2*pi", inputs=["x"])
    assert evaluate(kan, [[0.3], [7.0]]).tolist() == [[2 * math.pi]] * 2


def test_ranges_and_units_are_kept_and_must_name_what_is_there():
    kan = from_formula({"v": "s/t"}, ranges={"s": (0, 2), "t": (1, 3)}, units={"s": "m", "v": "m/s"})
    s, t = kan.inputs
    assert (s.unit, s.low, s.high) == ("m", 0, 2) and (t.unit, t.low, t.high) == ("", 1, 3)
    assert kan.outputs[0].unit == "m/s"
    for options, message in (
        ({"ranges": {"x": (0, 1)}}, "ranges has 'x'"),
        ({"units": {"x": "m"}}, "units has 'x'"),
        ({"ranges": {"s": 3}}, r"must be \(low, high\)"),
        ({"ranges": {"s": (2, 1)}}, "low ≤ high"),
    ):
        with pytest.raises(InputError, match=message):
            from_formula("s/t", **options)


def test_several_outputs_are_a_list_or_a_mapping():
    assert [output.name for output in from_formula(["a", "b*a"]).outputs] == ["y1", "y2"]
    assert [output.name for output in from_formula(["a*b"]).outputs] == ["y"]
    for wrong, message in (([], "At least one"), (3, "got int"), (["a", None], "got NoneType")):
        with pytest.raises(InputError, match=message):
            from_formula(wrong)


# Shapes


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("3*x - 2*y + 1", (2, 1)),
        ("x*y/z", (3, 1)),
        ("2*sin(3*x + 1) - y^2", (2, 1)),
        ("(x + y^2)*(1 - sin(z))*exp(-x)", (3, 1)),
        ("a*x^7/y^5", (3, 1)),
        ("m/sqrt(1 - v^2)", (2, 2, 1)),
        ("1/(x*y)^3", (2, 1)),
        ("exp(x)^2/exp(3*y)", (2, 1)),
        ("x*cos(y)^2", (2, 1)),
        ("sqrt(x^2 + y^2)", (2, 1, 1)),
        ("exp(sin(pi*x) + y^2)", (2, 1, 1)),
        ("x + x^2 + x^3", (1, 3, 1)),
        ("sin(x - y) + exp(2*y - 2*x)", (2, 1, 2, 1)),
        ("sqrt(x - y + 3) + z*cos(2*y - 2*x)", (3, 2, 2, 1)),
        ("(x + y)*z - x*z", (3, 2, 1)),
        ("(x + y) - x", (2, 1)),
    ],
)
def test_a_network_has_few_layers_and_nodes(text, shape):
    kan = from_formula(text)
    assert kan.shape == shape and kan.symbolic


def test_equal_parts_of_several_outputs_are_one_node():
    kan = from_formula(["sin(a*b) + c", "exp(b*a)*c", "a*b", "-1"])
    assert kan.shape == (3, 2, 4)
    x = np.array([[0.3, 0.5, 2.0]])
    assert evaluate(kan, x)[0] == pytest.approx([math.sin(0.15) + 2, math.exp(0.15) * 2, 0.15, -1], rel=1e-15)


def test_what_is_undefined_stays_undefined():
    nowhere = (
        "x/x",
        "0*log(x)",
        "x*(1/x)",
        "1/(1/x)",
        "exp(log(x))",
        "log(x)^0",
        "(x - x)/x",
        "sqrt(x - 1)^2",
        "x^-0.5",
    )
    for text in nowhere:
        assert math.isnan(value(text, 0.0)), text
    for text in ("x^0.5", "x^1.5", "x^0.75", "x^(1/3)", "x^1.37", "(x^2)^0.7", "(-x)^(5/3)"):
        assert value(text, 0.0) == 0, text


def test_a_power_of_a_negative_number_is_the_real_root_if_there_is_one() -> None:
    assert value("x^(1/3)", -8.0) == pytest.approx(-2)
    assert value("x^0.4", -32.0) == pytest.approx(4)
    assert value("x^(-1/3)", -8.0) == pytest.approx(-0.5)
    assert value("(-27)^(1/3)*x", 1.0) == pytest.approx(-3)
    for text in ("x^(1/4)", "x^1.37", "x^0.5", "x^(1/3 + 1e-9)"):
        assert math.isnan(value(text, -8.0)), text


@pytest.mark.parametrize("text", ["x^(5/3)", "2*x^1.37 + 1", "1/(x + 1)^(2/3)", "y*x^(1/4)", "-x^(1/3)", "(x*y)^(2/7)"])
def test_a_power_is_printed_as_it_is_written(text: str) -> None:
    assert from_formula(text).formula().text == text


# The equations of the benchmarks


def in_30_digits(text: str, names: list[str], x: np.ndarray) -> np.ndarray:
    symbols = sympy.symbols(names)
    expression = sympy.sympify(text, locals=dict(zip(names, symbols, strict=True)))
    function = sympy.lambdify(symbols, expression, "mpmath")
    with mpmath.workdps(30):
        return np.array([[float(function(*(mpmath.mpf(float(coordinate)) for coordinate in row)))] for row in x])


@pytest.fixture(scope="module")
def wanted() -> list[tuple[np.ndarray, np.ndarray]]:
    """For each equation rows of its ranges, and what sympy says there."""
    rows = [sample(kan, ROWS) for kan in LAWS]
    return [
        (x, in_30_digits(equation.formula, list(equation.ranges), x))
        for equation, x in zip(EQUATIONS, rows, strict=True)
    ]


def check(number: int, got: np.ndarray, wanted: np.ndarray) -> None:
    assert np.isfinite(wanted).all() and np.isfinite(got).all()
    assert error(got, wanted) <= DOUBLE, EQUATIONS[number]


@pytest.mark.slow
def test_the_132_equations_are_what_sympy_says(wanted):
    assert len(EQUATIONS) == 132
    for n, (x, y) in enumerate(wanted):
        check(n, evaluate(LAWS[n], x), y)


@pytest.mark.slow
@pytest.mark.extended
def test_the_132_equations_exported_as_numpy_are_what_sympy_says(wanted):
    for n, (x, y) in enumerate(wanted):
        module = numpy_runtime.load(numpy_source.export(LAWS[n], ExportOptions("law", "double"))).module
        check(n, module.predict(x), y)


@pytest.mark.slow
@pytest.mark.extended
def test_the_132_equations_exported_as_onnx_are_what_sympy_says(wanted):
    for n, (x, y) in enumerate(wanted):
        backend = onnx_runtime.load(onnx_graph.export(LAWS[n], ExportOptions("law", "double")))
        check(n, backend.predict(x), y)


@pytest.mark.slow
@pytest.mark.extended
def test_the_132_equations_exported_as_c_are_what_sympy_says(wanted, tmp_path):
    library = compiled(tmp_path, {f"law_{n}": kan for n, kan in enumerate(LAWS)}, "double", "-O0")
    for n, (x, y) in enumerate(wanted):
        code, got = predict(library, f"law_{n}", x, 1)
        assert code == 0
        check(n, got, y)


@pytest.mark.slow
@pytest.mark.extended
def test_the_formula_of_each_equations_network_reads_back_as_the_equation(wanted):
    for n, (x, y) in enumerate(wanted):
        (formula,) = formulas(LAWS[n])
        assert formula.closed_form
        again = from_formula(formula.text, inputs=[variable.name for variable in LAWS[n].inputs])
        assert error(evaluate(again, x), y) <= 1e-4, formula.text  # the text has 6 digits


# sympy's expressions, and what goes on from a law


def test_a_sympy_expression_is_read_by_its_tree():
    a, b, t = sympy.symbols("a b t")
    expression = a * sympy.exp(-b * t**2) / sympy.sqrt(2 * sympy.pi) + sympy.acos(t / 4) ** sympy.Rational(3, 2)
    kan = from_formula(expression, b=2.0)
    assert [variable.name for variable in kan.inputs] == ["a", "t"]
    x = np.array([[1.5, 0.3], [-2.0, 1.1]])
    text = "a*exp(-2*t^2)/sqrt(2*pi) + arccos(t/4)^1.5"
    assert evaluate(kan, x) == pytest.approx(evaluate(from_formula(text), x), rel=1e-14)


def test_a_symbol_of_sympys_is_a_symbol_whatever_its_name():
    e = sympy.Symbol("e")
    kan = from_formula(e * sympy.E)
    assert [variable.name for variable in kan.inputs] == ["e"] and evaluate(kan, [[2.0]])[0, 0] == 2 * math.e


def test_a_sympy_expression_that_has_no_network_is_refused_by_its_name():
    x = sympy.Symbol("x")
    deep = x
    for _ in range(PARSING_MAX_NESTING + 1):
        deep = sympy.sin(deep)
    for wrong, message in (
        (sympy.zeta(x), "'zeta'"),
        (sympy.Piecewise((x, x > 0), (0, True)), "'Piecewise'"),
        (sympy.atan2(x, 2), "'atan2'"),
        (x + sympy.I, "'ImaginaryUnit'"),
        (x + sympy.Mul(2, sympy.oo, evaluate=False), "not a finite real number"),
        (1 / (x - x + sympy.Add(2, -2, evaluate=False)) + x, "0.0 to the power -1.0"),
        (deep, "nested"),
    ):
        with pytest.raises(InputError, match=message):
            from_formula(wrong)


def test_a_text_needs_no_sympy():
    script = (
        "import sys; sys.modules['sympy'] = None; import kanserve; "
        "print(kanserve.evaluate(kanserve.from_formula('x*y'), [[2.0, 3.0]])[0, 0])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "6.0"


def test_training_goes_on_from_a_law_and_finds_its_constants():
    guess = from_formula("a*exp(-b*x^2)", a=1.0, b=1.0, ranges={"x": (0, 2)})
    x = np.linspace(0, 2, 50)[:, None]
    kan = refine(guess, x, 2 * np.exp(-0.5 * x**2))
    assert evaluate(kan, [[3.0]])[0, 0] == pytest.approx(2 * math.exp(-4.5), rel=1e-6)


def test_splines_on_the_edges_of_a_law_learn_what_it_leaves_out():
    x = np.linspace(-1, 1, 200)[:, None]
    y = 2 * x + 0.2 * np.sin(3 * x)
    law = regrid(from_formula("2*x", ranges={"x": (-1, 1)}), x, 10)
    free = replace(law.layers[0], coefficients=np.full_like(law.layers[0].coefficients, 1e-9))
    kan = refine(replace(law, layers=(free,)), x, y)
    assert np.abs(evaluate(kan, x) - y).max() < 1e-3 < 0.1 < np.abs(evaluate(law, x) - y).max()
