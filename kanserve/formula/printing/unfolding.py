"""From an expression tree to a string, without recursion: unfold the tree, then print it from the leaves to the root. A
printed formula repeats shared steps and may be far longer than its tree, so unfolding stops at a limit and leaves "…"
for the rest."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from kanserve.formula.expressions.tree import Step, Tree, references
from kanserve.network.expression import Expr, steps
from kanserve.network.functions import FUNCTIONS
from kanserve.network.spellings import SPELLINGS

OPERANDS = 4  # unfolded steps per operation of the limit, variables and constants included

ELISION = -1


class Precedence(IntEnum):
    """The precedence of the outermost operation of a printed expression."""

    SUM = 0
    PRODUCT = 1
    POWER = 2
    ATOM = 3


@dataclass(frozen=True)
class Unfolded:
    """The tree with shared steps repeated, breadth first. `children` are positions in `steps`, or ELISION."""

    steps: tuple[Step, ...]
    children: tuple[tuple[int, ...], ...]
    whole: bool


@dataclass(frozen=True)
class Printed:
    """A printed expression without its sign. `under`: the denominator of a reciprocal; `quotient`: the factors above
    and below in a number like 3/(4*pi); `terms`: those of a sum; `turned`: a negative product written without a sign by
    negating a sum in it, w/(1 - v)."""

    text: str
    precedence: Precedence = Precedence.ATOM
    negative: bool = False
    under: "Printed | None" = None
    number: float | None = None
    quotient: "tuple[tuple[Printed, ...], tuple[Printed, ...]] | None" = None
    terms: "tuple[Printed, ...]" = ()
    turned: str = ""


class Dialect(ABC):
    """How a language writes the parts of an expression. Subclasses override what differs."""

    times = "*"
    elision = "…"

    @abstractmethod
    def number(self, value: float) -> str:
        """Print a number ≥ 0."""

    def print_named(self, value: float) -> Printed | None:
        """Print a number > 0 by its name, such as pi/2 for 1.5708; None if it is printed as digits."""
        return None

    @abstractmethod
    def variable(self, column: int) -> str:
        """The name of the input in this column."""

    def spline(self, name: str, argument: Printed) -> Printed:
        return Printed(f"{name}({print_signed(argument)})")

    spellings: Mapping[str, str] = {}
    """Of roots and primitives, a column of `kanserve.network.spellings.SPELLINGS`."""
    prefix = ""  # of the names of helpers
    suffix = ""  # of C's functions of floats

    def call(self, name: str, *arguments: Printed) -> Printed:
        """Print a call of a function of the table, or of a primitive."""
        if name in self.spellings:
            return self.fill(self.spellings[name], *arguments)
        return print_expression(FUNCTIONS[name].expression, arguments[0], self)

    def repeats(self, step: Step) -> bool:
        """Whether a step's text repeats an operand, so that the operand needs a name."""
        match step:
            case ("call", name, *operands):
                return self.spellings.get(name, "").count("@") > len(operands)
            case ("pow", _, float()):
                return self.spellings["pow"].count("@") > 1
        return False

    def fill(self, template: str, *arguments: Printed) -> Printed:
        """Insert the operands into a spelling, in brackets where the spelling has none around them."""

        def print_argument(found: re.Match[str]) -> str:
            if found[0] in "$~":
                return self.prefix if found[0] == "$" else self.suffix
            argument = arguments[int(found[1] or 1) - 1]
            before, after = template[: found.start()].rstrip()[-1:], template[found.end() :][:1]
            enclosed = before and before in "(,{|" and after and after in "),}|\\"
            return print_signed(argument) if enclosed else self.wrap(argument, Precedence.ATOM)

        return Printed(re.sub(r"@(\d?)|[$~]", print_argument, template))

    @abstractmethod
    def power(self, base: Printed, exponent: int) -> Printed:
        """Print base^exponent for an exponent > 0."""

    def real_power(self, base: Printed, exponent: float) -> Printed:
        """Print base^exponent for a real exponent; NaN for a base < 0."""
        return self.fill(self.spellings["pow"].replace("#", self.print_number(exponent)), base)

    def print_number(self, value: float) -> str:
        return f"-{self.number(-value)}" if value < 0 else self.number(value)

    def bracket(self, text: str) -> str:
        return f"({text})"

    def wrap(self, printed: Printed, least: Precedence) -> str:
        """The expression with its sign, in brackets if its precedence is below `least`."""
        if printed.negative:
            return self.bracket(print_signed(printed))
        return printed.text if printed.precedence >= least else self.bracket(printed.text)

    def quotient(self, above: Sequence[Printed], below: Sequence[Printed]) -> str:
        """A product of one or more factors over a product that may be empty; the factors are unsigned."""
        texts = [
            factor.text if factor.precedence >= Precedence.PRODUCT else self.bracket(factor.text) for factor in above
        ]
        if not below:
            return self.times.join(texts)
        divisors = [self.wrap(factor, Precedence.POWER) for factor in below]
        divisor = divisors[0] if len(divisors) == 1 else self.bracket(self.times.join(divisors))
        return f"{self.times.join(texts)}/{divisor}"


