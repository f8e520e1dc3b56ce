"""What exports may cost: bytes exactly, seconds of the processor where they are far from what one sees."""

import resource
import time
from collections.abc import Callable
from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import kanserve_exporters
from kanserve.ir import Kan, Layer, layer
from kanserve.options import ExportOptions, Precision
from kanserve.ranges import sample
from kanserve.runtime import numpy_source, onnx_graph
from kanserve.splines import uniform_knots
from tests.c_builds import C, run
from tests.test_agreement_c import answers, write
from tests.test_c_source import all_symbolic
from tests.verdict import TYPES, assert_held, in_type

KINDS = ("c_source", "numpy_source", "onnx_graph")


def splines(*shape: int) -> Kan:
    """Random cubic splines of five intervals on every edge."""
    rng = np.random.default_rng(0)

    def one(i: int, o: int) -> Layer:
        numbers = rng.normal(0, 0.1, (o, i, 8))
        return layer(numbers, knots=uniform_knots(-1, 1, 5, 3), base_weight=rng.normal(0, 0.1, (o, i)))

    return Kan(tuple(one(i, o) for i, o in pairwise(shape)))


def timed(kind: str, kan: Kan, precision: Precision, enough: float = inf) -> tuple[dict[str, bytes], float]:
    """The files of an export, and the seconds of this process that it took, as `least` has them."""
    export = kanserve_exporters.get(kind).export
    export(splines(1, 1), ExportOptions("net", precision))  # what is imported or set up once
    files: dict[str, bytes] = {}

    def once() -> None:
        files.update(export(kan, ExportOptions("net", precision)))

    return files, least(once, time.process_time, enough)


def least(work: Callable[[], object], clock: Callable[[], float], enough: float = inf) -> float:
    """The seconds of the clock that it takes: the least of up to three times, as soon as they are few enough.

    Whoever else computes on the core and in its caches makes seconds of the processor longer too.
    """
    took: list[float] = []
    while not took or (len(took) < 3 and min(took) > enough):
        start = clock()
        work()
        took.append(clock() - start)
    return min(took)


@pytest.mark.parametrize("precision", TYPES)
def test_a_law_of_600_edges_is_50_kilobytes_of_c_written_and_compiled_in_2_seconds_each(precision, tmp_path):
    files, seconds = timed("c_source", all_symbolic(5, 20, 20, 5), precision, enough=2)
    for path in ("net.h", "net.c"):
        (tmp_path / path).write_bytes(files[path])
    compiling = least(
        lambda: run(*C, "-O2", "-c", "net.c", at=tmp_path),
        lambda: resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime,
        enough=2,
    )
    assert seconds <= 2 and compiling <= 2, (seconds, compiling)
    assert len(files["net.c"]) <= 50 * 1024, len(files["net.c"])


@pytest.mark.parametrize("precision", TYPES)
def test_ten_layers_of_named_edges_work_in_every_format(precision, tmp_path: Path):
    kan = all_symbolic(*[5] * 11)
    x = in_type(sample(kan, 30), precision)
    given = x.astype(TYPES[precision])
    for kind, load in (("numpy_source", numpy_source.load), ("onnx_graph", onnx_graph.load)):
        got: NDArray[np.floating] = load(timed(kind, kan, precision)[0]).predict(given)
        assert_held(kan, x, got, precision, kind)
    rows = write(tmp_path, {"net": kan}, precision)["net"]
    for got in answers(tmp_path, {"net": kan}, precision, "-O1")["net"]:
        assert_held(kan, rows, got, precision, "c_source")


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_splines_of_50_thousand_edges_are_written_in_5_seconds(kind, precision):
    kan = splines(784, 64, 10)
    files, seconds = timed(kind, kan, precision, enough=5)
    assert seconds <= 5, seconds
    # 9 numbers an edge; text takes three times the bytes of a number, and tables of local polynomials more numbers.
    least = 9 * kan.edges * (8 if precision == "double" else 4)
    assert sum(map(len, files.values())) < {"onnx_graph": 1.5, "numpy_source": 8, "c_source": 8}[kind] * least
