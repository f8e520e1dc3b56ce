"""erf, J0 and gamma for languages without them, by the series of network/special.py, like the reference."""

import ast
import inspect
import math
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from kanserve.network import special
from kanserve_exporters._shared.expressions import Dialect, decimals, wrap

if TYPE_CHECKING:
    from kanserve_exporters._onnx.body import Body

_C_J0 = """
/* The sum of c[n]*T_n(t), by Clenshaw's rule. */
static @real @series(const @real *c, int count, @real t)
{
    @real last = 0, after = 0;
    while (--count > 0) {
        const @real next = 2*t*last - after + c[count];
        after = last;
        last = next;
    }
    return t*last - after + c[0];
}

/* The Bessel function J0. */
static @real @j0(@real x)
{
$TABLES$    const @real size = $fabs$(x), far = size < 8 ? 8 : size, t = 128/(far*far) - 1;
    @real p, q, sine, cosine;
    if (size < 8) return @series(c_near, $NEAR$, x*x/32 - 1);
    p = @series(c_p, $P$, t);
    q = @series(c_q, $Q$, t)/far;
    sine = $sin$(far);
    cosine = $cos$(far);
    return (p*(cosine + sine) - q*(sine - cosine))/$sqrt$($pi$*far);
}
"""


def c_j0(dialect: Dialect) -> str:
    """The C helper for J0."""
    tables = {"c_near": special.J0_NEAR, "c_p": special.J0_P, "c_q": special.J0_Q}
    lines = [
        f"    static @TABLE const @real {name}[{len(values)}] = {{{wrap(_numbers(values, dialect))}}};\n"
        for name, values in tables.items()
    ]
    text = _C_J0.replace("$TABLES$", "".join(lines)).replace("$pi$", dialect.literal(math.pi))
    for name, values in (("NEAR", special.J0_NEAR), ("P", special.J0_P), ("Q", special.J0_Q)):
        text = text.replace(f"${name}$", str(len(values)))
    return re.sub(r"\$(\w+)\$", lambda found: found[1] + dialect.suffix, text)


def _numbers(values: tuple[float, ...], dialect: Dialect) -> list[str]:
    return [text + dialect.suffix for text in decimals(np.array(values), dialect.precision)]


def numpy_module(names: Collection[str]) -> str:
    """The source text of these functions, and of what they use, for a module that has imported numpy."""
    source = inspect.getsource(special)
    parts: dict[str, ast.stmt] = {}
    for part in ast.parse(source).body:
        if isinstance(part, ast.FunctionDef):
            parts[part.name] = part
        elif isinstance(part, ast.Assign):
            parts |= {name.id: part for name in part.targets if isinstance(name, ast.Name)}
    needed, waiting = set[ast.stmt](), list(names)
    while waiting:
        found = parts.get(waiting.pop())
        if found is not None and found not in needed:
            needed.add(found)
            waiting += [node.id for node in ast.walk(found) if isinstance(node, ast.Name)]
    text = "\n\n".join(_with_comment(source.split("\n"), part) for part in sorted(needed, key=lambda part: part.lineno))
    return re.sub(r"\bnp\.", "numpy.", re.sub(r": Any\b| -> Any\b|: tuple\[float, \.\.\.\]", "", text))


def _with_comment(lines: list[str], part: ast.stmt) -> str:
    """The lines of a statement, and of the comment above it."""
    start = part.lineno - 1
    while lines[start - 1].startswith("#"):
        start -= 1
    return "\n".join([*lines[start : part.end_lineno], ""])


def bessel_j0(body: "Body", x: str) -> str:
    """J0 from ONNX operators."""
    eight, one = body.number(8), body.number(1)
    size = body("Abs", x)
    near = body("Sub", body("Div", body("Mul", x, x), body.number(32)), one)
    far = body("Where", body("Less", size, eight), eight, size)
    t = body("Sub", body("Div", body.number(128), body("Mul", far, far)), one)
    p = _series(body, special.J0_P, t)
    q = body("Div", _series(body, special.J0_Q, t), far)
    sine, cosine = body("Sin", far), body("Cos", far)
    above = body("Sub", body("Mul", p, body("Add", cosine, sine)), body("Mul", q, body("Sub", sine, cosine)))
    wave = body("Div", above, body("Sqrt", body("Mul", body.number(math.pi), far)))
    inside = _series(body, special.J0_NEAR, body("Where", body("Less", size, eight), near, one))
    return body("Where", body("Less", size, eight), inside, wave)


def erf(body: "Body", x: str) -> str:
    """erf from ONNX operators, in double: runtimes have no double Erf."""
    one, two = body.number(1), body.number(2)
    size = body("Abs", x)
    small = body("Less", size, one)
    near = body("Where", small, size, one)
    far = body("Where", small, one, body("Where", body("Less", size, body.number(6)), size, body.number(6)))
    scale = body("Sub", body("Div", body.number(9.6), body("Add", two, far)), body.number(2.2))
    tail = body("Mul", body("Exp", body("Neg", body("Mul", far, far))), _series(body, special.ERF_FAR, scale))
    t = body("Sub", body("Mul", two, body("Mul", near, near)), one)
    inner = body("Mul", x, _series(body, special.ERF_NEAR, t))
    outer = body("Mul", body("Sign", x), body("Sub", one, tail))
    # Sign propagates NaN, comparisons do not.
    return body("Where", small, inner, outer)


def gamma(body: "Body", x: str) -> str:
    """gamma of x > 0, NaN elsewhere, from ONNX operators."""
    zero, ten = body.number(0), body.number(special.STEPS)
    below = body("Less", x, ten)
    low = body("Where", below, x, ten)
    product = low
    for n in range(1, special.STEPS):
        product = body("Mul", product, body("Add", low, body.number(n)))
    y = body("Where", below, body("Add", x, ten), x)
    y = body("Where", body("Less", y, ten), ten, y)
    half = body("Sub", body("Mul", y, body.number(0.5)), body.number(0.25))
    root = body("Pow", y, half)
    square = body("Reciprocal", body("Mul", y, y))
    total = body.number(special.STIRLING[-1])
    for coefficient in special.STIRLING[-2::-1]:
        total = body("Add", body("Mul", total, square), body.number(coefficient))
    scale = body("Mul", body("Exp", body("Div", total, y)), body.number(math.sqrt(2 * math.pi)))
    whole = body("Mul", body("Mul", body("Mul", root, body("Exp", body("Neg", y))), root), scale)
    inside = body("Where", below, body("Div", whole, product), whole)
    return body("Where", body("Less", zero, x), inside, body.number(math.nan))


def _series(body: "Body", coefficients: tuple[float, ...], t: str) -> str:
    """Clenshaw's rule, written out."""
    twice = body("Add", t, t)
    after, last = body.number(0), body.number(coefficients[-1])
    for coefficient in coefficients[-2:0:-1]:
        rise = body("Sub", body("Mul", twice, last), after)
        last, after = body("Add", rise, body.number(coefficient)), last
    return body("Add", body("Sub", body("Mul", t, last), after), body.number(coefficients[0]))
