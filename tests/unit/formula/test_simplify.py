"""The simplest form of a formula: the same numbers on the data, fewer operations, no hole that was not there."""

import math

import numpy as np
import pytest

from kanserve.formula.algebra.simplify import simplify_tree
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.tree import evaluate_tree
from kanserve.formula.from_network.expression_trees import trees
from kanserve.formula.printing.notations import Text
from kanserve.formula.printing.unfolding import in_descending_powers, print_tree, unfold
from kanserve.formula.to_network.from_formula import from_formula, kan_of
from tests.support.networks.disguised_formulas import rows_of, tree_of
from tests.support.work_costs import calls

POSITIVE, SIGNED = (0.2, 2.0), (-0.9, 0.9)


def _text(tree, names):
    return print_tree(unfold(in_descending_powers(tree), 1000), Text(names), 10_000)


def _simplified(text, **ranges):
    names = list(ranges)
    tree = tree_of(text, names)
    x = rows_of(ranges, 300, 0)
    found = simplify_tree(tree, x)
    wanted = evaluate_tree(tree, {}, x)
    np.testing.assert_allclose(evaluate_tree(found, {}, x), wanted, rtol=1e-9, atol=1e-9 * np.nanmax(abs(wanted)))
    assert complexity(found) <= complexity(tree) + 0.5
    return _text(found, names)


@pytest.mark.parametrize(
    ("text", "ranges", "simplest"),
    [
        ("0.5*exp(log(m) + 2*log(v))", {"m": POSITIVE, "v": POSITIVE}, "0.5*m*v^2"),
        ("exp(1.5 + log(u))*2", {"u": POSITIVE}, "8.963378140676129*u"),
        ("exp(0.5*log(g) + 0.5*log(p) - 0.5*log(r))", {"g": POSITIVE, "p": POSITIVE, "r": POSITIVE}, "sqrt(g*p/r)"),
        ("sqrt(g)*sqrt(p)", {"g": POSITIVE, "p": POSITIVE}, "sqrt(g*p)"),
        ("exp(-1.5*log(u))", {"u": POSITIVE}, "1/sqrt(u^3)"),
        ("sqrt(c^2*(a^2 + b^2))", {"a": SIGNED, "b": SIGNED, "c": POSITIVE}, "c*sqrt(a^2 + b^2)"),
        ("exp(log(m) - 0.5*log(1 - v^2))", {"m": POSITIVE, "v": SIGNED}, "m/sqrt(1 - v^2)"),
        ("log(a) - log(b) + log(2)", {"a": POSITIVE, "b": POSITIVE}, "log(2*a/b)"),
        ("exp(5*log(u)/3)", {"u": POSITIVE}, "u^(5/3)"),
        ("exp(1.37*log(u) - log(p)/3)", {"u": POSITIVE, "p": POSITIVE}, "u^1.37/p^(1/3)"),
        ("exp(log(u)/3 - log(p)/3)*2", {"u": POSITIVE, "p": POSITIVE}, "2*(u/p)^(1/3)"),
        ("u^(1/3)*u^(2/3)", {"u": POSITIVE}, "u"),
        ("exp(1.2345678*log(u))", {"u": POSITIVE}, "exp(1.2345678*log(u))"),
        ("sinh(asinh(a)) + asinh(sinh(a))", {"a": SIGNED}, "2*a"),
        ("tanh(atanh(a) + atanh(b))", {"a": SIGNED, "b": SIGNED}, "(a + b)/(a*b + 1)"),
        ("(exp(2*x) - 1)/(exp(2*x) + 1)", {"x": SIGNED}, "tanh(x)"),
        ("log(x + sqrt(x^2 + 1))", {"x": SIGNED}, "asinh(x)"),
        ("log(sqrt(4*x^2 + 1) - 2*x)", {"x": SIGNED}, "-asinh(2*x)"),
        ("log(x - y + sqrt((x - y)^2 + 1))", {"x": SIGNED, "y": SIGNED}, "asinh(x - y)"),
        ("log(x + sqrt(x^2 + 1) + y)", {"x": SIGNED, "y": (1.0, 2.0)}, "log(x + sqrt(x^2 + 1) + y)"),
        ("log(x + sqrt(x^2 - 1))", {"x": (1.5, 2.0)}, "log(x + sqrt(x^2 - 1))"),
        ("sin(asin(x)) + 1", {"x": SIGNED}, "x + 1"),
        ("m*exp(-0.6*log(1 - exp(2*log(v))/2))", {"m": POSITIVE, "v": (0.1, 0.9)}, "m/(1 - 0.5*v^2)^(3/5)"),
    ],
)
def test_exponentials_logarithms_and_roots_become_powers_where_the_data_are_positive(text, ranges, simplest):
    assert _simplified(text, **ranges) == simplest


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("2*a*sqrt(exp(-b))", "2*a*exp(-0.5*b)"),
        ("sqrt(exp(-a^2/b^2))/b", "exp(-0.5*a^2/b^2)/b"),
        ("log(sqrt(a^2 + 1))", "0.5*log(a^2 + 1)"),
        ("exp(a)^(1/3) + log(exp(b))", "exp(0.33333*a) + b"),
        ("1/sqrt(2*exp(a))", "0.70711*exp(-0.5*a)"),
    ],
)
def test_functions_that_undo_one_another_are_one_function_in_a_text_even_if_that_has_one_more_number(text, folded):
    kan = from_formula(text, inputs=["a", "b"], ranges=dict.fromkeys("ab", POSITIVE))
    (given,) = trees(kan).trees
    assert kan.formula().text == folded
    again = kan_of(simplify_tree(given, rows_of(dict.fromkeys("ab", POSITIVE), 300, 0)), kan.inputs, kan.outputs)
    assert again.formula().text == folded


