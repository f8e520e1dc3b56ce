"""From formulas to the statements of one function, in any language. A step that is used twice, or whose text would be
long, gets a variable, so that the text grows with the tree and not with the unfolded formula."""

import re
import textwrap
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kanserve.errors import FormulaError
from kanserve.formula.expressions.names import identifiers
from kanserve.formula.expressions.tree import Step, references
from kanserve.formula.printing.lowering import ELEMENTARY
from kanserve.formula.printing.unfolding import Dialect, Precedence, Printed, print_signed, print_step
from kanserve.network.encoding import is_encoded
from kanserve.network.export_options import Precision
from kanserve.network.kan import Variable
from kanserve.network.own_functions import OWN, modules
from kanserve.network.spellings import SPECIAL

CODEGEN_WIDTH = 100  # characters of a line; Fortran allows 132
LONGEST = 160  # characters of an expression without a variable of its own
OPERANDS = 12  # of a statement: with the above, it stays within Fortran's 39 continuation lines

# Reserved words of the languages, in lower case: an input with such a name gets an underscore. Those of C and Python
# are handled by `identifiers` itself.
_RESERVED = """
    inputs outputs abs acos asin asinh atan atanh bessel_j0 besselj besselj0 cos cosh erf exp gamma j0 ln log sign sin
    sinh sqrt tan tanh abstract allocatable as async await backspace baremodule become begin block box call character
    class close complex contains crate critical cycle data deallocate dimension do double dyn elemental elseif
    elsewhere end endfor endfunction endif endwhile entry enum eps equivalence exit export external false final finally
    float32 float64 f32 f64 fn forall format function global go goto if impl implicit import impure inf integer intent
    interface intrinsic isinf isnan kind let local loop logical macro match math merge missing mod module move mut
    namelist nan none nothing null nullify numel numpy oftype ones open operator otherwise override parameter parfor
    parse persistent pointer precision present primitive print priv private procedure program protected pub public pure
    quote read real recursive ref result return rewind save scipy select self sequence single size spmd static stop
    struct submodule subroutine super target then trait true type typeof unsafe unsized until unwind_protect use using
    value varargin varargout virtual volatile wait where while write yield zeros
"""
RESERVED = frozenset(_RESERVED.split())
# Names that C's headers and compilers declare: allowed for locals, not for a function.
_OF_C = """
    abort acosh calloc cbrt ceil copysign erfc exit exp2 expm1 fabs fdim floor fma fmax fmin fmod fpclassify free
    frexp hypot ilogb index isfinite isgreater isless isnormal isunordered j1 jn ldexp lgamma llrint llround log10 log1p
    log2 logb lrint lround main malloc memcpy memset modf nearbyint nextafter nexttoward pow printf puts remainder
    remquo rint round scalb scalbln scalbn signbit significand strlen tgamma trunc y0 y1 yn
"""
_FUNCTIONS_OF_C = frozenset(_OF_C.split())


@dataclass(frozen=True)
class Input:
    """An input that the outputs depend on: its identifier, column, comment and variable."""

    word: str
    column: int
    note: str
    variable: Variable


@dataclass(frozen=True)
class Value:
    """An expression, and the identifiers of the inputs and statements it uses."""

    expression: str
    words: frozenset[str]


@dataclass(frozen=True)
class Law:
    """A function to write as code: outputs[q] from inputs[column], by statements in order."""

    name: str
    columns: int
    notes: tuple[str, ...]  # comments above the function: untrusted text, to be escaped
    inputs: tuple[Input, ...]
    statements: tuple[tuple[str, Value], ...]  # an identifier and its value
    outputs: tuple[tuple[Value, str, str], ...]  # a value, a note and the output's name: untrusted text

    def find_needed(self, value: Value) -> set[str]:
        """The identifiers of all inputs and statements that a value depends on."""
        words = set(value.words)
        for word, statement in reversed(self.statements):
            if word in words:
                words |= statement.words
        return words


