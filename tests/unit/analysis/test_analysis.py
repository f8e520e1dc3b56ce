"""KAN 2.0's questions, asked of laws whose answers are known, and of networks trained on noisy rows."""

import functools
import re
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.analysis.symmetries import ANY, KINDS, LINEAR, POWER
from kanserve.errors import DataError, InputError
from kanserve.network.kan import Kan, Variable, make_layer
from tests.support.paths import DOCS


def law(text, **ranges):
    return kanserve.from_formula(text, inputs=list(ranges), ranges=ranges)


UNIT, POSITIVE = (-1.0, 1.0), (1.0, 2.0)


@pytest.mark.parametrize(
    ("kan", "terms", "factors"),
    [
        (law("x*y + z", x=UNIT, y=UNIT, z=UNIT), [("x", "y"), ("z",)], [("x", "y", "z")]),
        (law("exp(x + 2*y)", x=UNIT, y=UNIT), [("x", "y")], [("x",), ("y",)]),
        (law("(x^2 + y^2)*z", x=UNIT, y=UNIT, z=UNIT), [("x", "y", "z")], [("x", "y"), ("z",)]),
        (law("sin(x) + y^2 - 3*z", x=UNIT, y=UNIT, z=UNIT), [("x",), ("y",), ("z",)], [("x", "y", "z")]),
        (law("a*c + b*d", a=UNIT, b=UNIT, c=UNIT, d=UNIT), [("a", "c"), ("b", "d")], [("a", "b", "c", "d")]),
        (law("x*sin(y) + 0*u", x=UNIT, y=UNIT, u=UNIT), [("x", "y")], [("x",), ("y",)]),
        (law("sin(x*y*z)", x=UNIT, y=UNIT, z=POSITIVE), [("x", "y", "z")], [("x", "y", "z")]),
    ],
)
def test_sums_and_products_fall_into_the_parts_that_they_have(kan, terms, factors):
    found = kanserve.separability(kan)
    assert list(found.terms) == terms and list(found.factors) == factors


def test_what_separates_has_no_share_and_what_does_not_has_that_of_its_interaction():
    found = kanserve.separability(law("3*x*y + z", x=UNIT, y=UNIT, z=UNIT))
    assert np.nanmax(found.additive[2]) == 0
    assert found.additive[0, 1] == pytest.approx(9 / 9 / (9 / 9 + 1 / 3), rel=0.1)  # of 9·x²y² and z²
    exact = kanserve.separability(law("exp(x + 2*y)*z^2", x=UNIT, y=UNIT, z=POSITIVE))
    assert np.nanmax(exact.multiplicative) < 1e-25 and np.nanmin(exact.additive) > 0.01
    assert str(exact).endswith("of its variance") and "y = f1(x)·f2(y)·f3(z), but for" in str(exact)
    assert "it does not depend on u" in str(kanserve.separability(law("x + 0*u", x=UNIT, u=UNIT)))


@pytest.mark.parametrize(
    ("kan", "wanted"),
    [
        (law("sin(x - y) + z", x=UNIT, y=UNIT, z=UNIT), {"x - y"}),
        (law("exp(x + y)*z", x=UNIT, y=UNIT, z=POSITIVE), {"x + y", "h(x, z)", "h(y, z)"}),
        (law("sin(x + 3*y) + z^2*w", x=UNIT, y=UNIT, z=POSITIVE, w=POSITIVE), {"x + 3*y", "z*w^0.5"}),
        (law("cos(x*y) + z", x=UNIT, y=UNIT, z=UNIT), {"x*y"}),
        (law("log(x/y + 1) + z", x=POSITIVE, y=POSITIVE, z=UNIT), {"x/y"}),
        (law("sqrt(x^2 + y^2 + z)", x=UNIT, y=UNIT, z=POSITIVE), {"x^2 + y^2", "h(x, z)", "h(y, z)"}),
        (law("tanh(x^2*y - y^3 + x)*z", x=UNIT, y=UNIT, z=POSITIVE), {"h(x, y)"}),
    ],
)  # fmt: skip
def test_each_symmetry_is_found_and_no_other(kan, wanted):
    found = kanserve.symmetry(kan)
    assert {text for text, _ in found.found} == wanted
    assert all(score > 0.9999 for _, score in found.found)


