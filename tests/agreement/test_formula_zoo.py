import pytest

from kanserve.formula import formulas
from tests.support.formula_agreement import check
from tests.support.networks.kans import LARGE_LAST, ZOO


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", LARGE_LAST)
def test_the_formula_of_each_network_of_the_zoo_is_the_network(name):
    kan = ZOO[name]()
    check(kan, formulas(kan, strict=False))
