"""The perceptron in integers of `edge.py`: its C computes what it says, and it has learnt the law."""

import ctypes
import subprocess

import numpy as np
import pytest

from tests.support.programs import want

pytest.importorskip("sklearn")

from benchmarks._integer_perceptron import ACTIVATION, integer_perceptron


@pytest.mark.slow
def test_c_computes_what_the_perceptron_says(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (500, 2))
    y = x[:, 0] * x[:, 1]
    found = integer_perceptron(x, y)
    assert np.std(found(x) - y) < 0.1 * np.std(y)
    (tmp_path / "net.c").write_text(found.source())
    subprocess.run([want("cc"), "-std=c99", "-shared", "-fPIC", "-o", "net.so", "net.c"], cwd=tmp_path, check=True)
    predict = ctypes.CDLL(str(tmp_path / "net.so")).predict
    predict.restype = ctypes.c_int16
    codes = np.rint(ACTIVATION * x).astype(np.int16)
    rows = [predict(row.ctypes.data_as(ctypes.c_void_p)) for row in np.ascontiguousarray(codes)]
    assert rows == np.rint(found(x) * 2.0**found.output_bits).astype(int).tolist()
