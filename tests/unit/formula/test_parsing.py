"""The grammar of formulas, and the mistakes in them: what a text means, and where it is wrong."""

import contextlib
import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kanserve import Kan, KanserveError, evaluate, from_formula
from kanserve.errors import InputError
from kanserve.formula.expressions.parsing import FUNCTION_NAMES, MAX_LENGTH, MOST_COMPARED, PARSING_MAX_NESTING
from tests.support.agreement import DOUBLE


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("-x^2", -9),
        ("(-x)^2", 9),
        ("2^-x", 0.125),
        ("x^2^3", 3.0**8),
        ("x**2**-1", math.sqrt(3)),
        ("1 - x - 2", -4),
        ("12/x/2", 2),
        ("12/x*2", 8),
        ("12/(x*2)", 2),
        ("- - +x", 3),
        ("x - -x", 6),
        (".5*x + 2.*1e-1 + 1.5E+1", 16.7),
        ("2*pi*x/pi - e^0", 5),
        ("-x*-x", 9),
        ("\n sqrt ( x\t) ", math.sqrt(3)),
        ("max(x, 1)", 3),
        ("max(x - 5, x*0.5)", 1.5),
        ("min(x, 1, x^2, 0.25)", 0.25),
        ("1 - min(max(x, 5), 4)", -3),
        ("Max(x, 4) + Min(x, 4)", 7),
        ("max*2", 6),
        ('"number of rooms"*2', 6),
        ('"\\u006d"', 3),
        ("größe_1", 3),
        ("49/49*x", 3),
    ],
)
def test_an_operator_binds_as_in_python(text, wanted):
    assert evaluate(from_formula(text), [[3.0]])[0, 0] == pytest.approx(wanted, rel=1e-15)


