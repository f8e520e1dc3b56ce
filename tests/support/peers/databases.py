"""Runs the queries and formulas of cells that `kanserve.formula.source` writes, where the program is there."""

import csv
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.formula import source
from kanserve.network.encoding import is_category
from kanserve.network.kan import Kan
from tests.support.programs import skip, want

Array = NDArray[np.float64]
Cell = float | str | None

_UNKNOWN = "a category that nobody knows"


def cells_of(kan: Kan, x: Array) -> list[list[Cell]]:
    """Raw rows as a table has them: texts of categories, None for NaN."""
    columns: list[list[Cell]] = []
    for one, column in zip(kan.inputs, x.T, strict=True):
        known = is_category(one, column) if one.categories else np.ones(len(column), bool)
        columns.append(
            [
                None
                if np.isnan(value)
                else one.categories[int(value)]
                if one.categories and fine
                else _number(one, value)
                for value, fine in zip(column.tolist(), known.tolist(), strict=True)
            ]
        )
    return [list(row) for row in zip(*columns, strict=True)]


def _number(one: Any, value: float) -> Cell:
    return _UNKNOWN if one.categories else value


def run(program: str, kan: Kan, x: Array, folder: Path) -> Array:
    """The outputs (N, outputs) that a program computes from raw rows; NaN for NULL and for errors of cells."""
    return RUNNERS[program](kan, cells_of(kan, x), folder)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _table(kan: Kan, real: str, text: str) -> str:
    columns = ", ".join(f"{_quoted(one.name)} {text if one.categories else real}" for one in kan.inputs)
    return f"CREATE TABLE law (id INTEGER, {columns})"


def _filled(execute: Callable[..., Any], kan: Kan, rows: Sequence[Sequence[Cell]], real: str, text: str) -> None:
    execute(_table(kan, real, text))
    holes = ", ".join("?" * (len(kan.inputs) + 1))
    for number, row in enumerate(rows):
        execute(f"INSERT INTO law VALUES ({holes})", [number, *row])


def _outputs(kan: Kan, rows: Sequence[Sequence[Any]]) -> Array:
    ordered = sorted(rows, key=lambda row: int(row[0]))
    return np.array(
        [[np.nan if value is None else value for value in row[-len(kan.outputs) :]] for row in ordered], float
    )


def sqlite_has_mathematics() -> bool:
    """Whether this build of SQLite has LN and the like."""
    with closing(sqlite3.connect(":memory:")) as database:
        try:
            database.execute("SELECT LN(2)")
        except sqlite3.OperationalError:
            return False
    return True


def _sqlite(kan: Kan, rows: Sequence[Sequence[Cell]], folder: Path) -> Array:
    if not sqlite_has_mathematics():
        skip("sqlite: its mathematical functions")
    with closing(sqlite3.connect(":memory:")) as database:
        _filled(database.execute, kan, rows, "REAL", "TEXT")
        return _outputs(kan, database.execute(source(kan, "sqlite")).fetchall())


def _duckdb(kan: Kan, rows: Sequence[Sequence[Cell]], folder: Path, language: str = "duckdb") -> Array:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as database:
        _filled(database.execute, kan, rows, "DOUBLE", "VARCHAR")
        return _outputs(kan, database.execute(source(kan, language)).fetchall())


def _ansi(kan: Kan, rows: Sequence[Sequence[Cell]], folder: Path) -> Array:
    return _duckdb(kan, rows, folder, "sql")


def _postgresql(kan: Kan, rows: Sequence[Sequence[Cell]], folder: Path) -> Array:
    with postgresql() as query:
        return postgresql_outputs(query, kan, rows)


def postgresql_outputs(query: Callable[[str], list[list[str]]], kan: Kan, rows: Sequence[Sequence[Cell]]) -> Array:
    """As `run`, on a server that runs."""
    values = ",\n".join(f"({', '.join([str(number), *map(_literal, row)])})" for number, row in enumerate(rows))
    table = _table(kan, "DOUBLE PRECISION", "TEXT")
    found = query(f"{table}; INSERT INTO law VALUES {values}; {source(kan, 'postgresql')}")
    return _outputs(kan, [[value or None for value in row] for row in found])


def _literal(value: Cell) -> str:
    if value is None:
        return "NULL"
    return "'" + str(value).replace("'", "''") + "'"


def postgresql_programs() -> Path:
    """The folder of the newest PostgreSQL's programs; skips the test where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        skip("postgresql")
    return (found[-1] if found else Path(str(on_path)).resolve()).parent


@contextmanager
def postgresql() -> Iterator[Callable[[str], list[list[str]]]]:
    """A server of its own on a socket in a folder; what is yielded runs a script and gives the rows of its query."""
    programs, psql = postgresql_programs(), want("psql")
    folder = Path(tempfile.mkdtemp(prefix="postgres"))
    user = None
    if os.geteuid() == 0:  # which PostgreSQL refuses
        user = "nobody"
        shutil.chown(folder, user)

    def call(*words: str | Path) -> None:
        done = subprocess.run(words, user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert done.returncode == 0, done.stderr

    def query(script: str) -> list[list[str]]:
        words = [
            psql,
            "-X",
            "-q",
            "--csv",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            str(folder),
            "-U",
            "tester",
            "postgres",
        ]
        done = subprocess.run(words, input=f"BEGIN; {script}\nROLLBACK;", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return list(csv.reader(done.stdout.splitlines(keepends=True)))

    try:
        call(programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "tester", "-E", "UTF8", "--no-sync")
        call(
            *(programs / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log"),
            *("-o", f"-h '' -k {folder} -F", "start"),
        )
        try:
            yield query
        finally:
            call(programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _excel(kan: Kan, rows: Sequence[Sequence[Cell]], folder: Path) -> Array:
    return np.array([[_value(text) for text in row] for row in calculated(folder, rows, source(kan, "excel"), kan)])


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # #NUM!, #N/A
        return np.nan


def _office() -> str:
    """LibreOffice, if it has LET."""
    office = want("soffice")
    version = subprocess.run([office, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < (24, 8):
        skip("soffice: version 24.8 or newer")
    return office


def calculated(folder: Path, rows: Sequence[Sequence[Cell]], formulas: str, kan: Kan) -> list[list[str]]:
    """What LibreOffice shows for the formulas, which are typed into row 2 and copied down."""
    office = _office()
    with (folder / "cells.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([one.name for one in kan.inputs])
        for number, row in enumerate(rows, start=2):
            copied = re.sub(r'(?<![\w."])([A-Z]{1,3})2(?!\w)', rf"\g<1>{number}", formulas)
            writer.writerow(["" if value is None else value for value in row] + copied.splitlines())
    # Comma, quotes, UTF-8, from line 1, English; the last word of the import is that formulas are computed.
    words = [
        *(office, f"-env:UserInstallation=file://{folder}/profile", "--headless"),
        *("--infilter=CSV:44,34,76,1,,1033,false,true,false,false,false,-1,true", "--convert-to"),
        *("csv:Text - txt - csv (StarCalc):44,34,76,1,,1033,false,false", "--outdir", str(folder / "out")),
        str(folder / "cells.csv"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    with (folder / "out/cells.csv").open(encoding="utf-8", newline="") as file:
        return [row[len(kan.inputs) : len(kan.inputs) + len(kan.outputs)] for row in list(csv.reader(file))[1:]]


RUNNERS: dict[str, Callable[[Kan, Sequence[Sequence[Cell]], Path], Array]] = {
    "duckdb": _duckdb,
    "excel": _excel,
    "postgresql": _postgresql,
    "sql": _ansi,
    "sqlite": _sqlite,
}