def test_scores_are_from_0_to_1_and_missing_where_an_input_is_not_used():
    found = kanserve.symmetry(law("x*y^2 + sin(3*z) + 0*u", x=POSITIVE, y=POSITIVE, z=UNIT, u=UNIT))
    for kind in KINDS:
        scores = found.scores[kind]
        fine = scores[:3, :3][~np.eye(3, dtype=bool)]
        assert ((fine >= 0) & (fine <= 1)).all() and np.isnan(scores[3]).all()
    assert found.scores[POWER][0, 1] == pytest.approx(1) and found.constants[POWER][0, 1] == pytest.approx(2)
    assert found.scores[ANY][0, 1] == pytest.approx(1) and found.scores[LINEAR][0, 1] < 0.99
    two = kanserve.symmetry(law("x*y", x=POSITIVE, y=POSITIVE))
    assert np.isnan(two.scores[ANY]).all()  # any function of two inputs is one of some h


def test_shares_of_variance_are_those_of_the_analysis_of_variance():
    # x·y + z with x in [0, 1], y in [0, 2], z in [0, 1]: the parts are x - 1/2, (y - 1)/2, their product, and z.
    found = kanserve.interactions(law("x*y + z", x=(0, 1), y=(0, 2), z=(0, 1)), draws=20_000)
    x, y, xy, z = 1 / 12, 1 / 12, 1 / 36, 1 / 12
    whole = x + y + xy + z
    np.testing.assert_allclose(found.first, np.array([x, y, z]) / whole, atol=0.03)
    np.testing.assert_allclose(found.total, np.array([x + xy, y + xy, z]) / whole, atol=0.015)
    assert found.pairs[0, 1] == pytest.approx(xy / whole, abs=3 * found.pair_errors[0, 1] + 1e-3)
    assert found.pairs[0, 2] < 1e-25 and found.pairs[1, 2] < 1e-25
    assert "x with y: 0." in str(found) and "x with z" not in str(found)


def test_inputs_of_the_data_are_taken_apart_before_interactions_are_measured():
    x = np.random.default_rng(0).uniform(0, 1, 500)
    together = np.stack([x, x], axis=1)
    found = kanserve.interactions(law("x + y", x=(0, 1), y=(0, 1)), together)
    assert found.pairs[0, 1] < 1e-25
    np.testing.assert_allclose(found.total, [0.5, 0.5], atol=0.05)


