"""Structure of a law from its rows: what is there is found, what is not there is not claimed."""

import numpy as np
import pytest

from kanserve.search.regression.link_functions import applicable
from kanserve.search.regression.surrogates import sharpen, surrogates
from kanserve.search.structure.affine import INNER, affine_inputs
from kanserve.search.structure.factors import irrelevant, power_factors
from kanserve.search.structure.input_merges import merges
from kanserve.search.structure.power_laws import monomial
from kanserve.search.structure.quadratic_roots import quadratic_root
from kanserve.search.structure.scaling import scalings
from kanserve.search.structure.separation import separations

ROWS = 600


def rows(*ranges, seed=0, count=ROWS):
    generator = np.random.default_rng(seed)
    return np.stack([generator.uniform(low, high, count) for low, high in ranges], axis=1)


def of_rows(question, x, y):
    """The answer to a question of the structure of rows, from their surrogates."""
    return question(x, y, surrogates(x, y))


def powers_of(x, y):
    found = monomial(x, y)
    assert found is not None
    return found[1]


def noisy(y, share, seed=1):
    return y + share * np.sqrt(np.mean(y * y)) * np.random.default_rng(seed).normal(size=len(y))


def test_every_link_undoes_itself_and_its_slope_is_its_derivative():
    y = np.linspace(0.05, 0.9, 40)
    for sign in (1, -1):
        links = applicable(sign * y)
        assert links[0].name == "identity"
        assert {"square", "sqrt", "log", "reciprocal", "reciprocal square", "tan", "exp"} <= {
            link.name for link in links
        }
        for link in links:
            assert np.allclose(link.inverse(link.forward(sign * y)), sign * y, rtol=1e-9)
            step = 1e-6
            slope = (link.forward(sign * y + step) - link.forward(sign * y - step)) / (2 * step)
            assert np.allclose(link.slope(sign * y), slope, rtol=1e-4), link.name


def test_a_link_stands_only_where_it_is_defined_and_bends():
    crossing = np.linspace(-3, 3, 101)
    assert {link.name for link in applicable(crossing)} == {"identity", "exp"}
    assert [link.name for link in applicable(np.full(9, 2.0))] == ["identity"]
    assert [link.name for link in applicable(np.linspace(100, 100.1, 50))] == ["identity"]


def test_a_surrogate_knows_the_law_and_its_gradient_at_new_rows():
    x, fresh = rows((1, 5), (1, 5), (0.5, 2)), rows((1, 5), (1, 5), (0.5, 2), seed=5)

    def law(x):
        return np.sqrt(x[:, 0] ** 2 + x[:, 1] * x[:, 2])

    best = surrogates(x, law(x))[0]
    assert best.link.name == "square" and best.error < 1e-12 and best.basis.indices.sum(axis=1).max() == 2
    assert np.allclose(best.value(fresh), law(fresh), rtol=1e-10)
    expected = np.stack([fresh[:, 0], fresh[:, 2] / 2, fresh[:, 1] / 2], axis=1) / law(fresh)[:, None]
    assert np.allclose(best.gradient_of_link(fresh) / best.link.slope(best.value(fresh))[:, None], expected, rtol=1e-8)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
def test_a_power_law_is_a_straight_line_in_logarithms_whatever_the_units(unit):
    x = rows((1, 5), (1, 5), (1, 5), (1, 5))
    y = x[:, 0] * x[:, 1] ** 2 / (x[:, 2] * x[:, 3] ** 1.5)
    best = surrogates(x * unit, y * unit)[0]
    assert best.link.name == "log" and best.error < 1e-10
    assert all(coordinate.logarithmic for coordinate in best.coordinates)
    assert powers_of(x * unit, y * unit) == (1.0, 2.0, -1.0, -1.5)


