"""How each language writes the primitives of expressions: one dictionary per language. In a spelling `@` is the operand
(`@1`, `@2`, .. if several), `#` the exponent of a power, `$` the prefix of generated helpers, and `~` the letter f in
C's float functions. What a language does not spell is written by its definition (`kanserve.network.expression`); erf,
j0 and gamma are refused."""

from collections.abc import Iterable, Mapping

_SIMPLE = (
    *("sqrt", "exp", "log", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctanh", "arcsinh"),
    *("sinh", "cosh", "tanh"),
)
SPECIAL = ("erf", "j0", "gamma")
"""Primitives that NumPy lacks: `kanserve.network.special` computes them."""


def c_name(name: str) -> str:
    """C's name of a function, which most languages share: asin for arcsin."""
    return name.replace("arc", "a", 1)


def _each(template: str, names: Iterable[str] = _SIMPLE) -> dict[str, str]:
    """The template for each function, with C's name for % and in capitals for %%."""
    return {name: template.replace("%%", c_name(name).upper()).replace("%", c_name(name)) for name in names}


def _name(template: str, names: Iterable[str]) -> dict[str, str]:
    """The template for each function, with kanserve's name for %."""
    return {name: template.replace("%", name) for name in names}


_COMPARED = {
    "less": "(@1 < @2)",
    "less_equal": "(@1 <= @2)",
    "where": "(@1 ? @2 : @3)",
    "minimum": "(@1 < @2 ? @1 : @2)",
    "maximum": "(@1 > @2 ? @1 : @2)",
}
_TEXT = _each("%(@)") | _name("%(@)", ("abs", "sign", *SPECIAL))
_C = _each("%~(@)", (*_SIMPLE, "erf")) | {
    "abs": "fabs~(@)",
    "sign": "$sign(@)",
    "gamma": "$gamma(@)",
    "j0": "j0(@)",
    "pow": "pow~(@, #)",
    "power": "pow~(@1, @2)",
    **_COMPARED,
}
_NUMPY = _name("numpy.%(@)", (*_SIMPLE, "abs", "sign")) | {
    "erf": "scipy.special.erf(@)",
    "j0": "scipy.special.j0(@)",
    "gamma": "$gamma(@)",
    "pow": "numpy.power(@, #)",
}
_PYTHON = _each("math.%(@)", (*_SIMPLE, "erf")) | {
    "abs": "abs(@)",
    "sign": "((@ > 0) - (@ < 0) + 0*@)",
    "gamma": "(math.gamma(@) if @ > 0 else math.nan)",
    "pow": "math.pow(@, #)",
}
_RUST = _each("@.%()") | {"log": "@.ln()", "abs": "@.abs()", "sign": "$sign(@)", "pow": "@.powf(#)"}
# Where these are not real, Julia raises and MATLAB becomes complex: helpers give NaN.
_GUARDED = ("sqrt", "log", "arcsin", "arccos", "arctanh", "gamma")
_SQL = _each("%%(@)", ("sin", "cos", "tan", "arctan", "sinh", "cosh", "tanh", "abs")) | {
    # A CASE, because arguments outside the domain end the query in PostgreSQL and BigQuery.
    "sqrt": "CASE WHEN @ >= 0 THEN SQRT(@) END",
    "log": "CASE WHEN @ > 0 THEN LN(@) END",
    "exp": "CASE WHEN @ > 700 THEN 1E304 ELSE EXP(@) END",
    "arcsin": "CASE WHEN ABS(@) <= 1 THEN ASIN(@) END",
    "arccos": "CASE WHEN ABS(@) <= 1 THEN ACOS(@) END",
    "arctanh": "CASE WHEN ABS(@) < 1 THEN 0.5*LN((1 + @)/(1 - @)) END",
    "arcsinh": "CASE WHEN @ < 0 THEN -LN(SQRT((@)*(@) + 1) - @) ELSE LN(SQRT((@)*(@) + 1) + @) END",
    "sign": "CASE WHEN @ > 0 THEN 1E0 WHEN @ < 0 THEN -1E0 WHEN @ = 0 THEN 0E0 END",
}

SPELLINGS: Mapping[str, Mapping[str, str]] = {
    # For reading.
    "text": _TEXT,
    "latex": _name(r"\%\left(@\right)", ("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"))
    | {
        "sqrt": r"\sqrt{@}",
        "exp": "e^{@}",
        "log": r"\log\left(@\right)",
        "abs": r"\left|@\right|",
        "j0": r"J_{0}\left(@\right)",
        "gamma": r"\Gamma\left(@\right)",
        "arctanh": r"\operatorname{artanh}\left(@\right)",
        "arcsinh": r"\operatorname{arsinh}\left(@\right)",
        **_name(r"\operatorname{%}\left(@\right)", ("sign", "erf", "sigmoid")),
    },
    # An expression over NumPy, and one over libm.
    "python expression": _name("np.%(@)", (*_SIMPLE, "abs", "sign")) | _name("%(@)", SPECIAL) | {"pow": "@**#"},
    "c expression": _C
    | {"sign": "((@ > 0) - (@ < 0) + 0*@)", "gamma": "(@ > 0 ? tgamma(@) : (double)NAN)"},  # 0*@: NaN stays NaN
    # Whole functions.
    "c": _C,
    "fortran": _each("%(@)", (*_SIMPLE, "abs", "erf"))
    | {"sign": "$sign(@)", "gamma": "$gamma(@)", "j0": "bessel_j0(@)", "pow": "(@)**(#)"},
    "rust": _RUST,
    "julia": _each("%(@)")
    | _each("$%(@)", (*_GUARDED, "sin", "cos", "tan"))
    | {"abs": "abs(@)", "sign": "sign(@)", "erf": "erf(@)", "j0": "besselj0(@)", "pow": "$pow(@, #)"},
    "matlab": _each("%(@)")
    | _each("$%(@)", _GUARDED)
    | {"abs": "abs(@)", "sign": "sign(@)", "erf": "erf(@)", "j0": "besselj(0, @)", "pow": "$pow(@, #)"},
    "numpy": _NUMPY,
    "python": _PYTHON | _name("$%(@)", ("exp", "sign", "gamma")),
    "excel": _each("%%(@)", (*_SIMPLE, "abs", "sign", "erf"))
    | {
        "log": "LN(@)",
        # Without infinities: so 1/(1+EXP(1000)) is nearly 0, as it should be, and not an error.
        "exp": "EXP(MIN(@,700))",
        "gamma": "IF(@>0,GAMMA(@),NA())",
        "j0": "BESSELJ(@,0)",
        "pow": "IF(@<0,NA(),POWER(@,#))",
    },
    "sql": _SQL,
    "postgresql": _SQL
    | {
        "exp": "CASE WHEN @ > 709 THEN 'Infinity' WHEN @ < -745 THEN 0 ELSE EXP(@) END",
        "arctanh": "CASE WHEN ABS(@) < 1 THEN ATANH(@) END",
        "arcsinh": "ASINH(@)",
        "sign": "SIGN(@)",
        "erf": "ERF(@)",
        "gamma": "CASE WHEN @ > 0 THEN GAMMA(@) END",
    },
    "sqlite": _SQL
    | {
        "sqrt": "SQRT(@)",
        "log": "LN(@)",
        "exp": "EXP(@)",
        **_each("%%(@)", ("arcsin", "arccos", "arctanh", "arcsinh")),
    },
    "duckdb": _SQL
    | {
        "exp": "EXP(@)",
        "arctanh": "CASE WHEN ABS(@) < 1 THEN ATANH(@) END",
        "arcsinh": "ASINH(@)",
        "gamma": "CASE WHEN @ > 0 THEN GAMMA(@) END",
    },
    "bigquery": _SQL
    | {
        "sqrt": "SAFE.SQRT(@)",
        "log": "SAFE.LN(@)",
        "exp": "CASE WHEN @ > 709 THEN CAST('inf' AS FLOAT64) ELSE EXP(@) END",
        "arcsinh": "ASINH(@)",
        "sign": "SIGN(@)",
        **_each("SAFE.%%(@)", ("arcsin", "arccos", "arctanh", "sinh", "cosh")),
    },
    # Networks: the bodies of edges.
    "c network": _C | {"gamma": "(@ > 0 ? tgamma~(@) : ($real)NAN)", "j0": "$j0(@)"},
    "c kernel": _C | _name("%_of(@)", ("sigmoid", "sign", "gamma", "digamma", "j0", "j1")) | {"y": "y"},
    "numpy network": _NUMPY | _name("%(@)", SPECIAL),
    "python network": _PYTHON,
    "javascript network": _each("Math.%(@)", (*_SIMPLE, "abs", "sign"))
    | {"pow": "Math.pow(@, #)", "power": "Math.pow(@1, @2)", **_COMPARED},
    # Calls of operators: no @, since these are the operators' names.
    "onnx": {**{name: c_name(name).capitalize() for name in (*_SIMPLE, "abs", "sign", "erf", "sigmoid")}},
    "sympy": {**_each("%", (*_SIMPLE, "sign", *SPECIAL)), "abs": "Abs"},
    "torch": _each("torch.%(@)", (*_SIMPLE, "abs", "sign", "sigmoid", "erf"))
    | {**_name("_%(@)", ("sqrt", "arcsin", "arccos", "j0", "gamma")), "pow": "@**#"},
}
