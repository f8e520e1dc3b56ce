"""The knots: what is loaded is what the README says."""

import csv
from importlib.resources import files

import numpy as np
import pytest

from kanserve import from_formula
from kanserve.data.datasets import KNOT_INVARIANTS, load_equations, load_knots
from kanserve.errors import DataError


def test_the_knots_load_with_names_and_finite_numbers() -> None:
    knots = load_knots()
    assert knots.x.shape == (1118, 16) and knots.y.shape == (1118, 1)
    assert knots.inputs == KNOT_INVARIANTS and knots.outputs == ("signature",)
    assert np.isfinite(knots.x).all()


def test_a_signature_is_an_even_integer() -> None:
    signature = load_knots().y
    assert (signature % 2 == 0).all()
    assert signature.min() == -8 and signature.max() == 8


def test_the_columns_fit_together_as_the_readme_says() -> None:
    names = (
        "longitudinal_translation",
        "meridinal_translation_imag",
        "meridinal_translation_real",
        "cusp_volume",
    )
    knots = load_knots("slope", names)
    length, imaginary, real, volume = knots.x.T
    np.testing.assert_allclose(volume, length * imaginary / 2, rtol=1e-9)
    np.testing.assert_allclose(knots.y[:, 0], (length / (real + 1j * imaginary)).real, atol=1e-12)


def test_no_answer_is_among_the_inputs() -> None:
    answers = {"name", "signature", "slope", "genus", "tau", "fibered", "alternating", "crossings"}
    assert not answers & set(KNOT_INVARIANTS)


def test_every_column_is_described() -> None:
    folder = files("kanserve.data")
    header = next(csv.reader(folder.joinpath("knots.csv").read_text("utf-8").splitlines()))
    text = folder.joinpath("README.md").read_text("utf-8")
    assert [name for name in header if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("target", "inputs", "message"),
    [
        ("colour", KNOT_INVARIANTS, "no column 'colour'"),
        ("signature", ("volume", "hyperbolic_adjoint_torsion_degree"), "holds no numbers"),
        ("volume", KNOT_INVARIANTS, "both an input and the target"),
    ],
)
def test_a_column_that_cannot_be_used_is_named(target: str, inputs: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_knots(target, inputs)


def test_the_inputs_of_each_equation_have_a_range() -> None:
    tables = (
        load_equations(),
        load_equations("feynman_dimensional"),
        load_equations("sciences"),
        load_equations("field_suites"),
        load_equations("one_input"),
        load_equations("additive"),
    )
    assert [len(table) for table in tables] == [30, 62, 40, 72, 40, 30]
    for law in (equation for table in tables for equation in table):
        used = {variable.name for variable in from_formula(law.formula).inputs}
        idle = law.name.startswith(("Ko", "vdp2"))  # these have inputs without effect
        assert set(law.ranges) == used or (idle and set(law.ranges) > used)
        assert all(low < high for low, high in law.ranges.values())
