"""LaTeX tables of the formulas found."""

from collections.abc import Mapping, Sequence

from kanserve.errors import InputError

COLUMNS = {
    "formula": ("Formula", "l"),
    "complexity": ("Complexity", "r"),
    "error": ("Error", "r"),
    "validation": ("Validation error", "r"),
    "score": ("Score", "r"),
}
"""The columns of a LaTeX table, with their titles and alignments."""


def latex_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str], digits: int) -> str:
    """A LaTeX table in the style of the package booktabs."""
    if isinstance(columns, str) or not columns or not {*columns} <= {*COLUMNS}:
        raise InputError(f"columns is a list of {', '.join(COLUMNS)}; got {columns!r}.")
    if digits < 1:
        raise InputError(f"digits is a whole number, 1 or more; got {digits!r}.")
    lines = [
        rf"\begin{{tabular}}{{{''.join(COLUMNS[column][1] for column in columns)}}}",
        r"\toprule",
        " & ".join(COLUMNS[column][0] for column in columns) + r" \\",
        r"\midrule",
        *(" & ".join(_latex_cell(row[column], digits) for column in columns) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def _latex_cell(value: object, digits: int) -> str:
    if isinstance(value, str):
        return f"${value}$"
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    if mantissa == "inf":
        return r"$\infty$"
    return f"${mantissa}$" if not exponent else rf"${mantissa} \cdot 10^{{{int(exponent)}}}$"
