import ast
import ctypes
import dataclasses
import functools
import itertools
import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import sympy

from kanserve.errors import FormulaError
from kanserve.formula import evaluate_tree, expression, formulas, from_json, to_json, verify
from kanserve.formula.building import trees
from kanserve.formula.checking import run
from kanserve.formula.names import identifiers, latex_name, text_name
from kanserve.functions import FUNCTIONS
from kanserve.ir import Kan, Variable, layer
from kanserve.ranges import finite_rows, sample
from kanserve.reference import evaluate
from tests.kans import ZOO, classifier, hostile_names, mixed, pruned, raw_features, symbolic

CLOSED = {"constant", "symbolic", "every_function", "special", "domains"}


@functools.cache
def of(name):
    """The formulas of one of the zoo's networks."""
    return formulas(ZOO[name]())


def edge(name, a=1.0, b=0.0, c=1.0, d=0.0):
    return layer(functions=[[name]], affine=[[[a, b, c, d]]])


def text(kan, q=0):
    return formulas(kan)[q].text


def random_symbolic(shape, seed, names=("sin", "x^2", "exp", "tanh", "x", "gaussian")):
    rng = np.random.default_rng(seed)
    layers = []
    for i, o in itertools.pairwise(shape):
        affine = np.stack([rng.uniform(-1, 1, (o, i)), *rng.normal(0, 0.3, (3, o, i))], axis=-1)
        layers.append(layer(functions=rng.choice(names, (o, i)), affine=affine / [1, 1, i**0.5, i]))
    return Kan(tuple(layers))


@pytest.mark.parametrize("name", ZOO)
def test_every_formula_is_its_network(name):
    kan = ZOO[name]()
    x = finite_rows(kan, 2000, seed=1)
    wanted = evaluate(kan, x)
    found = of(name)
    assert len(found) == wanted.shape[1]
    for q, formula in enumerate(found):
        scale = np.quantile(np.abs(wanted[:, q]), 0.9)
        assert formula.name == kan.outputs[q].name
        assert np.allclose(evaluate_tree(formula.tree, formula.tables, x), wanted[:, q], rtol=1e-9, atol=1e-9 * scale)
        if formula.python:
            assert np.allclose(run(formula, x), wanted[:, q], rtol=1e-9, atol=1e-9 * scale)
        assert bool(formula.python and formula.c) is not formula.shortened


@pytest.mark.parametrize("name", ZOO)
def test_a_formula_is_closed_unless_a_spline_lies_between_an_input_and_its_output(name):
    kan = ZOO[name]()
    # What depends on an input, and whether through a spline: dependence[n] of each node, forwards.
    depends, splined = np.ones(len(kan.inputs), bool), np.zeros(len(kan.inputs), bool)
    for one in kan.layers:
        edge_depends = one.alive & depends
        edge_splined = edge_depends & ((one.coefficients != 0).any(axis=2) | splined)
        depends = np.array([edge_depends[list(group)].any() for group in one.groups])
        splined = np.array([edge_splined[list(group)].any() for group in one.groups])
    found = of(name)
    assert [not formula.closed_form for formula in found] == splined.tolist()
    assert [bool(formula.tables) for formula in found] == splined.tolist()
    assert all(found_one.closed_form for found_one in found) is (name in CLOSED)


def test_the_text_of_a_symbolic_network_is_the_law_it_was_made_from():
    (formula,) = formulas(symbolic())
    x, y = sympy.symbols("x y")
    law = sympy.exp(sympy.sin(sympy.pi * x) + y**2)
    points = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    for read in (sympy.sympify(formula.text), expression(formula)):
        symbols = sorted(read.free_symbols, key=str)
        for point in points:
            got = read.subs(dict(zip(symbols, point, strict=True)))
            assert abs(float(got) - float(law.subs({x: point[0], y: point[1]}))) < 2e-5
    assert formula.text == "exp(sin(3.14159*x) + y^2)"
    assert formula.latex == r"e^{\sin\left(3.14159 x\right) + y^{2}}"
    assert formula.python == "np.exp(np.sin(3.141592653589793*x) + y**2)"
    assert formula.c == "exp(sin(3.141592653589793*x) + y*y)"


