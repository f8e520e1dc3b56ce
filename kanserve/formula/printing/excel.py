"""A formula as an Excel formula over cells, by LET, which Excel has since 2021 and LibreOffice since 24.8."""

import re
from collections.abc import Mapping, Sequence

from kanserve.errors import FormulaError, InputError
from kanserve.formula.expressions.names import identifiers
from kanserve.formula.printing.codegen import RESERVED, Input, Language, Law, Value
from kanserve.network.own_functions import OWN
from kanserve.network.spellings import SPELLINGS

_MOST_CHARACTERS = 8192  # of a cell's formula; Excel refuses a longer one
_MOST_NAMES = 126  # of a LET
_LONGEST_TEXT = 255  # within a formula
_LIKE_A_CELL = re.compile(r"[a-z]{1,3}[0-9]+|r[0-9]*|c[0-9]*|r[0-9]+c[0-9]+|true|false", re.IGNORECASE)
# A2, $B$3, Sheet1!A2, 'my sheet'!A2, [@area], Houses[@area], Houses[@[area m2]], or the name of a cell.
_REFERENCE = re.compile(
    r"(?:(?:'[^']+'|\w+)!)?\$?[A-Za-z]{1,3}\$?[0-9]{1,7}|\w*\[@(?:\w+|\[[^\[\]#']+\])\]|[A-Za-z_][\w.]*"
)


class Excel(Language):
    """Excel: one line with a formula for each output."""

    spelled_as = "excel"
    spellings = SPELLINGS["excel"]
    only_double = "Excel"
    comment = ("", "")
    temporaries = "t_"  # t1 would be a cell
    # No ^ anywhere: Excel reads -2^2 as (-2)^2.
    cells: Mapping[str, str] = {}  # of inputs by their names; the others are in A2, B2, ...

    @classmethod
    def words_of(cls, names: Sequence[str], name: str) -> tuple[tuple[str, ...], str]:
        reserved = {*RESERVED, *(word.lower() for word in OWN)}
        words = identifiers(names, reserved)
        cells = {word.lower() for word in words if _LIKE_A_CELL.fullmatch(word)}
        return identifiers(names, reserved | cells), name

    def number(self, value: float) -> str:
        return self.decimal(value).upper().removesuffix(".0")

    def write(self, law: Law) -> str:
        return "".join(f"{self._formula(law, value, name)}\n" for value, _, name in law.outputs)

    def _formula(self, law: Law, value: Value, output: str) -> str:
        needed = law.find_needed(value)
        parts = [f"{entry.word},{self._read(entry)}" for entry in law.inputs if entry.word in needed]
        parts += [f"{word},{_tight(local.expression)}" for word, local in law.statements if word in needed]
        last = _tight(value.expression)
        text = f"=LET({','.join([*parts, last])})" if parts else f"={last}"
        if len(text) > _MOST_CHARACTERS or len(parts) > _MOST_NAMES:
            raise FormulaError(
                f"The formula of {output!r:.80} has {len(text)} characters and {len(parts)} names; Excel takes "
                f"{_MOST_CHARACTERS} and {_MOST_NAMES}. Simplify the network first ('kanserve simplify'), or use "
                "another language."
            )
        return text

    def _read(self, entry: Input) -> str:
        """Read an input's cell: #N/A for an empty cell, which Excel would take for 0, and for text."""
        variable, cell = entry.variable, self.cells.get(entry.variable.name, default_cell(entry.column))
        fill = "NA()" if variable.fill_value is None else self.print_number(variable.fill_value)
        if variable.categories:
            if bad := [name for name in variable.categories if len(name) > _LONGEST_TEXT or not name.isprintable()]:
                raise FormulaError(
                    f"Excel's formulas cannot have the category {bad[0]!r:.80} of {variable.name!r:.80}: it is over "
                    f"{_LONGEST_TEXT} characters long, or one of them is not printable. Use another language."
                )
            # By EXACT, because Excel's = takes "a" and "A" for the same.
            texts = ",".join('"' + name.replace('"', '""') + '"' for name in variable.categories)
            values = ",".join(map(self.print_number, variable.category_values))
            return f"XLOOKUP(TRUE,EXACT({cell},{{{texts}}}),{{{values}}},{fill})"
        number = f"IF(ISNUMBER({cell}),{cell},NA())"
        return number if variable.fill_value is None else f'IF({cell}="",{fill},{number})'


def default_cell(column: int) -> str:
    """The cell of a column in row 2: A2, B2, ..."""
    letters, rest = "", column + 1
    while rest:
        rest, place = divmod(rest - 1, 26)
        letters = chr(ord("A") + place) + letters
    return f"{letters}2"


def check_cells(names: Sequence[str], cells: Mapping[str, str]) -> None:
    """Raise InputError for a name that is not an input, or a cell that is not a reference."""
    for name, cell in cells.items():
        if name not in names:
            raise InputError(f"No input is called {name!r:.80}; the inputs are {', '.join(names):.400}.")
        if not _REFERENCE.fullmatch(cell):
            raise InputError(f"The cell of {name!r:.80} must be a reference such as B2 or [@area]; got {cell!r:.80}.")


def _tight(expression: str) -> str:
    return expression.replace(" ", "")
