"""A network's formulas as a single function in a programming language, to read or to paste.

    source(kan, "fortran", name="law")

gives a subroutine law(inputs, outputs). Names of inputs never become code: identifiers are made from them, and the
names themselves appear in comments that they cannot end. For deployment use the exports, which have range checks.
"""

from collections.abc import Mapping, Sequence

from kanserve.errors import FormulaError, InputError
from kanserve.formula.expressions.formula import Formula
from kanserve.formula.expressions.names import latex_name, latex_text
from kanserve.formula.expressions.tree import Step
from kanserve.formula.printing.codegen import Input, Law, free_names, write_statements
from kanserve.formula.printing.excel import Excel, check_cells
from kanserve.formula.printing.languages import LANGUAGES
from kanserve.formula.printing.lowering import lower_trees
from kanserve.formula.printing.notations import NOTATIONS_DIGITS, Latex
from kanserve.network.encoding import is_encoded
from kanserve.network.export_options import Precision
from kanserve.network.kan import Kan, Variable

MOST_EDGES = 1000  # of a network whose formulas are built at all
MOST_STEPS = 5000  # operations of one function; compile time grows faster than linearly
LONGEST_NOTE = 400  # characters of a note in a source

ALL_LANGUAGES = ("latex", *LANGUAGES)


def source(
    kan: Kan,
    language: str,
    *,
    name: str = "law",
    precision: Precision = "double",
    cells: Mapping[str, str] | None = None,
) -> str:
    """The formulas of all outputs as one function of a programming language, an SQL query, or formulas of Excel.

    A function takes the raw features in the network's order, of a categorical input the code of its category, and
    returns the outputs (a classifier's scores). A query and a cell take the texts of categories. Constants have all of
    their digits, in LaTeX as many as in the text.

    Parameters
    ----------
    kan : Kan
        A network without splines.
    language : {"c", "fortran", "julia", "latex", "matlab", "octave", "numpy", "python", "rust"}
        The language; or "sql" (ANSI), "postgresql", "sqlite", "duckdb", "bigquery", "excel".
    name : str, default="law"
        The function's name; of SQL the table's.
    precision : {"double", "float"}, default="double"
        The type that it computes in. Python, SQL and Excel have only double.
    cells : mapping of str to str, optional
        For Excel: the cells of inputs, by name, such as "C2" or "[@area]". The others are in A2, B2, ..., each in the
        column of its place among the network's inputs.

    Returns
    -------
    str
        The source.

    Raises
    ------
    FormulaError
        The network has splines or is too large, the precision cannot hold a constant, or the language lacks a function;
        the message says what to do.
    InputError
        Unknown language, or a cell that is not a reference.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1")
    >>> names = {}
    >>> exec(kanserve.formula.source(kan, "python", name="line"), names)
    >>> names["line"]([0.5])
    [2.0]
    >>> print(kanserve.formula.source(kan, "excel", cells={"x": "C7"}), end="")
    =LET(x,IF(ISNUMBER(C7),C7,NA()),2*x+1)
    """
    from kanserve.formula.from_network.formulas import formulas

    language = _check_language(language)
    if not kan.symbolic:
        raise _splines()
    if kan.edges > MOST_EDGES:
        raise _too_large(f"{kan.edges} edges", MOST_EDGES)
    found = formulas(kan, strict=False)
    return law(found, kan.inputs, kan.outputs, language, name=name, precision=precision, cells=cells)