@pytest.mark.parametrize(
    ("text", "simplest"),
    [
        ("x/x + y", "y + 1"),
        ("(1/x)*x*y", "y"),
        ("1 - x/(x + y)", "y/(x + y)"),
        ("1/(1/x + 1/y) + 0*x", "1/(1/x + 1/y)"),
        ("(x^2 - y^2)/(x + y)", "x - y"),
        ("(x*z + y*z)/(z*x - z*y*2)", "(x + y)/(x - 2*y)"),
        ("(x + 3)*y - 3*y", "x*y"),
        ("(2*x + 4)*(0.5*y + 1)/(4*z)", "0.25*(x + 2)*(y + 2)/z"),
        ("x*(1 + 1e-14*y)", "x"),
    ],
)
def test_products_and_quotients_are_gathered_and_constants_that_cancel_are_gone(text, simplest):
    assert _simplified(text, x=POSITIVE, y=POSITIVE, z=POSITIVE) == simplest


@pytest.mark.parametrize(
    ("text", "simplest"),
    [
        ("a^2 - 2*a*b + b^2", "(a - b)^2"),
        ("sqrt(a^2 - 2*a*b + b^2 + c^2 - 2*c*d + d^2)", "sqrt((a - b)^2 + (c - d)^2)"),
        ("a*c + a*d + b*c + b*d", "(c + d)*(a + b)"),
        ("a*b + a + b + 1", "(a + 1)*(b + 1)"),
        ("c*a - c*b", "c*(a - b)"),
        ("a*c - a^2 - b*c + b*a", "(a - b)*(c - a)"),
        ("1 + 2*a + a^2 + b^2", "(a + 1)^2 + b^2"),
        ("a - a*b/c - a^2/c", "a*(1 - (a + b)/c)"),
    ],
)
def test_what_was_multiplied_out_is_factored_where_that_is_shorter(text, simplest):
    found = _simplified(text, a=SIGNED, b=SIGNED, c=SIGNED, d=SIGNED)
    assert complexity(tree_of(found, list("abcd"))) == complexity(tree_of(simplest, list("abcd")))


