"""Named functions as ONNX operators, at full double accuracy on a runtime without double kernels for some of them.

The table of functions has each function as nested operator calls. onnxruntime has no double Tan, Asin, Acos, Atan,
Asinh, Atanh, Sinh and Cosh, and its double Sigmoid has an absolute, not relative, error of 1e-16. In double these are
composed of operators that it has; `eps` below is 1.1e-16, and Exp, Log, Sqrt and Tanh have relative errors of a few
eps.

- tan = sin r / cos r, or -cos r / sin r, with r = x - n·π/2 for a whole number n (range reduction): Sin and Cos have
  absolute errors of 5e-16, which are small relative errors only where their values are not small. π/2 is subtracted in
  parts (Cody and Waite; the numbers are fdlibm's), two of 33 bits and the rest, so that n·part is exact up to
  |x| = 1e6; beyond, r is x.
- cosh = (exp(x) + exp(-x)) / 2: a sum of positive numbers. sinh = (exp(x) - exp(-x)) / 2 from |x| = 1 on, where the
  difference keeps 0.86 of its larger term; below, 2t / (1 - t²) with t = tanh(x/2) ≤ 0.47 has no cancellation. Both
  overflow at |x| = 709.8, libm's at 710.5.
- atanh = log1p(w) / 2 with w = 2|x| / (1 - |x|), times the sign of x. 1 - |x| is exact from 1/2 on. Kahan's
  log1p(w) = log(u)·w / (u - 1) with u = 1 + w (and w itself where u = 1) has a relative error of a few eps for every
  w ≥ 0. At |x| = 1 it is inf/inf and beyond it the log of a negative number: NaN, as the row must be.
- asinh = log1p(|x| + x²/(1 + √(x² + 1))), times the sign of x; from 1e8 on, where x² + 1 is x², log |x| + log 2.
- The inverse trigonometric functions are the angle of a point (p, q), p ≥ 0. A float32 arctangent gives y₀ with an
  error below 1e-6; rotating the point back by y₀ leaves δ = (q·cos y₀ - p·sin y₀) / (p·cos y₀ + q·sin y₀), and
  angle = y₀ + arctan δ = y₀ + δ with an error of δ³/3 < 1e-18 (relative to y where y is small, since the error of y₀ is
  then relative too). Both products of the numerator have relative errors of eps; the denominator is the point's length.
  arctan x is the angle of (1, x), arcsin x of (√((1-x)(1+x)), x), and arccos x twice that of (√(1+x), √(1-x)): the
  differences 1 ∓ x are exact near ±1, so no accuracy is lost there. At ±1 the quotient q/p is ±infinity, whose float32
  arctangent is ±π/2; beyond, the root is NaN.
"""

import ast
import math
from collections.abc import Callable

from kanserve.errors import ExportError
from kanserve.network.expression import Exponent, Expr, expand_unspelled, fold, is_real
from kanserve.network.functions import function
from kanserve.network.own_functions import by_values
from kanserve.network.powers import is_odd, takes_negative
from kanserve.network.spellings import SPELLINGS
from kanserve_exporters._onnx.body import Body

_QUARTER_TURN = (1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624879595063154e-21)  # π/2
_FLOAT, _DOUBLE = 1, 11  # TensorProto.DataType
_NAMES = """Abs Acos Add Asin Asinh Atan Atanh Cos Cosh Div Erf Exp Log Mul Neg Pow Reciprocal Sigmoid
Sign Sin Sinh Sqrt Sub Tan Tanh"""
_OPERATORS = frozenset(_NAMES.split())  # the operators that the table of functions may call


def apply(body: Body, name: str, x: str) -> str:
    if own := by_values(name):
        text = own.spelling("onnx", ExportError)
        try:
            return _call(body, ast.parse(text, mode="eval").body, x)
        except (SyntaxError, ValueError) as error:
            raise ExportError(
                f"The ONNX spelling of {name!r}, {text!r}, must be calls of known operators: {error}."
            ) from None
    spelled = {*SPELLINGS["onnx"], "where", "less", "minimum", "maximum", "power"}
    if body.precision == "double":  # no runtime has a double Erf
        spelled -= {"erf"}
    expression = expand_unspelled(function(name).expression, spelled)
    return _resolve(body, fold(expression, lambda node, parts: _node(body, node, parts, x)))


def _node(body: Body, node: Expr, parts: list[str], x: str) -> str:
    """The value of a part; "-v" and "/v" are left for Sub and Div to compute."""
    match node.step:
        case ("x",):
            return x
        case ("number", value):
            return body.number(value)
        case ("mul", factor, _) if factor.number == -1:
            return f"-{_resolve(body, parts[1])}"
        case ("pow", _, exponent) if exponent < 0 and not is_real(exponent):
            return f"/{_power(body, _resolve(body, parts[0]), -exponent)}"
        case ("add", _, _) if any(part.startswith("-") for part in parts):
            a, b = parts if parts[1].startswith("-") else reversed(parts)
            return body("Sub", _resolve(body, a), b[1:])
        case ("mul", _, _) if parts[1].startswith("/"):
            return body("Div", _resolve(body, parts[0]), parts[1][1:])
    return _compute(body, node, [_resolve(body, part) for part in parts])


def _compute(body: Body, node: Expr, values: list[str]) -> str:
    match node.step:
        case ("add" | "mul" as kind, _, _):
            return body(kind.capitalize(), *values)
        case ("pow", _, exponent):
            return _power(body, values[0], exponent)
        case ("call", "minimum" | "maximum" as name, _, _):  # of a NaN and a number, the first one
            a, b = values
            return body("Where", body("Less", *((b, a) if name == "minimum" else (a, b))), b, a)
        case (_, name, *_):
            return operator(body, _OPERATIONS.get(name) or SPELLINGS["onnx"][name], *values)
    raise AssertionError(node)


