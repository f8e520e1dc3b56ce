"""The languages in which a formula can be written.

All functions take the raw features in the network's order and return all outputs. Where a function is undefined, C,
Fortran, Rust and NumPy give NaN or an infinity by themselves; Julia, MATLAB and Python would raise or become complex,
so helpers return NaN instead. Intermediate values are not checked: an infinity may become finite again, as in
atan(1/x), and outputs are independent of each other. The exported sources have these checks.
"""

from collections.abc import Sequence
from typing import ClassVar

from kanserve.errors import FormulaError
from kanserve.formula.printing.codegen import Language, Law
from kanserve.formula.printing.excel import Excel
from kanserve.formula.printing.sql import DIALECTS
from kanserve.formula.printing.unfolding import Precedence, Printed, print_signed
from kanserve.network.own_functions import OWN
from kanserve.network.spellings import SPELLINGS, c_name

# Where these hold, Julia raises and MATLAB becomes complex.
_OUTSIDE = {"sqrt": "x < 0", "log": "x < 0", "arcsin": "abs(x) > 1", "arccos": "abs(x) > 1", "arctanh": "abs(x) > 1"}


class C(Language):
    """C99 with libm, and POSIX's j0."""

    spelled_as = "c"
    spellings = SPELLINGS["c"]
    comment = ("/*", " */")
    declared = ("const ", "")
    nan = "NAN"
    _HELPERS: ClassVar = {
        "sign": "static real $sign(real x)\n{\n    return (real)((x > 0) - (x < 0)) + 0*x;\n}\n",
        "gamma": "static real $gamma(real x)\n{\n    return x > 0 ? tgamma(x) : (real)NAN;\n}\n",
        "j0": "extern double j0(double x); /* of POSIX */\n",
    }

    def number(self, value: float) -> str:
        return self.decimal(value) + self.suffix

    @property
    def suffix(self) -> str:  # type: ignore[override]  # it depends on the precision
        return "f" if self.single else ""

    def call(self, name: str, *arguments: Printed) -> Printed:
        if self.single and name == "j0":
            self.used.add(name)
            return Printed(f"(float)j0((double)({print_signed(arguments[0])}))")
        return super().call(name, *arguments)

    def own_call(self, name: str, argument: Printed) -> Printed:
        called = f"{self.name}_{name}"
        return Printed(
            f"(float){called}((double)({print_signed(argument)}))"
            if self.single
            else f"{called}({print_signed(argument)})"
        )

    def write(self, law: Law) -> str:
        real = "float" if self.single else "double"
        lines = [*self.notes(*law.notes), "#include <math.h>", ""]
        for name in sorted(self.used & {*self._HELPERS}):
            text = self._HELPERS[name].replace("$", f"{law.name}_")
            if self.single:
                text = text.replace("tgamma(", "tgammaf(")
            lines.append(text.replace("real", real))
        for name in sorted(self.used & {*OWN}):
            lines.append(OWN[name].c_function(f"{law.name}_{name}", FormulaError))
        lines += [f"void {law.name}(const {real} inputs[{law.columns}], {real} outputs[{len(law.outputs)}])", "{"]
        lines += self.read(law, f"{{declared}}{real} {{word}} = {{raw}};", "inputs[{column}]")
        for word, value in law.statements:
            lines += self.assign(f"const {real} {word}", value.expression, end=";")
        lines += [] if law.inputs else ["    (void)inputs;"]
        for number, (value, note, _) in enumerate(law.outputs):
            lines += [*self.notes(note, indent="    "), *self.assign(f"outputs[{number}]", value.expression, end=";")]
        return "\n".join([*lines, "}", ""])


