"""From an expression to a linear form over steps: parameters become numbers, constants merge, equal parts are shared.
Only the identities of `linear_forms` are used. A power becomes products and roots if its exponent is a multiple of 1/2,
else the named function (`kanserve.network.powers`), else exp(exponent·log(base))."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kanserve.errors import FormulaError, InputError
from kanserve.formula.expressions.linear_forms import (
    LINEAR_FORMS_LONGEST_SPLICED,
    Form,
    Steps,
    UnfoldableError,
    apply,
    flatten,
    form_of,
    leading,
    multiply,
    one_atom,
    power_form,
    scale,
    step_of,
    sum_forms,
)
from kanserve.formula.expressions.parsing import (
    COMPOSITIONS,
    EXTREMES,
    TABLE_NAMES,
    Add,
    Call,
    Expression,
    Extreme,
    Multiply,
    Name,
    Number,
    Power,
    parse,
)
from kanserve.formula.expressions.tree import TREE_MAX_POWER, Step, Tree, references
from kanserve.network.powers import exponent_of, power_name, real_power, takes_negative

_SMALLEST = 2.0**-1022  # the smallest normal double

Mistake = Callable[[int, str], InputError]  # from a position in the formula and a message


def form_of_expression(steps: Steps, expression: Expression, values: Mapping[str, Form], mistake: Mistake) -> Form:
    """Convert an expression to a form, with these values for names. Raises InputError if a constant is not finite."""
    operands: list[Form] = []
    for part in parts(expression):
        operands.append(form_of_expression(steps, part, values, mistake))
    try:
        result = _combine(steps, expression, operands, values, mistake)
    except ZeroDivisionError:
        raise mistake(expression.at, "This divides by 0.") from None
    except (UnfoldableError, OverflowError):
        result = Form(math.inf)
    numbers = [result.constant, *(coefficient for _, coefficient in result.terms)]
    if not all(number == 0 or _SMALLEST <= abs(number) < math.inf for number in numbers):
        raise mistake(
            expression.at, "The constants here give a number that a double cannot hold: too large, or too small."
        )
    return result


def form_of_tree(steps: Steps, tree: Tree) -> Form:
    """A closed form as a linear form over these steps. Raises FormulaError for splines and infinite constants."""
    forms: list[Form] = []
    for position, step in enumerate(tree):
        arguments = [forms[reference] for reference in references(step)]
        try:
            result = _fold(steps, step, arguments)
        except (UnfoldableError, OverflowError, ZeroDivisionError):
            result = Form(math.inf)
        if not all(math.isfinite(number) for number in (result.constant, *(c for _, c in result.terms))):
            raise FormulaError(f"Step {position} of the expression tree gives a constant that is not finite.")
        forms.append(result)
    return forms[-1]


def _fold(steps: Steps, step: Step, arguments: Sequence[Form]) -> Form:
    match step:
        case ("const", value):
            return Form(value)
        case ("var", column):
            return one_atom(steps.add("var", column))
        case ("add", *_):
            return sum_forms(steps, [flatten(steps, argument) for argument in arguments])
        case ("mul", *_):
            return _product(steps, arguments)
        case ("pow", _, exponent):
            base = arguments[0]
            return _whole_power(steps, base, exponent) if base.terms else Form(base.constant**exponent)
        case ("call", name, _):
            result = apply(steps, name, arguments[0])
            return result if arguments[0].terms or not result.terms else Form(math.inf)
    raise FormulaError("Only a closed form can become a network; this formula has a spline.")


def parts(expression: Expression) -> tuple[Expression, ...]:
    match expression:
        case Add(terms):
            return terms
        case Multiply(factors, divisors):
            return (*factors, *divisors)
        case Power(base, exponent):
            return (base, exponent)
        case Call(_, argument):
            return (argument,)
        case Extreme(_, arguments):
            return arguments
        case _:
            return ()


def _combine(
    steps: Steps, expression: Expression, operands: Sequence[Form], values: Mapping[str, Form], mistake: Mistake
) -> Form:
    match expression:
        case Number(value):
            return Form(value)
        case Name(name):
            return values[name]
        case Add():
            return sum_forms(steps, [flatten(steps, operand) for operand in operands])
        case Multiply(factors, _):
            return _quotient(steps, operands[: len(factors)], operands[len(factors) :])
        case Power():
            return _power(steps, operands[0], operands[1], expression.at, mistake)
        case Call(function, _):
            return _call(steps, function, operands[0], expression.at, mistake)
        case Extreme(function, _):
            return _extreme(steps, EXTREMES[function], operands)


def _quotient(steps: Steps, factors: Sequence[Form], divisors: Sequence[Form]) -> Form:
    forms, divisor = list(factors), 1.0
    for divisor_form in divisors:
        lead, rest = leading(divisor_form) if divisor_form.terms else (divisor_form.constant, Form(1.0))
        divisor *= lead
        forms.append(_whole_power(steps, rest, -1) if rest.terms else rest)
    product = _product(steps, forms)
    # Divides instead of multiplying by 1/divisor: 49·(1/49) is not 1 in floating point.
    result = Form(product.constant / divisor, tuple((atom, c / divisor) for atom, c in product.terms))
    return _not_vanished(result, [product])


def _product(steps: Steps, forms: Sequence[Form]) -> Form:
    """The product; 0 times a factor that is not always defined keeps that factor."""
    variable = [form for form in forms if form.terms]
    constant = math.prod(form.constant for form in forms if not form.terms)
    if any(_is_zero(form) for form in variable):
        constant = 0.0
        variable = [
            Form(0.0, tuple((atom, 1.0) for atom, _ in form.terms)) if _is_zero(form) else form for form in variable
        ]
    if not variable:
        return _not_vanished(Form(constant), forms)
    product = _not_vanished(multiply(steps, variable), variable)
    return _not_vanished(scale(steps, _order(steps, product), constant), forms)


def _not_vanished(result: Form, factors: Sequence[Form]) -> Form:
    if _is_zero(result) and not any(_is_zero(factor) for factor in factors):
        raise OverflowError  # underflow: the constants are too small
    return result


def _order(steps: Steps, product: Form) -> Form:
    """Sort the factors of a product, so that x·y and y·x are the same step."""
    ((atom, coefficient),) = product.terms
    factors = steps.factors(atom)
    if len(factors) == 1:
        return product
    return Form(product.constant, ((steps.add("mul", *sorted(factors)), coefficient),))


def _is_zero(form: Form) -> bool:
    return form.constant == 0 and all(coefficient == 0 for _, coefficient in form.terms)


def _call(steps: Steps, function: str, argument: Form, at: int, mistake: Mistake) -> Form:
    if function in COMPOSITIONS:
        composition = parse(COMPOSITIONS[function])
        return form_of_expression(steps, composition, {"x": argument}, lambda _, text: mistake(at, text))
    result = apply(steps, TABLE_NAMES[function], argument)
    if result.terms and not argument.terms:
        raise mistake(at, f"{function}({argument.constant!r}) is not a finite real number.")
    return result


def _extreme(steps: Steps, sign: float, forms: Sequence[Form]) -> Form:
    """The maximum (sign 1) or minimum (sign -1) of the forms: pairwise (a + b ± |a - b|)/2."""
    if len(forms) == 1:
        return forms[0]
    middle = len(forms) // 2
    halves = (_extreme(steps, sign, half) for half in (forms[:middle], forms[middle:]))
    # Long sums stay shared steps: their terms would double at each level.
    first, second = (
        form if len(form.terms) <= LINEAR_FORMS_LONGEST_SPLICED else one_atom(step_of(steps, form)) for form in halves
    )
    difference = apply(steps, "abs", sum_forms(steps, [first, scale(steps, second, -1.0)]))
    return scale(steps, sum_forms(steps, [first, second, scale(steps, difference, sign)]), 0.5)


def _power(steps: Steps, base: Form, exponent: Form, at: int, mistake: Mistake) -> Form:
    if exponent.terms:
        if not base.terms and base.constant <= 0:
            raise mistake(at, f"{base.constant!r} to a variable power is not a real number.")
        return apply(steps, "exp", _product(steps, [exponent, apply(steps, "log", base)]))
    p = exponent.constant
    if not base.terms:
        if base.constant < 0 and takes_negative(p):
            return Form(float(real_power(np.array(base.constant), p)))
        try:
            return Form(math.pow(base.constant, p))
        except ValueError:
            raise mistake(at, f"{base.constant!r} to the power {p!r} is not a finite real number.") from None
    if p.is_integer():
        if abs(p) > TREE_MAX_POWER:
            raise mistake(
                at, f"An integer exponent may be at most {TREE_MAX_POWER}, got {p:.17g}; write it as (x^50)^2."
            )
        return _whole_power(steps, base, int(p))
    if not (2 * p).is_integer() or abs(p) > TREE_MAX_POWER:
        name = power_name(p)
        if name is not None:
            return apply(steps, name, base)
        return apply(steps, "exp", scale(steps, apply(steps, "log", base), p))
    root = apply(steps, "sqrt" if p > 0 else "1/sqrt", base)
    return _product(steps, [_whole_power(steps, base, int(p)), root]) if abs(p) > 1 else root


def _whole_power(steps: Steps, base: Form, exponent: int) -> Form:
    """base^exponent. For a product it is the product of the powers, which needs one layer less."""
    if exponent == 0:
        return sum_forms(steps, [Form(1.0), scale(steps, base, 0.0)])  # 1 where the base is defined
    if _is_zero(base) and exponent < 0:
        raise ZeroDivisionError
    if exponent == 1 or _is_zero(base):
        return base
    lead, rest = leading(base)
    factors = [form_of(steps, factor) for factor in steps.factors(step_of(steps, rest))]
    outer = lead**exponent
    if outer == 0:
        raise OverflowError
    return scale(steps, _product(steps, [_factor_power(steps, factor, exponent) for factor in factors]), outer)


def _inverse(name: str) -> str | None:
    """The power with the opposite exponent, such as 1/sqrt for sqrt; None if `name` is not a power."""
    exponent = exponent_of(name)
    return power_name(-exponent) if exponent is not None and exponent > 0 else None


def _factor_power(steps: Steps, base: Form, exponent: int) -> Form:
    """base^exponent; exp, sqrt and reciprocals absorb the exponent if a named function allows it."""
    step = steps.steps[base.terms[0][0]] if base.terms and base == one_atom(base.terms[0][0]) else None
    match step:
        case ("call", "exp", argument):
            return apply(steps, "exp", scale(steps, form_of(steps, argument), float(exponent)))
        case ("call", str(name), argument) if exponent < 0 and (inverse := _inverse(name)):
            base = apply(steps, inverse, form_of(steps, argument))
        case _ if exponent < 0:
            base = apply(steps, "1/x", base)
    return power_form(steps, base, abs(exponent))