_OPERATIONS = {"where": "Where", "less": "Less", "power": "Pow"}


def _resolve(body: Body, value: str) -> str:
    kind = {"-": "Neg", "/": "Reciprocal"}.get(value[0])
    return body(kind, value[1:]) if kind else value


def _power(body: Body, base: str, exponent: Exponent) -> str:
    if exponent == 1:
        return base
    if isinstance(exponent, int):
        square = body("Mul", base, base)
        if exponent == 3:
            return body("Mul", square, base)
        half = square if exponent == 2 else _power(body, square, exponent // 2)
        return body("Mul", half, base) if exponent % 2 else half
    if not is_real(exponent):
        root = body("Sqrt", base)
        return body("Mul", _power(body, base, int(exponent)), root) if exponent > 1 else root
    if not takes_negative(exponent):
        return body("Pow", base, body.number(float(exponent)))
    size = body("Pow", body("Abs", base), body.number(float(exponent)))
    return body("Mul", body("Sign", base), size) if is_odd(exponent) else size


def operator(body: Body, kind: str, *inputs: str) -> str:
    """One operator, or its replacement in double."""
    if body.precision == "double" and kind in _IN_DOUBLE:
        return _IN_DOUBLE[kind](body, *inputs)
    return body(kind, *inputs)


def _call(body: Body, node: ast.expr, x: str) -> str:
    match node:
        case ast.Name(id="x"):
            return x
        case ast.Constant(value=int() | float() as value):
            return body.number(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return body.number(-value)
        case ast.Call(func=ast.Name(id=kind), args=arguments, keywords=[]) if kind in _OPERATORS:
            return operator(body, kind, *(_call(body, argument, x) for argument in arguments))
        case _:
            raise ValueError(ast.unparse(node))


def _sigmoid(body: Body, x: str) -> str:
    return body("Reciprocal", body("Add", body.number(1), body("Exp", body("Neg", x))))


def _tan(body: Body, x: str) -> str:
    zero, near = body.number(0), body("Less", body("Abs", x), body.number(1e6))
    turns = body("Where", near, body("Round", body("Mul", x, body.number(2 / math.pi))), zero)
    rest = x
    for part in _QUARTER_TURN:
        rest = body("Sub", rest, body("Mul", turns, body.number(part)))
    sine, cosine = body("Sin", rest), body("Cos", rest)
    half = body("Mul", turns, body.number(0.5))
    even = body("Equal", half, body("Floor", half))
    above = body("Where", even, sine, body("Neg", cosine))
    return body("Div", above, body("Where", even, cosine, sine))


def _cosh(body: Body, x: str) -> str:
    return body("Mul", body.number(0.5), body("Add", body("Exp", x), body("Exp", body("Neg", x))))


def _sinh(body: Body, x: str) -> str:
    half = body.number(0.5)
    t = body("Tanh", body("Mul", half, x))
    near = body("Div", body("Add", t, t), body("Sub", body.number(1), body("Mul", t, t)))
    far = body("Mul", half, body("Sub", body("Exp", x), body("Exp", body("Neg", x))))
    return body("Where", body("Less", body("Abs", x), body.number(1)), near, far)


def _atanh(body: Body, x: str) -> str:
    unit = body.number(1)
    size = body("Abs", x)
    w = body("Div", body("Add", size, size), body("Sub", unit, size))
    return body("Mul", body("Mul", body.number(0.5), body("Sign", x)), _log1p(body, w))


def _asinh(body: Body, x: str) -> str:
    unit, size, square = body.number(1), body("Abs", x), body("Mul", x, x)
    root = body("Sqrt", body("Add", square, unit))
    near = _log1p(body, body("Add", size, body("Div", square, body("Add", unit, root))))
    far = body("Add", body("Log", size), body.number(math.log(2)))
    return body("Mul", body("Sign", x), body("Where", body("Less", size, body.number(1e8)), near, far))


def _log1p(body: Body, w: str) -> str:
    unit = body.number(1)
    u = body("Add", unit, w)
    log1p = body("Div", body("Mul", body("Log", u), w), body("Sub", u, unit))
    return body("Where", body("Equal", u, unit), w, log1p)


def _atan(body: Body, x: str) -> str:
    return _angle(body, body.number(1), x)


def _asin(body: Body, x: str) -> str:
    unit = body.number(1)
    cosine = body("Sqrt", body("Mul", body("Sub", unit, x), body("Add", unit, x)))
    return _angle(body, cosine, x)


def _acos(body: Body, x: str) -> str:
    unit = body.number(1)
    half = _angle(body, body("Sqrt", body("Add", unit, x)), body("Sqrt", body("Sub", unit, x)))
    return body("Add", half, half)


def _angle(body: Body, p: str, q: str) -> str:
    """The angle of the point (p, q) for p ≥ 0; see the module's docstring."""
    start = body("Cast", body("Atan", body("Cast", body("Div", q, p), to=_FLOAT)), to=_DOUBLE)
    cosine, sine = body("Cos", start), body("Sin", start)
    across = body("Sub", body("Mul", q, cosine), body("Mul", p, sine))
    along = body("Add", body("Mul", p, cosine), body("Mul", q, sine))
    return body("Add", start, body("Div", across, along))


_IN_DOUBLE: dict[str, Callable[..., str]] = {
    "Sigmoid": _sigmoid,
    "Tan": _tan,
    "Cosh": _cosh,
    "Sinh": _sinh,
    "Asinh": _asinh,
    "Atanh": _atanh,
    "Atan": _atan,
    "Asin": _asin,
    "Acos": _acos,
}