class Fortran(Language):
    """Fortran 2008, free form."""

    spelled_as = "fortran"
    spellings = SPELLINGS["fortran"]
    comment = ("!", "")
    continued = " &"
    first_index = 1
    # Compilers warn of reals that are compared by ==.
    equals = "abs(@ - #) <= 0"
    is_missing = ".not. abs(@) >= 0"
    is_no_infinity = ".not. abs(@) > huge(@)"
    nan = "sqrt(-1 - 0*@)"
    replacement = "if ({condition}) {word} = {value}"
    _HELPERS: ClassVar = {
        "sign": "result = merge(1, 0, x > 0) - merge(1, 0, x < 0) + 0*x",
        "gamma": "result = merge(gamma(merge(x, 1 + 0*x, x > 0)), sqrt(-1 - 0*x), x > 0)",
    }

    def number(self, value: float) -> str:
        mantissa, _, exponent = self.decimal(value).partition("e")
        return f"{mantissa}{'e' if self.single else 'd'}{int(exponent or 0)}"

    def write(self, law: Law) -> str:
        real = "real" if self.single else "double precision"
        lines = [*self.notes(*law.notes), f"pure subroutine {law.name}(inputs, outputs)", "    implicit none"]
        lines += [f"    {real}, intent(in) :: inputs({law.columns})"]
        lines += [f"    {real}, intent(out) :: outputs({len(law.outputs)})"]
        words = [*(entry.word for entry in law.inputs), *(word for word, _ in law.statements)]
        lines += [f"    {real} :: {word}" for word in words]
        # Otherwise compilers warn about unused inputs of a constant formula.
        lines += [] if law.inputs else ["    if (size(inputs) < 0) return"]
        lines += self.read(law, "{word} = {raw}", "inputs({column})")
        for word, value in law.statements:
            lines += self.assign(word, value.expression)
        for number, (value, note, _) in enumerate(law.outputs):
            lines += [*self.notes(note, indent="    "), *self.assign(f"outputs({number + 1})", value.expression)]
        helpers = sorted(self.used & {*self._HELPERS})
        lines += ["contains"] if helpers else []
        for name in helpers:
            lines += [
                f"    pure {real} function {law.name}_{name}(x) result(result)",
                f"        {real}, intent(in) :: x",
                f"        {self._HELPERS[name]}",
                "    end function",
            ]
        return "\n".join([*lines, f"end subroutine {law.name}", ""])


class Rust(Language):
    """Rust with its standard library, which has no erf, gamma or j0."""

    spelled_as = "rust"
    spellings = SPELLINGS["rust"]
    comment = ("//", "")
    declared = ("let ", "let mut ")
    is_missing = "@.is_nan()"
    is_no_infinity = "!@.is_infinite()"
    replacement = "if {condition} {{ {word} = {value}; }}"

    def write(self, law: Law) -> str:
        real = "f32" if self.single else "f64"
        self.nan = f"{real}::NAN"
        lines = self.notes(*law.notes)
        if "sign" in self.used:
            lines += ["#[allow(non_snake_case)]", f"fn {law.name}_sign(x: {real}) -> {real} {{"]
            lines += ["    if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x }", "}", ""]
        given = "inputs" if law.inputs else "_inputs"
        lines += ["#[allow(non_snake_case)]"]
        lines += [f"pub fn {law.name}({given}: &[{real}; {law.columns}]) -> [{real}; {len(law.outputs)}] {{"]
        lines += self.read(law, f"{{declared}}{{word}}: {real} = {{raw}};", "inputs[{column}]")
        for word, value in law.statements:
            lines += self.assign(f"let {word}: {real}", value.expression, end=";")
        lines.append(f"    let mut outputs: [{real}; {len(law.outputs)}] = [0.0; {len(law.outputs)}];")
        for number, (value, note, _) in enumerate(law.outputs):
            lines += [*self.notes(note, indent="    "), *self.assign(f"outputs[{number}]", value.expression, end=";")]
        return "\n".join([*lines, "    outputs", "}", ""])


