"""The derivatives of a named function as C, by tracing the derivative in the table of functions.

A tracer object takes the place of x in the table's NumPy code and records the operations; so a new function of the
table has its derivative in C at once, with the reference's arithmetic. For tanh the body of the C function is

    const hello_real t0 = tanh(x);
    return 1.0 - t0*t0;

Subexpressions that are used once are inlined. For the second derivative the tracer is the value of a dual number, as
arrays are in the reference.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from kanserve.errors import DataError, ExportError
from kanserve.network.dual_numbers import Dual
from kanserve.network.functions import function
from kanserve.network.own_functions import OWN, Elementwise, by_values
from kanserve_exporters._shared.expressions import Dialect, helper, own_name

_TERNARY, _COMPARISON, _SUM, _PRODUCT, _SIGN, _ATOM = range(6)  # operator precedence

_INFIX = {
    np.add: (" + ", _SUM),
    np.subtract: (" - ", _SUM),
    np.multiply: ("*", _PRODUCT),
    np.divide: ("/", _PRODUCT),
    np.less: (" < ", _COMPARISON),
    np.less_equal: (" <= ", _COMPARISON),
    np.greater: (" > ", _COMPARISON),
    np.greater_equal: (" >= ", _COMPARISON),
}
_CALLS = {
    np.sqrt: "sqrt",
    np.exp: "exp",
    np.log: "log",
    np.sin: "sin",
    np.cos: "cos",
    np.tan: "tan",
    np.sinh: "sinh",
    np.cosh: "cosh",
    np.tanh: "tanh",
    np.arctan: "atan",
    np.absolute: "fabs",
    np.power: "pow",
}
_LARGEST_PRODUCT = 4  # powers up to this are products
_LONGEST = 60  # characters of an inlined expression


@dataclass(frozen=True)
class _Traced(np.lib.mixins.NDArrayOperatorsMixin):
    """An expression: an operation and its arguments. Compared by value, so that equal expressions are written once."""

    operation: Any  # a ufunc, a function that was registered by its values, "where", "number" or "x"
    arguments: tuple[Any, ...] = ()

    # Overrides the mixin's ==, which would record a comparison.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Traced) and (self.operation, self.arguments) == (other.operation, other.arguments)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Cached: arguments are shared, so that without caching the time would be exponential."""
        return hash((self.operation, self.arguments))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *arguments: Any, **options: Any) -> Any:
        if any(isinstance(argument, Dual) for argument in arguments):
            return NotImplemented  # the dual numbers, whose values are of this type, have the answer
        if method != "__call__" or options:
            raise ExportError(f"C source cannot hold NumPy's {ufunc.__name__}.{method} of a derivative.")
        nodes = tuple(_node(argument) for argument in arguments)
        if ufunc is np.negative and nodes[0].operation == "number":
            return _node(-nodes[0].arguments[0])
        if ufunc is np.multiply and _ZERO in nodes:  # slopes are only computed where all values are finite
            return _ZERO
        if ufunc is np.multiply and _ONE in nodes:
            return nodes[nodes[0] == _ONE]
        if ufunc in (np.add, np.subtract) and nodes[1] == _ZERO:
            return nodes[0]
        if ufunc is np.add and nodes[0] == _ZERO:
            return nodes[1]
        if ufunc is np.power and nodes[1].arguments in tuple((float(n),) for n in range(1, _LARGEST_PRODUCT + 1)):
            product = nodes[0]
            for _ in range(int(nodes[1].arguments[0]) - 1):
                product = _Traced(np.multiply, (product, nodes[0]))
            return product
        return _Traced(ufunc, nodes)

    def __array_function__(self, called: Any, _types: Any, arguments: Any, options: Any) -> Any:
        if any(isinstance(argument, Dual) for argument in arguments):
            return NotImplemented
        if called is np.where and len(arguments) == 3 and not options:
            nodes = tuple(_node(argument) for argument in arguments)
            return nodes[1] if nodes[1] == nodes[2] else _Traced("where", nodes)
        if called in (np.ones_like, np.zeros_like) and len(arguments) == 1:
            return _node(float(called is np.ones_like))
        if isinstance(called, Elementwise):
            return _Traced(called, (_node(arguments[0]),))
        raise ExportError(f"C source cannot hold NumPy's {called.__name__} of a derivative.")


_ZERO, _ONE = (_Traced("number", (value,)) for value in (0.0, 1.0))


def _node(value: Any) -> _Traced:
    return value if isinstance(value, _Traced) else _Traced("number", (float(value),))


def _trace(name: str, order: int) -> _Traced:
    return _traced(function(name).derivative, order)


@cache
def _traced(derivative: Callable[[Any], Any], order: int) -> _Traced:
    try:
        if order == 1:
            return _node(derivative(_Traced("x")))
        slope = derivative(Dual(_Traced("x"), {0: _ONE}))
    except (
        DataError
    ) as error:  # a callable of the user's that takes arrays alone, or an operation of unknown derivative
        raise ExportError(str(error)) from None
    return _node(slope.partials.get(0, 0.0) if isinstance(slope, Dual) else 0.0)


