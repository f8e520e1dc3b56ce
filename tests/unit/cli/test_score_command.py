"""`kanserve score TABLE --model MODEL`: a file is predicted as a stream; the result has its name when whole."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from kanserve import from_formula, repository
from kanserve.artifact_compiler import compile as compile_kan
from kanserve.network.evaluate import evaluate

KAN = from_formula("2*a + b", ranges={"a": (0, 1), "b": (0, 1)})
X = np.array([[0.5, 0.5], [0.25, 0.0], [9.0, 0.5]])


@pytest.fixture(scope="module")
def law():
    return compile_kan(KAN, ["c_source", "numpy_source"], name="law")


@pytest.fixture
def folder(law, tmp_path, monkeypatch):
    repository.publish(tmp_path / "models", "law", law)
    table = pa.table({"b": X[:, 1].copy(), "a": X[:, 0].copy(), "id": ["x", "y", "z"]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("b,a,id\n0.5,0.5,x\n0.0,0.25,y\n0.5,9.0,z\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_predicted_into_a_parquet_file(folder, kanserve):
    words = ("rows.parquet", "--model", "models/law", "--out", "out.parquet", "--keep", "id", "--outside")
    code, out, err = kanserve("score", *words, "--json")
    assert (code, err) == (0, "kanserve: 1 of 3 rows are outside the range of the training data\n")
    assert json.loads(out) == {"file": "out.parquet", "rows": 3, "outside": 1, "not finite": 0}
    result = pyarrow.parquet.read_table("out.parquet").to_pydict()
    assert result == {"id": ["x", "y", "z"], "y": evaluate(KAN, X)[:, 0].tolist(), "outside": [False, False, True]}
    assert sorted(path.name for path in folder.iterdir()) == ["models", "out.parquet", "rows.csv", "rows.parquet"]
    code, _, err = kanserve("score", *words)
    assert code == 2 and "--force" in err


@pytest.mark.parametrize("rows", ["rows.csv", "rows.parquet"])
def test_without_a_name_the_result_is_csv_on_standard_output(folder, kanserve, rows):
    code, out, _ = kanserve("score", rows, "--model", "models", "--gradient", "--keep-all", "--prefix", "my_")
    header, *lines = out.replace('"', "").splitlines()
    assert code == 0 and sorted(header.split(",")[:3]) == ["a", "b", "id"]
    assert header.split(",")[3:] == ["my_y", "my_dy_da", "my_dy_db"]
    assert [[float(text) for text in line.split(",")[3:]] for line in lines] == [[1.5, 2, 1], [0.5, 2, 1], [18.5, 2, 1]]


def test_a_failed_run_leaves_no_file_and_says_where_it_failed(folder, kanserve):
    (folder / "bad.csv").write_text("a,b\n1,1\n1,ten\n")
    code, out, err = kanserve("score", "bad.csv", "-m", "models", "-o", "out.csv")
    assert (code, out) == (2, "")
    assert err == "kanserve: bad.csv: column 'b' must be numbers; row 2 is 'ten'.\n"
    assert not list(folder.glob("*out*")) + list(folder.glob(".*out*"))


def test_a_pipe_is_refused_since_it_can_be_read_only_once(folder, kanserve):
    os.mkfifo("pipe.csv")
    code, _, err = kanserve("score", "pipe.csv", "--model", "models")
    assert code == 2 and "not a regular file" in err


@pytest.mark.slow
@pytest.mark.extended
def test_a_run_that_is_stopped_leaves_no_file(folder):
    rows = pa.table({"a": np.zeros(2_000_000), "b": np.zeros(2_000_000), "text": ["x" * 40] * 2_000_000})
    pyarrow.parquet.write_table(rows, folder / "many.parquet")
    words = ["score", "many.parquet", "--model", "models", "--out", "out.csv", "--keep-all"]
    running = subprocess.Popen([sys.executable, "-m", "kanserve", *words], cwd=folder)
    part = folder / ".out.part.csv"
    while running.poll() is None and not part.exists():
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    assert running.wait() == 128 + signal.SIGTERM
    assert not part.exists() and not (folder / "out.csv").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rows.csv"], "Give a network and a table, or a table and --model; got 1 files"),
        (["law.safetensors", "rows.csv", "--out", "out.csv"], "--out needs --model"),
        (["law.safetensors", "rows.csv", "--model", "models"], "With --model, give one file to predict; got 2"),
        (["rows.csv", "--model", "models", "--target", "y"], "--target is for scoring"),
        (["rows.csv", "--model", "models", "--json"], "--json needs --out"),
        (["rows.csv", "--model", "nothing"], "nothing"),
        (["rows.csv", "--model", "models", "--keep", "idd"], "Is it 'id'?"),
        (["rows.csv", "--model", "models", "--out", "rows.csv", "--force"], "is an input of this command"),
        (["none.csv", "--model", "models"], "The file 'none.csv' does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder, kanserve, words, said):
    code, out, err = kanserve("score", *words)
    assert (code, out) == (2, "") and err.count("\n") == 1 and said in err


def test_the_help_has_both_uses(kanserve):
    _, text, _ = kanserve("score", "--help")
    assert len(re.findall(r"Example:", text)) == 2