class Language(Dialect):
    """How a language writes numbers, calls and a whole function. One object writes one function."""

    comment: ClassVar[tuple[str, str]]
    unicode_comments: ClassVar[bool] = False  # otherwise they are ASCII, for compilers that know nothing else
    spelled_as: ClassVar[str]  # its name among `own_functions.LANGUAGES`
    continued: ClassVar[str] = ""  # at the end of a continued line
    only_double: ClassVar[str] = ""  # the language's name, if its numbers are doubles and nothing else
    takes: ClassVar[str] = "It takes raw features, in their order."
    temporaries: ClassVar[str] = "t"  # how the names of statements begin
    first_index: ClassVar[int] = 0
    declared: ClassVar[tuple[str, str]] = ("", "")  # before a variable that is set once, and before one that changes
    # How an encoded input gets its numbers: conditions on the raw value @, NaN, and a replacement under a condition.
    equals: ClassVar[str] = "@ == #"
    is_missing: ClassVar[str] = "isnan(@)"
    is_no_infinity: ClassVar[str] = "!isinf(@)"
    nan: str = "NaN"
    replacement: ClassVar[str] = "if ({condition}) {word} = {value};"

    def __init__(self, name: str, identifiers: Sequence[str], precision: Precision) -> None:
        self.name = name
        self.prefix = f"{name}_"
        self.single = precision == "float"
        self.used: set[str] = set()  # functions, some of which need a helper or an import
        self._identifiers = identifiers

    @classmethod
    def lacking(cls) -> set[str]:
        """The special functions that this target language does not provide."""
        return {*SPECIAL} - {*cls.spellings}

    @classmethod
    def words_of(cls, names: Sequence[str], name: str) -> tuple[tuple[str, ...], str]:
        """Valid identifiers for the inputs and for the function."""
        (called,) = identifiers([name], RESERVED)
        if {called.lower(), called.lower()[:-1]} & _FUNCTIONS_OF_C:  # also as powf and powl
            called = f"{called}_law"
        helpers = {f"{called}_{function}".lower() for function in (*ELEMENTARY, *OWN, "pow")}
        return identifiers(names, RESERVED | helpers | {called.lower()}), called

    @abstractmethod
    def write(self, law: Law) -> str:
        """The source text of the function."""

    def read(self, law: Law, statement: str, raw: str, indent: str = "    ") -> list[str]:
        """The statements that read the inputs, with their comments. In `statement`, {declared}, {word} and {raw} are
        replaced, and in `raw`, the raw value, {column}."""
        lines = []
        for entry in law.inputs:
            place = raw.format(column=entry.column + self.first_index)
            declared = self.declared[is_encoded(entry.variable)]
            lines += self.notes(entry.note, indent=indent)
            lines.append(f"{indent}{statement.format(declared=declared, word=entry.word, raw=place)}")
            lines += self.encode_input(entry, place, indent)
        return lines

    def encode_input(self, entry: Input, raw: str, indent: str) -> list[str]:
        """Statements that replace category codes and missing values by the numbers that the network uses for them."""
        variable = entry.variable
        if not is_encoded(variable):
            return []
        fill = self.nan if variable.fill_value is None else self.print_number(variable.fill_value)
        if not variable.categories:
            replaced = [(self.is_missing, fill, "missing")]
        else:
            other = "unknown" if variable.fill_value is None else "missing or unknown"
            replaced = [(self.is_no_infinity, fill, other)]
        for code, (name, value) in enumerate(zip(variable.categories, variable.category_values, strict=True)):
            condition = self.equals.replace("#", self.number(float(code)))
            replaced.append((condition, self.print_number(value), f'"{name}"'))
        lines = []
        for condition, number, note in replaced:
            statement = self.replacement.format(
                condition=condition.replace("@", raw), word=entry.word, value=number.replace("@", raw)
            )
            lines += self.add_note(f"{indent}{statement}", note, indent)
        return lines

    def add_note(self, line: str, note: str, indent: str) -> list[str]:
        """A line with a comment at its end, or above it if both together are too long."""
        notes = self.notes(note)
        if len(notes) == 1 and len(line) + len(notes[0]) < CODEGEN_WIDTH:
            return [f"{line} {notes[0]}"]
        return [*self.notes(note, indent=indent), line]

    def number(self, value: float) -> str:
        return self.decimal(value)

    def decimal(self, value: float) -> str:
        """The shortest decimal that reads back as this number ≥ 0. Raises FormulaError for one beyond the type."""
        if self.single and self.only_double:
            raise FormulaError(f"{self.only_double}'s numbers are doubles. Use numpy for the precision float.")
        with np.errstate(over="ignore"):
            held = np.float32(value) if self.single else np.float64(value)
        if not np.isfinite(held):
            raise FormulaError(f"Constants must be finite in float, got {value}. Use the precision double.")
        return str(held)

    def variable(self, column: int) -> str:
        return self._identifiers[column]

    def call(self, name: str, *arguments: Printed) -> Printed:
        if name in self.lacking():
            raise FormulaError(
                f"{self.only_double or type(self).__name__} has no function {name}. Use another language, or export "
                "c_source or numpy_source, which include it."
            )
        self.used.add(name)
        if name in OWN:
            return self.own_call(name, *arguments)
        return super().call(name, *arguments)

    def own_call(self, name: str, argument: Printed) -> Printed:
        """A call of a function that was registered by its values: its expression, with the argument for x."""
        text = OWN[name].spelling(self.spelled_as, FormulaError)
        inner = {"(x)": f"({print_signed(argument)})", "x": self.wrap(argument, Precedence.ATOM)}
        filled = re.sub(r"\(x\)|\bx\b", lambda found: inner[found[0]], text)
        return Printed(filled if re.fullmatch(r"[\w.:]+\([^()]*\)", text) else self.bracket(filled))

    def modules(self) -> list[str]:
        """The modules that functions registered by their values need."""
        return modules(OWN[name].spelling(self.spelled_as, FormulaError) for name in self.used if name in OWN)

    def power(self, base: Printed, exponent: int) -> Printed:
        return Printed(self.times.join([self.wrap(base, Precedence.ATOM)] * exponent), Precedence.PRODUCT)

    def real_power(self, base: Printed, exponent: float) -> Printed:
        self.used.add("pow")
        return super().real_power(base, exponent)

    def notes(self, *texts: str, indent: str = "") -> list[str]:
        """The texts as comment lines, escaped so that no text can end its comment."""
        before, after = self.comment
        lines = []
        for text in texts:
            plain = "".join(
                char
                if char.isprintable() and (self.unicode_comments or char.isascii())
                else char.encode("unicode_escape").decode("ascii")
                for char in text.replace("\\", r"\\")
            )
            plain = plain.replace("*/", "*\\/").replace("/*", "/\\*")
            lines += [
                f"{indent}{before} {line}{after}"
                for line in textwrap.wrap(plain, CODEGEN_WIDTH, subsequent_indent="  ")
            ]
        return lines

    def assign(self, target: str, expression: str, indent: str = "    ", end: str = "") -> list[str]:
        """An assignment, wrapped at about WIDTH characters, after operators and opening brackets."""
        pieces = re.findall(r".+?(?:[*/](?!\.)|\(| [-+] |$)", expression)
        lines = wrapped(pieces, f"{indent}{target} = ", f"{indent}    ")
        return [f"{line.rstrip()}{self.continued}" for line in lines[:-1]] + [lines[-1] + end]


