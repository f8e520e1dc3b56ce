"""From text to an expression: a parser of our own, since untrusted text is never executed or passed to another parser.

    sum     = product, {("+" | "-"), product}
    product = signed, {("*" | "/"), signed}
    signed  = ("+" | "-"), signed | power
    power   = atom, [("**" | "^"), signed]         -x^2 is -(x^2), x^2^3 is x^(2^3), 2^-x is allowed
    atom    = number | name | function, "(", sum, ")" | extreme, "(", sum, {",", sum}, ")" | "(", sum, ")"
    extreme = "max" | "min", with at least two arguments
    number  = 2 | 0.5 | .5 | 1e-3 | 2.5E+10
    name    = a letter of any script or "_", then letters, digits and "_"; or anything in double quotes, as in JSON;
              inf, infinity and nan are names only in quotes

Functions have the names of the table of functions and common synonyms (`FUNCTION_NAMES`). Every error marks the
position. Texts are at most MAX_LENGTH characters, nested at most MAX_NESTING deep.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from kanserve.errors import InputError
from kanserve.network.functions import FUNCTIONS
from kanserve.network.spellings import SPECIAL

MAX_LENGTH = 10_000  # characters
PARSING_MAX_NESTING = 50  # signs, powers, brackets and functions within one another
MOST_COMPARED = 50  # arguments of max and min, in all, each beyond the first: each adds a layer to a network
SHOWN = 60  # characters of the text around an error

# Functions whose name is not an identifier are written with operators: x^2, 1/x.
_OTHER_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "atanh": "arctanh", "artanh": "arctanh"}
_OTHER_NAMES |= {"asinh": "arcsinh", "arsinh": "arcsinh"}
_OTHER_NAMES |= {"ln": "log", "Abs": "abs", "sgn": "sign"}
TABLE_NAMES = {name: name for name in FUNCTIONS if name.isidentifier() and name != "x"} | _OTHER_NAMES
COMPOSITIONS = {
    "log10": "log(x)/log(10)",
    "log2": "log(x)/log(2)",
    "cot": "1/tan(x)",
    "sec": "1/cos(x)",
    "csc": "1/sin(x)",
    "coth": "1/tanh(x)",
    "sech": "1/cosh(x)",
    "csch": "1/sinh(x)",
    **dict.fromkeys(("arccosh", "acosh", "arcosh"), "log(x + sqrt((x - 1)*(x + 1)))"),
}
FUNCTION_NAMES = {*TABLE_NAMES, *COMPOSITIONS}
EXTREMES = {"max": 1.0, "Max": 1.0, "min": -1.0, "Min": -1.0}
"""Functions of two or more arguments, by the sign of |a - b| in twice their value: max(a, b) = (a + b + |a - b|)/2."""

_NOT_FINITE = frozenset({"inf", "infinity", "nan"})  # how Python and others write numbers that are not finite

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[^\W\d]\w*)"
    r'|(?P<quoted>"(?:[^"\\]|\\.)*")'
    r"|(?P<operator>\*\*|[-+*/^(),])"
)


@dataclass(frozen=True)
class Number:
    value: float
    at: int = 0


@dataclass(frozen=True)
class Name:
    name: str
    at: int = 0


@dataclass(frozen=True)
class Add:
    terms: tuple["Expression", ...]
    at: int = 0


@dataclass(frozen=True)
class Multiply:
    """The product of the factors, divided by each of the divisors."""

    factors: tuple["Expression", ...]
    divisors: tuple["Expression", ...] = ()
    at: int = 0


@dataclass(frozen=True)
class Power:
    base: "Expression"
    exponent: "Expression"
    at: int = 0


@dataclass(frozen=True)
class Call:
    """A call of a function in FUNCTION_NAMES."""

    function: str
    argument: "Expression"
    at: int = 0


@dataclass(frozen=True)
class Extreme:
    """The maximum (`function` "max") or minimum ("min") of two or more expressions."""

    function: str
    arguments: tuple["Expression", ...]
    at: int = 0


# `at` is the position of an expression's operator, name or number in the text, in characters from 0.
Expression = Number | Name | Add | Multiply | Power | Call | Extreme


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> Expression:
    """Parse a formula in this module's grammar. Raises InputError with the position of the first mistake."""
    if len(text) > MAX_LENGTH:
        raise InputError(f"A formula may have at most {MAX_LENGTH} characters, got {len(text)}.")
    return _Parser(text).whole()


