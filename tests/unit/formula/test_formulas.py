import ast
import ctypes
import dataclasses
import itertools
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import sympy

from kanserve.errors import FormulaError
from kanserve.formula import Formula, evaluate_tree, expression, formulas, from_formula, from_json, to_json
from kanserve.formula.expressions.checking import run
from kanserve.formula.expressions.names import identifiers, latex_name, text_name
from kanserve.network.evaluate import evaluate
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, make_layer
from kanserve.network.training_range import finite_rows, sample
from tests.support.networks.kans import ZOO, classifier, hostile_names, mixed
from tests.support.networks.zoo_formulas import edge, of, text
from tests.support.work_costs import calls


def random_symbolic(shape, seed, names=("sin", "x^2", "exp", "tanh", "x", "gaussian")):
    rng = np.random.default_rng(seed)
    layers = []
    for i, o in itertools.pairwise(shape):
        affine = np.stack([rng.uniform(-1, 1, (o, i)), *rng.normal(0, 0.3, (3, o, i))], axis=-1)
        layers.append(make_layer(functions=rng.choice(names, (o, i)), affine=affine / [1, 1, i**0.5, i]))
    return Kan(tuple(layers))


@pytest.mark.parametrize(
    ("given", "wanted", "latex"),
    [
        ("x*sqrt(x)", "x^(3/2)", "x^{3/2}"),
        ("y*x^2.5", "y*x^(5/2)", "y x^{5/2}"),
        ("y/x^1.5", "y/x^(3/2)", r"\frac{y}{x^{3/2}}"),
        ("sqrt(x^3) + sqrt(x)", "sqrt(x) + x^(3/2)", r"\sqrt{x} + x^{3/2}"),
        ("2*sqrt(x)^5", "2*x^(5/2)", "2 x^{5/2}"),
        ("1/sqrt((x + 1)^3)", "1/(x + 1)^(3/2)", r"\frac{1}{\left(x + 1\right)^{3/2}}"),
        ("sqrt(x)*x*y*sqrt(y)", "x^(3/2)*y^(3/2)", "x^{3/2} y^{3/2}"),
        ("x/sqrt(x)", "x/sqrt(x)", r"\frac{x}{\sqrt{x}}"),
        ("sqrt(y^2) + sqrt(x)^2", "sqrt(y^2) + sqrt(x)^2", r"\sqrt{y^{2}} + \left(\sqrt{x}\right)^{2}"),
    ],
)
def test_a_root_and_a_power_of_one_base_are_written_as_one_power_that_reads_back(given, wanted, latex):
    kan = from_formula(given, inputs=["x", "y"], ranges={"x": (0.5, 2), "y": (0.5, 2)})
    (found,) = formulas(kan)
    assert (found.text, found.latex) == (wanted, latex)
    # Only the text has half-integer powers: Python and C are printed from the exact tree.
    assert all(type(step[2]) is int for step in found.tree if step[0] == "pow") and found.python and found.c
    x = sample(kan, 50)
    again = from_formula(found.text, inputs=["x", "y"])
    np.testing.assert_allclose(evaluate(again, x), evaluate(kan, x), rtol=1e-14)
    np.testing.assert_allclose(run(found, x), evaluate(kan, x)[:, 0], rtol=1e-14)


@pytest.mark.parametrize("name", ["symbolic", "every_function", "mixed", "hostile_names", "deep", "multiplication"])
def test_formulas_survive_json(name):
    found = of(name)
    written = json.dumps(to_json(found), allow_nan=False)
    assert from_json(json.loads(written)) == found
    assert json.dumps(to_json(from_json(json.loads(written)))) == written


def test_names_never_become_code():
    kan = hostile_names()
    for formula in formulas(kan):
        nodes = list(ast.walk(ast.parse(formula.python)))
        called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        read = {node.id for node in nodes if isinstance(node, ast.Name)}
        assert called == set(formula.tables)
        assert {name for name in read - called if not re.fullmatch("_[0-9]+", name)} == {"np", *formula.identifiers}
        words = set(re.findall(r"[^\W\d]\w*", re.sub(r"[0-9.]+e[-+]?[0-9]+", "0", formula.c)))
        assert words == {"exp", *formula.tables, *formula.identifiers}
        assert not {variable.name for variable in kan.inputs} & words
        assert re.fullmatch(r"[\w .+\-*/(),]*", formula.c, re.ASCII)
        assert "\n" not in formula.text + formula.latex
        assert {str(symbol) for symbol in expression(formula).free_symbols} == set(formula.identifiers)


@pytest.mark.parametrize(
    ("name", "shown", "latex"),
    [
        ("x", "x", "x"),
        ("x12", "x12", "x_{12}"),
        ("alpha_1", "alpha_1", r"\alpha_{1}"),
        ("temperature", "temperature", r"\mathrm{temperature}"),
        ("größe", "größe", r"\text{größe}"),
        ("a b", '"a b"', r"\text{a b}"),
        ("exp", '"exp"', r"\mathrm{exp}"),
        ("s_1_1_1", '"s_1_1_1"', r"\text{s\_1\_1\_1}"),
        ("a\n\u202eb", '"a\\n\\u202eb"', r"\text{a  b}"),
        ("\\input{x}%$", '"\\\\input{x}%$"', r"\text{\textbackslash{}input\{x\}\%\$}"),
    ],
)
def test_names_are_shown_as_data(name, shown, latex):
    assert (text_name(name), latex_name(name)) == (shown, latex)


