"""Files of any size: what is written is what the model gives, and errors name row and column."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import kanserve
from kanserve.batch import BatchPredictor, FilePredictions, predict_file, predict_reader
from kanserve.errors import DataError, NotFoundError
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.network.training_range import outside, sample

KAN = kanserve.from_formula("exp(a)*sin(b)", ranges={"a": (0, 1), "b": (-1, 2)})
ROWS = sample(KAN, 300_000, seed=1) * 1.05  # more than two batches
Y = evaluate(KAN, ROWS)[:, 0]


@pytest.fixture(scope="module")
def law():
    return kanserve.compile(KAN, ["c_source", "numpy_source"])


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The same rows as a Parquet and a CSV file."""
    folder = tmp_path_factory.mktemp("rows")
    table = pa.table({"id": [f"{n:06}" for n in range(len(ROWS))], "b": ROWS[:, 1].copy(), "a": ROWS[:, 0].copy()})
    pyarrow.parquet.write_table(table, folder / "rows.parquet")
    pyarrow.csv.write_csv(table, folder / "rows.csv")
    return folder


def read(path):
    as_text = pyarrow.csv.ConvertOptions(column_types={"id": pa.string()})
    return (
        pyarrow.parquet.read_table(path)
        if path.suffix == ".parquet"
        else pyarrow.csv.read_csv(path, convert_options=as_text)
    )


@pytest.mark.parametrize("into", ["parquet", "csv"])
@pytest.mark.parametrize("source", ["parquet", "csv"])
def test_parquet_and_csv_files_become_each_other(law, rows, tmp_path, source, into):
    heard = []
    out = tmp_path / f"out.{into}"
    predictor = BatchPredictor(law, keep=["id"], outside=True)
    found = predict_file(predictor, rows / f"rows.{source}", out, progress=lambda *event: heard.append(event))
    beyond = outside(KAN, ROWS)
    assert found == FilePredictions(len(ROWS), int(beyond.sum()), 0) == heard[-1][1]
    result = read(out)
    assert result.column_names == ["id", "y", "outside"]
    np.testing.assert_allclose(result["y"].to_numpy(), Y, rtol=1e-12, atol=1e-12)
    assert np.array_equal(result["outside"].to_numpy(), beyond)
    if (source, into) != ("csv", "parquet"):  # numbers of a CSV file become numbers of a Parquet file
        assert result["id"][7].as_py() == "000007"
    assert [share for share, _ in heard] == sorted(share for share, _ in heard)
    assert len(heard) > 1 and heard[-1][0] == 1


def test_a_csv_is_written_to_an_open_file_in_the_digits_that_give_the_same_numbers(law, rows):
    sink = io.BytesIO()
    predict_file(BatchPredictor(law), rows / "rows.parquet", sink)
    header, *lines = sink.getvalue().decode().splitlines()
    assert header.strip('"') == "y"
    assert np.array_equal(np.array(lines, float), BatchPredictor(law).predict(ROWS)[:, 0])


