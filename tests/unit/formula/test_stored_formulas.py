"""Which formulas an artifact holds: those of a network that is small enough to read them."""

import json

import numpy as np
import pytest

from kanserve import formula
from kanserve.errors import FormatError
from kanserve.formula.from_network.stored_formulas import (
    BYTES_A_NUMBER,
    BYTES_AN_EDGE,
    MOST_BYTES,
    estimate_bytes,
    formulas_to_store,
)
from kanserve.network.kan import Kan, make_layer
from tests.support.networks import kans, sized_networks

SMALL = ["one_edge", "classifier", "mixed", "multiplication", "pruned", "constant", "domains"]


@pytest.mark.parametrize("name", SMALL)
def test_the_formulas_of_a_small_network_are_stored_as_they_are(name: str) -> None:
    kan = kans.ZOO[name]()
    assert formulas_to_store(kan) == formula.formulas(kan, strict=False)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    "kan", [sized_networks.splines(10, 10, 5), sized_networks.network((20, 20, 10)), sized_networks.splines(40, 8, 1)]
)
def test_their_size_is_known_before_they_are_written(kan: Kan) -> None:
    written = len(json.dumps(formula.to_json(formula.formulas(kan, strict=False)), separators=(",", ":")))
    assert 0.5 * written < estimate_bytes(kan) < 2 * written


def test_of_a_large_network_nothing_is_written_but_names() -> None:
    kan = sized_networks.splines(784, 64, 10)
    assert estimate_bytes(kan) > 50 * MOST_BYTES
    stored = formulas_to_store(kan)
    assert [one.name for one in stored] == [output.name for output in kan.outputs]
    for one in stored:
        assert not any((one.tree, one.tables, one.text, one.latex, one.python, one.c)) and one.shortened
        assert not one.variables and not one.closed_form
    data = json.loads(json.dumps(formula.to_json(stored)))
    assert len(json.dumps(data)) < 3000 and formula.from_json(data) == stored


def test_only_what_leads_to_an_output_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output 1 is a function of input 1, output 2 has splines of inputs 2 and 3."""
    coefficients = np.zeros((2, 3, 8))
    coefficients[1, 1:] = 1.0
    functions = np.array([["sin", "", ""], ["", "", ""]])
    kan = Kan((make_layer(coefficients, base="zero", functions=functions, affine=np.ones((2, 3, 4))),))
    plain = formula.formulas(kan, strict=False)
    monkeypatch.setattr("kanserve.formula.from_network.stored_formulas.MOST_BYTES", 0)
    stored = formulas_to_store(kan)
    for one, wanted in zip(stored, plain, strict=True):
        assert (one.name, one.closed_form) == (wanted.name, wanted.closed_form)
    edges = 3 * BYTES_AN_EDGE
    assert estimate_bytes(kan) == edges + 2 * 8 * 5 * BYTES_A_NUMBER


def test_a_formula_without_a_tree_has_no_text() -> None:
    data = formula.to_json(formula.formulas(kans.one_edge(), strict=False))
    data["formulas"][0]["tree"] = []
    with pytest.raises(FormatError, match="without a tree"):
        formula.from_json(data)