def print_signed(printed: Printed) -> str:
    """The expression with its sign."""
    return (printed.turned or f"-{printed.text}") if printed.negative else printed.text


def unfold(tree: Tree, limit: int) -> Unfolded:
    """Expand the tree from its root, up to `limit` operations and a few times as many operands."""
    steps = [tree[-1]]
    children: list[tuple[int, ...]] = []
    whole, operations = True, 0
    for step in steps:  # the list grows during the loop
        arguments = references(step)
        operations += bool(arguments)
        room = max(OPERANDS * limit - len(steps), 0) if operations <= limit else 0
        taken = arguments[:room]
        below = tuple(range(len(steps), len(steps) + len(taken)))
        if len(taken) < len(arguments):
            whole = False
            below = (*below, ELISION)
        steps.extend(tree[argument] for argument in taken)
        children.append(below)
    return Unfolded(tuple(steps), tuple(children), whole)


def in_descending_powers(tree: Tree) -> Tree:
    """Sort the terms of each polynomial in one input, highest power first: x^2 + x + 1."""
    steps: list[Step] = []
    for step in tree:
        if step[0] == "add":
            powers = [_power_of_input(tree, operand) for operand in step[1:]]
            inputs = {column for column, _ in powers if column is not None}
            if len(inputs) == 1 and all(exponent is not None for _, exponent in powers):
                order = sorted(range(len(powers)), key=lambda n: -(powers[n][1] or 0))
                step = ("add", *(step[1:][n] for n in order))
        steps.append(step)
    return tuple(steps)


def _power_of_input(tree: Tree, position: int) -> tuple[int | None, int | None]:
    """(column, exponent) for a number times a power of an input; (None, 0) for a number, (None, None) for all else."""
    match tree[position]:
        case ("const", _):
            return None, 0
        case ("var", column):
            return column, 1
        case ("pow", base, exponent) if exponent > 0 and tree[base][0] == "var":
            return tree[base][1], exponent
        case ("mul", *factors):
            rest = [factor for factor in factors if tree[factor][0] != "const"]
            return _power_of_input(tree, rest[0]) if len(rest) == 1 else (None, None)
        case _:
            return None, None


def print_tree(unfolded: Unfolded, dialect: Dialect, longest: int) -> str | None:
    """Print the expression in a dialect; None if a part of it is longer than `longest` characters."""
    printed: dict[int, Printed] = {ELISION: Printed(dialect.elision)}
    for position in range(len(unfolded.steps) - 1, -1, -1):
        below = [printed[child] for child in unfolded.children[position]]
        printed_step = print_step(unfolded.steps[position], below, dialect)
        if len(printed_step.text) > longest:
            return None
        printed[position] = printed_step
        for child in unfolded.children[position]:
            if child != ELISION:
                del printed[child]
    return print_signed(printed[0])


def print_step(step: Step, below: list[Printed], dialect: Dialect) -> Printed:
    """Print one step, given its printed operands."""
    match step[0]:
        case "const":
            value = float(step[1])
            printed = (dialect.print_named(abs(value)) if value else None) or Printed(dialect.number(abs(value)))
            return replace(printed, negative=value < 0, number=abs(value))
        case "var":
            return Printed(dialect.variable(step[1]))
        case "add":
            return _sum(below, dialect)
        case "mul":
            return _product(below, dialect)
        case "pow" if isinstance(step[2], float):
            return dialect.real_power(below[0], step[2])
        case "pow" if step[2] > 0:
            return below[0] if step[2] == 1 else dialect.power(below[0], step[2])
        case "pow":
            power = below[0] if step[2] == -1 else dialect.power(below[0], -step[2])
            return reciprocal(power, dialect)
        case "call":
            return dialect.call(step[1], *below)
        case _:
            return dialect.spline(step[1], below[0])


