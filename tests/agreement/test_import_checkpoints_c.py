"""The C source of every network that was imported from a stored checkpoint is the network.

All of a portion are one translation unit, as in `test_agreement_c`, plain and in double or fast and in float by turns;
`make importers` takes all in both.
"""

import pytest

from kanserve.network.export_options import Precision
from kanserve_exporters import c_source
from tests.support.c_agreement import answers, write
from tests.support.cases import one_in
from tests.support.peers.imported_checkpoints import PORTIONS, portion
from tests.support.row_agreement import assert_held


@pytest.fixture(autouse=True)
def _without_formulas(monkeypatch):
    """They are in texts that no row meets; `test_import_checkpoints_formula` compares them."""
    monkeypatch.setattr(c_source, "formula_lines", lambda kan: [])


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("which", one_in(3, PORTIONS))
def test_c_of_an_imported_network_is_the_network(which, tmp_path):
    precision: Precision = "double" if which % 2 else "float"
    kans = portion(which)
    x = write(tmp_path, kans, precision)
    fast = ("-O1", "-march=native", "-ffp-contract=fast", *(f"-D{name}_FAST" for name in kans))
    plain = ("-O0", "-ffp-contract=off")
    for name, forms in answers(tmp_path, kans, precision, *(plain if which % 2 else fast)).items():
        for form, got in zip(("rows at once", "one by one"), forms, strict=True):
            assert_held(kans[name], x[name], got, precision, f"{name}, {form}")
