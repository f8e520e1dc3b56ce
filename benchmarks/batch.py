"""Batch inference of a network [4, 10, 1] by its C library: rows per second of CPU time, in each engine and on files.

The first line is the library itself on one array, so the others show what an engine costs. Files: how much memory and
CPU time `kanserve score` takes for Parquet files of two sizes, with the start of Python and the reading and writing.

    OMP_NUM_THREADS=1 python -m benchmarks.batch [--small] [--rows 20000000]
"""

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from benchmarks._timing import goal, installed, interleaved, machine, table
from kanserve import compile as compile_kan
from kanserve import create, publish
from kanserve.artifact import Artifact
from kanserve.batch import BatchPredictor, polars_expression, predict_reader, register_duckdb
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import sample
from kanserve.runtime import c_backend

Array = NDArray[np.float64]

ROWS = 1_000_000
FILE_ROWS = 20_000_000
SAMPLE = 2_000
GOALS = {"polars expression": 5e6, "DuckDB function": 3e6}  # rows per CPU second
AGREE = 1e-12  # of the largest output
GROWTH = 1.25  # of memory, from a file to one that is four times as large

# Runs a command and prints its CPU seconds and KiB of memory. In a small process of its own: the memory of a process
# counts that of the one which starts it.
_MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(code)
"""


@dataclass(frozen=True)
class FileRun:
    """`kanserve score` on a file: rows, bytes of the file, CPU seconds and the largest resident memory in bytes."""

    rows: int
    size: int
    seconds: float
    memory: int


def artifact() -> Artifact:
    """A network [4, 10, 1] with splines of 5 intervals, in C and NumPy."""
    return compile_kan(create([4, 10, 1], seed=0), ["c_source", "numpy_source"], name="batch")


def engines(model: Artifact, x: Array) -> dict[str, Callable[[], Any]]:
    """Each way to predict the rows x, as a function that returns the outputs, or their sum where SQL adds them."""
    predictor = BatchPredictor(model)
    columns = {name: np.ascontiguousarray(x[:, i]) for i, name in enumerate(predictor.inputs)}
    arrow = pa.table(columns)
    found: dict[str, Callable[[], Any]] = {
        "C library": _raw(model, x),
        "NumPy": lambda: predictor.predict(x)[:, 0],
        "columns of NumPy": lambda: predictor(columns)["y"],
        "Arrow table": lambda: predictor(arrow)["y"].to_numpy(),
        "Arrow stream of 64 Ki rows": lambda: predict_reader(predictor, _stream(arrow)).read_all()["y"].to_numpy(),
    }
    if installed("pandas"):
        import pandas

        frame = pandas.DataFrame(columns)
        found["pandas DataFrame"] = lambda: predictor(frame)["y"].to_numpy()
    if installed("polars"):
        import polars

        rows, expression = polars.DataFrame(columns), polars_expression(predictor)
        found["polars expression"] = lambda: rows.select(expression)["y"].to_numpy()
    if installed("duckdb"):
        import duckdb

        connection = duckdb.connect(config={"threads": 1})
        register_duckdb(predictor, connection, "kan")
        connection.register("given", arrow)
        connection.execute("CREATE TABLE rows AS SELECT * FROM given")
        query = f"SELECT sum(kan({', '.join(predictor.inputs)})) FROM rows"
        found["DuckDB function"] = lambda: connection.execute(query).fetchall()[0][0]
    return found


def _raw(model: Artifact, x: Array) -> Callable[[], Array]:
    """The library's own function on one array, with the room for the outputs made before."""
    library = c_backend.load(model.part("c_source"))
    kind = ctypes.CFUNCTYPE(ctypes.c_int, *_IN, *_OUT)
    run, y = kind(library.predict_address or 0), np.empty(len(x))

    def predict() -> Array:
        run(x.ctypes.data, len(x), x.shape[1], y.ctypes.data, 1)
        return y

    predict.__dict__["library"] = library  # it is unloaded with its object
    return predict


_IN = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
_OUT = (ctypes.c_void_p, ctypes.c_size_t)


def _stream(rows: pa.Table) -> Any:
    return pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches(2**16))


def gather(x: Array, block: int) -> Callable[[], None]:
    """Columns become rows in blocks, and nothing is computed."""
    columns, room = [np.ascontiguousarray(column) for column in x.T], np.empty((block, x.shape[1]))

    def copy() -> None:
        for start in range(0, len(x), block):
            count = min(block, len(x) - start)
            for i, column in enumerate(columns):
                room[:count, i] = column[start : start + count]

    return copy