def test_identifiers_are_valid_in_python_and_c_and_all_different():
    names = [
        "a b",
        "a_b",
        "a-b",
        "1st",
        "",
        "日本",
        "x2",
        "np",
        "exp",
        "for",
        "template",
        "I",
        "_x",
        "s_1_1_1",
        "A" * 99,
    ]
    words = identifiers(names)
    assert len(set(words)) == len(words)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", word) for word in words)
    assert words[1] == "a_b_2"
    assert words[6] == "x2"
    assert words[7:13] == ("np_", "exp_", "for_", "template_", "I_", "x")


def _compiled(folder, found):
    """The C of formulas as functions of their variables, built the strict way."""
    lines = ["#include <math.h>", "double j0(double);"]  # which strict C99 does not declare
    for name, table in {name: table for formula in found for name, table in formula.tables.items()}.items():
        count, width = table.coefficients.shape
        lines.append(
            f"static double {name}(double u) {{\n"
            f"  static const double b[] = {{{', '.join(map(repr, table.breaks.tolist()))}}};\n"
            f"  static const double o[] = {{{', '.join(map(repr, table.origins.tolist()))}}};\n"
            f"  static const double c[] = {{{', '.join(map(repr, table.coefficients.ravel().tolist()))}}};\n"
            f"  int p = 0, r; double y = 0; while (p < {count - 1} && b[p] <= u) ++p;\n"
            f"  for (r = {width - 1}; r >= 0; --r) y = y * (u - o[p]) + c[{width} * p + r];\n"
            f"  return y;\n}}"
        )
    for q, formula in enumerate(found):
        arguments = ", ".join(f"double {word}" for word in formula.identifiers)
        lines.append(f"double formula_{q}({arguments});")
        lines.append(f"double formula_{q}({arguments}) {{ return {formula.c}; }}")
    source, library = folder / "formula.c", folder / "formula.so"
    source.write_text("\n".join(lines))
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wdouble-promotion", "-Wshadow"]
    subprocess.run(["gcc", *strict, "-shared", "-fPIC", source, "-o", library, "-lm"], check=True)
    functions = [getattr(ctypes.CDLL(str(library)), f"formula_{q}") for q in range(len(found))]
    for function, formula in zip(functions, found, strict=True):
        function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double] * len(formula.identifiers)
    return functions


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hostile_names", "every_function", "mixed", "multiplication", "domains", "special"])
def test_the_c_builds_with_all_warnings_and_is_the_network(name, tmp_path):
    kan = ZOO[name]()
    x = finite_rows(kan, 50)
    wanted = evaluate(kan, x)
    found = of(name)
    for q, function in enumerate(_compiled(tmp_path, found)):
        got = [function(*row[list(found[q].columns)]) for row in x]
        assert np.allclose(got, wanted[:, q], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.extended
def test_a_network_of_600_edges_has_a_bounded_formula():
    """What it costs is in test_formula_large."""
    kan = random_symbolic((20, 20, 10), seed=0)
    assert kan.edges == 600
    whole = formulas(kan)
    small = formulas(kan, limit=100)
    x = sample(kan, 20)
    for q, formula in enumerate(small):
        assert formula.shortened and not formula.python and not formula.c
        assert "…" in formula.text and len(formula.text) <= 2500
        assert r"\dots" in formula.latex and len(formula.latex) <= 5000
        assert formula.tree == whole[q].tree
        assert np.allclose(evaluate_tree(formula.tree, {}, x), evaluate(kan, x)[:, q], rtol=1e-9)


@pytest.mark.slow
def test_a_formula_far_too_large_to_write_out_is_still_quick():
    # Twelve layers of four nodes: 4^12 terms when written out, and 4^6 in half as many.
    half, kan = (random_symbolic((4,) * depth + (1,), seed=1, names=("sin", "tanh")) for depth in (6, 12))
    found: list[Formula] = []
    assert calls(lambda: found.extend(formulas(kan))) < 2.5 * calls(lambda: formulas(half))
    (formula,) = found
    assert formula.shortened and len(formula.text) <= 50_000 and len(formula.tree) < 1500
    with pytest.raises(FormulaError, match="sympy"):
        expression(formula)


def test_a_chain_of_a_hundred_layers_is_whole_and_one_of_three_hundred_is_no_error():
    hundred = Kan((edge("sin", 1.1, 0.1, 0.9, 0.05),) * 100)
    (formula,) = formulas(hundred)
    assert not formula.shortened
    assert formula.text.count("sin") == formula.python.count("sin") == formula.c.count("sin") == 100
    x = finite_rows(hundred, 100)
    assert np.allclose(run(formula, x), evaluate(hundred, x)[:, 0], rtol=1e-9)
    (long,) = formulas(Kan((edge("sin", 1.1, 0.1, 0.9, 0.05),) * 300))
    assert long.shortened and not long.python


def test_functions_written_twice_do_not_double_the_python_at_each_level():
    kan = Kan((edge("silu", 1.1, 0.1, 0.9, 0.05),) * 30)
    (formula,) = formulas(kan)
    assert formula.python and len(formula.python) < 4000
    assert formula.shortened and not formula.c  # C has no place for a name within an expression
    assert text(Kan((edge("silu", 2),) * 2)) == "silu(2*silu(2*x1))"


@pytest.mark.parametrize("q", range(len(FUNCTIONS)))
def test_the_sympy_view_of_each_function_is_its_formula(q):
    formula = of("every_function")[q]
    view = expression(formula)
    for x in (-0.9, -0.1, 0.3, 1.0):
        wanted = evaluate_tree(formula.tree, {}, [[x]])[0]
        assert abs(float(view.subs({symbol: x for symbol in view.free_symbols}).evalf()) - wanted) < 1e-9


def test_the_sympy_view_keeps_the_domain():
    (formula,) = formulas(Kan((edge("log"), edge("exp"))))
    assert str(expression(formula)) == "exp(log(x1))"
    (formula,) = formulas(mixed())
    assert {str(atom.func) for atom in expression(formula).atoms(sympy.Function)} >= {"s_1_1_1", "s_2_1_2"}


def test_a_classifier_has_one_formula_per_class():
    assert [formula.name for formula in formulas(classifier())] == list(classifier().classes)


def test_making_reading_and_evaluating_formulas_need_no_sympy(tmp_path):
    (tmp_path / "formula.json").write_text(json.dumps(to_json(formulas(mixed()))))
    script = """
import json, sys
class Refuse:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in {"sympy", "torch", "onnx", "grpc"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from kanserve.errors import MissingDependencyError
from kanserve.formula import evaluate_tree, expression, formulas, from_json
from kanserve.network.kan import Kan, make_layer as layer
found = from_json(json.load(open(sys.argv[1])))
print(evaluate_tree(found[0].tree, found[0].tables, [[0.1, 0.2]])[0])
made = formulas(Kan((layer(functions=[["sin"]]),)))
try:
    expression(made[0])
except MissingDependencyError as error:
    print(made[0].text, error.package, error.extra)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "formula.json"], capture_output=True, text=True, check=True
    )
    value, rest = done.stdout.split(maxsplit=1)
    assert float(value) == pytest.approx(evaluate(mixed(), [[0.1, 0.2]])[0, 0], rel=1e-9)
    assert rest.strip() == "sin(x1) sympy export"


@pytest.mark.parametrize(
    ("law", "wanted"),
    [
        ("w/(1 - v)", "w/(1 - v)"),
        ("-1/(v - 1)", "1/(1 - v)"),
        ("2*U*(1 - cos(k))", "2*U*(1 - cos(k))"),
        ("-(a - b)^2/(c - d)", "(a - b)^2/(d - c)"),
        ("exp(w/(1 - v))", "exp(w/(1 - v))"),
        ("-(a - 1)*b/3", "b*(1 - a)/3"),
        ("-(x - 1)^2", "-(x - 1)^2"),
        ("y - (a - 1)/b", "y - (a - 1)/b"),
        ("-a*(b + 1)", "-a*(b + 1)"),
    ],
)
def test_a_difference_among_its_factors_takes_in_the_sign_of_a_product(law, wanted):
    kan = from_formula(law)
    (formula,) = formulas(kan, strict=False, named=True)
    assert formula.text == wanted
    x = sample(kan, 50)
    assert np.allclose(run(formula, x), evaluate(kan, x)[:, 0], rtol=1e-12)


def test_a_difference_that_stands_alone_takes_in_its_sign_without_brackets():
    functions = [["x", "x"]], [["sin"], ["x"]]
    first, second = (
        make_layer(functions=functions[0], affine=[[[1, 0, 1, 0], [1, 0, -1, 0]]]),
        make_layer(functions=functions[1]),
    )
    kan = Kan((first, dataclasses.replace(second, affine=np.array([[[1.0, 0, 1, 0]], [[1.0, 0, -1, 0]]]))))
    assert [formula.text for formula in formulas(kan)] == ["sin(x1 - x2)", "x2 - x1"]


@pytest.mark.parametrize(
    ("law", "latex"),
    [
        ("1e-5*x + 2e9", r"10^{-5} x + 2 \cdot 10^{9}"),
        ("exp(1e-9*x)/1e9", r"10^{-9} e^{10^{-9} x}"),
        ("2*exp(-1.5/(x + 3))", r"2 \exp\left(-\frac{1.5}{x + 3}\right)"),
        ("1e20*sin(x) - 1e7", r"10^{20} \sin\left(x\right) - 10^{7}"),
    ],
)
def test_a_power_of_ten_is_typeset_without_a_factor_of_1(law, latex):
    assert formulas(from_formula(law))[0].latex == latex