@pytest.mark.parametrize(
    ("text", "simplest"),
    [
        ("sin(x)^2 + cos(x)^2 + y", "y + 1"),
        ("y - y*sin(x)^2", "y*cos(x)^2"),
        ("1 - 2*sin(x)^2", "cos(2*x)"),
        ("2*y*sin(x)*cos(x)", "y*sin(2*x)"),
        ("y*sin(x)/cos(x)", "y*tan(x)"),
        ("sin(x + pi/2)*y", "cos(x)*y"),
        ("sin(x + 3*pi)*y", "-sin(x)*y"),
        ("0.6*sin(x) + 0.8*cos(x)", "sin(x + 0.9272952180016123)"),
        ("sin(x)*cos(y) - cos(x)*sin(y)", "sin(x - y)"),
        ("cos(x)*cos(y) + sin(x)*sin(y)", "cos(x - y)"),
        ("exp(x) + exp(-x)", "2*cosh(x)"),
        ("exp(x)*exp(-2*x)*y", "y*exp(-x)"),
    ],
)
def test_identities_of_waves_and_exponentials_are_used(text, simplest):
    assert _simplified(text, x=SIGNED, y=SIGNED) == simplest


def test_nothing_is_divided_by_that_was_no_divisor():
    """x·(x + y)/(1 + x·y) is shorter as (x + y)/(1/x + y), which has a hole at 0."""
    assert _simplified("x*(x + y)/(1 + x*y)", x=POSITIVE, y=POSITIVE) == "x*(x + y)/(x*y + 1)"


def test_a_root_of_a_square_keeps_its_sign_where_the_data_have_both():
    assert _simplified("sqrt(x^2)*y", x=SIGNED, y=POSITIVE) == "abs(x)*y"
    assert _simplified("sqrt(x^2)*y", x=(-2.0, -1.0), y=POSITIVE) == "-x*y"


def test_a_formula_that_is_finite_nowhere_stays_so_and_one_with_a_spline_comes_back():
    never = simplify_tree(tree_of("log(-1 - x^2)", ["x"]), [[0.5], [1.0]])
    assert np.isnan(evaluate_tree(never, {}, [[0.5], [0.0]])).all()
    spline = (("var", 0), ("spline", "s_1_1_1", 0), ("const", 0.0), ("add", 1, 2))
    assert simplify_tree(spline, [[0.5]]) == spline


@pytest.mark.slow
def test_a_formula_is_equal_wherever_it_was_finite_also_at_zero():
    """Random formulas: on rows of zeros and ones too, which are none of those that were looked at."""
    names, compared = ["x", "y"], 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        tree = _random(rng)
        x = rows_of({"x": SIGNED, "y": POSITIVE}, 200, seed)
        wanted = evaluate_tree(tree, {}, x)
        if not np.isfinite(wanted).all() or abs(wanted).max() > 1e8:
            continue
        found = simplify_tree(tree, x)
        corners = np.stack([rng.choice([-0.5, 0.0, 0.5], 60), rng.choice([0.25, 1.0], 60)], axis=1)
        wanted, got = evaluate_tree(tree, {}, corners), evaluate_tree(found, {}, corners)
        finite = np.isfinite(wanted)
        size = np.abs(wanted[finite]).max(initial=0.0)
        assert (np.abs(got - wanted)[finite] <= 1e-8 * size).all(), (_text(tree, names), _text(found, names))
        compared += 1
    assert compared > 50


@pytest.mark.slow
@pytest.mark.extended
def test_simplifying_a_law_takes_few_steps_and_a_hopeless_formula_a_bounded_number():
    """In calls of functions: a law takes some 30,000, and twice as long a sum no more than one that is hopeless too."""
    x = rows_of({name: SIGNED for name in "abcdef"}, 1000, 0)

    def cost(text):
        tree = tree_of(text, list("abcdef"))
        return calls(lambda: simplify_tree(tree, x))

    def hopeless(count):
        rng = np.random.default_rng(0)
        factors = [rng.choice(list("abcdef"), 2) for _ in range(count)]
        terms = "+".join(f"{rng.uniform(0.1, 1):.3f}*{left}*{right}" for left, right in factors)
        return f"exp(-({terms})^2)/(2 + sin({terms}))"

    law, shorter, longer = cost("a*b/(1 - c*d) + sqrt(1 + e^2)*f"), cost(hopeless(15)), cost(hopeless(30))
    assert law < shorter / 5 and longer < 2 * shorter and longer < 60 * law


