"""The NumPy module of the zoo and of 200 random networks is the network, many rows at once and one."""

import pytest

from kanserve.network.export_options import ExportOptions
from kanserve.runtime.numpy_backend import load
from kanserve_exporters.numpy_source import export
from tests.support.networks.random_networks import OTHER_CASES, portion
from tests.support.row_agreement import assert_backend_held


@pytest.mark.slow
@pytest.mark.parametrize(("which", "precision"), OTHER_CASES)
def test_the_module_is_the_network(which, precision):
    for name, kan in portion(which).items():
        assert_backend_held(load(export(kan, ExportOptions(name, precision))), kan, precision, name)
