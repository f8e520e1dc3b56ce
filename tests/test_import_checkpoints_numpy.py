"""The NumPy module of every network that was imported from a stored checkpoint is the network."""

import pytest

from kanserve.options import ExportOptions
from kanserve.runtime.numpy_source import load
from kanserve_exporters.numpy_source import export
from tests.imported import PORTIONS, portion
from tests.verdict import TYPES, assert_backend_held


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("which", PORTIONS)
def test_numpy_of_an_imported_network_is_the_network(which, precision):
    for name, kan in portion(which).items():
        assert_backend_held(load(export(kan, ExportOptions(name, precision))), kan, precision, name)