class Julia(Language):
    """Julia; erf, gamma and j0 come from the package SpecialFunctions."""

    spelled_as = "julia"
    spellings = SPELLINGS["julia"]
    comment = ("#", "")
    first_index = 1
    replacement = "if {condition}; {word} = {value}; end"
    _OUTSIDE: ClassVar = _OUTSIDE | dict.fromkeys(("sin", "cos", "tan"), "isinf(x)") | {"gamma": "!(x > 0)"}

    def number(self, value: float) -> str:
        text = self.decimal(value)
        return (text.replace("e", "f") if "e" in text else f"{text}f0") if self.single else text

    def write(self, law: Law) -> str:
        real = "Float32" if self.single else "Float64"
        self.nan = f"{real}(NaN)"
        lines = self.notes(*law.notes)
        special = [word for name, word in (("erf", "erf"), ("gamma", "gamma"), ("j0", "besselj0")) if name in self.used]
        lines += [f"using SpecialFunctions: {', '.join(special)}", ""] if special else []
        lines += [f"import {module}" for module in self.modules()]
        for name in sorted(self.used & {*self._OUTSIDE}):
            word = c_name(name)
            lines.append(f"{law.name}_{word}(x) = {self._OUTSIDE[name]} ? oftype(x, NaN) : {word}(x)")
        if "pow" in self.used:
            lines.append(f"{law.name}_pow(x, p) = x < 0 ? oftype(x, NaN) : x^p")
        lines += ["", f"function {law.name}(inputs)"]
        lines += self.read(law, f"{{word}} = {real}({{raw}})", "inputs[{column}]")
        for word, value in law.statements:
            lines += self.assign(word, value.expression)
        lines.append(f"    outputs = zeros({real}, {len(law.outputs)})")
        for number, (value, note, _) in enumerate(law.outputs):
            lines += [*self.notes(note, indent="    "), *self.assign(f"outputs[{number + 1}]", value.expression)]
        return "\n".join([*lines, "    return outputs", "end", ""])


class Matlab(Language):
    """MATLAB and Octave; maps rows (N, inputs) to rows (N, outputs)."""

    spelled_as = "matlab"
    spellings = SPELLINGS["matlab"]
    times = ".*"
    comment = ("%", "")
    continued = " ..."
    first_index = 1
    is_no_infinity = "~isinf(@)"
    replacement = "{word}({condition}) = {value};"
    _OUTSIDE: ClassVar = _OUTSIDE | {"gamma": "~(x > 0)"}

    def quotient(self, above: Sequence[Printed], below: Sequence[Printed]) -> str:
        text = super().quotient(above, ())
        if not below:
            return text
        divisor = self.times.join(self.wrap(factor, Precedence.POWER) for factor in below)
        return f"{text}./{divisor if len(below) == 1 else self.bracket(divisor)}"

    def write(self, law: Law) -> str:
        real = "single" if self.single else "double"
        lines = [f"function outputs = {law.name}(inputs)", *self.notes(*law.notes)]
        lines += self.read(law, f"{{word}} = {real}({{raw}});", "inputs(:, {column})")
        for word, value in law.statements:
            lines += self.assign(word, value.expression, end=";")
        lines.append(f"    outputs = zeros(size(inputs, 1), {len(law.outputs)}, '{real}');")
        for number, (value, note, _) in enumerate(law.outputs):
            lines += [
                *self.notes(note, indent="    "),
                *self.assign(f"outputs(:, {number + 1})", value.expression, end=";"),
            ]
        lines += ["end"]
        for name in sorted(self.used & {*self._OUTSIDE}):
            word = c_name(name)
            lines += ["", f"function y = {law.name}_{word}(x)", f"    y = real({word}(x));"]
            lines += [f"    y({self._OUTSIDE[name]}) = NaN;", "end"]
        if "pow" in self.used:
            lines += ["", f"function y = {law.name}_pow(x, p)", "    y = real(x.^p);", "    y(x < 0) = NaN;", "end"]
        return "\n".join([*lines, ""])


class _InPython(Language):
    comment = ("#", "")

    def assign(self, target: str, expression: str, indent: str = "    ", end: str = "") -> list[str]:
        lines = super().assign(target, expression, indent, end)
        return lines if len(lines) == 1 else super().assign(target, f"({expression})", indent, end)