def errors(model: Artifact, x: Array, calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """How far each engine is from the reference on some rows, of the largest output."""
    some = np.random.default_rng(0).choice(len(x), min(SAMPLE, len(x)), replace=False)
    wanted = evaluate(model.kan(), x[some])[:, 0]
    whole = calls["C library"]().copy()
    found = {}
    for name, call in calls.items():
        got = call()
        if np.ndim(got) == 0:  # a sum of all rows
            found[name] = float(abs(got - whole.sum()) / np.abs(whole).sum())
        else:
            found[name] = float(np.abs(got[some] - wanted).max() / np.abs(wanted).max())
    return found


def score_file(folder: Path, rows: int) -> FileRun:
    """Write a Parquet file of random rows, and run `kanserve score` on it in a process of its own."""
    model = folder / "models"
    kan = artifact().kan()
    if not model.exists():
        publish(model, "batch", artifact())
    source, out = folder / "rows.parquet", folder / "out.parquet"
    names = [variable.name for variable in kan.inputs]
    schema = pa.schema([(name, pa.float64()) for name in names])
    with pyarrow.parquet.ParquetWriter(source, schema, use_dictionary=False) as writer:
        for start in range(0, rows, ROWS):
            x = sample(kan, min(ROWS, rows - start), seed=start)
            writer.write_table(pa.table({name: x[:, i].copy() for i, name in enumerate(names)}))
    words = ["-m", "kanserve", "score", str(source), "--model", str(model), "--out", str(out), "-qf", "--json"]
    done = subprocess.run([sys.executable, "-c", _MEASURED, sys.executable, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"kanserve {' '.join(words[2:])} ended with {done.returncode}: {done.stderr}")
    seconds, memory = (float(word) for word in done.stdout.splitlines()[-1].split())
    written = pyarrow.parquet.ParquetFile(out)
    first = next(written.iter_batches(SAMPLE))["y"].to_numpy()
    x = sample(kan, min(ROWS, rows), seed=0)[: len(first)]
    wanted = evaluate(kan, x)[:, 0]
    if written.metadata.num_rows != rows or np.abs(first - wanted).max() > AGREE * np.abs(wanted).max():
        raise SystemExit("kanserve score did not write what the network gives.")
    return FileRun(rows, source.stat().st_size, seconds, int(memory) * 1024)


def report(rates: Mapping[str, float], wrong: Mapping[str, float], files: tuple[FileRun, FileRun, FileRun]) -> str:
    """The tables, and which goals are met."""
    lines = [[name, f"{rate / 1e6:.1f}", f"{wrong[name]:.1e}" if name in wrong else ""] for name, rate in rates.items()]
    text = [table(["", "M rows per CPU second", "error"], lines), ""]
    none, small, large = files
    runs = [
        [
            f"{run.rows:,}",
            f"{run.size / 1e6:.0f}",
            f"{run.seconds:.2f}",
            f"{run.memory / 1e6:.0f}",
            f"{(run.rows - none.rows) / (run.seconds - none.seconds) / 1e6:.1f}" if run.seconds > none.seconds else "",
        ]
        for run in files
    ]
    text.append(table(["kanserve score: rows", "MB", "CPU seconds", "RSS in MB", "M rows per CPU second more"], runs))
    text.append("")
    for name, wanted in GOALS.items():
        if name not in rates:
            text.append(goal(False, f"{name} ≥ {wanted / 1e6:.0f} M rows per CPU second: it is not installed"))
        else:
            text.append(goal(rates[name] >= wanted, f"{name} ≥ {wanted / 1e6:.0f} M rows per CPU second"))
    misses = [f"{name} {error:.1e}" for name, error in wrong.items() if not error <= AGREE]
    text.append(goal(not misses, f"all agree with the reference within {AGREE}", misses))
    text.append(
        goal(
            large.memory <= GROWTH * small.memory,
            f"memory for a file of {large.size / 1e6:.0f} MB is at most {GROWTH} times that for {small.size / 1e6:.0f}",
            [] if large.memory <= GROWTH * small.memory else [f"{large.memory / small.memory:.2f}"],
        )
    )
    return "\n".join(text)


def measure(rows: int, file_rows: int, rounds: int = 5) -> str:
    """Everything, as text."""
    model = artifact()
    x = sample(model.kan(), rows)
    calls = engines(model, x)
    wrong = errors(model, x, calls)
    seconds = interleaved({**calls, "(columns to rows alone)": gather(x, 4096)}, rounds, 0.2)
    with tempfile.TemporaryDirectory(prefix="kanserve-") as folder:
        runs = [score_file(Path(folder), count) for count in (1, file_rows // 4, file_rows)]
    return report({name: rows / each for name, each in seconds.items()}, wrong, (runs[0], runs[1], runs[2]))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--small", action="store_true", help="few rows: does it run at all?")
    options.add_argument("--rows", type=int, default=FILE_ROWS, help="of the larger file")
    chosen = options.parse_args()
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    print(machine("numpy", "pyarrow", "polars", "duckdb", "pandas"))
    print(measure(20_000, 40_000, 1) if chosen.small else measure(ROWS, chosen.rows))


if __name__ == "__main__":
    main()
