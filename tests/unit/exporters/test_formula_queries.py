"""A formula as an SQL query, and in a cell of a spreadsheet, gives what the network gives."""

import functools
import re
import sqlite3
import textwrap
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from kanserve import formula, from_formula
from kanserve.errors import FormulaError, InputError
from kanserve.formula.printing.excel import default_cell
from kanserve.formula.printing.languages import LANGUAGES
from kanserve.formula.printing.sql import DIALECTS
from kanserve.network.encoding import encodes
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, Variable, make_layer
from kanserve.network.training_range import sample
from tests.support.networks.kans import ZOO, mixed, named_categories, rows
from tests.support.paths import DOCS
from tests.support.peers import databases

NAMES = (
    "area m²",
    'the "best"',
    "it's 100%; -- DROP",
    "größe/π",
    "order",
    "t1",
    "a*b (c) - d",
    "@x $y #z",
    "[x]",
    "`q`",
)


def categories() -> Kan:
    """Categories with and without a number for what is unknown, with quotes, and a number that may be missing."""
    inputs = (
        Variable(
            "kind", categories=("p", 'it\'s "q"', "é", "P"), category_values=(0.5, 1.5, -0.25, 2.0), fill_value=0.75
        ),
        Variable("size", "cm", -2.0, 2.0, fill_value=-0.5),
        Variable("shape", categories=("round", "a\\b"), category_values=(0.2, -0.7)),
    )
    return Kan((make_layer(functions=[["sin", "x^2", "exp"], ["x", "", "x^3"]]),), inputs)


def classifier() -> Kan:
    """Scores of three classes, of hidden nodes that all of them share."""
    first = make_layer(functions=[["sin", "tanh"], ["gaussian", "x"]], affine=[[[1.5, 0.2, 0.7, -0.1]] * 2] * 2)
    second = make_layer(functions=[["x", "x^2"], ["sigmoid", "x"], ["silu", "arctan"]])
    return Kan((first, second), classes=("setosa", "versi color", "virginica"))


def odd_names() -> Kan:
    affine = [[[0.3, 2.0, 1.0, 0.1 * n] for n in range(len(NAMES))]]
    names = [[("log", "sqrt", "exp", "x^2", "1/x")[n % 5] for n in range(len(NAMES))]]
    inputs = tuple(Variable(name, 'kg "m"') for name in NAMES)
    return Kan((make_layer(functions=names, affine=affine),), inputs, (Variable('the "result" in €'),))


def shared() -> Kan:
    """Nine layers of five nodes that each use all five before them: two million terms, if each were written out."""
    rng = np.random.default_rng(1)
    middle = [make_layer(functions=[["sin"] * 5] * 5, affine=rng.uniform(0.2, 0.9, (5, 5, 4))) for _ in range(8)]
    first = make_layer(functions=[["x"], ["x^2"], ["sin"], ["cos"], ["exp"]])
    return Kan((first, *middle, make_layer(functions=[["x"] * 5])))


def far() -> Kan:
    """Functions of an exponential that overflows or underflows on the way, though they are finite: arguments to 1e3."""
    names = [["sigmoid"], ["silu"], ["gaussian"], ["tanh"], ["arcsinh"], ["arctan"]]
    return Kan((make_layer(functions=names, affine=[[[1000.0, 3.0, 1.0, 0.0]]] * 6),), (Variable("x", "", -1.0, 1.0),))


def every_function(program: str) -> Kan:
    (only,) = ZOO["every_function"]().layers
    lacking = (*LANGUAGES[program].lacking(), *(("gamma",) if program == "postgresql" else ()))  # it has come with 18
    kept = ~np.isin(only.functions[:, 0], lacking)
    return Kan((make_layer(functions=only.functions[kept], affine=only.affine[kept]),))


MODELS = {
    "categories": categories,
    "classifier": classifier,
    "constant": ZOO["constant"],
    "domains": ZOO["domains"],
    "far": far,
    "named_categories": named_categories,
    "odd_names": odd_names,
    "powers": ZOO["powers"],
    "shared": shared,
    "symbolic": ZOO["symbolic"],
}


def made(model: str, program: str) -> tuple[Kan, np.ndarray]:
    """A model, and rows within and around its range, with values that are missing and no category."""
    kan = every_function(program) if model == "every_function" else MODELS[model]()
    x = sample(kan, 100)
    if any(one.categories for one in kan.inputs):
        x = rows(kan)
        x = x[~np.isinf(x).any(axis=1)]
    return kan, np.concatenate([x, np.full((1, x.shape[1]), np.nan)])


