"""The NumPy module of every network that was imported from a stored checkpoint is the network."""

import pytest

from kanserve.network.export_options import ExportOptions, Precision
from kanserve.runtime.numpy_backend import load
from kanserve_exporters import numpy_source
from tests.support.cases import one_in
from tests.support.peers.imported_checkpoints import PORTIONS, portion
from tests.support.row_agreement import assert_backend_held


@pytest.fixture(autouse=True)
def _without_formulas(monkeypatch):
    """They are in texts that no row meets; `test_import_checkpoints_formula` compares them."""
    monkeypatch.setattr(numpy_source, "formula_lines", lambda kan: [])


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("which", one_in(3, PORTIONS))
def test_numpy_of_an_imported_network_is_the_network(which):
    precision: Precision = "float" if which % 2 else "double"  # of C the other one
    for name, kan in portion(which).items():
        assert_backend_held(load(numpy_source.export(kan, ExportOptions(name, precision))), kan, precision, name)
