"""Linear forms over steps, and the identities that bring a formula into canonical form. A form is constant + Σ
coefficient·atom, where an atom is a step other than a sum with a constant, so that constants merge. No identity changes
where an expression is defined: 0·log(x), exp(log(x)) and 1/(1/x) stay."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from kanserve.errors import FormulaError
from kanserve.formula.expressions.tree import TREE_MAX_POWER, Step, Tree, references
from kanserve.network.functions import FUNCTIONS
from kanserve.network.powers import EXPONENTS, exponent_of, is_odd, real_power, takes_negative

SAME = 1e-14  # two constants this close, relatively, differ only by rounding
PHASE = 1e-12  # a phase this close to a multiple of pi/2 is rounded to it
LINEAR_FORMS_LONGEST_SPLICED = 8  # longer sums stay shared steps
LARGEST_EXPONENT = 20.0  # exp(x + b) becomes e^b·exp(x) up to this b; beyond, e^b reads worse and could overflow

_POWERS = {name: int(exponent) for name, exponent in EXPONENTS.items() if exponent.is_integer() and name != "x"}


class UnfoldableError(FormulaError):
    """Merged constants overflow, so the formula has to stay as the network computes it."""

    def __init__(self) -> None:
        super().__init__("The constants of this network add up or multiply to more than a double can hold.")


@dataclass(frozen=True)
class Form:
    """A linear form constant + Σ coefficient·atom; `terms` are (atom, coefficient)."""

    constant: float = 0.0
    terms: tuple[tuple[int, float], ...] = ()


class Steps:
    """The steps of a network's formulas during construction, each stored once; `total` says whether it is always
    defined. Without `fold`, sums and products are never taken apart, so that constants do not merge."""

    def __init__(self, *, fold: bool = True) -> None:
        self.fold = fold
        self.steps: list[Step] = []
        self.total: list[bool] = []  # finite for all finite inputs, overflow aside
        self._positions: dict[Step, int] = {}

    def add(self, *step: object) -> int:
        """Append the step if it is new, and return its position."""
        if step not in self._positions:
            match step:
                case ("pow", _, int(exponent)) if exponent < 0:
                    defined = False
                case ("call", str(name), _):
                    defined = not FUNCTIONS[name].domain
                case _:
                    defined = True
            self._positions[step] = len(self.steps)
            self.steps.append(step)
            self.total.append(defined and all(self.total[reference] for reference in references(step)))
        return self._positions[step]

    def constant(self, value: float) -> int:
        if not math.isfinite(value):
            raise UnfoldableError
        return self.add("const", float(value) or 0.0)  # 0.0 for -0.0, which would print its sign

    def factors(self, atom: int) -> tuple[int, ...]:
        step = self.steps[atom]
        return step[1:] if self.fold and step[0] == "mul" else (atom,)

    def summands(self, atom: int) -> tuple[int, ...]:
        """The summands of an atom if they are few and have no constant (a larger term could absorb it); else itself."""
        step = self.steps[atom]
        if not self.fold or step[0] != "add" or len(step) > LINEAR_FORMS_LONGEST_SPLICED:
            return (atom,)
        return (atom,) if any(self.steps[summand][0] == "const" for summand in step[1:]) else step[1:]

    def tree(self, root: int) -> Tree:
        """The steps that the root needs, renumbered."""
        needed, open_steps = {root}, [root]
        while open_steps:
            fresh = set(references(self.steps[open_steps.pop()])) - needed
            needed |= fresh
            open_steps.extend(fresh)
        number = {old: new for new, old in enumerate(sorted(needed))}
        return tuple(renumber(self.steps[old], number) for old in number)


def renumber(step: Step, number: Mapping[int, int]) -> Step:
    """Replace the positions of a step's operands."""
    match step:
        case ("add" | "mul" as operation, *arguments):
            return (operation, *(number[operand] for operand in arguments))
        case ("pow", base, exponent):
            return ("pow", number[base], exponent)
        case ("call" | "spline" as operation, name, argument):
            return (operation, name, number[argument])
        case _:
            return step


