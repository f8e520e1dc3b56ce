"""Identities of the named functions, which simplify a function of a polynomial."""

import math
from collections.abc import Callable

import numpy as np

from kanserve.errors import FormulaError
from kanserve.formula.algebra.polynomials import ONE, Algebra, Polynomial, Product, is_number, number_of, sum_of, times
from kanserve.formula.expressions.linear_forms import PHASE, reduce_phase
from kanserve.network.functions import FUNCTIONS
from kanserve.network.powers import exponent_of

LARGEST_EXPONENT = 600.0  # of exp as a factor; larger ones could overflow


# f(g(x)) = x where |x| is below this limit on all rows.
_INVERSES: dict[tuple[str, str], float] = {
    ("sin", "arcsin"): math.inf,
    ("cos", "arccos"): math.inf,
    ("tan", "arctan"): math.inf,
    ("tanh", "arctanh"): math.inf,
    ("arcsin", "sin"): math.pi / 2,
    ("arctan", "tan"): math.pi / 2,
    ("arctanh", "tanh"): math.inf,
    ("sinh", "arcsinh"): math.inf,
    ("arcsinh", "sinh"): math.inf,
}


def apply_identities(algebra: Algebra, name: str, argument: Polynomial) -> Polynomial:
    """Apply the function `name` to a polynomial, using identities that hold on the rows of the algebra."""
    exponent = exponent_of(name)
    if exponent is not None:
        return algebra.power(argument, exponent)
    if is_number(argument):
        with np.errstate(all="ignore"):
            value = float(FUNCTIONS[name].numpy(np.array([number_of(argument)]))[0])
        if not math.isfinite(value):
            raise FormulaError(f"{name} is not finite at a constant of this formula.")
        return {ONE: value} if value else {}
    if name in _RULES:
        return _RULES[name](algebra, argument)
    return _plain(algebra, name, argument)


def _plain(algebra: Algebra, name: str, argument: Polynomial) -> Polynomial:
    """Cancel inverse functions; make the first term positive in the argument of an odd or even function."""
    inner = _only_call(algebra, argument)
    if inner is not None:
        limit = _INVERSES.get((name, inner[0]), 0.0)
        values = algebra.value(inner[1])
        if np.nanmax(np.abs(values), initial=0.0) < limit:
            return inner[1]
    sign = FUNCTIONS[name].parity
    if sign and argument[min(argument)] < 0:
        return times(algebra.call(name, times(argument, -1.0)), float(sign))
    return algebra.call(name, argument)


def _only_call(algebra: Algebra, argument: Polynomial) -> tuple[str, Polynomial] | None:
    """The function and its argument, if the polynomial is a single function with coefficient 1."""
    if len(argument) != 1:
        return None
    ((product, coefficient),) = argument.items()
    if coefficient != 1 or len(product) != 1 or product[0][1] != 1:
        return None
    atom = algebra.atoms[product[0][0]]
    return (atom.name, atom.polynomial) if atom.kind == "call" else None


def _exponential(algebra: Algebra, argument: Polynomial) -> Polynomial:
    """exp(a + b·P + c·log(u)) as the factor e^a, the atom exp(P) to the power b, and u^c."""
    constant = argument.get(ONE, 0.0)
    if abs(constant) > LARGEST_EXPONENT:
        raise FormulaError("A constant factor is outside the range of a double.")
    result: Polynomial = {ONE: math.exp(constant)}
    product: Product = ONE
    for inner, coefficient in argument.items():
        if inner == ONE:
            continue
        function = _only_call(algebra, {inner: 1.0})
        if function is not None and function[0] == "log":
            result = algebra.multiply(result, algebra.power(function[1], coefficient))
            continue
        ((exponential, _),) = algebra.call("exp", {inner: 1.0}).items()
        product = algebra.merge(product, algebra.to_power(exponential, coefficient))
    return algebra.multiply(result, algebra.single(1.0, product))


def _logarithm(algebra: Algebra, argument: Polynomial) -> Polynomial:
    """log of a product as a sum of logarithms, if all factors are positive; log(u + sqrt(u² + 1)) as arcsinh(u)."""
    inverse = _inverse_hyperbolic_sine(algebra, argument)
    if inverse is not None:
        return inverse
    coefficient, product = algebra.term(argument)
    if coefficient <= 0 or not algebra.is_positive(product):
        return algebra.call("log", argument)
    parts: list[Polynomial] = [{ONE: math.log(coefficient)} if coefficient != 1 else {}]
    for number, exponent in product:
        atom = algebra.atoms[number]
        if atom.name == "exp":
            parts.append(times(atom.polynomial, exponent))
        else:
            parts.append(times(algebra.call("log", algebra.single(1.0, ((number, 1.0),))), exponent))
    return sum_of(parts)