def functions_by_values(names: Collection[str], order: int) -> list[str]:
    """Of these functions, and those that occur in their derivatives up to this order, the ones that were registered by
    their values."""
    found = {name for name in names if by_values(name)}
    if order and OWN:
        waiting, seen = [_trace(name, n) for name in names for n in range(1, order + 1)], set[_Traced]()
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                found |= {node.operation.name} if isinstance(node.operation, Elementwise) else set()
                waiting += [argument for argument in node.arguments if isinstance(argument, _Traced)]
    return sorted(found)


def is_flat(name: str, order: int = 1) -> bool:
    """Whether the derivative of this order, 1 or 2, is 0 wherever it exists."""
    return _trace(name, order) == _ZERO


def derivative_call(name: str, argument: str, dialect: Dialect, order: int = 1) -> str:
    """The derivative of the named function at `argument`."""
    traced = _trace(name, order)
    if traced.operation in _CALLS and traced.arguments == (_Traced("x"),):
        return f"{_CALLS[traced.operation]}{dialect.suffix}({argument})"
    return f"{_helper(name, dialect, order)}({argument})"


def derivative_helper(name: str, dialect: Dialect, order: int = 1) -> str:
    """The definition of the function that `derivative_call` calls; "" if that is in libm."""
    if not derivative_call(name, "", dialect, order).startswith(dialect.prefix):
        return ""
    lines = _statements(_trace(name, order), dialect)
    if "x" not in re.findall(r"\w+", " ".join(lines)):  # as 2 of x^2
        lines.insert(-1, "(void)x;")
    text = "".join(f"    {line}\n" for line in lines)
    return f"\nstatic @real {_helper(name, dialect, order)}(@real x)\n{{\n{text}}}\n"


def _helper(name: str, dialect: Dialect, order: int) -> str:
    return helper(name, replace(dialect, prefix=f"{dialect.prefix}{'d' * order}"))


def _statements(traced: _Traced, dialect: Dialect) -> list[str]:
    """Constants for subexpressions that are used more than once, in order, then the return statement."""
    used: Counter[_Traced] = Counter()
    order: list[_Traced] = []

    def visit(node: _Traced) -> None:
        used[node] += 1
        if used[node] == 1 and node.operation not in ("number", "x"):
            for argument in node.arguments:
                visit(argument)
            order.append(node)

    visit(traced)
    names: dict[_Traced, str] = {}
    lines = []
    for node in order:
        text, strength = _text(node, names, dialect)
        if (used[node] > 1 or len(text) > _LONGEST) and node != traced and strength != _COMPARISON:
            names[node] = f"t{len(names)}"
            lines.append(f"const @real {names[node]} = {text};")
    return [*lines, f"return {_text(traced, names, dialect)[0]};"]


def _text(node: _Traced, names: dict[_Traced, str], dialect: Dialect) -> tuple[str, int]:
    """The expression's text and its operator precedence."""

    def at_least(strength: int, one: _Traced) -> str:
        text, own = _text(one, names, dialect)
        return text if own >= strength else f"({text})"

    operation, arguments = node.operation, node.arguments
    if node in names:
        return names[node], _ATOM
    if operation == "x":
        return "x", _ATOM
    if operation == "number":
        return _number(arguments[0], dialect)
    if operation == "where":
        condition, yes, no = (at_least(_COMPARISON, argument) for argument in arguments)
        return f"{condition} ? {yes} : {no}", _TERNARY
    if operation in _INFIX:
        sign, strength = _INFIX[operation]
        # The right side gets parentheses, since floating-point operations are not associative.
        left, right = at_least(strength, arguments[0]), at_least(strength + 1, arguments[1])
        if operation is np.add and right.startswith("-"):
            return f"{left} - {right[1:]}", strength
        return f"{left}{sign}{right}", strength
    if operation is np.negative:
        return f"-{at_least(_ATOM, arguments[0])}", _SIGN
    if operation is np.sign:
        size = at_least(_SUM, arguments[0])
        return f"(@real)(({size} > 0) - ({size} < 0))", _SIGN
    if operation in (np.minimum, np.maximum):
        first, second = (at_least(_SUM, argument) for argument in arguments)
        return f"{first} {'<' if operation is np.minimum else '>'} {second} ? {first} : {second}", _TERNARY
    if isinstance(operation, Elementwise):
        return f"(@real){own_name(operation.name, dialect)}((double)({at_least(_TERNARY, arguments[0])}))", _SIGN
    if operation in _CALLS:
        texts = ", ".join(at_least(_TERNARY, argument) for argument in arguments)
        return f"{_CALLS[operation]}{dialect.suffix}({texts})", _ATOM
    raise ExportError(f"C source cannot hold NumPy's {operation.__name__} of a derivative.")


def _number(value: float, dialect: Dialect) -> tuple[str, int]:
    if not np.isfinite(value):
        return ("(@real)NAN" if np.isnan(value) else "(@real)INFINITY" if value > 0 else "-(@real)INFINITY"), _SIGN
    return dialect.literal(value), _SIGN if value < 0 else _ATOM