def one_atom(atom: int) -> Form:
    return Form(0.0, ((atom, 1.0),))


def sum_forms(steps: Steps, forms: Iterable[Form]) -> Form:
    """Add forms and merge like terms. A term with coefficient 0 is kept if its atom is not always defined."""
    constant = 0.0
    terms: dict[int, float] = {}
    for form in forms:
        constant += form.constant
        for atom, coefficient in form.terms:
            terms[atom] = terms.get(atom, 0.0) + coefficient
    return Form(constant, tuple((atom, c) for atom, c in terms.items() if c != 0 or not steps.total[atom]))


def scale(steps: Steps, form: Form, scale: float, shift: float = 0.0) -> Form:
    """scale·form + shift."""
    if scale == 1:
        return Form(form.constant + shift, form.terms)
    terms = tuple((atom, scale * coefficient) for atom, coefficient in form.terms)
    return sum_forms(steps, [Form(scale * form.constant + shift, terms)])


def step_of(steps: Steps, form: Form) -> int:
    """The position of a single step that computes the form."""
    parts: list[int] = []
    for atom, coefficient in form.terms:
        if coefficient == 1:
            parts.extend(steps.summands(atom) if len(form.terms) > 1 else (atom,))
        else:
            parts.append(steps.add("mul", steps.constant(coefficient), *steps.factors(atom)))
    if form.constant != 0 or not parts:
        parts.append(steps.constant(form.constant))
    return parts[0] if len(parts) == 1 else steps.add("add", *parts)


def form_of(steps: Steps, position: int) -> Form:
    """The step as a form, with sums expanded and constant factors in front. The inverse of `step_of`."""
    match steps.steps[position]:
        case ("const", value):
            return Form(value)
        case ("add", *summands):
            return sum_forms(steps, [form_of(steps, summand) for summand in summands])
        case ("mul", first, *others) if steps.steps[first][0] == "const":
            rest = others[0] if len(others) == 1 else steps.add("mul", *others)
            return scale(steps, form_of(steps, rest), steps.steps[first][1])
        case _:
            return one_atom(position)


def flatten(steps: Steps, form: Form) -> Form:
    """Expand those atoms of a form that are sums."""
    if all(steps.steps[atom][0] != "add" for atom, _ in form.terms):
        return form
    inner = [scale(steps, form_of(steps, atom), coefficient) for atom, coefficient in form.terms]
    return sum_forms(steps, [Form(form.constant), *inner])


def power_form(steps: Steps, form: Form, exponent: int) -> Form:
    """form^exponent, for 1 ≤ exponent ≤ MAX_POWER. Raises OverflowError if its factor becomes 0 or infinite."""
    lead, rest = leading(form)
    whole = step_of(steps, rest)
    base, inner = _base(steps, whole)
    merges = abs(inner * exponent) <= TREE_MAX_POWER
    atom = _power_step(steps, base, inner * exponent) if merges else steps.add("pow", whole, exponent)
    factor = lead**exponent
    if factor == 0:
        raise OverflowError
    return scale(steps, one_atom(atom), factor)


def multiply(steps: Steps, forms: Iterable[Form]) -> Form:
    """The product, with constants and leading coefficients in front, and equal factors as powers."""
    coefficient = 1.0
    exponents: dict[tuple[int, bool], int] = {}
    for form in forms:
        if not form.terms:
            coefficient *= form.constant
            continue
        lead, rest = leading(form)
        coefficient *= lead
        for factor in steps.factors(step_of(steps, rest)):
            base, exponent = _base(steps, factor)
            # x·(1/x) is not 1 at 0: powers merge only with powers of the same sign.
            key = (base, exponent > 0)
            exponents[key] = exponents.get(key, 0) + exponent
    factors = [_power_step(steps, base, exponent) for (base, _), exponent in exponents.items()]
    if not factors:
        return Form(coefficient)
    atom = factors[0] if len(factors) == 1 else steps.add("mul", *factors)
    return scale(steps, one_atom(atom), coefficient)


