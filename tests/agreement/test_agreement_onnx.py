"""The ONNX graph of the zoo and of 200 random networks is the network, many rows at once and one.

The compiled operators, where there are any, take the networks that they know, and onnxruntime's own all of them.
"""

import pytest

from kanserve import native
from kanserve.network.export_options import ExportOptions
from kanserve.runtime.onnx_backend import load
from kanserve_exporters import onnx_graph
from tests.support.networks.random_networks import OTHER_CASES, portion
from tests.support.row_agreement import assert_backend_held


@pytest.fixture(autouse=True)
def _without_formulas(monkeypatch):
    """They take longer to write than all else here takes, and stand in a text that no row meets."""
    monkeypatch.setattr(onnx_graph, "formula_lines", lambda kan: [])


@pytest.mark.slow
@pytest.mark.parametrize(("which", "precision"), OTHER_CASES)
def test_the_graph_is_the_network(which, precision):
    for name, kan in portion(which).items():
        files = onnx_graph.export(kan, ExportOptions(name, precision))
        with native.disable_kernels():
            backends = {"standard": load(files)}
        taken = load(files)
        if taken.native:
            backends["compiled"] = taken
        for form, backend in backends.items():
            assert_backend_held(backend, kan, precision, f"{name}, {form}")