@functools.cache
def trained():
    """A network that has learned x·y + sin(2z) from rows with noise, and those rows."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (800, 3))
    y = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + 0.02 * rng.normal(size=800)
    data = kanserve.Dataset(x, y, inputs=("x", "y", "z"))
    return kanserve.fit([3, 4, 1], data, seed=0), data


@pytest.mark.slow
def test_a_network_trained_on_noise_is_seen_through():
    kan, data = trained()
    found = kanserve.separability(kan, data, tolerance=0.01)
    assert found.terms == (("x", "y"), ("z",)) and found.factors == (("x", "y", "z"),)
    assert kanserve.symmetry(kan, data, tolerance=0.95).scores["{u}*{v}"][0, 1] > 0.95
    shares = kanserve.interactions(kan, data)
    assert shares.pairs[0, 1] == pytest.approx(0.15, abs=0.03) and shares.pairs[0, 2] < 0.003
    assert shares.first[2] == pytest.approx(0.83, abs=0.05)


def test_a_hidden_unit_is_told_by_its_formula_its_inputs_and_what_it_is_like():
    kan = law("sin(x*y) + exp(z)", x=(0.5, 2), y=POSITIVE, z=(0, 1))
    units = [kanserve.meaning(kan, 1, node) for node in range(kan.layers[0].nodes)]
    (product,) = (unit for unit in units if unit.shares[0] > 0.01)
    assert product.formula is not None and product.formula.text == "x*y"
    assert product.expressions[0].text == "x*y" and product.expressions[0].r2 == pytest.approx(1)
    assert product.shares.sum() == pytest.approx(1) and product.shares[2] == 0
    assert product.values[product.highest[0]] == product.values.max()
    assert product.values[product.lowest[0]] == product.values.min()
    assert str(product).startswith("h") and "it is like x*y (R² 1.0000)" in str(product)
    assert kanserve.meaning(kan, 2, 0).unit == "y"


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("3*x - 1", "x"),
        ("x^2", "x^2"),
        ("x/y + 2", "x/y"),
        ("x - y", "x - y"),
        ("2*x + y", "x + 0.5*y"),
        ("x^2 + y^2", "x^2 + y^2"),
        ("x^1.5*y^2", "x^1.5*y^2"),
    ],
)
def test_the_nearest_simple_expression_is_the_law_itself(text, like):
    kan = law(text, x=POSITIVE, y=POSITIVE)
    found = kanserve.meaning(kan, len(kan.layers), 0).expressions[0]
    assert (found.text, round(found.r2, 9)) == (like, 1)


def test_a_unit_of_splines_is_like_what_it_has_learned():
    kan, data = trained()
    sums = [kanserve.meaning(kan, 1, node, data) for node in range(4)]
    assert all(total.formula is not None and not total.formula.closed_form for total in sums)
    assert all("driven by" in str(total) and total.shares.sum() == pytest.approx(1) for total in sums)
    assert max(total.expressions[0].r2 for total in sums) > 0.95


def test_constants_and_units_that_do_not_exist_are_answered():
    flat = Kan((make_layer(shape=(1, 2), node_bias=[2.5]),))
    assert "nothing: it is constant" in str(kanserve.meaning(flat, 1, 0))
    assert kanserve.separability(flat).terms == () and "none of these" in str(kanserve.symmetry(flat))
    assert kanserve.interactions(flat).total.tolist() == [0, 0]
    with pytest.raises(InputError, match="layers 1 to 1"):
        kanserve.meaning(flat, 2, 0)
    with pytest.raises(InputError, match="outputs y"):
        kanserve.separability(flat, output="z")
    with pytest.raises(DataError, match="inputs, 1: x; got 3"):
        kanserve.separability(law("x^2", x=UNIT), np.ones((20, 3)))
    wrong: list[Any] = [0, 1, -1e-3, 2.0, float("nan"), "small", None]
    for tolerance in wrong:
        for question in (kanserve.separability, kanserve.symmetry):
            with pytest.raises(InputError, match="between 0 and 1"):
                question(law("x^2", x=UNIT), tolerance=tolerance)
    with pytest.raises(DataError, match="Ten"):
        kanserve.symmetry(law("log(x)", x=(1, 2)), -np.ones((20, 1)))


def test_an_input_that_acts_in_steps_is_in_no_part_and_not_said_to_do_nothing():
    found = kanserve.separability(law("abs(x)*sign(y) + z^2 + 0*u", x=UNIT, y=UNIT, z=UNIT, u=UNIT))
    assert found.piecewise.tolist() == [False, True, False, False] and found.terms == (("x",), ("z",))
    said = str(found)
    assert "f1(x) + f2(z) for each y" in said and "y is piecewise in y" in said and "depend on u" in said
    assert "is no" not in str(kanserve.separability(law("abs(x)*sign(y)", x=UNIT, y=UNIT)))


def test_each_of_several_outputs_is_asked_by_its_name():
    kan = kanserve.from_formula({"s": "x + y", "p": "x*y"}, ranges={"x": UNIT, "y": UNIT})
    assert kanserve.separability(kan, output="s").terms == (("x",), ("y",))
    assert kanserve.separability(kan, output="p").factors == (("x",), ("y",))
    assert kanserve.interactions(kan, output=1).output == "p"


def save(axes, path):
    axes.figure.savefig(path)


@pytest.mark.slow
@pytest.mark.extended
def test_every_answer_has_a_picture_with_its_numbers(tmp_path):
    kan, _ = trained()
    shares = kanserve.interactions(kan)
    plots = (
        kanserve.separability(kan).plot(),
        kanserve.symmetry(kan).plot(),
        shares.plot(),
        kanserve.meaning(kan, 1, 0).plot(),
    )
    for number, axes in enumerate(plots):
        save(axes, tmp_path / f"{number}.png")
        assert axes.get_title() and (tmp_path / f"{number}.png").stat().st_size > 3000
    assert f"{shares.first[2]:.3f}" in [text.get_text() for text in plots[2].texts]
    hostile = Kan(kan.layers, inputs=(Variable("$\\frac{"), Variable("b" * 80), Variable("c")))
    save(kanserve.separability(hostile).plot(), tmp_path / "hostile.png")


@pytest.mark.slow
def test_the_example_of_the_documentation_runs_and_finds_what_it_says(capsys):
    text = (DOCS / "questions.md").read_text()
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})  # type: ignore[index]  # our own page
    said = capsys.readouterr().out
    for line in ("f1(x, y)·f2(z)", "y depends on x^2 + y^2", "x with z: 0.02", "h1 is driven by"):
        assert line in said and line in text


def test_a_network_that_is_finite_nowhere_is_refused():
    kan = kanserve.from_formula("log(x)", ranges={"x": (-2, -1)})
    with pytest.raises(DataError, match="finite on none of the rows"):
        kanserve.interactions(kan)