def test_the_error_of_a_surrogate_is_that_on_rows_it_has_not_seen():
    ranges = [(1, 4), (1, 4), (1, 2)]
    x, fresh = rows(*ranges), rows(*ranges, seed=3)

    def law(x):
        return x[:, 0] / (np.exp(x[:, 1] * x[:, 2] / x[:, 0]) - 1) + np.sin(x[:, 1] * x[:, 2])

    for surrogate in surrogates(x, law(x))[:4]:
        seen = np.sqrt(np.mean((surrogate.value(fresh) - law(fresh)) ** 2) / np.mean(law(x) ** 2))
        assert 0.1 * surrogate.error < seen < 10 * surrogate.error


def test_a_monomial_is_found_with_its_signs_and_nothing_else_is_one():
    x = rows((-1, 2), (1, 3), (-3, -1))
    y = -2.5 * x[:, 0] * np.sqrt(x[:, 1]) / x[:, 2]
    found = monomial(x, y)
    assert found is not None and found[0] == pytest.approx(-2.5, rel=1e-12)
    assert found[1] == (1.0, 0.5, -1.0)
    assert monomial(x, y + 0.01 * x[:, 0] ** 2) is None
    assert powers_of(x, noisy(y, 0.01)) == found[1]
    assert monomial(x, np.abs(y)) is None


def test_inputs_that_do_nothing_are_named_and_weak_ones_are_not():
    x = rows((1, 3), (-1, 1), (0, 2), (1, 2), (-5, 5))
    y = x[:, 0] * np.exp(-x[:, 2])
    assert of_rows(irrelevant, x, y) == (1, 3, 4)
    assert of_rows(irrelevant, x, noisy(y, 0.01)) == (1, 3, 4)
    assert of_rows(irrelevant, x, y + 1e-5 * x[:, 1]) == (3, 4)
    assert of_rows(irrelevant, x, y + 1e-4 * x[:, 1] * x[:, 4]) == (3,)
    x[:, 3] = 7.0
    assert of_rows(irrelevant, x, y) == (1, 3, 4)


def test_a_law_that_no_surrogate_follows_loses_no_input():
    x = rows((0, 20), (0, 20), (0, 20))
    assert of_rows(irrelevant, x, np.sin(3 * x[:, 0] * x[:, 1]) + 0.1 * x[:, 2]) == ()


def test_powers_are_taken_out_of_laws_with_and_without_a_sign():
    x = rows((1, 4), (1, 4), (-1, 1), (-1, 1), (-2, 1))
    y = np.sqrt(x[:, 0] / x[:, 1]) * (x[:, 2] - x[:, 3]) * x[:, 4]
    for answers in (y, noisy(y, 0.01)):
        assert {(power_factor.i, power_factor.power) for power_factor in of_rows(power_factors, x, answers)} == {
            (0, 0.5),
            (1, -0.5),
            (4, 1.0),
        }
    z = rows((1, 3), (0.5, 2), (1, 2))
    assert {
        (power_factor.i, power_factor.power)
        for power_factor in of_rows(power_factors, z, z[:, 0] ** 2 * np.exp(-z[:, 1] / z[:, 2]))
    } == {(0, 2.0)}
    assert of_rows(power_factors, z, z[:, 0] + z[:, 1] * z[:, 2]) == ()


def test_a_power_that_is_no_simple_number_is_itself():
    x = rows((1, 4), (0, 2))
    (one,) = of_rows(power_factors, x, x[:, 0] ** 1.852 * (1 + np.sin(x[:, 1])))
    assert one.power == pytest.approx(1.852, abs=1e-6)


@pytest.mark.slow
@pytest.mark.extended
def test_sums_fall_apart_through_their_link_into_all_their_parts():
    x = rows((1, 3), (3, 6), (1, 4), (2, 5), (0, 2), (1, 4))
    parts = [x[:, 0] - x[:, 1], x[:, 2] - x[:, 3], x[:, 4] - x[:, 5]]
    y = np.sqrt(sum(part**2 for part in parts))
    for answers, tolerance in ((y, 1e-10), (noisy(y, 0.01), 0.05)):
        found = of_rows(separations, x, answers)[0]
        assert (found.link.name, found.kind) == ("square", "sum")
        assert found.parts == ((0, 1), (2, 3), (4, 5))
        for k, part in enumerate(parts):
            residual = found.values[:, k] - part**2
            assert (residual - residual.mean()).std() < tolerance * (part**2).std()