def largest_difference(kan: Kan, x: np.ndarray, got: np.ndarray) -> float:
    """Of the rows on which the network is finite, relative to an output's scale; the others must have no number."""
    want = evaluate(kan, x)
    fine = np.isfinite(want).all(axis=1)
    assert fine.sum() > 10
    difference = np.abs(got[fine] - want[fine]) / np.maximum(np.abs(want[fine]).max(axis=0), 1e-300)
    for q, law in enumerate(formula.formulas(kan, strict=False)):
        if law.columns and not encodes(kan):
            undefined = np.isnan(formula.evaluate_tree(law.tree, law.tables, x))
            assert not np.isfinite(got[undefined, q]).any()
    return float(difference.max())


@pytest.mark.parametrize("model", [*MODELS, pytest.param("every_function", marks=pytest.mark.extended)])
@pytest.mark.parametrize("program", ["sqlite", "duckdb", "sql"])
def test_a_query_is_the_network(program, model, tmp_path):
    kan, x = made(model, program)
    difference = largest_difference(kan, x, databases.run(program, kan, x, tmp_path))
    print(f"{program} {model}: {difference:.2g}")
    assert difference < 1e-9


@pytest.mark.slow
@pytest.mark.extended
def test_a_query_of_postgresql_is_the_network(tmp_path):
    worst = {}
    with databases.postgresql() as query:
        for model in [*MODELS, "every_function"]:
            kan, x = made(model, "postgresql")
            if model == "every_function" and int(query("SHOW server_version_num;")[0][0]) < 160000:
                continue  # erf has come with 16
            got = databases.postgresql_outputs(query, kan, databases.cells_of(kan, x))
            worst[model] = largest_difference(kan, x, got)
    print(worst)
    assert max(worst.values()) < 1e-9


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("model", sorted({*MODELS, "every_function"} - {"shared"}))  # which is too long for a cell
def test_a_formula_of_a_cell_is_the_network(model, tmp_path):
    kan, x = made(model, "excel")
    difference = largest_difference(kan, x, databases.run("excel", kan, x, tmp_path))
    print(f"excel {model}: {difference:.2g}")
    assert difference < 1e-9


@functools.cache
def wave() -> Kan:
    return from_formula("2*exp(-t^2/2)*cos(3*t + p)")


def fuel() -> Kan:
    kind = Variable("fuel", categories=("diesel", "petrol"), category_values=(-0.4, 1.2), fill_value=0.3)
    return Kan((make_layer(functions=[["x", "x^2"]]),), (kind, Variable("weight", "t")))


def test_the_page_shows_what_is_written():
    page = (DOCS / "export.md").read_text("utf-8")
    category = re.search(r" *CAST\(CASE.*?\"fuel\"", formula.source(fuel(), "postgresql"), re.DOTALL)
    assert category is not None
    for text in (
        formula.source(wave(), "postgresql", name="points"),
        formula.source(wave(), "excel"),
        textwrap.dedent(category[0]),
    ):
        assert textwrap.indent(text, "    ") in page
    assert re.findall(r"XLOOKUP\([^`]*?\},[^,]*\)", formula.source(fuel(), "excel"))[0] in page


def test_a_query_keeps_the_columns_of_its_table_and_reads_integers_as_doubles():
    duckdb = pytest.importorskip("duckdb")
    database = duckdb.connect()
    database.execute("CREATE TABLE points (id VARCHAR, t1 INTEGER, t INTEGER, p DECIMAL(3, 1))")
    database.execute("INSERT INTO points VALUES ('first', 9, 1, 0.5), ('second', 9, 100000, NULL)")
    found = database.execute(formula.source(wave(), "duckdb", name="points")).fetchall()
    ((value,),) = evaluate(wave(), np.array([[1.0, 0.5]])).tolist()
    assert found[0][:2] == ("first", 9) and found[0][-1] == pytest.approx(value, rel=1e-12)
    assert found[1][-1] is None


def test_one_row_that_is_not_defined_does_not_end_a_query():
    duckdb = pytest.importorskip("duckdb")
    kan = from_formula("log(a) + sqrt(b) + 1/c + a^0.3 + asin(d)")
    with duckdb.connect() as ducks, closing(sqlite3.connect(":memory:")) as lite:
        assert_undefined_rows_are_null(kan, "duckdb", ducks.execute)
        if databases.sqlite_has_mathematics():
            assert_undefined_rows_are_null(kan, "sqlite", lite.execute)


def assert_undefined_rows_are_null(kan: Kan, program: str, execute: Callable[[str], Any]) -> None:
    execute("CREATE TABLE law (a REAL, b REAL, c REAL, d REAL)")
    for row in (
        "1, 1, 1, 0.5",
        "-1, 1, 1, 0",
        "0, 1, 1, 0",
        "1, -1, 1, 0",
        "1, 1, 0, 0",
        "1, 1, 1, 2",
        "NULL, 1, 1, 0",
    ):
        execute(f"INSERT INTO law VALUES ({row})")
    found = [row[-1] for row in execute(formula.source(kan, program)).fetchall()]
    assert found[0] == pytest.approx(3.5235987755982987) and found[1:] == [None] * 6, program


