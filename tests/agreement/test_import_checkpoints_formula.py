"""The formula of every network that was imported from a stored checkpoint is the network.

Of those that differ only in how close their knots are, one is taken: see `FINER`.
"""

import pytest

from kanserve.formula import formulas
from tests.support.cases import one_in
from tests.support.formula_agreement import check
from tests.support.peers.imported_checkpoints import FINER, IMPORTED, conversion

NAMES = [name for name in IMPORTED if name not in FINER]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", one_in(3, NAMES))
def test_the_formula_of_an_imported_network_is_the_network(name):
    kan = conversion(name).kan
    check(kan, formulas(kan, strict=False))
