"""Dual numbers: arrays that carry their derivatives through NumPy's arithmetic.

    u = Dual(np.array([2.0, 3.0]), {"u": np.ones(2)})
    (u**2 + np.sin(u)).partials["u"]                          # 2u + cos(u)

A dual number is primal + Σ_s partials[s]·ε_s with ε_s·ε_t = 0. The primal value may itself be a dual number: this gives
higher derivatives, so the table of functions needs no columns for its second and third derivatives. Derivatives of
NumPy's own functions are those of the primitives of expressions.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError
from kanserve.network.expression import PRIMITIVES, compile_expression, derivative
from kanserve.network.functions import FUNCTIONS, Function
from kanserve.network.own_functions import Elementwise

Array = NDArray[np.float64]

# The derivative of each function by each of its arguments; those of the primitives are taken from there.
_Rules = dict[Any, tuple[Callable[..., Any], ...]]
_OF_THE_TABLE: _Rules = {
    primitive.numpy: (lambda a, primitive=primitive: primitive.derivative(a),)  # compiled when it is asked for
    for primitive in PRIMITIVES.values()
    if isinstance(primitive.numpy, np.ufunc) and primitive.numpy.nin == 1
}
_RULES: _Rules = {
    **_OF_THE_TABLE,
    np.add: (lambda _a, _b: 1.0, lambda _a, _b: 1.0),
    np.subtract: (lambda _a, _b: 1.0, lambda _a, _b: -1.0),
    np.multiply: (lambda _a, b: b, lambda a, _b: a),
    np.divide: (lambda _a, b: 1 / b, lambda a, b: -a / (b * b)),
    np.power: (lambda a, b: b * a ** np.where(b == 0, 1, b - 1), lambda a, b: a**b * np.log(a)),
    np.maximum: (lambda a, b: np.where(a >= b, 1.0, 0.0), lambda a, b: np.where(a >= b, 0.0, 1.0)),
    np.minimum: (lambda a, b: np.where(a <= b, 1.0, 0.0), lambda a, b: np.where(a <= b, 0.0, 1.0)),
    np.hypot: (lambda a, b: a / np.hypot(a, b), lambda a, b: b / np.hypot(a, b)),
    np.arctan2: (lambda a, b: b / (a * a + b * b), lambda a, b: -a / (a * a + b * b)),
    np.copysign: (lambda a, b: np.copysign(np.sign(a), a * b), lambda _a, _b: 0.0),
    np.sqrt: (lambda a: 0.5 / np.sqrt(a),),
    np.positive: (lambda _a: 1.0,),
    np.negative: (lambda _a: -1.0,),
    np.square: (lambda a: 2 * a,),
    np.reciprocal: (lambda a: -1 / (a * a),),
    np.cbrt: (lambda a: 1 / (3 * np.cbrt(a) ** 2),),
    np.exp2: (lambda a: np.log(2) * np.exp2(a),),
    np.expm1: (np.exp,),
    np.log2: (lambda a: 1 / (np.log(2) * a),),
    np.log10: (lambda a: 1 / (np.log(10) * a),),
    np.log1p: (lambda a: 1 / (1 + a),),
    np.arccosh: (lambda a: 1 / np.sqrt(a * a - 1),),
    np.fabs: (np.sign,),
}

# Comparisons and predicates have no derivative: they act on the values.
_PLAIN = (np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal, np.isfinite, np.isnan, np.isinf)


@dataclass(frozen=True, eq=False)
class Dual(np.lib.mixins.NDArrayOperatorsMixin):
    """A dual number: the value `primal`, and its derivative with respect to each seed."""

    primal: Any  # an array, a number or a Dual
    partials: Mapping[Hashable, Any]

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *arguments: Any, **options: Any) -> Any:
        if method != "__call__" or options or not (ufunc in _RULES or ufunc in _PLAIN):
            raise DataError(_unknown(ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"))
        values = [argument.primal if isinstance(argument, Dual) else argument for argument in arguments]
        result = ufunc(*values)
        if ufunc in _PLAIN:
            return result
        partials: dict[Hashable, Any] = {}
        for slope, argument in zip(_RULES[ufunc], arguments, strict=True):
            if isinstance(argument, Dual):
                factor = slope(*values)
                for seed, partial in argument.partials.items():
                    change = factor * partial
                    partials[seed] = partials[seed] + change if seed in partials else change
        return Dual(result, partials)

    def __array_function__(self, function: Any, _types: Any, arguments: Any, options: Any) -> Any:
        if function is np.where and len(arguments) == 3 and not options:
            return _where(*arguments)
        if function in (np.ones_like, np.zeros_like) and len(arguments) == 1 and not options:
            return function(self.primal)
        if isinstance(function, Elementwise):
            slope = FUNCTIONS[function.name].derivative(self.primal)
            return Dual(function(self.primal), {seed: slope * partial for seed, partial in self.partials.items()})
        raise DataError(_unknown(function.__name__))


def _where(condition: Any, a: Any, b: Any) -> Dual:
    def parts(number: Any) -> tuple[Any, Mapping[Hashable, Any]]:
        return (number.primal, number.partials) if isinstance(number, Dual) else (number, {})

    (value, own), (other_value, other) = parts(a), parts(b)
    seeds = dict.fromkeys([*own, *other])
    partials = {seed: np.where(condition, own.get(seed, 0.0), other.get(seed, 0.0)) for seed in seeds}
    return Dual(np.where(condition, value, other_value), partials)


def _unknown(name: str) -> str:
    known = sorted({rule.__name__ for rule in (*_RULES, *_PLAIN)} | {"where"})
    return f"The derivative of NumPy's {name} is not known here. There are: {', '.join(known)}."


def derivatives(row: Function, x: Array, order: int) -> tuple[Array, ...]:
    """f(x), f'(x), .. up to this order, for a function of the table."""
    if order == 0:
        return (row.numpy(x),)
    if row.expression.step[0] == "pow":  # as products of roots it would have no second derivative at 0
        slopes = accumulate(repeat(row.expression, order + 1), lambda before, _: derivative(before))
        return tuple(np.broadcast_to(compile_expression(slope)(x), x.shape) for slope in slopes)
    argument: Any = x
    for _ in range(order - 1):
        argument = Dual(argument, {0: np.ones_like(x)})
    slope: Any = row.derivative(argument)
    result: list[Array] = []
    for _ in range(order):
        value = slope
        while isinstance(value, Dual):
            value = value.primal
        result.append(np.broadcast_to(value, x.shape))
        slope = slope.partials.get(0, 0.0) if isinstance(slope, Dual) else 0.0
    return (row.numpy(x), *result)