def squares(factor: str, exponent: int) -> str:
    """An integer power as a product of squares, in the order in which the reference multiplies."""
    factors = [f"({factor}*{factor})"] * (exponent // 2) + [factor] * (exponent % 2)
    return "*".join([factor] * exponent if exponent in (2, 3) else factors)


def print_expression(expression: Expr, argument: Printed, dialect: Dialect) -> Printed:
    """Print an expression with the argument for its variable, by the spellings of a dialect."""
    printed: list[Printed] = []
    argument = replace(argument, terms=())  # as it is: -(a - b) and not b - a
    for step in steps(expression, dialect.spellings):
        below = [printed[operand] for operand in references(step)]
        printed.append(argument if step[0] == "var" else print_step(step, below, dialect))
    return printed[-1]


def reciprocal(printed: Printed, dialect: Dialect) -> Printed:
    """1/printed, with the sign in front."""
    positive = Printed(printed.text, printed.precedence, terms=printed.terms)
    text = dialect.quotient([Printed(dialect.number(1.0))], [positive])
    return Printed(text, Precedence.PRODUCT, printed.negative, under=positive)


def _sum(below: list[Printed], dialect: Dialect) -> Printed:
    # A positive term goes first: 1 - x, not -x + 1. The elision is written once, at the end.
    terms = [term for term in below if term.text != dialect.elision]
    first = next((n for n, term in enumerate(terms) if not term.negative), 0)
    terms = terms[first : first + 1] + terms[:first] + terms[first + 1 :]
    terms += [Printed(dialect.elision)] if len(terms) < len(below) else []
    text = print_signed(terms[0])
    for part in terms[1:]:
        # A nested sum stays in brackets: another order of summation could round differently.
        term = part.text if part.precedence > Precedence.SUM else dialect.bracket(part.text)
        text += f" - {term}" if part.negative else f" + {term}"
    return Printed(text, Precedence.SUM if len(terms) > 1 else Precedence.ATOM, terms=tuple(terms))


def _product(below: list[Printed], dialect: Dialect) -> Printed:
    negative = sum(factor.negative for factor in below) % 2 == 1
    turned = _turn(_without_ones(below, dialect), dialect) if negative else ""
    return replace(_positive_product(_without_ones(below, dialect), dialect), negative=negative, turned=turned)


def _without_ones(below: list[Printed], dialect: Dialect) -> list[Printed]:
    one_shown = dialect.number(1.0)  # a factor that is shown as 1 would read as a mistake: 1*x
    return [factor for factor in below if factor.number is None or factor.text != one_shown] or below[:1]


def _turn(below: list[Printed], dialect: Dialect) -> str:
    """Minus the product of the factors, by negating the first sum that has a negative term; "" if there is none."""
    for n, factor in enumerate(below):
        terms = (factor.under or factor).terms
        if any(term.negative for term in terms):
            turned = _sum([replace(term, negative=not term.negative) for term in terms], dialect)
            if len(below) == 1 and factor.under is None:
                return turned.text
            factors = [*below[:n], reciprocal(turned, dialect) if factor.under else turned, *below[n + 1 :]]
            return _positive_product(factors, dialect).text
    return ""


def _positive_product(below: list[Printed], dialect: Dialect) -> Printed:
    """The product of the factors without their signs."""
    below = [part for factor in below for part in _apart(factor)]
    above = [_factor(factor, dialect, first=factor is below[0]) for factor in below if factor.under is None]
    under = [factor.under for factor in below if factor.under is not None]
    text = dialect.quotient(above or [Printed(dialect.number(1.0))], under)
    if len(above) == 1 and not under:  # a sum is in brackets now
        alone = above[0].precedence
        return Printed(text, Precedence.ATOM if alone == Precedence.SUM else alone)
    return Printed(text, Precedence.PRODUCT)


def _apart(printed: Printed) -> list[Printed]:
    """Split a factor that is a numeric quotient, to print x/3 and not 1/3*x."""
    if printed.quotient is None:
        return [printed]
    above, below = printed.quotient
    return [*(part for part in above if part.text != "1"), *(Printed("", under=part) for part in below)]


def _factor(printed: Printed, dialect: Dialect, *, first: bool) -> Printed:
    """A factor without its sign, in brackets if it is a product that begins with a digit and comes later."""
    if not first and printed.precedence == Precedence.PRODUCT and printed.text[0].isdigit():
        return Printed(dialect.bracket(printed.text))
    return Printed(printed.text, printed.precedence)


class _InX(Dialect):
    """Prints an expression in the variable x."""

    def __init__(self, spellings: Mapping[str, str]) -> None:
        self.spellings = spellings

    def number(self, value: float) -> str:
        return f"{value!r}".removesuffix(".0")

    def variable(self, column: int) -> str:
        return "x"

    def power(self, base: Printed, exponent: int) -> Printed:
        return Printed(squares(self.wrap(base, Precedence.ATOM), exponent), Precedence.PRODUCT)


def text_in_x(expression: Expr, language: str) -> str:
    """A function of the variable x as text: "torch", over torch and the helpers of `kanserve.train.torch.network`, or
    "c kernel", for training.

    >>> text_in_x(FUNCTIONS["gaussian"].expression, "torch")
    'torch.exp(-x*x)'
    """
    return print_signed(print_expression(expression, Printed("x"), _InX(SPELLINGS[language])))
