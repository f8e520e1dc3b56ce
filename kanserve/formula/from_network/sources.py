"""A network's formulas as a single function in a programming language, to read or to paste.

    source(kan, "fortran", name="law")

gives a subroutine law(inputs, outputs). Names of inputs never become code: identifiers are made from them, and the
names themselves appear in comments that they cannot end. For deployment use the exports, which have range checks.
"""

from collections.abc import Sequence

from kanserve.errors import FormulaError, InputError
from kanserve.formula.expressions.formula import Formula
from kanserve.formula.expressions.names import latex_name
from kanserve.formula.expressions.tree import Step
from kanserve.formula.formula_limits import LIMITS
from kanserve.formula.printing.codegen import Law, coded, free_names, words_of
from kanserve.formula.printing.languages import LANGUAGES
from kanserve.formula.printing.lowering import lowered
from kanserve.network.encoding import is_encoded
from kanserve.network.export_options import Precision
from kanserve.network.kan import Kan, Variable

ALL_LANGUAGES = ("latex", *LANGUAGES)


def source(kan: Kan, language: str, *, name: str = "law", precision: Precision = "double") -> str:
    """The formulas of all outputs as one function: c, fortran, julia, latex, matlab (or octave), numpy, python, rust.

    The function takes the raw features in the network's order and returns the outputs (a classifier's scores).
    Constants have all of their digits, in LaTeX as many as in the text.

    Parameters
    ----------
    kan : Kan
        A network without splines.
    language : {"c", "fortran", "julia", "latex", "matlab", "octave", "numpy", "python", "rust"}
        The language.
    name : str, default="law"
        The function's name.
    precision : {"double", "float"}, default="double"
        The type that it computes in.

    Returns
    -------
    str
        The source.

    Raises
    ------
    FormulaError
        The network has splines or is too large, the precision cannot hold a constant, or the language lacks a function;
        the message says what to do.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1")
    >>> names = {}
    >>> exec(kanserve.formula.source(kan, "python", name="line"), names)
    >>> names["line"]([0.5])
    [2.0]
    """
    from kanserve.formula.from_network.formulas import formulas

    language = _known(language)
    if not kan.symbolic:
        raise _splines()
    if kan.edges > LIMITS.sources_most_edges:
        raise _too_large(f"{kan.edges} edges", LIMITS.sources_most_edges)
    return law(formulas(kan, strict=False), kan.inputs, kan.outputs, language, name=name, precision=precision)


def law(
    found: Sequence[Formula],
    inputs: Sequence[Variable],
    outputs: Sequence[Variable],
    language: str,
    *,
    name: str = "law",
    precision: Precision = "double",
) -> str:
    """As `source`, from the formulas of all outputs, and the inputs and outputs of the network."""
    language = _known(language)
    if encoded := [one.name for one in inputs if is_encoded(one)]:
        raise FormulaError(
            f"A function of the formula alone has no categories and no missing values, as {encoded[0]!r:.80} has. "
            "The formats c_source, numpy_source, onnx_graph and javascript_source have them."
        )
    if not all(formula.closed_form for formula in found):
        raise _splines()
    if language == "latex":
        return _latex(found)
    if sum(len(formula.tree) for formula in found) > 20 * LIMITS.sources_most_steps:  # before each step is processed
        raise _too_large(f"more than {20 * LIMITS.sources_most_steps} steps", LIMITS.sources_most_steps)
    steps, roots = lowered([formula.tree for formula in found])
    operations = sum(step[0] not in ("const", "var") for step in steps)
    if operations > LIMITS.sources_most_steps:
        raise _too_large(f"{operations} operations", LIMITS.sources_most_steps)
    words, called = words_of([variable.name for variable in inputs], name)
    writer = LANGUAGES[language](called, words, precision)
    statements, results = coded(steps, roots, writer, free_names([*words, called]))
    made = Law(
        name=called,
        columns=len(inputs),
        notes=_notes(found),
        inputs=tuple((words[i], i, _described(inputs[i], words[i])) for i in _columns(steps)),
        statements=tuple(statements),
        outputs=tuple((expression, _described(output)) for expression, output in zip(results, outputs, strict=True)),
    )
    return writer.write(made)


def _known(language: str) -> str:
    language = language.lower()
    if language not in ALL_LANGUAGES:
        raise InputError(f"The language must be one of {', '.join(sorted(ALL_LANGUAGES))}; got {language!r:.60}.")
    return language


def _splines() -> FormulaError:
    return FormulaError(
        "The network has splines, which no language can express: replace them by named functions first ('kanserve "
        "simplify' or 'kanserve session'), or export c_source or numpy_source, which hold their tables."
    )


def _columns(steps: tuple[Step, ...]) -> list[int]:
    return sorted(int(step[1]) for step in steps if step[0] == "var")


def _notes(found: Sequence[Formula]) -> tuple[str, ...]:
    """The comments above the function. The first two lines are fixed, since Python looks there for an encoding."""
    lines = ["The law of a Kolmogorov-Arnold network, written by kanserve.", "It takes raw features, in their order."]
    for formula in found:
        lines.append(_cut(f"{formula.name} = {formula.text}"))
        lines += [_cut(f"  where {condition}") for condition in formula.domain]
    return tuple(lines)


def _described(variable: Variable, word: str = "") -> str:
    """Name and unit; empty if they say no more than the identifier `word`."""
    if variable.name == word and not variable.unit:
        return ""
    return _cut(f'"{variable.name}"' + (f', "{variable.unit}"' if variable.unit else ""))


def _cut(text: str) -> str:
    return text if len(text) <= LIMITS.sources_longest_note else f"{text[: LIMITS.sources_longest_note]}..."


def _latex(found: Sequence[Formula]) -> str:
    if any(formula.shortened for formula in found):
        raise FormulaError("The formulas have over 2000 operations, too many to typeset. Use c, or export c_source.")
    lines = [rf"  {latex_name(formula.name)} &= {formula.latex}" for formula in found]
    return "\n".join([r"\begin{align*}", " \\\\\n".join(lines), r"\end{align*}", ""])


def _too_large(what: str, most: int) -> FormulaError:
    return FormulaError(
        f"The network has {what}; one function may have at most {most}, since compilers take minutes for more. "
        "Export c_source, which is written layer by layer."
    )
