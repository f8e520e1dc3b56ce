"""The four notations of a formula: text for reading, LaTeX for typesetting, Python with NumPy, and C99."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from kanserve.formula.expressions.names import latex_name, text_name
from kanserve.formula.expressions.numbers import Named, name_number
from kanserve.formula.expressions.tree import references
from kanserve.formula.printing.lowering import ELEMENTARY
from kanserve.formula.printing.unfolding import Dialect, Precedence, Printed, print_signed, reciprocal
from kanserve.network.expression import steps
from kanserve.network.functions import FUNCTIONS
from kanserve.network.own_functions import OWN, by_values
from kanserve.network.powers import EXPONENTS, as_fraction, exponent_of
from kanserve.network.spellings import SPELLINGS

NOTATIONS_DIGITS = 6  # decimals of up to this many digits are written as they are in text and LaTeX
LONGEST_PRODUCT = 8  # X^8 in C is seven products
LONGEST_REPEATED = 40  # characters of a base that C repeats instead of calling pow

_NAMES_OF_NUMBERS = {"pi", "e"}  # an input may have such a name


class Text(Dialect):
    """Text for reading: powers as x^2, names quoted unless they are one word. With `named`, numbers with a name and
    more than six digits are shown by name: pi/2, 1/3."""

    spellings = SPELLINGS["text"]

    def __init__(self, names: Sequence[str], *, named: bool = False) -> None:
        self._names = [text_name(name) for name in names]
        self._print_name = named and not set(names) & _NAMES_OF_NUMBERS

    def number(self, value: float) -> str:
        mantissa, _, exponent = _decimal(value).partition("e")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa

    def print_named(self, value: float) -> Printed | None:
        return _print_name(self, value, str) if self._print_name else None

    def variable(self, column: int) -> str:
        return self._names[column]

    def call(self, name: str, *arguments: Printed) -> Printed:
        if (exponent := _exponent_to_write(name)) is not None:
            return self.real_power(arguments[0], exponent)
        if name in OWN or _uses(name) > 1:
            return Printed(f"{name}({print_signed(arguments[0])})")  # by its name, to avoid writing the argument twice
        return super().call(name, *arguments)

    def power(self, base: Printed, exponent: int) -> Printed:
        return Printed(f"{self.wrap(base, Precedence.ATOM)}^{exponent}", Precedence.POWER)

    def real_power(self, base: Printed, exponent: float) -> Printed:
        fraction = as_fraction(exponent)
        shown = self.number(abs(exponent)) if fraction is None else f"({abs(fraction)})"
        power = Printed(f"{self.wrap(base, Precedence.ATOM)}^{shown}", Precedence.POWER)
        return power if exponent > 0 else reciprocal(power, self)


class Latex(Dialect):
    """LaTeX for typesetting; needs only the package amsmath. `named` as in Text."""

    spellings = SPELLINGS["latex"]
    times = " "
    elision = r"\dots"

    def __init__(self, names: Sequence[str], *, named: bool = False) -> None:
        self._names = [latex_name(name) for name in names]
        self._print_name = named

    def number(self, value: float) -> str:
        mantissa, _, exponent = _decimal(value).partition("e")
        if not exponent:
            return mantissa
        return rf"10^{{{int(exponent)}}}" if mantissa == "1" else rf"{mantissa} \cdot 10^{{{int(exponent)}}}"

    def print_named(self, value: float) -> Printed | None:
        return _print_name(self, value, _latex_of_number) if self._print_name else None

    def variable(self, column: int) -> str:
        return self._names[column]

    def spline(self, name: str, argument: Printed) -> Printed:
        index = ",".join(name.split("_")[1:])
        return Printed(rf"s_{{{index}}}\left({print_signed(argument)}\right)", Precedence.POWER)

    def call(self, name: str, *arguments: Printed) -> Printed:
        if (exponent := _exponent_to_write(name)) is not None:
            return self.real_power(arguments[0], exponent)
        if name in OWN or _uses(name) > 1:
            return Printed(rf"\operatorname{{{name}}}\left({print_signed(arguments[0])}\right)", Precedence.POWER)
        return super().call(name, *arguments)

    def fill(self, template: str, *arguments: Printed) -> Printed:
        if template == self.spellings["exp"] and r"\frac" in arguments[0].text:
            template = r"\exp\left(@\right)"  # a fraction in an exponent is too small to read
        return replace(super().fill(template, *arguments), precedence=Precedence.POWER)

    def power(self, base: Printed, exponent: int) -> Printed:
        return self._raise_power(base, str(exponent))

    def real_power(self, base: Printed, exponent: float) -> Printed:
        fraction = as_fraction(exponent)
        power = self._raise_power(base, self.number(abs(exponent)) if fraction is None else str(abs(fraction)))
        return power if exponent > 0 else reciprocal(power, self)

    def _raise_power(self, base: Printed, exponent: str) -> Printed:
        if base.number is not None and "^" in base.text:
            base = Printed(base.text, Precedence.PRODUCT, base.negative)
        return Printed(f"{self.wrap(base, Precedence.ATOM)}^{{{exponent}}}", Precedence.POWER)

    def bracket(self, text: str) -> str:
        return rf"\left({text}\right)"

    def quotient(self, above: Sequence[Printed], below: Sequence[Printed]) -> str:
        if below:
            top = above[0].text if len(above) == 1 else self.quotient(above, ())
            bottom = below[0].text if len(below) == 1 else self.quotient(below, ())
            return rf"\frac{{{top}}}{{{bottom}}}"
        text = ""
        for printed in above:
            factor = printed.text if printed.precedence >= Precedence.PRODUCT else self.bracket(printed.text)
            between = r" \cdot " if factor[0].isdigit() else " "
            text += f"{between}{factor}" if text else factor
        return text


class Python(Dialect):
    """A NumPy expression over arrays named by `identifiers`, with exact constants. The caller must supply splines, erf,
    j0 and gamma (as in scipy.special), and functions registered by their values."""

    spellings = SPELLINGS["python expression"]

    def __init__(self, identifiers: Sequence[str]) -> None:
        self._identifiers = identifiers
        self._temporaries = 0

    def number(self, value: float) -> str:
        return repr(value)

    def variable(self, column: int) -> str:
        return self._identifiers[column]

    def call(self, name: str, *arguments: Printed) -> Printed:
        (argument,) = arguments
        if by_values(name):
            return Printed(f"{name}({print_signed(argument)})")
        if name in self.spellings or _uses(name) == 1 or argument.text.isidentifier():
            return super().call(name, argument)
        # Assigned at its first use, so that nested functions do not double the text at each level.
        self._temporaries += 1
        word = f"_{self._temporaries}"  # no identifier of ours begins with an underscore
        text = print_signed(super().call(name, Printed(word)))
        assigned = f"({word} := {print_signed(argument)})"
        before, _, after = text.partition(word)  # the text has no other name
        return Printed(f"({before}{assigned}{after})")

    def real_power(self, base: Printed, exponent: float) -> Printed:
        return replace(super().real_power(base, exponent), precedence=Precedence.POWER)

    def power(self, base: Printed, exponent: int) -> Printed:
        return Printed(f"{self.wrap(base, Precedence.ATOM)}**{exponent}", Precedence.POWER)


class C99(Dialect):
    """A C99 expression over doubles named by `identifiers`, with libm's functions (and POSIX's j0) and exact constants.
    The caller must supply functions registered by their values."""

    spellings = SPELLINGS["c expression"]

    def __init__(self, identifiers: Sequence[str]) -> None:
        self._identifiers = identifiers

    def number(self, value: float) -> str:
        return repr(value)

    def variable(self, column: int) -> str:
        return self._identifiers[column]

    def call(self, name: str, *arguments: Printed) -> Printed:
        return Printed(f"{name}({print_signed(arguments[0])})") if by_values(name) else super().call(name, *arguments)

    def power(self, base: Printed, exponent: int) -> Printed:
        factor = self.wrap(base, Precedence.ATOM)
        if exponent <= LONGEST_PRODUCT and len(factor) <= LONGEST_REPEATED:
            return Printed("*".join([factor] * exponent), Precedence.PRODUCT)
        return Printed(f"pow({print_signed(base)}, {float(exponent)!r})")


@lru_cache
def _uses(name: str) -> int:
    """How often a function's text contains its argument."""
    written = steps(FUNCTIONS[name].expression, ELEMENTARY)
    return sum(references(step).count(written.index(("var", 0))) for step in written)