def test_the_separator_of_a_csv_file_is_looked_for_and_another_file_is_said(law, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a;b\n0.5;1\n0.25;0\n")
    sink = io.BytesIO()
    assert predict_file(BatchPredictor(law), path, sink).rows == 2
    assert float(sink.getvalue().decode().split()[1]) == pytest.approx(np.exp(0.5) * np.sin(1))
    path.write_bytes("a,b\n1,2\n".encode("utf-16"))
    with pytest.raises(DataError, match="is UTF-16"):
        predict_file(BatchPredictor(law), path, sink)


def test_rows_without_finite_outputs_are_counted(law, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n0.5,0.5\n,1\nnan,1\ninf,1\n1e400,1\n0.5,0.5\n")
    found = predict_file(BatchPredictor(law), path, tmp_path / "out.parquet")
    assert found == FilePredictions(6, 4, 4)
    assert np.isnan(read(tmp_path / "out.parquet")["y"].to_numpy()).tolist() == [False, *[True] * 4, False]


def test_a_class_that_is_not_there_is_an_empty_field(tmp_path):
    scores = kanserve.from_formula({"low": "1 - x", "high": "x"}, ranges={"x": (0, 1)})
    artifact = kanserve.compile(Kan(scores.layers, scores.inputs, classes=("low", "high")), ["numpy_source"])
    (tmp_path / "rows.csv").write_text('x\n0.1\n"nan"\n')
    sink = io.BytesIO()
    assert predict_file(BatchPredictor(artifact), tmp_path / "rows.csv", sink).not_finite == 1
    assert [line.split(",")[0].strip('"') for line in sink.getvalue().decode().splitlines()] == ["class", "low", ""]


def test_a_file_with_a_header_and_no_rows_gives_one(law, tmp_path):
    (tmp_path / "rows.csv").write_text("b,a\n")
    pyarrow.parquet.write_table(pa.table({"a": pa.array([], "f8"), "b": pa.array([], "f8")}), tmp_path / "rows.parquet")
    for source in ("rows.csv", "rows.parquet"):
        for out in ("out.csv", "out.parquet"):
            assert predict_file(BatchPredictor(law), tmp_path / source, tmp_path / out) == FilePredictions()
            assert read(tmp_path / out).column_names == ["y"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n" + "1,1\n" * 9 + "1,ten\n" + "1,1\n" * 9, "column 'b' must be numbers; row 10 is 'ten'"),
        ("b,a\n" + "1,1\n" * 1_500_000 + "1,ten\n" + "1,1\n" * 9, "column 'a' must be numbers; row 1500001 is 'ten'"),
        ("a,b\n1,1\n1\n", "row 2 cannot be read: Expected 2 columns, got 1"),
        ("a,b\n" + "1,1\n" * 2_500_000 + "1\n", "row 2500001 cannot be read: Expected 2 columns, got 1"),
        ("a,bb\n1,1\n", r"lacks the column 'b', an input of the model\. Is it 'bb'\?"),
        ("", "is empty"),
    ],
)
def test_an_error_of_a_csv_file_names_row_and_column(law, tmp_path, text, words):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=f"rows.csv.*{words}"):
        predict_file(BatchPredictor(law), path, tmp_path / "out.csv")


def test_an_error_of_a_parquet_file_names_row_and_column(law, rows, tmp_path):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.table({"a": [None, "ten"], "b": [1.0, 1.0]}), path)
    with pytest.raises(DataError, match=r"rows\.parquet: Column 'a' must be numbers, got string; row 2 is 'ten'"):
        predict_file(BatchPredictor(law), path, tmp_path / "out.csv")
    path.write_bytes((rows / "rows.parquet").read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read as a table"):
        predict_file(BatchPredictor(law), path, tmp_path / "out.csv")
    whole = bytearray((rows / "rows.parquet").read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 200_000] = bytes(200_000)
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"cannot be read after row \d+: "):
        predict_file(BatchPredictor(law), path, tmp_path / "out.csv")
    with pytest.raises(NotFoundError, match="does not exist"):
        predict_file(BatchPredictor(law), tmp_path / "nothing.csv", tmp_path / "out.csv")
    with pytest.raises(DataError, match="is not a regular file"):
        predict_file(BatchPredictor(law), tmp_path, tmp_path / "out.csv")


def test_a_stream_is_predicted_batch_by_batch_only_as_far_as_it_is_read(law):
    seen = []

    def batches():
        for start in range(3):
            seen.append(start)
            yield pa.RecordBatch.from_arrays([pa.array(column) for column in ROWS[start : start + 2].T], ["a", "b"])

    schema = pa.schema([("a", pa.float64()), ("b", pa.float64())])
    results = predict_reader(BatchPredictor(law), pa.RecordBatchReader.from_batches(schema, batches()))
    assert seen == []
    assert results.read_next_batch().num_rows == 2 and seen == [0]
    np.testing.assert_allclose(results.read_all()["y"].to_numpy(), Y[[1, 2, 2, 3]], rtol=1e-12)