def apply(steps: Steps, name: str, form: Form) -> Form:
    if not form.terms:
        with np.errstate(all="ignore"):
            value = float(FUNCTIONS[name].numpy(np.array([form.constant]))[0])
        return Form(value) if math.isfinite(value) else call(steps, name, form)
    if name == "x":
        return form
    merged = _merge(steps, name, form) if steps.fold else None
    if merged is not None:
        return merged
    if name in _POWERS:
        return _power(steps, form, _POWERS[name])
    if name in _IDENTITIES:
        return _IDENTITIES[name](steps, name, form)
    if exponent_of(name) is not None:
        return _real_power(steps, name, form)
    sign = 1.0
    if FUNCTIONS[name].parity and form.terms[0][1] < 0:
        sign = float(FUNCTIONS[name].parity)
        form = scale(steps, form, -1.0)
    if name in ("sin", "cos"):
        return scale(steps, _wave(steps, name, form), sign)
    return scale(steps, call(steps, name, form), sign)


def call(steps: Steps, name: str, form: Form) -> Form:
    """The function of a form, without applying identities."""
    if name == "x":
        return form
    argument = step_of(steps, form)
    if name in _POWERS:
        return one_atom(steps.add("pow", argument, _POWERS[name]))
    if name == "x^1.5":
        return one_atom(steps.add("mul", argument, steps.add("call", "sqrt", argument)))
    return one_atom(steps.add("call", name, argument))


def leading(form: Form) -> tuple[float, Form]:
    """The leading factor and the rest: 3·x is (3, x), 2·x - 2·y + 2 is (2, x - y + 1), 1 - x is (-1, x - 1)."""
    first = form.terms[0][1]
    sizes = [abs(c) for _, c in form.terms] + ([abs(form.constant)] if form.constant else [])
    if first == 0 or not math.isfinite(1 / first):
        return 1.0, form
    if max(sizes) - min(sizes) > SAME * max(sizes):
        first = math.copysign(1.0, first)
        return first, Form(first * form.constant, tuple((atom, first * c) for atom, c in form.terms))
    terms = tuple((atom, math.copysign(1.0, c) * math.copysign(1.0, first)) for atom, c in form.terms)
    constant = math.copysign(1.0, form.constant) * math.copysign(1.0, first) if form.constant else 0.0
    return first, Form(constant, terms)


def _power(steps: Steps, form: Form, exponent: int) -> Form:
    lead, rest = leading(form)
    try:
        outer = lead**exponent
    except (OverflowError, ZeroDivisionError):
        outer = 0.0
    if outer == 0 or not math.isfinite(outer):
        return call(steps, {value: key for key, value in _POWERS.items()}[exponent], form)
    base, inner = _base(steps, step_of(steps, rest))
    merges = not (inner < 0 and exponent < 0) and abs(inner * exponent) <= TREE_MAX_POWER
    atom = _power_step(steps, base, inner * exponent) if merges else steps.add("pow", step_of(steps, rest), exponent)
    return scale(steps, one_atom(atom), outer)


def _base(steps: Steps, atom: int) -> tuple[int, int]:
    step = steps.steps[atom]
    return (step[1], step[2]) if step[0] == "pow" else (atom, 1)


def _power_step(steps: Steps, base: int, exponent: int) -> int:
    if exponent == 1:
        return base
    if abs(exponent) <= TREE_MAX_POWER:
        return steps.add("pow", base, exponent)
    sign = 1 if exponent > 0 else -1
    whole, part = divmod(abs(exponent), TREE_MAX_POWER)
    factors = [steps.add("pow", base, sign * TREE_MAX_POWER)] * whole
    return steps.add("mul", *factors, *([_power_step(steps, base, sign * part)] if part else []))