class Numpy(_InPython):
    """Python with NumPy; maps rows (N, inputs) to rows (N, outputs). erf, gamma and j0 come from SciPy."""

    spelled_as = "numpy"
    spellings = SPELLINGS["numpy"]
    is_missing = "numpy.isnan(@)"
    is_no_infinity = "~numpy.isinf(@)"
    nan = "numpy.nan"
    replacement = "{word} = numpy.where({condition}, {value}, {word})"

    def write(self, law: Law) -> str:
        real = "numpy.float32" if self.single else "numpy.float64"
        lines = [*self.notes(*law.notes), "import numpy"]
        special = {"scipy.special"} if self.used & {"erf", "gamma", "j0"} else set()
        lines += [f"import {module}" for module in sorted({*self.modules()} | special)]
        if "gamma" in self.used:
            lines += [
                "",
                "",
                f"def {law.name}_gamma(x):",
                "    return numpy.where(x > 0, scipy.special.gamma(x), numpy.nan)",
            ]
        lines += ["", "", f"def {law.name}(inputs):", f"    inputs = numpy.asarray(inputs, {real})"]
        lines += [f"    outputs = numpy.empty((*inputs.shape[:-1], {len(law.outputs)}), {real})"]
        lines += self.read(law, "{word} = {raw}", "inputs[..., {column}]")
        lines.append('    with numpy.errstate(all="ignore"):')
        for word, value in law.statements:
            lines += self.assign(word, value.expression, " " * 8)
        for number, (value, note, _) in enumerate(law.outputs):
            lines += self.notes(note, indent=" " * 8)
            lines += self.assign(f"outputs[..., {number}]", value.expression, " " * 8)
        return "\n".join([*lines, "    return outputs", ""])


class Python(_InPython):
    """Python with its standard library, which has no j0; maps one row to a list. Its numbers are doubles."""

    spelled_as = "python"
    spellings = SPELLINGS["python"]
    only_double = "Python"
    is_missing = "math.isnan(@)"
    is_no_infinity = "not math.isinf(@)"
    nan = "math.nan"
    replacement = "{word} = {value} if {condition} else {word}"
    _HELPERS: ClassVar = {
        # 1/(1 + exp(-x)) must be 0 for large negative x, not an OverflowError.
        "exp": ["    return math.exp(x) if x < 709.78 else math.inf if x == x else x"],
        "sign": ["    return (x > 0) - (x < 0) + 0 * x"],
        "gamma": ["    return math.gamma(x) if x > 0 else math.nan"],
    }

    def write(self, law: Law) -> str:
        lines = [*self.notes(*law.notes), "import math", *(f"import {module}" for module in self.modules()), "", ""]
        for name in sorted(self.used & {*self._HELPERS}):
            lines += [f"def {law.name}_{name}(x):", *self._HELPERS[name], "", ""]
        lines.append(f"def {law.name}(inputs):")
        lines += self.read(law, "{word} = float({raw})", "inputs[{column}]")
        lines += [f"    outputs = [math.nan] * {len(law.outputs)}", "    try:"]
        for word, value in law.statements:
            lines += self.assign(word, value.expression, " " * 8)
        for number, (value, note, _) in enumerate(law.outputs):
            lines += self.notes(note, indent=" " * 8)
            lines += self.assign(f"outputs[{number}]", value.expression, " " * 8)
        lines += ["    except (ValueError, OverflowError, ZeroDivisionError):"]
        lines += [f"        return [math.nan] * {len(law.outputs)}", "    return outputs", ""]
        return "\n".join(lines)


LANGUAGES: dict[str, type[Language]] = {
    "c": C,
    "excel": Excel,
    "fortran": Fortran,
    "julia": Julia,
    "matlab": Matlab,
    "numpy": Numpy,
    "octave": Matlab,
    "python": Python,
    "rust": Rust,
    **DIALECTS,
}
