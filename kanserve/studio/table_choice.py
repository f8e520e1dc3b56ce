"""A table before its first fit: what its columns are, which of them to learn and from which, and the rows for that."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.data.csv_files import Table, read_file, write_rows
from kanserve.data.dataset import Dataset
from kanserve.data.frames import category_text
from kanserve.data.number_texts import is_dates
from kanserve.data.table_files import Kind, count_labels, read_table
from kanserve.errors import DataError, InputError, KanserveError

Array = NDArray[np.float64]

MOST_COLUMNS = 200  # that are described: a page of more is not read
DENSITY_BINS = 24
FEW_VALUES = 10  # texts that are categories of a table with few rows, all of them different
SAMPLES = 3  # values of a column that are shown
COPY = 0.9999  # correlation from which a column looks like a copy of the target
DATES = ("date", "time", "duration")


@dataclass(frozen=True)
class ColumnView:
    """A column: "numbers", "categories", "dates", "text" or "constant"; how many values are missing and how many are
    different; the first of them; a histogram of numbers. `note` says what is to be known, and `use` whether the page
    begins with it as an input."""

    name: str
    kind: str
    missing: int
    different: int
    samples: tuple[str, ...]
    density: tuple[float, ...]
    low: float
    high: float
    note: str
    use: bool
    classes: bool


@dataclass(frozen=True)
class TableView:
    """A table, and the target to begin with."""

    title: str
    rows: int
    columns: tuple[ColumnView, ...]
    more_columns: int
    target: str


def look_at_table(path: Path) -> TableView:
    """What the columns of a table are. DataError if the file is no table."""
    table = read_file(path)
    if not len(table):
        raise DataError(f"{path.name} has a header but no rows.")
    columns = tuple(_look_at_column(table, name) for name in table.names[:MOST_COLUMNS])
    usable = [column.name for column in columns if column.use]
    target = usable[-1] if usable else ""
    return TableView(path.stem, len(table), columns, max(0, len(table.names) - MOST_COLUMNS), target)


def _look_at_column(table: Table, name: str) -> ColumnView:
    values = table.values(name)
    numbers = _numbers(table, name, values)
    rows = len(values)
    if numbers is None:
        return _look_at_texts(table, name, values)
    finite = numbers[np.isfinite(numbers)]
    different = len(np.unique(finite))
    whole = bool((finite == np.trunc(finite)).all())
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    counts = np.histogram(finite, DENSITY_BINS, (low, high if high > low else low + 1))[0]
    density = tuple((counts / max(int(counts.max()), 1)).round(3).tolist()) if len(finite) else ()
    note, use, kind = "", True, "numbers"
    if different < 2:
        kind, use = "constant", False
        note = "the same in every row, so nothing can be learned from it" if different else "empty"
    elif whole and different == len(finite) and rows > FEW_VALUES and (np.diff(finite) == 1).all():
        note, use = "looks like an id: it counts the rows", False
    samples = tuple(f"{value:g}" for value in finite[:SAMPLES])
    classes = count_labels(finite) > 0
    return ColumnView(name, kind, rows - len(finite), different, samples, density, low, high, note, use, classes)


def _look_at_texts(table: Table, name: str, values: list[Any]) -> ColumnView:
    texts = [category_text(value) for value in values if value not in (None, "")]
    there = sorted(set(texts))
    note, use, kind = "", True, "categories"
    if str(table.columns.schema.field(name).type).startswith(DATES) or is_dates(there):
        kind, use, note = "dates", False, "dates are no numbers: add columns such as the year or the days since a day"
    elif len(there) < 2:
        kind, use = "constant", False
        note = "the same in every row, so nothing can be learned from it" if there else "empty"
    elif len(there) > max(FEW_VALUES, len(values) / 2):
        kind, use, note = "text", False, "different in most rows, as names are"
    samples = tuple(there[:SAMPLES])
    return ColumnView(
        name, kind, len(values) - len(texts), len(there), samples, (), 0.0, 0.0, note, use, kind == "categories"
    )


def _numbers(table: Table, name: str, values: list[Any]) -> Array | None:
    """A column as numbers; None of a column of text."""
    try:
        written = table.numbers(name)
    except KanserveError:  # its decimal mark is in doubt
        return None
    if written is not None:
        return written[0]
    if table.is_text(name):
        return None
    try:
        return np.array([np.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError):
        return None


def copies_of(path: Path, target: str) -> list[str]:
    """The columns of numbers that are a line through the target, up to rounding."""
    table = read_file(path)
    if target not in table.names:
        raise DataError(f"The table has no column {target!r}.")
    wanted = _numbers(table, target, table.values(target))
    found = []
    for name in table.names[:MOST_COLUMNS] if wanted is not None else ():
        column = None if name == target else _numbers(table, name, table.values(name))
        if column is None or wanted is None:
            continue
        both = np.isfinite(column) & np.isfinite(wanted)
        a, b = column[both], wanted[both]
        if len(a) > 2 and a.std() > 0 and b.std() > 0 and abs(float(np.corrcoef(a, b)[0, 1])) >= COPY:
            found.append(name)
    return found


def read_choice(path: Path, target: str, inputs: Sequence[str], kind: Kind) -> tuple[Dataset, int]:
    """The rows to fit, and how many were left out because their target is missing."""
    table = read_file(path)
    if target not in table.names:
        raise DataError(f"The table has no column {target!r}.")
    there = np.flatnonzero([value not in (None, "") for value in table.values(target)])
    if not len(there):
        raise DataError(f"The column {target!r} is empty.")
    gone = len(table) - len(there)
    if not gone:
        return read_table(path, target, inputs, kind), 0
    with TemporaryDirectory(prefix="kanserve-studio-") as folder:
        copy = Path(folder, path.name.removesuffix(".gz"))
        write_rows(table, there, copy)
        return read_table(copy, target, inputs, kind), gone


def save_upload(folder: Path, name: str, text: str) -> Path:
    """Save an uploaded table to a CSV file in a folder and return its path."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(name).stem).strip("_")[:60] or "table"
    path = folder / f"{stem}.csv"
    path.write_text(text, "utf-8")
    return path


