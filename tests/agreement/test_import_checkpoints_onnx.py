"""The ONNX graph of every network that was imported from a stored checkpoint is the network."""

import pytest

from kanserve import native
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.runtime.onnx_backend import load
from kanserve_exporters import onnx_graph
from tests.support.cases import one_in
from tests.support.peers.imported_checkpoints import PORTIONS, portion
from tests.support.row_agreement import assert_backend_held


@pytest.fixture(autouse=True)
def _without_formulas(monkeypatch):
    """They are in a text that no row meets, as in `test_agreement_onnx`."""
    monkeypatch.setattr(onnx_graph, "formula_lines", lambda kan: [])


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("which", one_in(3, PORTIONS))
def test_onnx_of_an_imported_network_is_the_network(which):
    precision: Precision = "float" if which % 2 else "double"  # of C the other one
    for name, kan in portion(which).items():
        files = onnx_graph.export(kan, ExportOptions(name, precision))
        with native.disable_kernels():
            assert_backend_held(load(files), kan, precision, name)