def mistake(text: str, at: int, message: str) -> InputError:
    """An error that shows the line of the text, with a caret below the character."""
    start = text.rfind("\n", 0, at) + 1
    line, column = text[start:].partition("\n")[0], at - start
    cut = max(0, column - SHOWN // 2)
    # A control character would move the caret, or the cursor of a terminal.
    shown = "".join(character if character.isprintable() else " " for character in line[cut : cut + SHOWN])
    line_number = text.count("\n", 0, at) + 1
    place = f"line {line_number}, character {column + 1}" if "\n" in text else f"character {column + 1}"
    return InputError(f"{message} At {place}:\n  {shown}\n  {' ' * (column - cut)}^")


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise mistake(text, at, f"A formula cannot contain {text[at]!r}.")
        if match["name"] and not match[0].isidentifier():
            raise mistake(
                text, at, f"{match[0][:20]!r} is not a valid name; put it in double quotes, or write a power as x^2."
            )
        if match.lastgroup != "space":
            tokens.append(_Token(str(match.lastgroup), match[0], at))
        at = match.end()
    return [*tokens, _Token("end", "", len(text.rstrip()))]


class _Parser:
    """A recursive-descent parser: one method per grammar rule, each of which advances `self._next` past its tokens."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._nesting = 0
        self._compared = 0

    def whole(self) -> Expression:
        result = self._sum()
        token = self._token
        if token.kind != "end":
            hint = " Write a product as 2*x." if token.kind in ("number", "name", "quoted") or token.text == "(" else ""
            wanted = "an operator" if token.text != ")" else "the end, since no bracket is open"
            raise self._mistake(f"Wanted {wanted}, got {token.text[:20]!r}.{hint}")
        return result

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _mistake(self, message: str, at: int | None = None) -> InputError:
        return mistake(self._text, self._token.at if at is None else at, message)

    def _take(self, *texts: str) -> _Token | None:
        """Consume and return the next token if it is one of these operators."""
        token = self._token
        if token.kind != "operator" or token.text not in texts:
            return None
        self._next += 1
        return token

    def _parse_nested(self, inner: Callable[[], Expression]) -> Expression:
        self._nesting += 1
        if self._nesting > PARSING_MAX_NESTING:
            raise self._mistake(f"A formula may be nested at most {PARSING_MAX_NESTING} deep.")
        result = inner()
        self._nesting -= 1
        return result

    def _sum(self) -> Expression:
        first = self._product()
        terms, at = [first], None
        while operator := self._take("+", "-"):
            at = operator.at if at is None else at
            term = self._product()
            terms.append(_negative(term, operator.at) if operator.text == "-" else term)
        return first if at is None else Add(tuple(terms), at)

    def _product(self) -> Expression:
        first = self._parse_signed()
        factors, divisors, at = [first], list[Expression](), None
        while operator := self._take("*", "/"):
            at = operator.at if at is None else at
            (divisors if operator.text == "/" else factors).append(self._parse_signed())
        return first if at is None else Multiply(tuple(factors), tuple(divisors), at)

    def _parse_signed(self) -> Expression:
        sign = self._take("+", "-")
        if sign is None:
            return self._power()
        inner = self._parse_nested(self._parse_signed)
        return _negative(inner, sign.at) if sign.text == "-" else inner

    def _power(self) -> Expression:
        base = self._atom()
        operator = self._take("**", "^")
        return base if operator is None else Power(base, self._parse_nested(self._parse_signed), operator.at)

    def _atom(self) -> Expression:
        token = self._token
        if opened := self._take("("):
            return self._parse_closed(opened)
        if token.kind not in ("number", "name", "quoted"):
            got = repr(token.text) if token.text else "the end"
            raise self._mistake(f"Wanted a number, a name or '(', got {got}.")
        self._next += 1
        if token.kind == "number":
            return Number(self._number(token), token.at)
        if token.kind == "quoted":
            return Name(self._unquote(token), token.at)
        if opened := self._take("("):
            if token.text in EXTREMES:
                return self._extreme(token, opened)
            if token.text not in FUNCTION_NAMES:
                hint = f"A product is written {token.text:.20}*(...)."
                raise self._mistake(f"No function is called {token.text:.20}. {function_list()} {hint}", token.at)
            return Call(token.text, self._parse_closed(opened), token.at)
        if token.text in FUNCTION_NAMES and token.text not in SPECIAL:  # gamma alone is a variable
            raise self._mistake(f"{token.text} is a function: write {token.text}(...).", token.at)
        if token.text.lower() in _NOT_FINITE:
            raise self._mistake(
                f"A formula has only finite numbers; to use {token.text} as a name, put it in double quotes.", token.at
            )
        return Name(token.text, token.at)

    def _number(self, token: _Token) -> float:
        value = float(token.text)
        if not math.isfinite(value):
            raise self._mistake("This number is too large for a double.", token.at)
        if value == 0 and re.search("[1-9]", token.text.lower().partition("e")[0]):
            raise self._mistake("This number is not 0 but too small for a double.", token.at)
        return value

    def _parse_closed(self, opened: _Token) -> Expression:
        inner = self._parse_nested(self._sum)
        self._close(opened, "an operator or ')'")
        return inner

    def _close(self, opened: _Token, wanted: str) -> None:
        if not self._take(")"):
            if self._token.kind == "end":
                raise self._mistake("This bracket is not closed.", opened.at)
            raise self._mistake(f"Wanted {wanted}, got {self._token.text[:20]!r}.")

    def _extreme(self, function: _Token, opened: _Token) -> Expression:
        arguments = [self._parse_nested(self._sum)]
        while comma := self._take(","):
            self._compared += 1
            if self._compared > MOST_COMPARED:
                most = MOST_COMPARED
                raise self._mistake(f"The max and min of a formula may compare at most {most} arguments.", comma.at)
            arguments.append(self._parse_nested(self._sum))
        self._close(opened, "an operator, ',' or ')'")
        if len(arguments) < 2:
            raise self._mistake(f"{function.text} takes two or more arguments: {function.text}(a, b).", function.at)
        return Extreme(function.text, tuple(arguments), function.at)

    def _unquote(self, token: _Token) -> str:
        try:
            name = str(json.loads(token.text))
        except ValueError:
            name = ""
        if not name:
            raise self._mistake("A quoted name must not be empty and is escaped as in JSON.", token.at)
        return name


def _negative(expression: Expression, at: int) -> Expression:
    return Multiply((Number(-1.0, at), expression), (), at)


def function_list() -> str:
    """A sentence for error messages that lists the functions."""
    return f"There are: {', '.join(sorted({*FUNCTION_NAMES, *EXTREMES}))}."
