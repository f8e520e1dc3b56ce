"""Text that is numbers: currencies, per cent, thousands, decimal commas and marks of missing values."""

import math

import numpy as np
import pandas
import pytest

from kanserve.data import TableWarning
from kanserve.data.dataset import dataset
from kanserve.data.number_texts import number_texts
from kanserve.data.table_files import read_rows, read_samples, read_table
from kanserve.errors import DataError
from kanserve.network.evaluate import as_rows
from tests.support.networks.kans import symbolic


@pytest.fixture
def csv(tmp_path):
    def write(text, name="rows.csv"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["$175,349", "$1,200"], [175349, 1200]),
        (["$5", "($1,000.50)", "-$2"], [5, -1000.5, -2]),
        (["19,0", "3,25"], [19, 3.25]),
        (["1.234,5 €", "7 €"], [1234.5, 7]),
        (["1.234.567", "12"], [1234567, 12]),
        (["12 %", "3.5%", "−4 %"], [0.12, 0.035, -0.04]),
        (["1 234", "1\u00a0300", "1\u202f400.5"], [1234, 1300, 1400.5]),
        (["1'234.5", "1’000"], [1234.5, 1000]),
        (["?", "4", "NA", None, "", "1e3"], [math.nan, 4, math.nan, math.nan, math.nan, 1000]),
        (["0,234", "0,5"], [0.234, 0.5]),
        (["54,646 km", "1,128,416 km", "n/a", "7"], [54646, 1128416, math.nan, 7]),
        (["16GB", "32GB"], [16, 32]),
        (["-3.5°C", "21 °C"], [-3.5, 21]),
        (["9.81 m/s²", "3 m/s²"], [9.81, 3]),
        (["1004.5 sq ft", "12 sq ft"], [1004.5, 12]),
    ],
)
def test_one_convention_that_fits_every_value_gives_numbers(texts, numbers):
    found = number_texts(texts)
    assert found is not None
    chosen = found.chosen(None)
    assert chosen is not None and np.allclose(chosen, numbers, rtol=1e-15, equal_nan=True)


@pytest.mark.parametrize(
    "texts",
    [
        ["12 %", "3"],
        ["$5", "€5"],
        ["1,234.5", "1.234,5"],
        ["1 234", "1,234.5"],
        ["12", "red"],
        ["12 km", "7 miles"],
        ["12a", "7b"],
        ["3 rooms", "studio"],
        ["5 % of it", "6 % of it"],
        ["$5 a day", "$6 a day"],
        ["1,23,4"],
        ["2020-01-02"],
        ["1.2.3"],
        ["?", ""],
        ["+-5"],
    ],
)
def test_without_one_convention_there_are_no_numbers(texts):
    assert number_texts(texts) is None


def test_a_price_makes_a_regression_and_is_said_once(csv):
    rows = "".join(f'{n},"${n},349"\n' for n in range(100, 148))
    with pytest.warns(TableWarning, match=r"^column 'price': '\$100,349' is read as 100349$") as said:
        data = read_table(csv("x,price\n" + rows), "price")
    assert len(said) == 1 and data.classes == () and data.y[0] == 100349


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_the_separator_is_looked_for(csv, separator):
    lines = [["a", "b b", "y"], ["1", "red", "3"], ["2", "blue", "4"]]
    data = read_table(csv("\n".join(map(separator.join, lines)) + "\n"), "y")
    assert (data.inputs, data.y.tolist()) == (("a", "b b"), [[3], [4]])


def test_semicolons_with_commas_in_every_line_are_the_separator(csv):
    with pytest.warns(TableWarning, match="'1,5' is read as 1.5"):
        data = read_table(csv("Preis, netto;Menge\n1,5;2\n2,5;3\n"), "Menge")
    assert data.inputs == ("Preis, netto",) and data.x.tolist() == [[1.5], [2.5]]