@pytest.mark.slow
def test_ansi_sql_and_bigquery_have_what_their_manuals_have():
    kan = every_function("bigquery")
    ansi, bigquery = formula.source(kan, "sql"), formula.source(kan, "bigquery")
    words = {*re.findall(r"\b([A-Z_0-9]+)\(", re.sub(r'"[^"]*"|--.*', "", ansi))}
    # SQL:2016, features T621 and T622, and what SQL-92 has.
    assert words <= {
        *("ABS", "ACOS", "ASIN", "ATAN", "CAST", "COS", "COSH", "EXP", "LN", "NULLIF", "POWER", "SIN", "SINH", "SQRT"),
        *("TAN", "TANH"),
    }
    assert "SAFE.LN(" in bigquery and "FLOAT64" in bigquery and '"' not in re.sub(r"--.*", "", bigquery)
    assert r"`\`q\``" in formula.source(odd_names(), "bigquery")
    assert r"WHEN 'it\'s " in formula.source(categories(), "bigquery")
    assert "'a\\\\b'" in formula.source(categories(), "bigquery") and "'a\\b'" in formula.source(categories(), "sql")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_text_of_a_query_ends_a_comment_or_a_name(dialect):
    text = formula.source(odd_names(), dialect, name='my "table"')
    body = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    plain = re.sub(r'"(?:[^"]|"")*"|`(?:\\.|[^`\\])*`', "", body)
    assert "--" not in plain and "DROP" not in plain and plain.count("(") == plain.count(")")


def test_the_comments_of_a_query_name_inputs_as_they_are_and_those_of_c_in_ascii():
    in_sql, in_c = (formula.source(odd_names(), language) for language in ("sql", "c"))
    assert "größe/π" in "".join(line for line in in_sql.splitlines() if line.startswith("--"))
    assert in_c.isascii() and r"gr\xf6\xdfe" in in_c


def test_a_formula_of_a_cell_names_its_cells():
    assert formula.source(wave(), "excel") == (
        "=LET(t,IF(ISNUMBER(A2),A2,NA()),p,IF(ISNUMBER(B2),B2,NA()),2*EXP(MIN(-0.5*t*t,700))*COS(3*t+p))\n"
    )
    text = formula.source(wave(), "excel", cells={"p": "'my data'!$C$7", "t": "Points[@[t s]]"})
    assert "IF(ISNUMBER('my data'!$C$7)" in text and "IF(ISNUMBER(Points[@[t s]])" in text
    assert [default_cell(n) for n in (0, 25, 26, 701, 702)] == ["A2", "Z2", "AA2", "ZZ2", "AAA2"]
    assert "^" not in formula.source(from_formula("-x^2 + x^0.3 - x^7"), "excel")  # -2^2 is 4 in Excel
    names = formula.source(odd_names(), "excel")[len("=LET(") :]
    assert not re.match(r"[A-Za-z]{1,3}[0-9]+,", names) and "t1_," in names


def test_what_no_query_and_no_cell_can_hold_is_refused_with_what_to_do():
    for language in (*DIALECTS, "excel"):
        with pytest.raises(FormulaError, match=r"splines.*simplify"):
            formula.source(mixed(), language)
        with pytest.raises(FormulaError, match=r"doubles.*numpy"):
            formula.source(wave(), language, precision="float")
        for name in LANGUAGES[language].lacking():
            with pytest.raises(FormulaError, match=rf"has no function {name}"):
                formula.source(Kan((make_layer(functions=[[name]]),)), language)
    with pytest.raises(FormulaError, match=r"8192 and 126.*simplify"):
        formula.source(shared(), "excel")
    with pytest.raises(FormulaError, match="is not printable"):
        odd = Variable("kind", categories=("a\n",), category_values=(1.0,))
        formula.source(Kan((make_layer(functions=[["x"]]),), (odd,)), "excel")
    with pytest.raises(InputError, match="No input is called 'z'; the inputs are t, p"):
        formula.source(wave(), "excel", cells={"z": "B2"})
    for cell in ("2B", "A2)+1", "=A2", "", "[area]"):
        with pytest.raises(InputError, match=r"B2 or \[@area\]"):
            formula.source(wave(), "excel", cells={"t": cell})
    with pytest.raises(InputError, match="has cells; got 'sql'"):
        formula.source(wave(), "sql", cells={"t": "B2"})
    twins = Kan((make_layer(functions=[["x", "sin"]]),), (Variable("X"), Variable("x")))
    with pytest.raises(FormulaError, match=r"upper and lower case, and SQLite"):
        formula.source(twins, "sqlite")
    assert 'samples."X"' in formula.source(twins, "postgresql")