REAL: dict[str, Callable[[float], float]] = {
    **{name: getattr(math, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log", "sqrt")},
    **{name: getattr(math, name) for name in ("asin", "acos", "atan", "atanh", "asinh", "acosh", "log10", "log2")},
    **{"arcsin": math.asin, "arccos": math.acos, "arctan": math.atan, "arctanh": math.atanh, "artanh": math.atanh},
    **{"arcsinh": math.asinh, "arsinh": math.asinh, "arccosh": math.acosh, "arcosh": math.acosh, "ln": math.log},
    **{"abs": abs, "Abs": abs, "sign": lambda x: math.copysign(1, x), "sgn": lambda x: math.copysign(1, x)},
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gaussian": lambda x: math.exp(-x * x),
    **{
        "erf": math.erf,
        "gamma": lambda x: math.gamma(x) if x > 0 else math.nan,
        "j0": lambda x: float(mpmath.besselj(0, x)),
    },
    "cot": lambda x: 1 / math.tan(x),
    "sec": lambda x: 1 / math.cos(x),
    "csc": lambda x: 1 / math.sin(x),
    "coth": lambda x: 1 / math.tanh(x),
    "sech": lambda x: 1 / math.cosh(x),
    "csch": lambda x: 1 / math.sinh(x),
}


def test_every_function_is_what_its_name_says():
    assert REAL.keys() == FUNCTION_NAMES
    for name, function in REAL.items():
        for x in (-700.25, -0.6, 0.3, 1.7, 650.5):
            try:
                wanted = function(x)
            except (ValueError, OverflowError):
                wanted = math.nan
            got = evaluate(from_formula(f"{name}(x)"), [[x]])[0, 0]
            if math.isfinite(got) or abs(x) < 600:  # exp(-x) overflows on the way to a finite number
                assert got == pytest.approx(wanted, rel=1e-12, nan_ok=True), (name, x)


def test_arguments_of_max_and_min_are_limited_in_all_since_each_adds_a_layer():
    most = MOST_COMPARED
    nested = "min(" * (most // 2) + "x" + ", x^2)" * (most // 2)
    assert evaluate(from_formula(f"max({nested}{', 1' * (most - most // 2)})"), [[0.5]]) == 1
    with pytest.raises(InputError, match=f"may compare at most {most} arguments"):
        from_formula(f"max({nested}{', 1' * (most - most // 2 + 1)})")


def test_max_and_min_of_sympy_are_read():
    x, y = sympy.symbols("x y")
    kan = from_formula(sympy.Max(x, y, 1) - sympy.Min(x, y))
    assert evaluate(kan, [[0.5, -2.0]]) == pytest.approx(3.0) and evaluate(kan, [[2.0, 4.0]]) == pytest.approx(2.0)


# Random expressions, against the same tree in 50 digits

Tree = tuple[str, ...] | tuple[object, ...]
_NUMBERS = st.sampled_from(["0", "1", "2", "0.5", "3", "1.25", "pi", "e", "1e1"])
_LEAVES = st.one_of(st.sampled_from(["x", "y", "z"]), _NUMBERS).map(lambda name: ("leaf", name))
_UNARY = st.sampled_from(["-", "+", "sin", "exp", "log", "sqrt", "tanh", "abs", "arctan", "arcsin", "cosh"])
_EXPONENTS = st.sampled_from(["0", "1", "2", "3", "5", "7", "-1", "-2", "-3", "0.5", "-0.5", "1.5", "0.25", "0.3"])
_EXPONENT_LEAVES = _EXPONENTS.map(lambda text: ("leaf", text))


def _larger(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return st.one_of(
        st.tuples(_UNARY, inner),
        st.tuples(st.sampled_from(["+", "-", "*", "/"]), inner, inner),
        st.tuples(st.sampled_from(["^", "**"]), inner, st.one_of(_EXPONENT_LEAVES, inner)),
    )


TREES = st.recursive(_LEAVES, _larger, max_leaves=10)


def spelled(tree):
    match tree:
        case ("leaf", name):
            return f"({name})" if name.startswith("-") else name
        case (operator, one):
            return f"({operator} {spelled(one)})" if operator in "+-" else f"{operator}({spelled(one)})"
        case (operator, one, other):
            return f"({spelled(one)} {operator}{spelled(other)})"


def truth(tree, row: dict[str, mpmath.mpf], jitter: Callable[[], float] = lambda: 0.0) -> mpmath.mpf:
    """The value, its leaves moved by parts of themselves; an error where a part is undefined or is huge."""
    match tree:
        case ("leaf", name):
            return (row[name] if name in row else mpmath.mpf(name)) * (1 + mpmath.mpf(jitter()))
        case (operator, one) if operator in "+-":
            result = truth(one, row, jitter) * (-1 if operator == "-" else 1)
        case (name, one):
            function = {"abs": abs, "arctan": mpmath.atan, "arcsin": mpmath.asin}.get(name) or getattr(mpmath, name)
            result = function(truth(one, row, jitter))
        case ("^" | "**", one, ("leaf", exponent)) if exponent not in row:
            result = truth(one, row, jitter) ** mpmath.mpf(exponent)
        case (operator, one, other):
            a, b = truth(one, row, jitter), truth(other, row, jitter)
            if operator in ("^", "**") and a <= 0:
                raise ValueError  # whether the exponent is constant is not known here
            of = {"+": mpmath.fadd, "-": mpmath.fsub, "*": mpmath.fmul, "/": mpmath.fdiv}
            result = of.get(operator, mpmath.power)(a, b)
    if isinstance(result, mpmath.mpc):
        raise ZeroDivisionError
    if not abs(result) < 1e30 or 0 < abs(result) < 1e-30:
        raise ValueError
    return result


@pytest.mark.slow
@pytest.mark.extended
@settings(max_examples=150, deadline=None, derandomize=True)
@given(TREES)
def test_a_network_is_its_formula_and_undefined_where_that_is(tree):
    text = spelled(tree)
    constants = {"pi": +mpmath.mp.pi, "e": +mpmath.mp.e}
    try:
        kan = from_formula(text, inputs=["x", "y", "z"])
    except InputError as refused:
        assume("at most 64" not in str(refused))
        with pytest.raises((ArithmeticError, ValueError)):
            truth(tree, dict.fromkeys("xyz", mpmath.mpf(0.7)) | constants)
        return
    x = np.random.default_rng(0).uniform(-2, 2, (4, 3))
    for row, got in zip(x.tolist(), evaluate(kan, x)[:, 0], strict=True):
        moves = np.random.default_rng(0)
        with mpmath.workdps(50):
            names = {name: mpmath.mpf(number) for name, number in zip("xyz", row, strict=True)} | constants
            try:
                wanted = truth(tree, names)
            except ZeroDivisionError:
                assert math.isnan(got), (text, row)
                continue
            except ValueError:
                continue
            try:
                moved = [truth(tree, names, lambda: moves.uniform(-1e-13, 1e-13)) for _ in range(3)]  # noqa: B023
            except (ArithmeticError, ValueError):
                continue  # at the very edge of where it is defined
            # What rounding in the leaves does to it, and an absolute error where terms cancel.
            allowed = DOUBLE * max(1, abs(wanted)) + max(abs(value - wanted) for value in moved)
            assert abs(mpmath.mpf(got) - wanted) <= allowed, (text, row)


# Mistakes


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("", "Wanted a number, a name or '('", 0),
        ("a + * b", "got '*'", 4),
        ("(a*(b+c)", "not closed", 0),
        ("sin(a", "not closed", 3),
        ("a)", "no bracket is open", 1),
        ("(a b)", "Wanted an operator or ')', got 'b'", 3),
        ("2x", "Write a product as 2*x", 1),
        ("a (b)", "A product is written a*(...)", 0),
        ("3*sin x", r"write sin(...)", 2),
        ("a + foo(b)", "No function is called foo. There are: Abs, Max, Min, abs", 4),
        ("1 + max(a)", "max takes two or more arguments: max(a, b).", 4),
        ("min(a, b", "This bracket is not closed.", 3),
        ("max(a b)", "Wanted an operator, ',' or ')', got 'b'", 6),
        ("sin(a, b)", "Wanted an operator or ')', got ','", 5),
        ("a $ b", "contain '$'", 2),
        ("x²", "write a power as x^2", 0),
        ('a*"b', "contain '\"'", 2),
        ('a*"\\q"', "escaped as in JSON", 2),
        ("a*1e999", "too large for a double", 2),
        ("1e-400*a", "not 0 but too small for a double", 0),
        ("a + 0.0003E-999", "not 0 but too small for a double", 4),
        ("inf*a", "only finite numbers; to use inf as a name, put it in double quotes", 0),
        ("a + NaN", "only finite numbers", 4),
        ("a - Infinity", "only finite numbers", 4),
        ("a + 1/(2-2)", "divides by 0", 5),
        ("a*log(-2)", "log(-2.0) is not a finite real number", 2),
        ("arcsin(2) + a", "arcsin(2.0)", 0),
        ("a + (-8)^(1/4)", "not a finite real number", 8),
        ("(0-2)^a", "to a variable power", 5),
        ("a + 1e200*1e200", "a double cannot hold", 9),
        ("a*10^400", "a double cannot hold", 4),
        ("1e-200*a*1e-200", "a double cannot hold: too large, or too small", 6),
        ("(1e-200*a)*(1e-200*b)", "a double cannot hold: too large, or too small", 10),
        ("a/(0*log(a))", "divides by 0", 1),
        ("(1e-100*a)^5", "a double cannot hold", 10),
        ("a^65", "at most 64", 1),
        ("__import__('os')", 'contain "\'"', 11),
        ("a.real", "contain '.'", 1),
        ("a[0]", "contain '['", 1),
        ("lambda: 1", "contain ':'", 6),
    ],
)
def test_a_mistake_is_shown_where_it_is(text, message, at):
    with pytest.raises(InputError) as caught:
        from_formula(text)
    said, shown, caret = str(caught.value).split("\n")
    assert message in said and said.endswith(f"At character {at + 1}:")
    assert shown == "  " + text and caret == " " * (at + 2) + "^"


def test_a_mistake_in_a_long_text_of_several_lines_is_shown_in_its_line():
    with pytest.raises(InputError, match="At line 3, character 7:") as caught:
        from_formula("a +\n b +\n c  + * d")
    assert str(caught.value).endswith("\n   c  + * d\n        ^")
    with pytest.raises(InputError, match="At character 5002:") as caught:
        from_formula("a+" * 2500 + "+$" + "+a" * 100)
    _, shown, caret = str(caught.value).split("\n")
    assert len(shown) < 80 and shown[len(caret) - 1] in "+$"


@pytest.mark.parametrize(
    "text",
    [
        "(" * 9000,
        "(" * 4999 + "x" + ")" * 4999,
        "-" * 9999 + "x",
        "x" + "^x" * 4999,
        "sin(" * 2000 + "x" + ")" * 2000,
        "9" * 9999 + "*x",
        '"' * 9999,
        "x" * (MAX_LENGTH + 1),
        "*".join(f"x{n}^64" for n in range(1000)),
        "+".join(f"x{n}*x{n + 1}" for n in range(800)),
        "\x00",
    ],
)
def test_a_hostile_text_is_refused(text):
    with pytest.raises(KanserveError) as caught:
        from_formula(text)
    assert len(str(caught.value)) < 600


def test_what_is_nested_as_deep_as_may_be_becomes_a_network():
    for left, right in (("(", ")"), ("arcsinh(", ")"), ("(1/", "+x)"), ("(y*", "+x)^0.75"), ("1+2*sin(", ")^2")):
        deep = left * (PARSING_MAX_NESTING - 1) + "x" + right * (PARSING_MAX_NESTING - 1)
        assert isinstance(from_formula(deep), Kan)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([*"xy12.e+-*/^()", "**", "sin", "log(", '"', " ", "²", "é"]), max_size=25).map("".join))
def test_any_text_is_a_network_or_an_error_of_ours(text):
    with contextlib.suppress(KanserveError):
        assert isinstance(from_formula(text, inputs=["x", "y"]), Kan)


def test_zero_in_any_spelling_is_a_number_and_inf_in_quotes_a_name():
    kan = from_formula('"inf" + 0e-999 + 0.000')
    assert [variable.name for variable in kan.inputs] == ["inf"] and evaluate(kan, [[2.0]])[0, 0] == 2.0


def test_a_number_of_sympys_that_is_too_small_is_refused():
    with pytest.raises(InputError, match="not 0 but too small for a double"):
        from_formula(sympy.Float("1e-400") * sympy.Symbol("x"))