def test_a_decimal_comma_elsewhere_makes_points_marks_of_thousands(csv):
    with pytest.warns(TableWarning, match="'1.234' is read as 1234; column 'y': '19,0' is read as 19"):
        assert read_table(csv("a;y\n1.234;19,0\n2.250;3,5\n"), "y").x.tolist() == [[1234], [2250]]
    assert read_table(csv("a;b;y\n1.234;0.5;19\n2.250;4;3\n"), "y").x[0].tolist() == [1.234, 0.5]


@pytest.mark.filterwarnings("ignore::kanserve.data.TableWarning")
@pytest.mark.parametrize(
    ("rows", "point", "comma"),
    [('x,y\n1,"1,234"\n2,"3,456"\n', 1234.0, 1.234), ("x;y\n1;1.234\n2;3.456\n", 1.234, 1234.0)],
)
def test_numbers_in_doubt_are_refused_with_the_remedy(csv, rows, point, comma):
    path = csv(rows)
    with pytest.raises(DataError, match=r"'y' is in doubt.*may be 1.*234 or 1.*decimal=',' \(--decimal"):
        read_table(path, "y")
    assert read_table(path, "y", decimal=".").y[0] == point
    assert read_table(path, "y", decimal=",").y[0] == comma
    with pytest.raises(DataError, match=r"decimal is '\.' or ','; got ';'"):
        read_table(path, "y", decimal=";")  # type: ignore[arg-type]


def test_rows_and_samples_are_read_in_the_same_spelling(csv):
    path = csv("x;y;kind;z\n0,5;1,5;12 %;7,5\n0,25;?;5 %;8,25\n")
    known = {"kind": ("12 %", "5 %")}
    with pytest.warns(TableWarning, match="'0,5' is read as 0.5.*'1,5' is read as 1.5, '\\?' is read as missing"):
        rows = read_rows(path, ["x", "y", "kind"], categories=known)
    assert np.array_equal(rows, [[0.5, 1.5, 0], [0.25, np.nan, 1]], equal_nan=True)
    with pytest.warns(TableWarning):
        data = read_samples(path, ["z"], ["x", "kind"], categories=known)
    assert data.y.tolist() == [[7.5], [8.25]] and data.categories == known
    with pytest.raises(DataError, match="'kind' must be numbers; row 1 is 'low'"):
        read_rows(csv("kind\nlow\nhigh\n"), ["kind"])


def test_marks_of_missing_values_among_numbers_are_said(csv):
    with pytest.warns(TableWarning, match="'a': 'NA', 'null' are read as missing; column 'b': '-' is read as missing"):
        data = read_table(csv("a,b,y\nNA,1,1\n3,-,2\nnull,5.5,3\n,6,4\n"), "y")
    assert np.isnan(data.x).tolist() == [[True, False], [False, True], [True, False], [True, False]]
    assert np.isnan(read_table(csv("a,y\n,1\n2,2\n"), "y").x[0, 0])  # an empty field needs no word


def test_text_that_differs_in_nearly_every_row_is_no_target(csv):
    path = csv("x,name\n" + "".join(f"{n},name{n}\n" for n in range(30)))
    with pytest.raises(DataError, match=r"'name' has 30 different texts in 30 rows.*too many for classes.*--classify"):
        read_table(path, "name")
    assert len(read_table(path, "name", kind="classification").classes) == 30
    frame = pandas.DataFrame({"x": range(30), "name": [f"name{n}" for n in range(30)]})
    for data, target in ((frame, "name"), ((frame[["x"]], frame["name"]), None)):
        with pytest.raises(DataError, match="too many for classes"):
            dataset(data, target)
    assert len(dataset(frame, "name", labels=True).classes) == 30
    with pytest.raises(DataError, match="'p' has numbers in several notations or units, as '3' and '12 %'"):
        read_table(csv("x,p\n1,12 %\n2,3\n"), "p")


