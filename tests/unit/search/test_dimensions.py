"""Units: read, refused, and turned into the products of powers that a law can be made of."""

from fractions import Fraction

import numpy as np
import pytest

from kanserve.errors import InputError
from kanserve.search.structure.dimensions import dimension, dimensionless


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("kg*m^2/s^2", "J"),
        ("kg m**2 / s^2", "N*m"),
        ("V*A", "W"),
        ("C/V", "F"),
        ("V·s/m^2", "T"),
        ("km/h", "m/s"),
        ("eV", "kJ"),
        ("J/(mol*K)", "J/mol/K"),
        ("kHz", "1/ns"),
        ("", "1"),
        ("rad", "deg"),
        ("m^(1/2)*m^0.5", "m"),
        ("mmol", "mol"),
        ("Pa", "N/mm^2"),
    ],
)
def test_units_of_one_dimension_are_one(one, other):
    assert dimension(one) == dimension(other)


@pytest.mark.parametrize(("one", "other"), [("m", "s"), ("T", "K"), ("mol", "m"), ("min", "m"), ("cd", "d*s")])
def test_units_of_two_dimensions_are_two(one, other):
    try:
        assert dimension(one) != dimension(other)
    except InputError:
        assert other == "d*s"


@pytest.mark.parametrize("unit", ["m/", "m)", "(m", "m^", "m^(1/", "m^(1/0)", "m//s", "*m", "m$", "m^x"])
def test_a_unit_that_cannot_be_read_is_refused_in_words(unit):
    with pytest.raises(InputError, match="cannot be read"):
        dimension(unit)


def test_an_unknown_unit_is_named():
    with pytest.raises(InputError, match=r"'furlong'.*Known: m, kg, s"):
        dimension("furlong/s")


def test_a_law_that_no_units_allow_is_refused():
    with pytest.raises(InputError, match=r"No product of powers of inputs in \[m\], \[kg\] is in \[s\]"):
        dimensionless(["m", "kg"], "s")


def test_a_pendulum_swings_with_the_root_of_its_length_and_its_mass_says_nothing():
    found = dimensionless(["m", "m/s^2", "kg"], "s")
    assert found.scales[0] == (Fraction(1, 2), Fraction(-1, 2), Fraction(0))
    assert found.groups == ()


def test_an_energy_is_a_mass_times_a_speed_squared_times_a_function_of_their_ratio():
    found = dimensionless(["kg", "m/s", "m/s"], "J")
    assert {tuple(map(int, scale)) for scale in found.scales} == {(1, 0, 2), (1, 2, 0)}
    assert found.groups == ((0, 1, -1),)


def test_plancks_law_has_one_group():
    found = dimensionless(["J*s", "1/s", "J/K", "K"], "J")
    assert found.groups == ((1, 1, -1, -1),)
    assert (1, 1, 0, 0) in {tuple(map(int, scale)) for scale in found.scales}


def test_a_pure_number_is_a_group_of_its_own():
    found = dimensionless(["rad", "N"], "N")
    assert [tuple(map(int, scale)) for scale in found.scales] == [(0, 1)]
    assert found.groups == ((1, 0),)


def test_groups_are_as_many_as_buckingham_says_and_have_no_unit():
    units = ["F/m", "C*m", "m", "m", "m", "m"]
    found = dimensionless(units, "V/m")
    dimensions = np.array([[float(power) for power in dimension(unit)] for unit in units])
    assert len(found.groups) == len(units) - np.linalg.matrix_rank(dimensions)
    assert np.allclose(np.array(found.groups) @ dimensions, 0)
    assert np.linalg.matrix_rank(np.array(found.groups)) == len(found.groups)
    for scale in found.scales:
        wanted = [float(power) for power in dimension("V/m")]
        assert np.allclose(np.array([float(power) for power in scale]) @ dimensions, wanted)


def test_nine_inputs_are_taken_apart_by_ratios_of_lengths_and_masses():
    found = dimensionless(["m^3/(kg*s^2)", "kg", "kg", "m", "m", "m", "m", "m", "m"], "N")
    assert len(found.groups) == 6
    assert all(sum(power != 0 for power in group) == 2 for group in found.groups)


def test_scale_and_groups_are_computed_at_the_rows():
    found = dimensionless(["kg", "m/s", "m/s"], "J")
    x = np.array([[2.0, 3.0, 6.0], [1.0, 1.0, 4.0]])
    assert np.allclose(found.group_inputs(x)[:, 0], x[:, 1] / x[:, 2])
    powers = np.array([[float(power) for power in scale] for scale in found.scales])
    assert np.allclose(found.multiply_powers(x), np.prod(x ** powers[0], axis=1))
    assert dimensionless(["m"], "m").group_inputs(x[:, :1]).shape == (2, 0)
