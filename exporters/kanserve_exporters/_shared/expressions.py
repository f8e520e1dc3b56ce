"""Numbers and edges as source text, for all languages. A symbolic edge c·f(a·x + b) becomes a call of a small function,
`c*f(a*v[3] + b)`, whose body is written once. d is not written here: a layer adds up the d of each subnode."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import ExportError
from kanserve.formula.printing.codegen import Value, write_statements
from kanserve.formula.printing.unfolding import Dialect as Notation
from kanserve.formula.printing.unfolding import Precedence, Printed, print_signed, squares
from kanserve.network.export_options import Precision
from kanserve.network.expression import Expr, list_parts, steps
from kanserve.network.functions import function
from kanserve.network.kan import Symbolic
from kanserve.network.own_functions import by_values
from kanserve.network.spellings import SPELLINGS

Array = NDArray[np.float64]

WIDTH = 110  # characters per line of generated code


@dataclass(frozen=True)
class Dialect:
    """How a language writes numbers and calls. The names of generated helper functions start with `prefix`."""

    language: Literal["c", "numpy", "python", "javascript"]
    precision: Precision
    prefix: str

    @property
    def suffix(self) -> str:
        return "f" if self.language == "c" and self.precision == "float" else ""

    @property
    def single(self) -> bool:
        return self.precision == "float"

    def literal(self, value: float) -> str:
        """The shortest decimal that reads back as this number. Raises ExportError if the type cannot represent it."""
        text = decimals(np.array([value]), self.precision)[0]
        return text.replace("0.", ".", 1) + self.suffix if re.match(r"-?0\.\d*[1-9]", text) else text + self.suffix

    def reports_domain(self, name: str) -> bool:
        """Whether a call reports leaving the function's domain: in C it does, by an extra argument."""
        return self.language == "c" and bool(domain(name))


def decimals(values: Array, precision: Precision) -> list[str]:
    """The shortest decimals that read back as these numbers, flattened. Raises ExportError for one beyond the type."""
    flat = np.asarray(values, np.float64).ravel()
    with np.errstate(over="ignore"):
        held = flat if precision == "double" else flat.astype(np.float32)
    bad = flat[~np.isfinite(held)]
    if len(bad):
        advice = ' Export with precision="double".' if np.isfinite(bad[0]) else ""
        raise ExportError(f"Constants must be finite in {precision}, got {bad[0]}.{advice}")
    return [repr(value) for value in flat.tolist()] if precision == "double" else [str(value) for value in held]


def term(edge: Symbolic, variable: str, dialect: Dialect) -> str:
    """c·f(a·x + b) at x = `variable`. Constants without effect are left out, but not c = 0: 0·log(-1) is NaN."""
    argument = variable if edge.a == 1 else f"{dialect.literal(edge.a)}*{variable}"
    if edge.b != 0:
        argument += _sign(dialect.literal(edge.b)).replace(" ", "")
    if edge.function == "x" and edge.c != 1 and argument != variable:
        value = f"({argument})"
    else:
        value = argument if edge.function == "x" else call(edge.function, argument, dialect)
    return value if edge.c == 1 else f"{dialect.literal(edge.c)}*{value}"


def total(terms: list[str], *, tight: bool = False) -> str:
    """Join terms to a sum, in lines of about WIDTH; `tight`: new lines start with the sign, without spaces."""
    lines = [terms[0]]
    for addend in terms[1:]:
        text = _sign(addend)
        if len(lines[-1]) + len(text) + 1 > WIDTH:
            lines.append(text.replace(" ", "", 1) if tight else f" {text}")
        else:
            lines[-1] += f" {text}"
    return "\n".join(lines)


def call(name: str, argument: str, dialect: Dialect) -> str:
    """A call of the named function: the library's function if it exists, else a helper."""
    if not dialect.reports_domain(name) and (library := _library_function(name, dialect)):
        return f"{library}({argument})"
    return f"{helper(name, dialect)}({argument}{',e' if dialect.reports_domain(name) else ''})"


def helper(name: str, dialect: Dialect) -> str:
    words = re.sub(r"\W+", "_", re.sub("^1/", "per_", name).replace("^", "")).strip("_")
    # Short names, since a large formula has many calls.
    return dialect.prefix + ("f" if dialect.language == "c" else "f_") + words


def needs_helper(name: str, dialect: Dialect) -> bool:
    """Whether `call` uses a helper for this function, which must then be defined."""
    return dialect.reports_domain(name) or not _library_function(name, dialect)


