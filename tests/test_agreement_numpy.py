"""The NumPy module of the zoo and of 200 random networks is the network, many rows at once and one."""

import pytest

from kanserve.options import ExportOptions
from kanserve.runtime.numpy_source import load
from kanserve_exporters.numpy_source import export
from tests.networks import PORTIONS, portion
from tests.verdict import TYPES, assert_backend_held


@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("which", PORTIONS)
def test_the_module_is_the_network(which, precision):
    for name, kan in portion(which).items():
        assert_backend_held(load(export(kan, ExportOptions(name, precision))), kan, precision, name)
