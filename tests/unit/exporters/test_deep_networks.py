"""Networks of many layers, in every format."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import kanserve_exporters
from kanserve.network.export_options import ExportOptions
from kanserve.network.training_range import sample
from kanserve.runtime import numpy_backend, onnx_backend
from tests.support.c_agreement import answers, write
from tests.support.networks.sized_networks import all_symbolic
from tests.support.row_agreement import TYPES, assert_held, in_type


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("precision", TYPES)
def test_ten_layers_of_named_edges_work_in_every_format(precision, tmp_path: Path):
    kan = all_symbolic(*[5] * 11)
    x = in_type(sample(kan, 30), precision)
    given = x.astype(TYPES[precision])
    for kind, load in (("numpy_source", numpy_backend.load), ("onnx_graph", onnx_backend.load)):
        got: NDArray[np.floating] = load(
            kanserve_exporters.get(kind).export(kan, ExportOptions("net", precision))
        ).predict(given)
        assert_held(kan, x, got, precision, kind)
    rows = write(tmp_path, {"net": kan}, precision)["net"]
    for got in answers(tmp_path, {"net": kan}, precision, "-O1")["net"]:
        assert_held(kan, rows, got, precision, "c_source")