def local_table(place: str) -> Path:
    """A table on this machine, by its path. InputError for what cannot be one."""
    path = Path(place).expanduser()
    if not path.is_file():
        raise InputError(f"No file is at {place!r}.")
    return path


def example(folder: Path, name: str) -> Path:
    """A table to try, as a file in a folder. InputError for a name that is no example."""
    rng = np.random.default_rng(4)
    path = folder / f"{name}.csv"
    rows: Iterable[tuple[Any, ...]]
    match name:
        case "houses":
            area, distance, year = rng.uniform(30, 200, 900), rng.gamma(2, 4, 900), rng.integers(1900, 2024, 900)
            energy = rng.integers(0, 5, 900)
            price = 1.9 * area * np.exp(-0.05 * distance) - 12 * energy + rng.normal(0, 6, 900)
            letters = np.where(rng.choice(20, 900) == 0, "", np.array(list("ABCDE"))[energy])
            rows = zip(area.round(), distance.round(1), letters, year, price.round(1), strict=True)
            head = "area,distance,energy,year,price"
        case "flowers":
            kinds = np.repeat(["setosa", "versicolor", "virginica"], 50)
            middles = {
                "setosa": (5.0, 3.4, 1.5, 0.2),
                "versicolor": (5.9, 2.8, 4.3, 1.3),
                "virginica": (6.6, 3.0, 5.6, 2.0),
            }
            size = np.array([middles[kind] for kind in kinds.tolist()]) * rng.normal(1, 0.09, (150, 4))
            rows = zip(*size.round(1).T, kinds, strict=True)
            head = "sepal_length,sepal_width,petal_length,petal_width,kind"
        case "pendulum":
            length, mass, angle = rng.uniform(0.1, 2, 200), rng.uniform(0.1, 3, 200), rng.uniform(1, 20, 200)
            period = 2 * np.pi * np.sqrt(length / 9.81) * rng.normal(1, 0.005, 200)
            rows = zip(length.round(3), mass.round(2), angle.round(1), period.round(4), strict=True)
            head = "length,mass,angle,period"
        case _:
            raise InputError(f"There is no example {name!r:.40}.")
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows), ""]), "utf-8")
    return path