def test_products_fall_apart_with_changes_of_sign():
    x = rows((1, 5), (1, 5), (0.5, 2), (-2, 2), (1, 2))
    first, second = x[:, 0] - x[:, 1], x[:, 2] + x[:, 3] * x[:, 4]
    for answers, tolerance in ((first * second, 1e-8), (noisy(first * second, 0.01), 0.05)):
        found = of_rows(separations, x, answers)[0]
        assert (found.link.name, found.kind, found.parts) == ("identity", "product", ((0, 1), (2, 3, 4)))
        assert abs(np.corrcoef(found.values[:, 0], first)[0, 1]) > 1 - tolerance
        assert abs(np.corrcoef(found.values[:, 1], second)[0, 1]) > 1 - tolerance


def test_products_are_seen_through_a_link():
    x = rows((0, 0.99), (0, 1.5))
    found = of_rows(separations, x, np.arcsin(x[:, 0] * np.sin(x[:, 1])))[0]
    assert (found.link.name, found.kind, found.parts) == ("sin", "product", ((0,), (1,)))


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_law_in_one_piece_stays_in_one_piece(noise):
    x = rows((0.5, 2), (0.5, 2), (0.5, 2))
    y = noisy(np.exp(-x[:, 0] * x[:, 1]) + np.sin(x[:, 1] * x[:, 2]) + x[:, 0] * x[:, 2], noise)
    assert of_rows(separations, x, y) == ()
    assert of_rows(merges, x, y) == ()
    assert of_rows(power_factors, x, y) == ()
    assert of_rows(scalings, x, y) == ()


@pytest.mark.slow
def test_overlapping_sums_are_affine_in_the_input_that_they_do_not_share():
    x = rows((0.5, 2), (1, 3), (1, 3), (0, 1), (0.1, 1))
    y = x[:, 0] * (x[:, 1] - x[:, 3]) * (x[:, 2] - x[:, 3]) - x[:, 4] * x[:, 3] ** 2
    for answers in (y, noisy(y, 0.01)):
        one = next(found for found in of_rows(affine_inputs, x, answers) if found.i == 4)
        assert (one.inner, one.P_inputs, one.Q_inputs) == ("identity", (0, 1, 2, 3), (3,))
        assert np.corrcoef(one.values[:, 1], -(x[:, 3] ** 2))[0, 1] > 0.99
        if answers is y:
            assert np.allclose(one.values[:, 1], -(x[:, 3] ** 2), atol=1e-8)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("inner", list(INNER))
def test_an_input_may_enter_by_any_function_of_the_table(inner):
    x = rows((0.4, 3), (0.5, 2), (-1, 1))
    y = x[:, 1] ** 2 + INNER[inner](x[:, 0]) * x[:, 2] + x[:, 1] * x[:, 2]
    one = next(found for found in of_rows(affine_inputs, x, y) if found.i == 0)
    assert (one.inner, one.P_inputs, one.Q_inputs) == (inner, (1, 2), (2,))


