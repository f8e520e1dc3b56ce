"""Read CSV and Parquet files as tables whose texts may be numbers; detect the separator and the decimal mark."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kanserve.data.number_texts import UNSAID, Array, Decimal, NumberTexts, number_texts
from kanserve.errors import DataError, MissingDependencyError, NotFoundError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

SEPARATORS = "\t;|,"
"""In the order that decides where several fit: in a header a comma is more often part of a name than the others are."""
LOOKED_AT = 2**20  # bytes of a file in which the separator is looked for: lines of thousands of columns are long
LINES = 50
AGREE = 0.9  # of the lines have as many fields as the header: a broken line is pyarrow's to name
_THOUSANDS = r"^\s*([+-]?([1-9][0-9]{0,2}(\.[0-9]{3})+|[0-9]+))\s*$"
_OTHER_FILES = {
    b"PAR1": "a Parquet file. Give it the ending .parquet",
    b"PK\x03\x04": "a workbook or another archive. Save its sheet as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an old workbook. Save its sheet as CSV (UTF-8)",
    b"\x1f\x8b": "compressed. Unpack it, or give it the ending .csv.gz",
    b"\xff\xfe": "UTF-16. Save it as CSV with the encoding UTF-8",
    b"\xfe\xff": "UTF-16. Save it as CSV with the encoding UTF-8",
}


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a file as pyarrow reads them, and the numbers in its columns of text."""

    path: Path
    columns: "pyarrow.Table"
    separator: str = ""
    """Of a CSV file."""
    decimal: Decimal | None = None
    """What the caller says."""

    @property
    def names(self) -> list[str]:
        names: list[str] = self.columns.column_names
        return names

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    def is_text(self, name: str) -> bool:
        """Whether a column holds text that is not all numbers."""
        return is_text(self.columns, name) and self.number_texts.get(name) is None

    def values(self, name: str) -> list[Any]:
        """A column as Python values, None if missing."""
        values: list[Any] = self.columns.column(name).to_pylist()
        return values

    def numbers(self, name: str) -> tuple[Array, str] | None:
        """The numbers of a column that are written as text, and a note on how they were read; None of others."""
        found = self.number_texts.get(name)
        if found is None:
            return None
        texts = self._doubtful.get(name) or self._texts[name]
        numbers = found.chosen(self.decimal or self._mark, points=name not in self._doubtful)
        if numbers is None:
            raise DataError(
                f"{self.path}: column {name!r} is in doubt: {found.doubt(texts)}. Say which decimal mark the file has: "
                "decimal='.' or decimal=',' (--decimal on the command line)."
            )
        return numbers, found.describe(texts, numbers)

    def marks(self, name: str) -> list[str]:
        """The texts that stand for missing values in a column of numbers, apart from empty fields."""
        if not self.separator or not self.columns.column(name).null_count:
            return []
        import pyarrow.compute

        missing = self._raw.column(name).filter(pyarrow.compute.is_null(self.columns.column(name)))
        return sorted(text for text in missing.unique().to_pylist() if text.strip().lower() not in UNSAID)

    @cached_property
    def number_texts(self) -> dict[str, NumberTexts]:
        """By name, the numbers in columns of text, and in those of floats whose points may all mark thousands."""
        doubtful = {name: number_texts(texts) for name, texts in self._doubtful.items()}
        return self._of_text | {name: found for name, found in doubtful.items() if found is not None}

    @cached_property
    def _of_text(self) -> dict[str, NumberTexts]:
        found = {name: number_texts(texts) for name, texts in self._texts.items()}
        return {name: numbers for name, numbers in found.items() if numbers is not None}

    @cached_property
    def _texts(self) -> dict[str, Sequence[str | None]]:
        return {name: self.values(name) for name in self.names if is_text(self.columns, name)}

    @cached_property
    def _doubtful(self) -> dict[str, Sequence[str | None]]:
        """The texts of columns whose points pyarrow read as decimal points, if all may be thousands separators."""
        if not self._commas:
            return {}
        import pyarrow.compute

        found = {}
        for name in self._floats:
            texts = self._raw.column(name).filter(pyarrow.compute.is_valid(self.columns.column(name)))
            if pyarrow.compute.all(pyarrow.compute.match_substring_regex(texts, _THOUSANDS)).as_py():
                found[name] = self._raw.column(name).to_pylist()
        return found

    @cached_property
    def _commas(self) -> bool:
        """Whether the file may have decimal commas: it contains some, or semicolons, which often go with them."""
        if not self.separator or self.decimal == ".":
            return False
        if self.separator == ";" or self.decimal == ",":
            return True
        return any("," in numbers.readings and not numbers.same for numbers in self._of_text.values())

    @cached_property
    def _floats(self) -> list[str]:
        import pyarrow

        return [name for name in self.names if pyarrow.types.is_floating(self.columns.schema.field(name).type)]

    @cached_property
    def _raw(self) -> "pyarrow.Table":
        """The columns of numbers as texts."""
        import pyarrow

        types = {name: pyarrow.string() for name in self.names if not is_text(self.columns, name)}
        return _csv(self.path, self.separator, types)

    @cached_property
    def _mark(self) -> Decimal | None:
        """The decimal mark on which all columns agree; None if none is certain, or if they differ."""
        marks = {numbers.certain for numbers in self.number_texts.values()} - {None}
        if self._commas and len(self._floats) > len(self._doubtful):
            marks.add(".")
        return marks.pop() if len(marks) == 1 else None


