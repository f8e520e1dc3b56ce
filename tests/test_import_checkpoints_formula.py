"""The formula of every network that was imported from a stored checkpoint is the network."""

import pytest

from kanserve.formula import formulas
from tests.formula_agreement import check
from tests.imported import IMPORTED, conversion


@pytest.mark.parametrize("name", IMPORTED)
def test_the_formula_of_an_imported_network_is_the_network(name):
    kan = conversion(name).kan
    check(kan, formulas(kan, strict=False))