def _merge(steps: Steps, name: str, form: Form) -> Form | None:
    """Merge a power or logarithm of c·exp(u), or a logarithm of a root, into one function: sqrt(exp(u)) is exp(u/2),
    log(sqrt(u)) is log(u)/2. None for all others."""
    if form.constant != 0 or len(form.terms) != 1 or not form.terms[0][1] > 0:
        return None
    ((atom, lead),) = form.terms
    match steps.steps[atom]:
        case ("call", "exp", argument):
            inner, exponent = form_of(steps, argument), exponent_of(name)
            if name == "log":
                return scale(steps, inner, 1.0, math.log(lead))
            if exponent is not None:
                factor = math.pow(lead, exponent)
                return scale(steps, apply(steps, "exp", scale(steps, inner, exponent)), factor) if factor else None
        case ("call", str(root), argument) if name == "log" and (exponent := exponent_of(root)) is not None:
            even = steps.steps[argument][0] == "pow" and steps.steps[argument][2] % 2 == 0  # sqrt(x^2) is |x|
            if not even and (is_odd(exponent) or not takes_negative(exponent)):
                return scale(steps, apply(steps, "log", form_of(steps, argument)), exponent, math.log(lead))
    return None


def _homogeneous(steps: Steps, name: str, form: Form) -> Form:
    """sqrt(4·x) as 2·sqrt(x), and the same for 1/sqrt and abs; a sign stays under the root."""
    lead, rest = leading(form)
    if name != "abs":
        rest = scale(steps, rest, math.copysign(1.0, lead))
    size = float(FUNCTIONS[name].numpy(np.array([abs(lead)]))[0])
    return scale(steps, call(steps, name, rest), size)


def _real_power(steps: Steps, name: str, form: Form) -> Form:
    """(8·x)^(1/3) as 2·x^(1/3). A sign is taken out of the base if powers of negative numbers are real."""
    exponent = exponent_of(name)
    assert exponent is not None, "only powers come here"
    lead, rest = leading(form)
    if not takes_negative(exponent):
        rest, lead = scale(steps, rest, math.copysign(1.0, lead)), abs(lead)
    with np.errstate(all="ignore"):
        outer = float(real_power(np.array(lead), exponent))
    if outer == 0 or not math.isfinite(outer):
        return call(steps, name, form)
    return scale(steps, call(steps, name, rest), outer)


def _logarithm(steps: Steps, name: str, form: Form) -> Form:
    lead, rest = leading(form)
    rest = scale(steps, rest, math.copysign(1.0, lead))
    return scale(steps, call(steps, name, rest), 1.0, math.log(abs(lead)))


def _exponential(steps: Steps, name: str, form: Form) -> Form:
    if not 0 < abs(form.constant) <= LARGEST_EXPONENT:
        return call(steps, name, form)
    return scale(steps, call(steps, name, Form(0.0, form.terms)), math.exp(form.constant))


def _three_halves(steps: Steps, _: str, form: Form) -> Form:
    return multiply(steps, [form, apply(steps, "sqrt", form)])


def _wave(steps: Steps, name: str, form: Form) -> Form:
    """sin and cos with the phase reduced modulo pi; a phase of pi/2 swaps sin and cos."""
    if abs(form.constant) > 100:
        return call(steps, name, form)
    name, phase, sign = reduce_phase(name, form.constant, PHASE)
    return scale(steps, call(steps, name, Form(phase, form.terms)), sign)


def reduce_phase(name: str, phase: float, tolerance: float) -> tuple[str, float, float]:
    """Write sin or cos of u + phase as sign·f(u + rest), with the rest within pi/2. Returns f, the rest and the sign.
    Rests up to `tolerance` away from 0 and pi/2 become 0."""
    turns = round(phase / math.pi)
    rest = phase - turns * math.pi
    sign = -1.0 if turns % 2 else 1.0
    if abs(rest) <= tolerance:
        return name, 0.0, sign
    if abs(abs(rest) - math.pi / 2) <= tolerance:
        # sin(u ± pi/2) = ± cos(u), cos(u ± pi/2) = ∓ sin(u)
        return "cos" if name == "sin" else "sin", 0.0, sign * math.copysign(1.0, rest if name == "sin" else -rest)
    return name, rest, sign


_IDENTITIES = {
    "abs": _homogeneous,
    "sqrt": _homogeneous,
    "1/sqrt": _homogeneous,
    "x^1.5": _three_halves,
    "log": _logarithm,
    "exp": _exponential,
}