def is_text(columns: "pyarrow.Table", name: str) -> bool:
    import pyarrow

    kind = columns.schema.field(name).type
    return bool(
        pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_dictionary(kind)
    )


def write_rows(table: Table, rows: "NDArray[np.int64]", path: Path) -> None:
    """Write some rows of a table, as CSV or Parquet by the file's extension."""
    import pyarrow.csv
    import pyarrow.parquet

    chosen = table.columns.take(rows)
    if path.suffix.lower() in (".parquet", ".pq"):
        pyarrow.parquet.write_table(chosen, path)
    else:
        pyarrow.csv.write_csv(chosen, path)


def read_file(path: str | os.PathLike[str], decimal: Decimal | None = None) -> Table:
    """Read a CSV or Parquet file. Raises NotFoundError, or DataError for any other file."""
    path = Path(path)
    if decimal not in (None, ".", ","):
        raise DataError(f"decimal is '.' or ','; got {decimal!r}.")
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError("pyarrow", "tables") from None
    if not path.exists():
        raise NotFoundError(f"The file {os.fspath(path)!r} does not exist.")
    if path.is_dir():
        raise DataError(f"{os.fspath(path)!r} is a folder; give a CSV or Parquet file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty.")
    separator = ""
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            columns = pyarrow.parquet.read_table(path)
        else:
            with pyarrow.input_stream(str(path)) as stream:  # which unpacks .gz and the like, as its reader of CSV does
                start = stream.read(LOOKED_AT)
            check_start(path, start)
            separator = separator_of(start)
            columns = _csv(path, separator, {})
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    try:
        names = columns.column_names
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8: its header has other characters. Save it as UTF-8.") from None
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path} has {names.count(twice[0])} columns called {twice[0]!r}; rename them.")
    return Table(path, columns, separator, decimal)


def _csv(path: Path, separator: str, types: dict[str, Any]) -> "pyarrow.Table":
    import pyarrow.csv

    return pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator),
        convert_options=pyarrow.csv.ConvertOptions(column_types=types),
    )


def check_start(path: object, start: bytes) -> None:
    """Raise DataError, with the next step, if a file that starts like this is not a CSV file."""
    for magic, kind in _OTHER_FILES.items():
        if start.startswith(magic):
            raise DataError(f"{path} is not a CSV file: it is {kind}.")
    if start[8:9] == b"{" and b"\0" in start[:8]:
        raise DataError(f"{path} is a network or another file of arrays, not a table: give a CSV or Parquet file.")
    if b"\0" in start:
        raise DataError(f"{path} is not a CSV file: it has bytes that are no text. Save it as CSV with UTF-8.")


def separator_of(start: bytes) -> str:
    """Guess the separator of a CSV file: the one that splits each line into as many fields as the header."""
    text = start.decode("utf-8-sig", "replace")
    if len(start) == LOOKED_AT and "\n" in text:
        text = text[: text.rindex("\n")]
    best, most = ",", 1
    for separator in SEPARATORS:
        counts = _field_counts(text, separator)
        agree = sum(count == counts[0] for count in counts) if counts else 0
        if counts and counts[0] > most and agree >= AGREE * len(counts):
            best, most = separator, counts[0]
    return best


def _field_counts(text: str, separator: str) -> list[int]:
    """How many fields each of the first lines has."""
    rows: Iterable[list[str]] = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        return [len(row) for row in islice(rows, LINES) if row]
    except csv.Error:  # a field that is longer than Python's reader takes
        return []