def wrapped(pieces: Iterable[str], first: str, further: str) -> list[str]:
    """Join pieces to lines of at most about CODEGEN_WIDTH characters, which begin with `first` or `further`."""
    lines = [first]
    for piece in pieces:
        if len(lines[-1]) + len(piece) > CODEGEN_WIDTH and lines[-1].strip():
            lines.append(further)
        lines[-1] += piece
    return lines


def write_statements(
    steps: Sequence[Step], roots: Sequence[int], language: Dialect, free: Iterator[str]
) -> tuple[list[tuple[str, Value]], list[Value]]:
    """The statements, and the value of each root; variables get their names from `free`."""
    uses = _uses(steps, roots)
    statements: list[tuple[str, Value]] = []

    def name_value(value: _Printed) -> _Printed:
        word = next(free)
        statements.append((word, Value(print_signed(value.printed), value.words)))
        return _Printed(Printed(word), frozenset({word}))

    values: list[_Printed] = []
    for place, step in enumerate(steps):
        below = [values[reference] for reference in references(step)]
        if language.repeats(step):
            below = [
                operand if operand.is_word or operand.printed.number is not None else name_value(operand)
                for operand in below
            ]
        while len(below) > OPERANDS:
            below[:OPERANDS] = [name_value(_combine(step, below[:OPERANDS], language))]
        value = _combine(step, below, language)
        if step[0] == "var":
            value = _Printed(value.printed, frozenset({value.printed.text}))
        is_long = len(value.printed.text) > LONGEST and place not in roots
        if below and (uses[place] > 1 or is_long):
            value = name_value(value)
        values.append(value)
    return statements, [Value(print_signed(values[root].printed), values[root].words) for root in roots]


def _uses(steps: Sequence[Step], roots: Sequence[int]) -> Counter[int]:
    """How often each step's text would appear in the code; in a power as often as it is multiplied."""
    uses = Counter(roots)
    for step in steps:
        for reference in references(step):
            uses[reference] += abs(step[2]) if step[0] == "pow" and isinstance(step[2], int) else 1
    return uses


def _combine(step: Step, below: Sequence["_Printed"], language: Dialect) -> "_Printed":
    words = frozenset[str]().union(*(operand.words for operand in below))
    return _Printed(print_step(step, [operand.printed for operand in below], language), words)


@dataclass(frozen=True)
class _Printed:
    """A printed expression, and the identifiers in it."""

    printed: Printed
    words: frozenset[str]

    @property
    def is_word(self) -> bool:
        return self.words == {self.printed.text}


def free_names(taken: Sequence[str], prefix: str) -> Iterator[str]:
    """t1, t2, ... (for prefix t), skipping names that are taken in upper or lower case."""
    folded = {name.lower() for name in taken}
    number = 0
    while True:
        number += 1
        if f"{prefix}{number}" not in folded:
            yield f"{prefix}{number}"