@pytest.mark.parametrize(
    ("edges", "wanted"),
    [
        ([edge("x")], "x1"),
        ([edge("x", 2, 1, 3, -3)], "6*x1"),
        ([edge("x", -1, 1)], "1 - x1"),
        ([edge("x", 2, 1), edge("x", 0.5, -0.5, 1, 2)], "x1 + 2"),
        ([edge("exp", 1, 0, 1, 0), edge("log")], "log(exp(x1))"),
        ([edge("log"), edge("exp")], "exp(log(x1))"),
        ([edge("log"), edge("x", 0)], "0*log(x1)"),
        ([edge("sin"), edge("x", 0, 0, 1, 3)], "3"),
        ([edge("1/x"), edge("1/x")], "1/(1/x1)"),
        ([edge("x^2"), edge("x^3")], "x1^6"),
        ([edge("x^2", 3), edge("1/x", 2)], "0.0555556/x1^2"),
        ([edge("sqrt", 4)], "2*sqrt(x1)"),
        ([edge("sqrt", -4)], "2*sqrt(-x1)"),
        ([edge("1/sqrt", 4, 4)], "0.5/sqrt(x1 + 1)"),
        ([edge("abs", -3)], "3*abs(x1)"),
        ([edge("log", np.e)], "log(x1) + 1"),
        ([edge("exp", 2, np.log(5))], "5*exp(2*x1)"),
        ([edge("sin", 1, np.pi / 2)], "cos(x1)"),
        ([edge("sin", 1, -3 * np.pi)], "-sin(x1)"),
        ([edge("cos", -2, np.pi / 2)], "sin(2*x1)"),
        ([edge("tanh", -2, 1)], "-tanh(2*x1 - 1)"),
        ([edge("cosh", -2, 1)], "cosh(2*x1 - 1)"),
        ([edge("silu", 2)], "silu(2*x1)"),
        ([edge("sigmoid")], "1/(1 + exp(-x1))"),
        ([edge("gaussian", 1, -1)], "exp(-(x1 - 1)^2)"),
        ([edge("x^2", -1), edge("exp", -1)], "exp(-x1^2)"),
        ([edge("sin"), edge("x^2"), edge("x", -1)], "-sin(x1)^2"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_edges_are_folded_and_the_domain_is_kept(edges, wanted):
    kan = Kan(tuple(edges))
    assert text(kan) == wanted
    x = np.linspace(-3, 3, 101)[:, None]
    got = evaluate_tree(formulas(kan)[0].tree, {}, x)
    assert np.allclose(got, evaluate(kan, x)[:, 0], rtol=1e-12, atol=1e-12, equal_nan=True)


def test_products_collect_their_constants_and_equal_factors():
    functions = [["x", ""], ["x", ""], ["", "1/x"], ["1/x", ""]]
    affine = np.tile([1.0, 0, 2.0, 0], (4, 2, 1))
    kan = Kan((layer(functions=functions, affine=affine, arity=[4], node_scale=[0.5], node_bias=[1]),))
    # x1·x1 is a square, but x1²·(1/x1) is not x1: it is not defined at 0.
    assert text(kan) == "8*x1^2/(x2*x1) + 1"
    assert np.isnan(evaluate_tree(formulas(kan)[0].tree, {}, [[0.0, 1.0]])).all()


def test_the_canonical_form_never_changes_a_value_nor_where_it_is_defined():
    special = [0.0, 1.0, -1.0, 0.5, -2.0, np.pi, np.pi / 2, -np.pi / 2]
    defined = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        layers = []
        for i, o, arity in ((2, 4, [1, 2, 1]), (3, 2, [2])):
            affine = rng.choice(special, (o, i, 4))
            affine[rng.random(affine.shape) < 0.2] = rng.normal()
            functions = rng.choice([*FUNCTIONS, *[""] * 12], (o, i))
            scale, bias = rng.choice(special, (2, o))
            layers.append(
                layer(functions=functions, affine=affine, arity=arity, subnode_scale=scale, subnode_bias=bias)
            )
        kan = Kan(tuple(layers), input_shift=np.array([0.5, 0.0]), input_scale=np.array([2.0, -1.0]))
        x = rng.uniform(-2, 2, (500, 2))
        (folded,), (plain,) = trees(kan).trees, trees(kan, fold=False).trees
        got, wanted = evaluate_tree(folded, {}, x), evaluate_tree(plain, {}, x)
        assert np.array_equal(np.isnan(got), np.isnan(wanted))
        # Rounding grows without bound next to a pole: not every row is held to it.
        close = np.isclose(got, wanted, rtol=1e-9, atol=1e-9 * np.median(np.abs(np.nan_to_num(wanted))), equal_nan=True)
        assert close.mean() > 0.99
        defined += bool(np.isfinite(wanted).any())
    assert defined > 50


def test_the_affines_are_in_the_formula_and_ranges_and_units_beside_it():
    kan = Kan(
        (layer(functions=[["x^2", ""]], affine=np.tile([1.0, 0, 1, 0], (1, 2, 1))),),
        inputs=(Variable("T", "K", 290, 310), Variable("p", "Pa", 1, 2)),
        input_shift=np.array([300.0, 0]),
        input_scale=np.array([10.0, 1]),
        output_shift=np.array([7.0]),
        output_scale=np.array([200.0]),
    )
    (formula,) = formulas(kan)
    assert formula.text == "200*(0.1*T - 30)^2 + 7"
    assert formula.variables == (Variable("T", "K", 290, 310),)
    assert (formula.identifiers, formula.columns) == (("T",), (0,))
    assert [one.unit for one in formulas(raw_features())[0].variables] == ["K", "Pa"]


def test_an_offset_that_would_cost_digits_is_not_multiplied_out():
    seconds = Variable("t", "s", 1.7e9, 1.7e9 + 1e-2)
    kan = Kan((edge("sin", 3),), inputs=(seconds,), input_shift=np.array([1.7e9]), input_scale=np.array([1e-2]))
    assert text(kan) == "sin(300*(t - 1.7e9))"


def test_a_network_that_rounds_is_given_with_its_rounding():
    # (x + 1e13) - 1e13 is not x: the canonical form would be, so the formula stays as the network computes it.
    kan = Kan((edge("x", 1, 0, 1, 1e13), edge("x", 1, -1e13)))
    (formula,) = formulas(kan)
    assert formula.text == "x1 + 1e13 - 1e13"
    assert formula.python == "x1 + 10000000000000.0 - 10000000000000.0"


def test_a_formula_may_differ_by_what_rounding_does_to_the_network():
    kan = Kan((edge("x^4", 1e9**0.25), edge("sin")))
    (formula,) = formulas(kan)
    verify(kan, [formula])
    wrong = dataclasses.replace(formula, python=formula.python.replace("np.sin", "1.00001*np.sin"))
    with pytest.raises(FormulaError, match="differs from the network"):
        verify(kan, [wrong])


def test_a_network_that_is_finite_nowhere_has_no_formula():
    with pytest.raises(FormulaError, match=r"finite nowhere.*1/x on arguments from 0 to 0.*Give the inputs"):
        formulas(Kan((edge("1/x", 0),)))


def test_a_node_that_leads_nowhere_is_not_in_the_formula():
    dead = layer(functions=[["log"], ["x"]], affine=[[[1.0, -0.5, 1, 0]], [[1.0, 0, 1, 0]]])
    assert text(Kan((dead, layer(functions=[["", "x"]])))) == "x1"


@pytest.mark.parametrize("python", ["1/0.0", "(1e200)**2", "x1 + 1/(2.0 - 2.0)"])
def test_python_numbers_that_divide_by_zero_or_overflow_are_nan(python):
    formula = dataclasses.replace(formulas(Kan((edge("x"),)))[0], python=python)
    assert np.isnan(run(formula, np.zeros((3, 1)))).all()


def test_constants_that_multiply_beyond_a_double_are_left_apart():
    one = layer(functions=[["sin"]], affine=[[[1e-300, 0, 1e200, 0]]], subnode_scale=[1e200])
    assert text(Kan((one,))) == "1e200*(1e200*sin(1e-300*x1))"


def test_a_formula_that_is_not_the_network_is_refused_with_the_output_and_the_point():
    kan = raw_features()
    good = formulas(kan)
    verify(kan, good)
    wrong_tree = dataclasses.replace(good[1], tree=good[0].tree, tables=good[0].tables)
    wrong_python = dataclasses.replace(good[1], python=good[1].python + " + 1e-3*np.abs(temperature)")
    for bad in (wrong_tree, wrong_python):
        with pytest.raises(FormulaError, match=r"'cost' differs from the network at \[\d+"):
            verify(kan, (good[0], bad))
    with pytest.raises(FormulaError, match="2 outputs"):
        verify(kan, good[:1])


def test_splines_are_named_by_their_place_and_their_tables_are_the_splines():
    (formula,) = formulas(pruned())
    assert {"s_1_1_1", "s_1_1_3", "s_2_1_3"} <= set(formula.tables)
    assert not {"s_1_1_2", "s_1_2_1", "s_2_1_2"} & set(formula.tables)  # pruned, or fed by a constant
    one = pruned().layers[0]
    only = layer(one.coefficients[:1, :1], knots=one.knots[0], base="zero")
    u = np.linspace(-3, 3, 200)
    assert np.allclose(formula.tables["s_1_1_1"](u), evaluate(Kan((only,)), u[:, None])[:, 0], atol=1e-12)


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
        called = {one.func.id for one in nodes if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)}
        read = {one.id for one in nodes if isinstance(one, ast.Name)}
        assert called == set(formula.tables)
        assert {one for one in read - called if not re.fullmatch("_[0-9]+", one)} == {"np", *formula.identifiers}
        words = set(re.findall(r"[^\W\d]\w*", re.sub(r"[0-9.]+e[-+]?[0-9]+", "0", formula.c)))
        assert words == {"exp", *formula.tables, *formula.identifiers}
        assert not {one.name for one in kan.inputs} & words
        assert re.fullmatch(r"[\w .+\-*/(),]*", formula.c, re.ASCII)
        assert "\n" not in formula.text + formula.latex
        assert {str(one) for one in expression(formula).free_symbols} == set(formula.identifiers)


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
    for name, table in {name: table for one in found for name, table in one.tables.items()}.items():
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
    for q, one in enumerate(found):
        arguments = ", ".join(f"double {word}" for word in one.identifiers)
        lines.append(f"double formula_{q}({arguments});")
        lines.append(f"double formula_{q}({arguments}) {{ return {one.c}; }}")
    source, library = folder / "formula.c", folder / "formula.so"
    source.write_text("\n".join(lines))
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wdouble-promotion", "-Wshadow"]
    subprocess.run(["gcc", *strict, "-shared", "-fPIC", source, "-o", library, "-lm"], check=True)
    functions = [getattr(ctypes.CDLL(str(library)), f"formula_{q}") for q in range(len(found))]
    for function, one in zip(functions, found, strict=True):
        function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double] * len(one.identifiers)
    return functions


@pytest.mark.parametrize("name", ["hostile_names", "every_function", "mixed", "multiplication", "domains", "special"])
def test_the_c_builds_with_all_warnings_and_is_the_network(name, tmp_path):
    kan = ZOO[name]()
    x = finite_rows(kan, 50)
    wanted = evaluate(kan, x)
    found = of(name)
    for q, function in enumerate(_compiled(tmp_path, found)):
        got = [function(*row[list(found[q].columns)]) for row in x]
        assert np.allclose(got, wanted[:, q], rtol=1e-9, atol=1e-9)


def test_a_network_of_600_edges_has_a_bounded_formula_within_two_seconds():
    kan = random_symbolic((20, 20, 10), seed=0)
    assert kan.edges == 600
    start = time.process_time()
    whole = formulas(kan)
    small = formulas(kan, limit=100)
    assert time.process_time() - start < 2 * 2
    x = sample(kan, 20)
    for q, formula in enumerate(small):
        assert formula.shortened and not formula.python and not formula.c
        assert "…" in formula.text and len(formula.text) <= 2500
        assert r"\dots" in formula.latex and len(formula.latex) <= 5000
        assert formula.tree == whole[q].tree
        assert np.allclose(evaluate_tree(formula.tree, {}, x), evaluate(kan, x)[:, q], rtol=1e-9)


def test_a_formula_far_too_large_to_write_out_is_still_quick():
    # Twelve layers of four nodes: 4^12 terms when written out.
    kan = random_symbolic((4,) * 12 + (1,), seed=1, names=("sin", "tanh"))
    start = time.process_time()
    (formula,) = formulas(kan)
    assert time.process_time() - start < 2
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
    assert {str(one.func) for one in expression(formula).atoms(sympy.Function)} >= {"s_1_1_1", "s_2_1_2"}


def test_a_classifier_has_one_formula_per_class():
    assert [one.name for one in formulas(classifier())] == list(classifier().classes)


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
from kanserve.ir import Kan, layer
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