def python_helpers(names: Iterable[str], dialect: Dialect) -> list[str]:
    """The helpers for those of these functions that NumPy or Python lacks."""
    return [
        f"def {helper(name, dialect)}(x):\n    " + "\n    ".join(body(name, dialect))
        for name in sorted(names)
        if needs_helper(name, dialect)
    ]


@cache
def body(name: str, dialect: Dialect) -> tuple[str, ...]:
    """The statements of the named function of x; the last one returns its value."""
    declared = {"c": f"const {dialect.prefix}real ", "javascript": "const "}.get(dialect.language, "")
    end = ";" if declared else ""
    if (own := by_values(name)) and dialect.language != "c":
        return (f"return ({own.spelling(dialect.language, ExportError)}){end}",)
    statements, (value,) = write_expression(function(name).expression, dialect)
    lines = (f"{declared}{word} = {part.expression}{end}" for word, part in statements)
    return (*lines, f"return {value.expression}{end}")


def write_expression(expression: Expr, dialect: Dialect) -> tuple[list[tuple[str, Value]], list[Value]]:
    """Statements for the parts of an expression that occur twice or are long, by name, and its value."""
    language = _Edge(dialect)
    every = steps(expression, language.spellings)
    return write_statements(every, [len(every) - 1], language, (f"t{n}" for n in count()))


class _Edge(Notation):
    """The body of an edge's function of the variable x."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.spellings = SPELLINGS[f"{dialect.language} network"]
        self.prefix = dialect.prefix
        self.suffix = dialect.suffix

    def number(self, value: float) -> str:
        if math.isfinite(value):
            return self.dialect.literal(value)
        if self.dialect.language == "javascript":
            return "NaN" if math.isnan(value) else "Infinity"
        return f"({self.prefix}real){'NAN' if math.isnan(value) else 'INFINITY'}"

    def variable(self, column: int) -> str:
        return "x"

    def call(self, name: str, *arguments: Printed) -> Printed:
        if by_values(name):
            return Printed(f"({self.prefix}real){own_name(name, self.dialect)}((double)({print_signed(arguments[0])}))")
        return super().call(name, *arguments)

    def power(self, base: Printed, exponent: int) -> Printed:
        return Printed(squares(self.wrap(base, Precedence.ATOM), exponent), Precedence.PRODUCT)


def primitives(names: Iterable[str]) -> set[str]:
    """The primitives in the expressions of these functions."""
    nodes = (node for name in names for node in list_parts(function(name).expression))
    return {node.step[1] for node in nodes if node.step[0] == "call"}


def own_name(name: str, dialect: Dialect) -> str:
    """The C identifier of a function that was registered by its values."""
    return f"{dialect.prefix}own_{name}"


def domain(name: str) -> str:
    """Where the function is real and finite, as a C condition on x; "" if floating point cannot leave the domain."""
    words = function(name).domain.split()
    if not all(re.fullmatch(r"x|-?\d+(\.\d+)?|[<>]=?|!=", word) for word in words):
        return ""  # tan's poles, which no floating-point number hits exactly
    if len(words) == 5:
        low, less, x, fewer, high = words
        return f"{low} {less} {x} && {x} {fewer} {high}"
    return " ".join(words)


def constants(rows: list[list[Symbolic]]) -> Array:
    """The constant of each subnode: the exact sum of the d of its edges. Raises ExportError if that overflows."""
    try:
        return np.array([math.fsum(edge.d for edge in row) for row in rows])
    except OverflowError:
        raise ExportError(
            "The constants d of the edges into one sum add up to more than a double holds. Make them smaller."
        ) from None


def _library_function(name: str, dialect: Dialect) -> str:
    # If the body is a single call with x as its argument, that is the library's function.
    found = re.fullmatch(r"return ([A-Za-z_][\w.]*)\(x\);?", "".join(body(name, dialect)))
    return found.group(1) if found and not found.group(1).startswith(dialect.prefix) else ""


def _sign(text: str) -> str:
    return f"- {text[1:]}" if text.startswith("-") else f"+ {text}"


def when(condition: object, *lines: str) -> tuple[str, ...]:
    """The lines if the condition holds, else none."""
    return lines if condition else ()


def inner(lines: Iterable[str]) -> list[str]:
    """The lines, indented once."""
    return [f"    {line}" for line in lines]


def wrap(words: list[str]) -> str:
    """Join words by commas, in lines of about WIDTH."""
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) + 2 > WIDTH:
            lines.append(line)
            line = ""
        line += f"{word}, " if line else f" {word}, "
    return "\n" + "\n".join(text.rstrip() for text in [*lines, line]).rstrip(",") + "\n"