def law(
    found: Sequence[Formula],
    inputs: Sequence[Variable],
    outputs: Sequence[Variable],
    language: str,
    *,
    name: str = "law",
    precision: Precision = "double",
    cells: Mapping[str, str] | None = None,
) -> str:
    """Like `source`, from the formulas of all outputs and the network's inputs and outputs."""
    language = _check_language(language)
    if cells and language != "excel":
        raise InputError(f"Only a formula of Excel has cells; got {language!r}.")
    if not all(formula.closed_form for formula in found):
        raise _splines()
    if language == "latex":
        return _latex(found)
    steps, roots = _lower(found)
    names = [variable.name for variable in inputs]
    words, called = LANGUAGES[language].words_of(names, name)
    writer = LANGUAGES[language](called, words, precision)
    if isinstance(writer, Excel) and cells:
        check_cells(names, cells)
        writer.cells = cells
    statements, results = write_statements(
        steps, roots, writer, free_names([*words, *names, called], writer.temporaries)
    )
    made = Law(
        name=called,
        columns=len(inputs),
        notes=_notes(found, writer.takes),
        inputs=tuple(Input(words[i], i, _describe(inputs[i], words[i]), inputs[i]) for i in _columns(steps)),
        statements=tuple(statements),
        outputs=tuple((value, _describe(output), output.name) for value, output in zip(results, outputs, strict=True)),
    )
    return writer.write(made)


def _lower(found: Sequence[Formula]) -> tuple[tuple[Step, ...], tuple[int, ...]]:
    """The steps of all formulas, and the position of each result. Raises FormulaError if they are too many."""
    if sum(len(formula.tree) for formula in found) > 20 * MOST_STEPS:  # before each step is processed
        raise _too_large(f"more than {20 * MOST_STEPS} steps", MOST_STEPS)
    steps, roots = lower_trees([formula.tree for formula in found])
    operations = sum(step[0] not in ("const", "var") for step in steps)
    if operations > MOST_STEPS:
        raise _too_large(f"{operations} operations", MOST_STEPS)
    return steps, roots


def _check_language(language: str) -> str:
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


def _notes(found: Sequence[Formula], takes: str) -> tuple[str, ...]:
    """The comments above the function. The first two lines are fixed, since Python looks there for an encoding."""
    lines = ["The law of a Kolmogorov-Arnold network, written by kanserve.", takes]
    for formula in found:
        lines.append(_cut(f"{formula.name} = {formula.text}"))
        lines += [_cut(f"  where {condition}") for condition in (*formula.definitions, *formula.domain)]
    return tuple(lines)


def _describe(variable: Variable, word: str = "") -> str:
    """Name and unit; "" if they add nothing to the identifier `word`."""
    if variable.name == word and not variable.unit:
        return ""
    return _cut(f'"{variable.name}"' + (f', "{variable.unit}"' if variable.unit else ""))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_NOTE else f"{text[:LONGEST_NOTE]}..."


def _latex(found: Sequence[Formula]) -> str:
    if any(formula.shortened for formula in found):
        raise FormulaError("The formulas have over 2000 operations, too many to typeset. Use c, or export c_source.")
    lines = [rf"  {latex_name(formula.name)} &= {formula.latex}" for formula in found]
    encoded = {variable.name: variable for formula in found for variable in formula.variables if is_encoded(variable)}
    lines += [rf"  {latex_name(name)} &= {_latex_cases(variable)}" for name, variable in encoded.items()]
    return "\n".join([r"\begin{align*}", " \\\\\n".join(lines), r"\end{align*}", ""])


def _latex_cases(variable: Variable) -> str:
    """LaTeX for the numbers that stand for an input's categories and for a missing value."""
    cases = [
        (value, latex_text(name)) for name, value in zip(variable.categories, variable.category_values, strict=True)
    ]
    if not cases:
        return rf"{_latex_number(variable.fill_value or 0.0)} \text{{ where missing}}"
    if variable.fill_value is not None:
        cases.append((variable.fill_value, r"\text{missing or unknown}"))
    rows = " \\\\\n".join(rf"    {_latex_number(value)} & {text}" for value, text in cases)
    return f"\\begin{{cases}}\n{rows}\n  \\end{{cases}}"


def _latex_number(value: float) -> str:
    rounded = float(f"{value:.{NOTATIONS_DIGITS}g}")
    return f"{'-' if rounded < 0 else ''}{Latex(()).number(abs(rounded))}"


def _too_large(what: str, most: int) -> FormulaError:
    return FormulaError(
        f"The network has {what}; one function may have at most {most}, since compilers take minutes for more. "
        "Export c_source, which is written layer by layer."
    )
