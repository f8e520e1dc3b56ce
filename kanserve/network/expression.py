"""Expressions in one variable x: what a row of the table of functions is, and all that follows from it.

    >>> derivative(X**2 + np.sin(X)) is 2 * X + np.cos(X)
    True

An expression is made by Python's operators and NumPy's functions from `X`, numbers and `PRIMITIVES`. Equal expressions
are one object, so that `is` compares them and shared parts are computed and written once. Sums, products and powers
have the order in which they are written, which decides their last bits. A power of a negative number is the real one
where the exponent is a fraction with an odd denominator (`kanserve.network.powers`).

From an expression follow its NumPy function (`compile_expression`), its derivative, and the steps of a formula
(`steps`), which every language prints.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError
from kanserve.network import special
from kanserve.network.powers import as_fraction, is_odd, takes_negative

Array = NDArray[np.float64]
Step = tuple[Any, ...]
Exponent = int | Fraction | float
T = TypeVar("T")

_DEEPEST = 20  # operations within one another in a line of compiled Python, which reads up to 200 brackets
_LARGEST_PRODUCT = 8  # whole powers up to this are products, in the order in which the table had them by hand


@dataclass(frozen=True, eq=False, repr=False)
class Expr(np.lib.mixins.NDArrayOperatorsMixin):
    """An operation and its operands: ("x",), ("number", 2.0), ("add", a, b), ("pow", a, 3), ("call", "sin", a)."""

    step: Step

    # The mixin's own would compare element by element.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @property
    def operands(self) -> tuple["Expr", ...]:
        return tuple(part for part in self.step if isinstance(part, Expr))

    @property
    def number(self) -> float | None:
        value: float | None = self.step[1] if self.step[0] == "number" else None
        return value

    def __repr__(self) -> str:
        return f"Expr{self.step!r}"

    def at(self, x: "Expr") -> "Expr":
        """Substitute an expression for X."""
        return self if x is X else fold(self, lambda node, parts: x if node is X else rebuilt(node, parts))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *arguments: Any, **options: Any) -> Any:
        if any(not isinstance(argument, Expr | float | int | np.number | Fraction) for argument in arguments):
            return NotImplemented  # a dual number, which may have expressions for values, or an array
        if method != "__call__" or options or ufunc not in _OF_UFUNCS:
            raise DataError(f"An expression cannot hold NumPy's {ufunc.__name__}.")
        return _OF_UFUNCS[ufunc](*arguments)

    def __array_function__(self, function: Any, _types: Any, arguments: Any, options: Any) -> Any:
        if any(not isinstance(argument, Expr | float | int | np.number) for argument in arguments):
            return NotImplemented
        if function is np.where and len(arguments) == 3 and not options:
            return call("where", *arguments)
        if function in (np.ones_like, np.zeros_like) and len(arguments) == 1 and not options:
            return _expr(float(function is np.ones_like))
        name = getattr(function, "name", None)
        if name in PRIMITIVES:  # a function that a user registered by its values
            return call(name, *arguments)
        raise DataError(f"An expression cannot hold NumPy's {function.__name__}.")


_MADE: dict[Step, Expr] = {}


def _make(*step: Any) -> Expr:
    return _MADE.get(step) or _MADE.setdefault(step, Expr(step))


def _expr(value: Any) -> Expr:
    made: Expr = value if isinstance(value, Expr) else _make("number", float(value))
    return made


X = _make("x")
_ZERO, _ONE, _MINUS = _expr(0.0), _expr(1.0), _expr(-1.0)


def _add(a: Any, b: Any) -> Expr:
    a, b = _expr(a), _expr(b)
    if a.number is not None and b.number is not None:
        return _expr(a.number + b.number)
    if a is _ZERO:
        return _expr(b)
    return _expr(a) if b is _ZERO else _make("add", a, b)


def _mul(a: Any, b: Any) -> Expr:
    a, b = _expr(a), _expr(b)
    if b.number is not None:
        a, b = b, a
    if a.number is not None:
        return _scale(a, a.number, b)
    for factor, other in ((a, b), (b, a)):  # a number goes first
        if factor.step[0] == "mul" and factor.step[1].number is not None:
            rest = factor.step[2]
            return _mul(factor.step[1], _mul(rest, other) if factor is a else _mul(other, rest))
    (base, m), (other, n) = _whole_power(a), _whole_power(b)
    if base is other and m > 0 and n > 0:
        return _pow(base, m + n)
    return _make("mul", a, b)


def _scale(a: Expr, number: float, b: Expr) -> Expr:
    """Multiply an expression by `a`, which is a number."""
    if b.number is not None:
        return _expr(number * b.number)
    if a is _ZERO or a is _ONE:  # slopes are only asked for where all values are finite
        return a if a is _ZERO else b
    if b.step[0] == "mul" and b.step[1].number is not None:
        return _mul(number * b.step[1].number, b.step[2])
    return _make("mul", a, b)


def _whole_power(a: Expr) -> tuple[Expr, int]:
    return (a.step[1], a.step[2]) if a.step[0] == "pow" and isinstance(a.step[2], int) else (a, 1)


def _pow(base: Any, exponent: Any) -> Expr:
    base = _expr(base)
    exponent = exponent.number if isinstance(exponent, Expr) and exponent.number is not None else exponent
    if isinstance(exponent, Expr):
        return call("power", base, exponent)
    if exponent == int(exponent):
        exponent = int(exponent)
    elif not isinstance(exponent, Fraction):
        exponent = as_fraction(float(exponent)) or float(exponent)
    if exponent in (0, 1):
        return base if exponent == 1 else _ONE
    if base.number is not None:
        return _expr(base.number**exponent)
    if exponent == -1 and base.step[0] == "pow" and base.step[2] > 0:
        return _make("pow", base.step[1], -base.step[2])
    return _make("pow", base, exponent)


def call(name: str, *operands: Any) -> Expr:
    """Apply a primitive to expressions or numbers."""
    nodes = tuple(map(_expr, operands))
    if name == "where" and nodes[1] is nodes[2]:
        return nodes[1]
    return _make("call", name, *nodes)


@dataclass(frozen=True)
class Primitive:
    """A function that expressions call. `numpy` computes it; `slope` is its derivative as an expression, and
    `definition` expresses it by others, for languages without it (one of both is enough). `numpy_slope` replaces the
    derivative's expression. `parity`: 1 even, -1 odd. `shape`: "rising", "falling" or "valley" (falling to 0, then
    rising). `bounds` limit its values."""

    name: str
    numpy: Callable[..., Any]
    slope: Callable[..., Any] | None = None
    definition: Callable[..., Any] | None = None
    numpy_slope: Callable[[Any], Any] | None = None
    parity: int = 0
    shape: str = ""
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def slope_at(self, u: Expr) -> Expr:
        if self.slope is not None:
            return _expr(self.slope(u))
        assert self.definition is not None
        return derivative(_expr(self.definition(X))).at(u)

    @cached_property
    def derivative(self) -> Callable[[Any], Any]:
        return self.numpy_slope or compile_expression(self.slope_at(X))


def _sigmoid(x: Any) -> Any:
    # Only exp of -|x|, which never overflows; not by np.abs, whose slope at 0 is wrong for the sigmoid.
    small = np.exp(np.where(x >= 0, -x, x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def decay(x: Any) -> Any:
    """exp(-|x|), with the derivative at 0 taken from the right, so that those of sigmoid and silu are smooth there."""
    return np.exp(np.where(x < 0, x, -x))


_ODD_RISING: Any = {"parity": -1, "shape": "rising"}
_ROWS = (
    Primitive("exp", np.exp, np.exp, shape="rising"),
    Primitive("log", np.log, lambda u: 1 / u, shape="rising"),
    Primitive("sin", np.sin, np.cos, parity=-1, bounds=(-1.0, 1.0)),
    Primitive("cos", np.cos, lambda u: -np.sin(u), parity=1, bounds=(-1.0, 1.0)),
    Primitive("tan", np.tan, lambda u: 1 + np.tan(u) ** 2, parity=-1),
    Primitive("arcsin", np.arcsin, lambda u: 1 / np.sqrt(1 - u * u), **_ODD_RISING),
    Primitive("arccos", np.arccos, lambda u: -1 / np.sqrt(1 - u * u), shape="falling"),
    Primitive("arctan", np.arctan, lambda u: 1 / (1 + u * u), **_ODD_RISING),
    Primitive("arctanh", np.arctanh, lambda u: 1 / (1 - u * u), **_ODD_RISING),
    Primitive("arcsinh", np.arcsinh, lambda u: 1 / np.sqrt(u * u + 1), **_ODD_RISING),
    Primitive("sinh", np.sinh, np.cosh, **_ODD_RISING),
    Primitive("cosh", np.cosh, np.sinh, parity=1, shape="valley"),
    Primitive("tanh", np.tanh, lambda u: 1 - np.tanh(u) ** 2, **_ODD_RISING),
    Primitive("abs", np.abs, np.sign, parity=1, shape="valley"),
    Primitive("sign", np.sign, lambda u: 0.0, **_ODD_RISING),
    Primitive(
        "sigmoid", _sigmoid, lambda u: decay(u) / (1 + decay(u)) ** 2, lambda u: 1 / (1 + np.exp(-u)), shape="rising"
    ),
    Primitive("erf", special.erf, lambda u: 1.1283791670955126 * np.exp(-u * u), special.erf, **_ODD_RISING),
    Primitive("j0", special.j0, lambda u: -call("j1", u), special.j0, parity=1, bounds=(-0.41, 1.0)),
    Primitive("j1", special.j1, None, special.j1, parity=-1),
    Primitive("gamma", special.gamma, lambda u: call("gamma", u) * call("digamma", u), special.gamma),
    Primitive("digamma", special.digamma, None, special.digamma),
    Primitive("power", np.power),
    Primitive("where", np.where),
    Primitive("less", np.less),
    Primitive("less_equal", np.less_equal),
    Primitive("minimum", np.minimum),
    Primitive("maximum", np.maximum),
)
PRIMITIVES: dict[str, Primitive] = {row.name: row for row in _ROWS}


def set_primitive(name: str, primitive: Primitive | None) -> None:
    """Add a primitive for this process, or remove it."""
    if primitive is None:
        PRIMITIVES.pop(name, None)
    else:
        PRIMITIVES[name] = primitive
    derivative.cache_clear()
    _steps.cache_clear()


_OF_UFUNCS: dict[np.ufunc, Callable[..., Expr]] = {
    **{row.numpy: lambda *u, name=row.name: call(name, *u) for row in _ROWS if isinstance(row.numpy, np.ufunc)},
    np.add: _add,
    np.subtract: lambda a, b: _add(a, _mul(-1.0, b)),
    np.multiply: _mul,
    np.divide: lambda a, b: _mul(a, _pow(b, -1)),
    np.negative: lambda a: _mul(-1.0, a),
    np.positive: _expr,
    np.power: _pow,
    np.square: lambda a: _pow(a, 2),
    np.reciprocal: lambda a: _pow(a, -1),
    np.sqrt: lambda a: _pow(a, 0.5),
    np.cbrt: lambda a: _pow(a, Fraction(1, 3)),
    np.fabs: lambda a: call("abs", a),
    np.greater: lambda a, b: call("less", b, a),
    np.greater_equal: lambda a, b: call("less_equal", b, a),
}


def list_parts(expression: Expr) -> list[Expr]:
    """The parts of an expression, each once and after its operands. Not recursive, since sums may be long."""
    found: dict[Expr, None] = {}
    waiting = [expression]
    while waiting:
        node = waiting[-1]
        missing = [part for part in node.operands if part not in found]
        waiting.extend(reversed(missing))
        if not missing:
            found.setdefault(waiting.pop())
    return list(found)


def fold(expression: Expr, visit: Callable[[Expr, list[T]], T]) -> T:
    """Evaluate an expression bottom-up: `visit` computes the value of a part from those of its operands."""
    values: dict[Expr, T] = {}
    for node in list_parts(expression):
        values[node] = visit(node, [values[part] for part in node.operands])
    return values[expression]


def rebuilt(node: Expr, parts: list[Expr]) -> Expr:
    """A part of an expression with new operands."""
    match node.step:
        case ("x",) | ("number", _):
            return node
        case ("add", _, _):
            return _add(*parts)
        case ("mul", _, _):
            return _mul(*parts)
        case ("pow", _, exponent):
            return _pow(parts[0], exponent)
        case (_, name, *_):
            return call(name, *parts)
    raise AssertionError(node)


@cache
def derivative(expression: Expr) -> Expr:
    """The derivative by x.

    >>> derivative(np.exp(-X * X)) is -2 * (np.exp(-X * X) * X)
    True
    """
    return fold(expression, _slope)


def _slope(node: Expr, slopes: list[Expr]) -> Expr:
    match node.step:
        case ("x",):
            return _ONE
        case ("number", _):
            return _ZERO
        case ("add", _, _):
            return _add(*slopes)
        case ("mul", a, b):
            return _add(_mul(slopes[0], b), _mul(a, slopes[1]))
        case ("pow", base, exponent):
            return _mul(_mul(float(exponent), _pow(base, exponent - 1)), slopes[0])
        case ("call", "where", condition, _, _):
            return call("where", condition, *slopes[1:])
        case ("call", "minimum" | "maximum" as name, a, b):
            return call("where", call("less_equal", *((a, b) if name == "minimum" else (b, a))), *slopes)
        case ("call", "less" | "less_equal", _, _):
            return _ZERO
        case ("call", "power", a, b):
            return _mul(node, _add(_mul(slopes[1], np.log(a)), _mul(b, _mul(slopes[0], _pow(a, -1)))))
        case (_, name, u):
            return _ZERO if slopes[0] is _ZERO else _mul(PRIMITIVES[name].slope_at(u), slopes[0])
    raise AssertionError(node)


def parity(expression: Expr) -> int:
    """1 if the expression is even, -1 if it is odd, else 0.

    >>> parity(np.sin(X) * X**3), parity(np.exp(-X * X)), parity(1 + X)
    (1, 1, 0)
    """
    return fold(expression, _parity)


def _parity(node: Expr, parts: list[int]) -> int:
    match node.step:
        case ("x",):
            return -1
        case ("add", _, _):
            return parts[0] if parts[0] == parts[1] else 0
        case ("mul", _, _):
            return parts[0] * parts[1]
        case ("pow", _, exponent) if parts[0] < 0:
            return (-1 if is_odd(exponent) else 1) if takes_negative(exponent) else 0
        case ("call", name, _) if parts[0] < 0:
            return PRIMITIVES[name].parity
        case ("number", _):
            return 1
    return int(all(part == 1 for part in parts))


def compile_expression(expression: Expr) -> Callable[[Any], Any]:
    """Compile the expression to a function of an array or dual number; a primitive of x is its own function."""
    if expression.step[0] == "call" and expression.operands == (X,):
        return PRIMITIVES[expression.step[1]].numpy
    nodes = list_parts(expression)
    lines, value = _statements(expression, nodes)
    if X not in nodes:  # an array as x is one
        value = {0.0: "zeros_like(x)", 1.0: "ones_like(x)"}.get(expression.step[-1], f"{value}*ones_like(x)")
    scope: dict[str, Any] = {name: primitive.numpy for name, primitive in PRIMITIVES.items()}
    scope |= {name: getattr(np, name) for name in ("sqrt", "copysign", "ones_like", "zeros_like", "nan", "inf")}
    exec(f"def function(x):\n{''.join(lines)}    return {value}\n", scope)  # our own text
    function: Callable[[Any], Any] = scope["function"]
    return function


def _statements(expression: Expr, nodes: Sequence[Expr]) -> tuple[list[str], str]:
    """Statements for the parts that are used twice or nested deeply, and the value of the expression."""
    uses = Counter(part for node in nodes for part in node.operands)
    uses.update(node.step[1] for node in nodes if node.step[0] == "pow" and node.step[2] not in _ONCE)
    names: dict[Expr, str] = {}
    depths: dict[Expr, int] = {}
    lines: list[str] = []
    for node in nodes:
        names[node] = _python(node, names)
        depths[node] = 1 + max((depths[part] for part in node.operands), default=0)
        if node.operands and node is not expression and (uses[node] > 1 or depths[node] > _DEEPEST):
            lines.append(f"    t{len(lines)} = {names[node]}\n")
            names[node], depths[node] = f"t{len(lines) - 1}", 0
    return lines, names[expression]


_ROOTS = (0.5, 1.5, 2.5)  # as in the table and its first two derivatives
_ONCE = (-1, Fraction(1, 2), Fraction(-1, 2))  # powers that have their base once


def _python(node: Expr, names: Mapping[Expr, str]) -> str:
    match node.step:
        case ("x",):
            return "x"
        case ("number", value):
            return f"({value!r})" if value < 0 else repr(value)
        case ("add", a, Expr(step=("mul", minus, b))) if minus is _MINUS:
            return f"({names[a]} - {names[b]})"
        case ("add", a, b):
            return f"({names[a]} + {names[b]})"
        case ("mul", a, Expr(step=("pow", base, exponent))) if exponent < 0 and not is_real(exponent):
            return f"({names[a]}/{_raise_to(names[base], -exponent)})"
        case ("mul", minus, b) if minus is _MINUS:
            return f"(-{names[b]})"
        case ("mul", a, b):
            return f"({names[a]}*{names[b]})"
        case ("pow", base, exponent):
            if exponent < 0 and not is_real(exponent):
                return f"(1/{_raise_to(names[base], -exponent)})"
            return _raise_to(names[base], exponent)
        case (_, name, *operands):
            return f"{name}({', '.join(names[part] for part in operands)})"
    raise AssertionError(node)


def is_real(exponent: Exponent) -> bool:
    """Whether a power is neither a product nor a root, as x^1.5 is."""
    return not isinstance(exponent, int) and abs(exponent) not in _ROOTS


def _raise_to(base: str, exponent: Exponent) -> str:
    """The code for a power of a variable, in brackets."""
    if isinstance(exponent, int):
        if not 0 < exponent <= _LARGEST_PRODUCT:
            return f"power({base}, {exponent})"
        square = f"({base}*{base})"
        factors = [base] * 3 if exponent == 3 else [square] * (exponent // 2) + [base] * (exponent % 2)
        return f"({'*'.join(factors)})"
    if not is_real(exponent):
        whole = int(exponent)
        return f"({_raise_to(base, whole) if whole > 1 else base}*sqrt({base}))" if whole else f"sqrt({base})"
    if not takes_negative(exponent):
        return f"power({base}, {float(exponent)!r})"
    size = f"power(abs({base}), {float(exponent)!r})"
    return f"copysign({size}, {base})" if is_odd(exponent) else size


def steps(expression: Expr, spelled: Collection[str]) -> tuple[Step, ...]:
    """The expression as the steps of a formula in one input, calling only roots and the primitives in `spelled`;
    others are replaced by their definitions. Sums and products are flattened, and a power with a real exponent has a
    base ≥ 0."""
    return _steps(expression, frozenset(spelled))


@cache
def _steps(expression: Expr, spelled: frozenset[str]) -> tuple[Step, ...]:
    expression = expand_unspelled(expression, spelled)
    uses = Counter(part for node in list_parts(expression) for part in node.operands)
    places: dict[Step, int] = {}

    def place(step: Step) -> int:
        return places.setdefault(step, len(places))

    def power(base: int, exponent: Exponent) -> Step:
        if isinstance(exponent, int):
            return ("pow", base, exponent)
        if is_real(exponent):
            if not takes_negative(exponent):
                return ("pow", base, float(exponent))
            size = ("pow", place(("call", "abs", base)), float(exponent))
            return ("mul", place(("call", "sign", base)), place(size)) if is_odd(exponent) else size
        if exponent < 0:
            return ("pow", place(power(base, -exponent)), -1)
        root, whole = ("call", "sqrt", base), int(exponent)
        return ("mul", place(("pow", base, whole)) if whole > 1 else base, place(root)) if whole else root

    # The steps of the operands get their places here, so that those of an inner sum or product need none.
    def step(node: Expr, parts: list[Step]) -> Step:
        match node.step:
            case ("x",):
                return ("var", 0)
            case ("number", value):
                return ("const", value)
            case ("add" | "mul" as kind, a, _):
                first = parts[0][1:] if parts[0][0] == kind and uses[a] == 1 else (place(parts[0]),)
                return (kind, *first, place(parts[1]))
            case ("pow", _, exponent):
                return power(place(parts[0]), exponent)
            case (_, name, *_):
                return ("call", name, *map(place, parts))
        raise AssertionError(node)

    place(fold(expression, step))
    return tuple(places)


def expand_unspelled(expression: Expr, spelled: Collection[str]) -> Expr:
    """Replace the primitives that a language cannot spell by their definitions."""

    def visit(node: Expr, parts: list[Expr]) -> Expr:
        if node.step[0] != "call" or node.step[1] in spelled:
            return rebuilt(node, parts)
        define = PRIMITIVES[node.step[1]].definition
        if define is None:
            return rebuilt(node, parts)
        return expand_unspelled(_expr(define(X)), spelled).at(parts[0])

    return fold(expression, visit)
