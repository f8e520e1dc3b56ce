import pytest
from hypothesis import assume, given, settings

from kanserve.errors import FormulaError
from kanserve.formula import formulas
from tests.support.formula_agreement import check
from tests.support.networks.generated_networks import networks


@pytest.mark.slow
@pytest.mark.extended
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(networks())
def test_the_formula_of_any_network_is_the_network(kan):
    try:
        found = formulas(kan, limit=150, strict=False)
    except FormulaError as refused:
        assert "finite nowhere" in str(refused)
        assume(False)
    check(kan, found)