@pytest.mark.slow
def test_straight_lines_in_some_inputs_leave_more_terms_for_the_others():
    x = rows((5, 10), (1, 2), (3, 20), (1, 2))
    y = (x[:, 0] - x[:, 1] * x[:, 3]) / np.sqrt(1 - (x[:, 1] / x[:, 2]) ** 2)
    plain = next(one for one in surrogates(x, y) if one.link.name == "identity")
    sharp = sharpen(x, y, plain)
    assert sharp.straight == (0, 3) and sharp.error < 0.05 * plain.error
    fresh = rows((5, 10), (1, 2), (4, 20), (1, 2))[::-1]
    law = (fresh[:, 0] - fresh[:, 1] * fresh[:, 3]) / np.sqrt(1 - (fresh[:, 1] / fresh[:, 2]) ** 2)
    assert np.abs(sharp.value(fresh) - law).mean() < 0.1 * np.abs(plain.value(fresh) - law).mean()
    bent = np.exp(x[:, 0] / 5) * np.cos(3 * x[:, 1]) * x[:, 2] ** 2 * np.sqrt(x[:, 3]) + np.sin(x.sum(axis=1))
    known = surrogates(x, bent)[0]
    assert sharpen(x, bent, known) is known


def test_inputs_that_enter_by_any_one_function_are_merged():
    x = rows((0.5, 2), (0.5, 2), (0.5, 2))
    z = x[:, 0] ** 2 + np.exp(x[:, 1])
    found = next(
        merge for merge in of_rows(merges, x, np.sin(z / 4) * x[:, 2] + x[:, 2] ** 2) if merge.inputs == (0, 1)
    )
    assert (found.kind, found.beta) == ("general", None)
    order = np.argsort(z)
    assert np.all(np.abs(np.corrcoef(found.values[order], z[order])) > 0.99)


def test_a_law_is_reduced_to_the_groups_that_its_hidden_units_leave():
    x = rows((1, 2), (1, 3), (1, 3), (1, 3), (1, 2))
    y = x[:, 0] * x[:, 4] * np.tanh(x[:, 1] * x[:, 2] / x[:, 3])
    for answers in (y, noisy(y, 0.01)):
        found = of_rows(scalings, x, answers)[0]
        assert [int(power) for power in found.powers] == [1, 0, 0, 0, 1]
        assert found.groups == ((0, 1, 1, -1, 0),)
    planck = rows((0.5, 6), (0.5, 2))
    one, *_ = of_rows(scalings, planck, planck[:, 0] ** 3 / (np.exp(planck[:, 0] / planck[:, 1]) - 1))
    assert sorted(int(power) for power in one.powers) == [0, 3] and one.groups == ((1, -1),)
    assert np.allclose(one.values[:, 0], planck[:, 0] / planck[:, 1])


@pytest.mark.parametrize(
    ("functions", "law"),
    [
        (("identity", "cos"), lambda a, b: np.cos(b) + np.sqrt(a**2 - np.sin(b) ** 2)),
        (("identity", "identity"), lambda a, b: (b + np.sqrt(b**2 + 4.8 * a)) / (2 * a)),
        (("identity", "identity"), lambda a, b: -a + np.sqrt(a**2 + a * b)),
    ],
)
def test_a_root_of_a_quadratic_equation_has_its_polynomials(functions, law):
    x, fresh = rows((1.2, 4), (0.2, 1.4)), rows((1.2, 4), (0.2, 1.4), seed=3)
    found = quadratic_root(x, law(*x.T))
    assert found is not None and found.functions == functions
    np.testing.assert_allclose(found(fresh), law(*fresh.T), rtol=1e-8)


def test_other_laws_are_no_root_of_a_quadratic_equation():
    x = rows((1.2, 4), (0.2, 1.4))
    assert quadratic_root(x, np.exp(-x[:, 0] * x[:, 1])) is None
    assert quadratic_root(x, noisy(np.sqrt(x[:, 0] + x[:, 1]), 1e-6)) is None


def test_exponentials_that_have_no_square_and_columns_of_zeros_are_no_root_of_a_quadratic_equation():
    x = rows((0.01, 0.5), (280, 700))  # temperatures
    assert quadratic_root(x, 31.7 * x[:, 0] * (1 - 0.00173 * (x[:, 1] - 298)) - 21.4 * x[:, 0] ** 1.5) is None
    assert quadratic_root(x, np.where(np.arange(len(x)) == 1, 1.0, 0.0)) is None