def _read_unlisted_power(name: str) -> float | None:
    """The exponent of a power that is not a row of the table, such as x^(5/3); else None."""
    return None if name in EXPONENTS else exponent_of(name)


def _exponent_to_write(name: str) -> float | None:
    """The exponent of a function that text and LaTeX write as a power: unlisted powers, and x^(3/2)."""
    return EXPONENTS[name] if name == "x^1.5" else _read_unlisted_power(name)


def _decimal(value: float) -> str:
    """The shortest decimal that reads back as this number, without an exponent between 0.0001 and a million."""
    digits = len(f"{value!r}".partition("e")[0].replace(".", "").strip("0"))
    return f"{value:.{max(digits, NOTATIONS_DIGITS)}g}"


def name_of(value: float) -> Named | None:
    """The name of a number, unless six digits are exact or the name is just a decimal."""
    found = name_number(value) if float(f"{value:.{NOTATIONS_DIGITS}g}") != value else None
    if found is None or (not found.below and found.above[0][0].isdigit() and len(found.above) == 1):
        return None
    return found


def _print_name(dialect: Dialect, value: float, spelling: Callable[[str], str]) -> Printed | None:
    found = name_of(value)
    if found is None:
        return None
    above, below = (
        tuple(_number_factor(spelling(spelled_factor)) for spelled_factor in part)
        for part in (found.above, found.below)
    )
    text = dialect.quotient(above, below)
    if not below and len(above) == 1:
        return above[0]
    return Printed(text, Precedence.PRODUCT, quotient=(above, below) if below else None)


def _number_factor(text: str) -> Printed:
    return Printed(text, Precedence.POWER if "^" in text else Precedence.ATOM)


def _latex_of_number(text: str) -> str:
    r"""LaTeX for a number's name: sqrt(2*pi) becomes \sqrt{2 \pi}."""
    text = re.sub(r"sqrt\((.*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"log\((.*)\)", r"\\log\\left(\1\\right)", text)
    return re.sub(r"\^(\d)", r"^{\1}", text).replace("*", " ").replace("pi", r"\pi")
