"""From formulas to the statements of one function, in any language.

A step that is used twice, or whose text would be long, gets a variable. Nothing is nested deep or written twice, so the
text grows with the tree and not with the unfolded formula. The statements are straight-line code, without branches.
"""

import re
import textwrap
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kanserve.errors import FormulaError
from kanserve.formula.expressions.names import identifiers
from kanserve.formula.expressions.tree import Step, references
from kanserve.formula.formula_limits import LIMITS
from kanserve.formula.printing.lowering import ELEMENTARY
from kanserve.formula.printing.printing import Dialect, Precedence, Printed, print_step, signed
from kanserve.network.export_options import Precision
from kanserve.network.own_functions import OWN, modules

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
class Law:
    """A function to be written: outputs[q] from inputs[column], by statements in order."""

    name: str
    columns: int
    notes: tuple[str, ...]  # comments above the function: untrusted text, to be escaped
    inputs: tuple[tuple[str, int, str], ...]  # an identifier, its column and a note
    statements: tuple[tuple[str, str], ...]  # an identifier and an expression
    outputs: tuple[tuple[str, str], ...]  # an expression and a note


class Language(Dialect):
    """How a language writes numbers, calls and a whole function. One object writes one function."""

    functions: ClassVar[Mapping[str, str]] = {}  # templates of those ELEMENTARY functions that are not name(@)
    real_power_template: ClassVar[str] = "pow(@, #)"  # base and exponent; NaN for a base < 0
    lacking: ClassVar[tuple[str, ...]] = ()
    comment: ClassVar[tuple[str, str]]
    spelled_as: ClassVar[str]  # its name among `own_functions.LANGUAGES`
    continued: ClassVar[str] = ""  # at the end of a continued line

    def __init__(self, name: str, identifiers: Sequence[str], precision: Precision) -> None:
        self.name = name
        self.single = precision == "float"
        self.used: set[str] = set()  # functions, some of which need a helper or an import
        self._identifiers = identifiers

    @abstractmethod
    def write(self, law: Law) -> str:
        """The text of the function."""

    def number(self, value: float) -> str:
        return self.decimal(value)

    def decimal(self, value: float) -> str:
        """The shortest decimal that reads back as this number ≥ 0; FormulaError if the type cannot hold it."""
        with np.errstate(over="ignore"):
            held = np.float32(value) if self.single else np.float64(value)
        if not np.isfinite(held):
            raise FormulaError(f"Constants must be finite in float, got {value}. Use the precision double.")
        return str(held)

    def variable(self, column: int) -> str:
        return self._identifiers[column]

    def call(self, name: str, argument: Printed) -> Printed:
        if name in self.lacking:
            raise FormulaError(
                f"{type(self).__name__} has no function {name}. Use another language, or export c_source or "
                "numpy_source, which include it."
            )
        self.used.add(name)
        if name in OWN:
            return self.own_call(name, argument)
        return self._filled(self.functions.get(name, f"{name}(@)"), argument)

    def own_call(self, name: str, argument: Printed) -> Printed:
        """A function that was registered by its values: its expression, with the argument for x."""
        text = OWN[name].spelling(self.spelled_as, FormulaError)
        inner = {"(x)": f"({signed(argument)})", "x": self.wrapped(argument, Precedence.ATOM)}
        filled = re.sub(r"\(x\)|\bx\b", lambda found: inner[found[0]], text)
        return Printed(filled if re.fullmatch(r"[\w.:]+\([^()]*\)", text) else self.bracketed(filled))

    def modules(self) -> list[str]:
        """The modules of functions that were registered by their values."""
        return modules(OWN[name].spelling(self.spelled_as, FormulaError) for name in self.used if name in OWN)

    def _filled(self, template: str, argument: Printed) -> Printed:
        # "sin(@)" has brackets; a method, "@.sin()", needs some around a sum or a sign.
        inner = self.wrapped(argument, Precedence.ATOM) if "@." in template else signed(argument)
        return Printed(template.replace("$", f"{self.name}_").replace("@", inner))

    def power(self, base: Printed, exponent: int) -> Printed:
        return Printed(self.times.join([self.wrapped(base, Precedence.ATOM)] * exponent), Precedence.PRODUCT)

    def real_power(self, base: Printed, exponent: float) -> Printed:
        self.used.add("pow")
        number = f"-{self.number(-exponent)}" if exponent < 0 else self.number(exponent)
        return self._filled(self.real_power_template.replace("#", number), base)

    def notes(self, *texts: str, indent: str = "") -> list[str]:
        """The texts as comment lines, in escaped ASCII, so that no text can end its comment."""
        before, after = self.comment
        lines = []
        for text in texts:
            plain = text.encode("unicode_escape").decode("ascii")
            plain = plain.replace("*/", "*\\/").replace("/*", "/\\*")
            lines += [
                f"{indent}{before} {line}{after}"
                for line in textwrap.wrap(plain, LIMITS.codegen_width, subsequent_indent="  ")
            ]
        return lines

    def assigned(self, target: str, expression: str, indent: str = "    ", end: str = "") -> list[str]:
        """An assignment, wrapped at about WIDTH characters, after operators and opening brackets."""
        lines = [f"{indent}{target} = "]
        for piece in re.findall(r".+?(?:[*/](?!\.)|\(| [-+] |$)", expression):
            if len(lines[-1]) + len(piece) > LIMITS.codegen_width and lines[-1].strip():
                lines.append(f"{indent}    ")
            lines[-1] += piece
        return [f"{line.rstrip()}{self.continued}" for line in lines[:-1]] + [lines[-1] + end]


def coded(
    steps: Sequence[Step], roots: Sequence[int], language: Language, free: Iterator[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """The statements, and the expression of each root; variables get their names from `free`."""
    uses = Counter(roots)
    for step in steps:
        for reference in references(step):
            uses[reference] += step[2] if step[0] == "pow" and isinstance(step[2], int) else 1
    statements: list[tuple[str, str]] = []

    def named(value: Printed) -> Printed:
        statements.append((next(free), signed(value)))
        return Printed(statements[-1][0])

    printed: list[Printed] = []
    for place, step in enumerate(steps):
        below = [printed[reference] for reference in references(step)]
        while len(below) > LIMITS.codegen_operands:
            below[: LIMITS.codegen_operands] = [named(print_step(step, below[: LIMITS.codegen_operands], language))]
        value = print_step(step, below, language)
        if below and (uses[place] > 1 or len(value.text) > LIMITS.codegen_longest):
            value = named(value)
        printed.append(value)
    return statements, [signed(printed[root]) for root in roots]


def free_names(taken: Sequence[str]) -> Iterator[str]:
    """t1, t2, ..., without names that are taken, in upper or lower case."""
    folded = {name.lower() for name in taken}
    number = 0
    while True:
        number += 1
        if f"t{number}" not in folded:
            yield f"t{number}"


def words_of(names: Sequence[str], name: str) -> tuple[tuple[str, ...], str]:
    """The identifiers of the inputs and of the function."""
    (called,) = identifiers([name], RESERVED)
    if {called.lower(), called.lower()[:-1]} & _FUNCTIONS_OF_C:  # also as powf and powl
        called = f"{called}_law"
    helpers = {f"{called}_{function}".lower() for function in (*ELEMENTARY, *OWN, "pow")}
    return identifiers(names, RESERVED | helpers | {called.lower()}), called