def _random(rng):
    steps = [("var", 0), ("var", 1)]
    for _ in range(rng.integers(4, 12)):
        one, other = rng.integers(max(0, len(steps) - 4), len(steps), 2).tolist()
        steps.append(
            [
                ("const", float(rng.choice([1, 2, -1, 0.5, 1.7, math.pi]))),
                ("add", one, other),
                ("mul", one, other),
                ("pow", one, int(rng.choice([-2, -1, 2, 3]))),
                ("call", str(rng.choice(["sin", "cos", "exp", "log", "sqrt", "tanh", "abs", "arcsin"])), one),
            ][rng.integers(5)]
        )
    return tuple(steps)


@pytest.mark.parametrize(
    ("text", "simplest"),
    [
        ("sqrt((a - 1)^2 + 4*a*(3.9e-17*a - sin(0.5*t - 0.5*u))^2 - 7.1e-17)", "sqrt(1 + a*(a - 2*cos(t - u)))"),
        ("exp(1e-17*a + sin(t + 1e-16) - 3e-18)", "exp(sin(t))"),
        ("1/(1e-14*a + t)^2 + u", "1/t^2 + u"),
        ("a + log(t*(1 + 1e-13*u))", "a + log(t)"),
    ],
)
def test_what_rounding_leaves_goes_inside_of_functions_too(text, simplest):
    assert _simplified(text, a=POSITIVE, t=(0.5, 6.0), u=(0.5, 6.0)) == simplest


def test_a_rate_in_small_units_is_not_rounding():
    text = "h*v/(exp(4.8e-11*v/T) - 1)"
    assert _simplified(text, h=POSITIVE, v=(3e13, 3e14), T=(3000, 7000)) == text


@pytest.mark.parametrize("text", ["3*log(-x) + log(2 - x)", "log(-x) - 2*log(1 - x)", "5*log(-2*x) + 3*log(-x)"])
def test_logarithms_of_what_is_below_zero_are_put_together_or_left(text):
    _simplified(text, x=(-5.0, -3.0))


@pytest.mark.parametrize(
    ("text", "simplest"),
    [
        ("x + x^2 + x^3 + x^4", "x^4 + x^3 + x^2 + x"),
        ("x*(1 + x + x^2 + x^3)", "x^4 + x^3 + x^2 + x"),
        ("x^5 + x^4 + x^3 + x^2 + x", "x^5 + x^4 + x^3 + x^2 + x"),
        ("x^8 + x^7 + x^6 + x^5 + x^4 + x^3 + x^2 + x",) * 2,
        ("1 + x^2 + x", "x^2 + x + 1"),
        ("3*x^3 - 2*x", "3*x^3 - 2*x"),
        ("x^3 + 2*x^2 + x", "x*(x + 1)^2"),
        ("x^2*y + x*y", "x*y*(x + 1)"),
    ],
)
def test_a_polynomial_in_one_input_is_a_sum_of_powers_unless_its_factors_are_much_simpler(text, simplest):
    assert _simplified(text, x=SIGNED, y=SIGNED) == simplest


@pytest.mark.parametrize(
    ("text", "simplest"),
    [
        ("(u^(1/3))^3 + (8*u)^(1/3)", "2*u^(1/3) + u"),
        ("u^(1/3)*u^(1/3)", "u^(2/3)"),
        ("(u^2)^(1/3) - (-u)^(5/3)", "u^(2/3) + u^(5/3)"),
        ("1/(u^(2/3) + 1)^(1/3)", "1/(u^(2/3) + 1)^(1/3)"),
    ],
)
def test_real_roots_of_both_signs_are_simplified_and_stay_what_they_are_at_0(text, simplest):
    x = np.append(np.linspace(-2, 2, 99), 0.0)[:, None]
    (tree,) = trees(from_formula(text)).trees
    found = simplify_tree(tree, x)
    assert _text(found, ["u"]) == simplest
    np.testing.assert_allclose(evaluate_tree(found, {}, x), evaluate_tree(tree, {}, x), rtol=1e-12, atol=1e-15)
    assert np.isfinite(evaluate_tree(found, {}, x)).all()


def test_a_power_that_has_no_short_name_stays_defined_at_0():
    x = np.linspace(0, 2, 50)[:, None]
    (tree,) = trees(from_formula("2*u^1.2345678 + u^1.2345678")).trees
    assert _text(simplify_tree(tree, x), ["u"]) == "3*u^1.2345678"
