"""A formula as a query, in ANSI SQL and in the dialects of PostgreSQL, SQLite, DuckDB and BigQuery.

The query gives all columns of a table and one for each output. An output is one scalar subquery, so that it can be
pasted into any other query over the same table. Within it steps are columns of nested subqueries: the innermost one
reads the inputs as doubles, and each around it names what is used more than once.

NULL in an input, or a value outside a function's domain, gives NULL, where some systems would end the query.
"""

import re
from collections.abc import Sequence
from typing import ClassVar

from kanserve.errors import FormulaError
from kanserve.formula.printing.codegen import Input, Language, Law, Value, wrapped
from kanserve.formula.printing.unfolding import Precedence, Printed
from kanserve.network.encoding import is_encoded
from kanserve.network.spellings import SPELLINGS

# Up to here a number without an exponent is exact as a DECIMAL, so that it becomes the same double.
_MOST_DECIMAL_DIGITS = 15


class Sql(Language):
    """ANSI SQL:2016. It has no infinity, so EXP above 700 is 1E304."""

    spelled_as = "sql"
    spellings = SPELLINGS["sql"]
    comment = ("--", "")
    unicode_comments = True  # as its names of columns are
    takes = "It takes a table's columns by the names of the inputs; put your table after the last FROM."
    only_double = "SQL"
    double: ClassVar[str] = "DOUBLE PRECISION"
    text: ClassVar[str] = "@"  # a column as text, whatever type it has
    without_nan: ClassVar[str] = "@"  # NULL in place of NaN
    folds_case: ClassVar[bool] = False  # also of quoted names
    fence: ClassVar[str] = ""  # keeps a subquery from being copied into each place that uses its columns
    _PIECE: ClassVar = re.compile(r'(?:"(?:[^"]|"")*"|`(?:\\.|[^`\\])*`|[^"`])+?(?:[*/]|\(| [-+] |$)', re.DOTALL)

    @classmethod
    def words_of(cls, names: Sequence[str], name: str) -> tuple[tuple[str, ...], str]:
        """The quoted names themselves. Raises FormulaError if a table cannot have all of them as columns."""
        folded = [name.lower() if cls.folds_case else name for name in names]
        if twice := [name for place, name in enumerate(folded) if name in folded[:place]]:
            raise FormulaError(
                f"The names of two inputs are {twice[0]!r:.80} but for upper and lower case, and {cls.only_double} has "
                "no two such columns. Rename one of them."
            )
        return tuple(map(cls.quote, names)), cls.quote(name)

    @classmethod
    def quote(cls, name: str) -> str:
        """Quote the name of a column or table."""
        return '"' + name.replace('"', '""') + '"'

    def literal(self, text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    def number(self, value: float) -> str:
        text = self.decimal(value)
        if "e" in text or len(text.replace(".", "").lstrip("0")) <= _MOST_DECIMAL_DIGITS:
            return text
        return f"{text}E0"

    def repeats(self, step: tuple[object, ...]) -> bool:
        return (step[0] == "pow" and isinstance(step[2], float)) or super().repeats(step)

    def real_power(self, base: Printed, exponent: float) -> Printed:
        least = ">=" if exponent > 0 else ">"
        return self.fill(f"CASE WHEN @ {least} 0 THEN POWER(@, {self.print_number(exponent)}) END", base)

    def quotient(self, above: Sequence[Printed], below: Sequence[Printed]) -> str:
        text = super().quotient(above, ())
        if not below:
            return text
        least = Precedence.SUM if len(below) == 1 else Precedence.POWER
        return f"{text}/NULLIF({self.times.join(self.wrap(factor, least) for factor in below)}, 0)"

    def write(self, law: Law) -> str:
        columns = []
        for value, _, name in law.outputs:
            columns.append(f"    {self._subquery(law, value)} AS {self.quote(name)}")
        lines = [*self.notes(*law.notes), "SELECT", "    samples.*,", ",\n".join(columns)]
        return "\n".join([*lines, f"FROM {law.name} AS samples;", ""])

    def _subquery(self, law: Law, value: Value) -> str:
        """The scalar subquery of an output, with the inputs and statements that it depends on."""
        if not value.words:
            return f"CAST({value.expression} AS {self.double})"
        needed = law.find_needed(value)
        read = ",\n".join(self._read(entry) for entry in law.inputs if entry.word in needed)
        source = f"SELECT\n{read}"
        levels = dict.fromkeys((entry.word for entry in law.inputs), 0)
        columns: list[list[str]] = []
        for word, statement in law.statements:
            level = max((levels[used] for used in statement.words), default=0) + 1
            levels[word] = level
            if word in needed:
                columns += [[] for _ in range(level - len(columns))]
                columns[level - 1].append(self._wrap(statement.expression, word))
        name = "inputs"
        for number, of_level in enumerate(columns, start=1):
            steps = ",\n".join(of_level)
            source = f"SELECT *,\n{steps}\n    FROM ({source}) AS {name}{self.fence}"
            name = f"steps{number}"
        fence = self.fence if columns else ""
        return f"(SELECT\n{self._wrap(value.expression)}\n    FROM ({source}) AS {name}{fence})"

    def _wrap(self, expression: str, word: str = "") -> str:
        """Wrap an expression in lines of at most about WIDTH characters."""
        lines = wrapped(self._PIECE.findall(expression), " " * 8, " " * 12)
        return "\n".join(map(str.rstrip, lines)) + (f" AS {word}" if word else "")

    def _read(self, entry: Input) -> str:
        """Read an input as a number, replacing categories and missing values."""
        variable, column = entry.variable, f"samples.{entry.word}"
        if not variable.categories:
            number = f"CAST({column} AS {self.double})"
            if is_encoded(variable):
                fill = self.print_number(variable.fill_value or 0.0)
                number = f"COALESCE({self.without_nan.replace('@', number)}, {fill})"
            return f"        {number} AS {entry.word}"
        cases = [
            f"            WHEN {self.literal(name)} THEN {self.print_number(value)}\n"
            for name, value in zip(variable.categories, variable.category_values, strict=True)
        ]
        if variable.fill_value is not None:
            cases.append(f"            ELSE {self.print_number(variable.fill_value)}\n")
        return (
            f"        CAST(CASE {self.text.replace('@', column)}\n{''.join(cases)}"
            f"        END AS {self.double}) AS {entry.word}"
        )


class PostgreSql(Sql):
    """PostgreSQL, which raises an error on overflow and underflow. erf needs version 16, gamma version 18."""

    only_double = "PostgreSQL"
    spellings = SPELLINGS["postgresql"]
    text = "CAST(@ AS TEXT)"
    without_nan = "NULLIF(@, 'NaN')"
    fence = " OFFSET 0"


class Sqlite(Sql):
    """SQLite with its mathematical functions, which some builds lack. Undefined values are NULL."""

    only_double = "SQLite"
    spellings = SPELLINGS["sqlite"]
    folds_case = True
    double = "REAL"
    text = "CAST(@ AS TEXT)"
    fence = " LIMIT 1"


class DuckDb(Sql):
    """The dialect of DuckDB."""

    only_double = "DuckDB"
    spellings = SPELLINGS["duckdb"]
    folds_case = True
    double = "DOUBLE"
    text = "CAST(@ AS VARCHAR)"
    without_nan = "NULLIF(@, 'NaN')"


class BigQuery(Sql):
    """The dialect of BigQuery, where a function under SAFE returns NULL instead of an error."""

    only_double = "BigQuery"
    spellings = SPELLINGS["bigquery"]
    folds_case = True
    double = "FLOAT64"
    text = "CAST(@ AS STRING)"
    without_nan = "IF(IS_NAN(@), NULL, @)"

    @classmethod
    def quote(cls, name: str) -> str:
        return f"`{_escape(name, '`')}`"

    def literal(self, text: str) -> str:
        return f"'{_escape(text, chr(39))}'"


def _escape(text: str, quote: str) -> str:
    """Escape a text for BigQuery's quotes, as in C."""
    escapes = {"\\": "\\\\", quote: f"\\{quote}", "\n": "\\n", "\r": "\\r"}
    return "".join(escapes.get(character, character) for character in text)


DIALECTS: dict[str, type[Language]] = {
    "sql": Sql,
    "postgresql": PostgreSql,
    "sqlite": Sqlite,
    "duckdb": DuckDb,
    "bigquery": BigQuery,
}