def test_numbers_as_text_in_a_frame_are_numbers():
    frame = pandas.DataFrame({"a": ["12 %", "7 %"], "y": ["$1,200", "$5"], "kind": ["1,5", "x"]})
    with pytest.warns(TableWarning) as said:
        data = dataset(frame[["a", "y"]], "y", tables=True)
    assert data.x.tolist() == [[0.12], [0.07]] and data.y.tolist() == [[1200], [5]]
    assert [str(one.message) for one in said] == [
        "column 'a': '12 %' is read as 0.12",
        "column 'y': '$1,200' is read as 1200",
    ]
    with pytest.raises(DataError, match=r"'a' is in doubt: '1,234' may be 1234 or 1.234"):
        dataset(frame.assign(a=["1,234", "5"]), "y", tables=True)
    labels = pandas.DataFrame({"x": [1, 2], "y": ["0", "1"]})
    assert dataset(labels, "y").classes == ("0", "1")
    with pytest.warns(TableWarning, match="'0,5' is read as 0.5"):
        assert as_rows(symbolic(), pandas.DataFrame({"x": ["0,5"], "y": [1.0]})).tolist() == [[0.5, 1.0]]


def test_dates_are_refused_with_a_way_out(csv, tmp_path):
    words = "'when' holds dates or times.*Leave it out.*--input.*the day of the year"
    for value in ("2026-01-0{}", "2026-01-0{} 10:30:00", "2026-01-0{}T10:30:00Z", "0{}.12.2026", "10:0{}:00"):
        rows = "".join(f"{value.format(n)},{n}\n" for n in range(1, 4))
        with pytest.raises(DataError, match=words):
            read_table(csv("when,y\n" + rows), "y")
    days = pandas.DataFrame({"when": ["2026-01-01", "2026-01-02"], "y": [1.0, 2.0]})
    for frame in (
        days,
        days.assign(when=pandas.to_datetime(days["when"])),
        days.assign(when=pandas.Timestamp(0).date()),
    ):
        with pytest.raises(DataError, match=words):
            dataset(frame, "y", tables=True)


def test_a_near_name_is_offered(csv):
    with pytest.raises(DataError, match=r"no column 'prize'. Did you mean 'Price '\? Its columns: Price , y"):
        read_table(csv("Price ,y\n1,2\n"), "y", ["prize"])
    with pytest.raises(DataError, match=r"lacks the column 'x'\. Did you mean 'X'"):
        as_rows(symbolic(), pandas.DataFrame({"X": [0.5], "y": [1.0], "z": [0.0]}))


def test_a_text_that_is_no_category_of_the_network_is_said_with_those_that_are(csv):
    known = {"town": ("Bonn", "Köln")}
    for rows, words in (
        (
            "Bonn\nbonn\n",
            r"column 'town': 'bonn' is not a category of the network \(Bonn, Köln\) and counted as unknown",
        ),
        ("a\nb\nc\nd\n", "'a', 'b', 'c' and 1 more are not categories"),
    ):
        with pytest.warns(TableWarning, match=words):
            read_rows(csv("town\n" + rows), ["town"], {}, known)
    read_rows(csv("town\nKöln\n\nBonn\n"), ["town"], {}, known)  # says nothing


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("a,y\n1,2\n".encode("utf-16"), "is UTF-16. Save it as CSV with the encoding UTF-8"),
        ("a,y\n1,2\n".encode("utf-16-le"), "bytes that are no text"),
        (b"PAR1\0\0", "Give it the ending .parquet"),
        (b"PK\x03\x04\0\0", "a workbook or another archive. Save its sheet as CSV"),
        (b"\x1f\x8b\x08\0", "compressed. Unpack it"),
        (b"\x10\0\0\0\0\0\0\0{}", "is a network or another file of arrays, not a table"),
    ],
)
def test_what_is_no_csv_file_is_said_with_the_next_step(tmp_path, data, words):
    (tmp_path / "rows.csv").write_bytes(data)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / "rows.csv", "y")


def test_a_warning_points_at_the_callers_line(csv):
    with pytest.warns(TableWarning) as said:
        read_table(csv("x,y\n5 km,1\n7 km,2\n"), "y")
        dataset({"x": ["5 km", "7 km"], "y": [1, 2]}, "y")
    assert [one.filename for one in said] == [__file__, __file__]