def _inverse_hyperbolic_sine(algebra: Algebra, argument: Polynomial) -> Polynomial | None:
    """log(u + sqrt(u² + d²)) as arcsinh(u/d) + log(d); None for any other sum."""
    if len(argument) < 2:
        return None
    for product, coefficient in argument.items():
        if coefficient < 0 or not any(exponent == 0.5 for _, exponent in product):
            continue
        outside = {other: c for other, c in argument.items() if other != product}
        squares = [algebra.expand(algebra.power(part, 2.0)) for part in ({product: coefficient}, outside)]
        rest = sum_of([squares[0], times(squares[1], -1.0)])
        if is_number(rest) and number_of(rest) > 0 and not is_number(outside):
            size = math.sqrt(number_of(rest))
            result = _plain(algebra, "arcsinh", times(outside, 1 / size))
            return sum_of([result, {ONE: math.log(size)}]) if size != 1 else result
    return None


def _wave(name: str) -> Callable[[Algebra, Polynomial], Polynomial]:
    """The rule for sin and cos: reduce the phase modulo pi, swap sin and cos at pi/2, sin(arccos(u)) = sqrt(1 - u²)."""

    def rule(algebra: Algebra, argument: Polynomial) -> Polynomial:
        inner = _only_call(algebra, argument)
        if inner is not None and inner[0] == ("arccos" if name == "sin" else "arcsin"):
            square = times(algebra.power(inner[1], 2.0), -1.0)
            return algebra.power(sum_of([{ONE: 1.0}, square]), 0.5)
        phase = argument.get(ONE, 0.0)
        kind, rest, sign = reduce_phase(name, phase, PHASE * max(1.0, abs(phase)))
        others = {product: c for product, c in argument.items() if product != ONE}
        moved = sum_of([others, {ONE: rest}]) if rest else others
        return times(_plain(algebra, kind, moved), sign)

    return rule


def _tangent(algebra: Algebra, argument: Polynomial) -> Polynomial:
    """tan as sin/cos; for a sum of arctangents by the addition theorem."""
    tan = _add_arcs(algebra, argument, "arctan", -1.0)
    if tan is not None:
        return tan
    sine, cosine = apply_identities(algebra, "sin", argument), apply_identities(algebra, "cos", argument)
    return algebra.multiply(sine, algebra.power(cosine, -1.0))


def _hyperbolic_tangent(algebra: Algebra, argument: Polynomial) -> Polynomial:
    tanh = _add_arcs(algebra, argument, "arctanh", 1.0)
    return tanh if tanh is not None else _plain(algebra, "tanh", argument)


def _add_arcs(algebra: Algebra, argument: Polynomial, arc: str, sign: float) -> Polynomial | None:
    """tan(arctan(a) + arctan(b)) = (a + b)/(1 - a·b), and the same for tanh; None if the sum has any other term."""
    total: Polynomial = {}
    for product, coefficient in argument.items():
        inner = _only_call(algebra, {product: 1.0})
        if inner is None or inner[0] != arc or abs(coefficient) != 1:
            return None
        term = times(inner[1], coefficient)
        below = sum_of([{ONE: 1.0}, times(algebra.multiply(total, term), sign)])
        total = algebra.multiply(sum_of([total, term]), algebra.power(below, -1.0))
    return total


def _size(algebra: Algebra, argument: Polynomial) -> Polynomial:
    """abs, factor by factor; a factor of constant sign becomes itself or its negative."""
    coefficient, product = algebra.term(argument)
    result: Polynomial = {ONE: abs(coefficient)}
    for number, exponent in product:
        atom = algebra.atoms[number]
        factor = algebra.single(1.0, ((number, exponent),))
        if atom.sign <= 0 and not (exponent.is_integer() and exponent % 2 == 0):
            whole = algebra.single(1.0, ((number, 1.0),))
            size = times(whole, -1.0) if atom.sign < 0 else algebra.call("abs", whole)
            factor = algebra.power(size, exponent)
        result = algebra.multiply(result, factor)
    return result


def _sign_of(algebra: Algebra, argument: Polynomial) -> Polynomial:
    values = algebra.value(argument)
    values = values[np.isfinite(values)]
    if len(values) and (values > 0).all():
        return {ONE: 1.0}
    if len(values) and (values < 0).all():
        return {ONE: -1.0}
    return _plain(algebra, "sign", argument)


def _gaussian(algebra: Algebra, argument: Polynomial) -> Polynomial:
    return _exponential(algebra, times(algebra.power(argument, 2.0), -1.0))


def _sigmoid(algebra: Algebra, argument: Polynomial) -> Polynomial:
    below = sum_of([{ONE: 1.0}, _exponential(algebra, times(argument, -1.0))])
    return algebra.power(below, -1.0)


_RULES: dict[str, Callable[[Algebra, Polynomial], Polynomial]] = {
    "exp": _exponential,
    "log": _logarithm,
    "sin": _wave("sin"),
    "cos": _wave("cos"),
    "tan": _tangent,
    "tanh": _hyperbolic_tangent,
    "abs": _size,
    "sign": _sign_of,
    "gaussian": _gaussian,
    "sigmoid": _sigmoid,
    "silu": lambda algebra, argument: algebra.multiply(argument, _sigmoid(algebra, argument)),
}
