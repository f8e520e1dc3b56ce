"""erf, J0 and gamma for languages without them, by the series of network/special.py, like the reference."""

import ast
import inspect
import math
import re
from collections.abc import Collection

import numpy as np

from kanserve.network import special
from kanserve_exporters._shared.expressions import Dialect, decimals, wrap

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
    """The source text of these functions and their dependencies, for a module that has imported numpy."""
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
    start = part.lineno - 1
    while lines[start - 1].startswith("#"):
        start -= 1
    return "\n".join([*lines[start : part.end_lineno], ""])
