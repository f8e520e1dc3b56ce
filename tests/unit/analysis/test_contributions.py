"""Contributions beside Shapley values by their definition: the mean over all orders, by the reference evaluation."""

import functools
import itertools

import numpy as np
import pytest

import kanserve
from kanserve.analysis.contributions import bars
from kanserve.errors import DataError, InputError
from kanserve.network import shapley_values
from kanserve.network.evaluate import activations
from kanserve.network.shapley_values import center_scores, meeting_inputs
from tests.support.networks.kans import ZOO

SMALL = [name for name, make in ZOO.items() if len(make().inputs) <= 4 and name != "domains"]


def by_all_orders(kan, x, background):
    """The Shapley values (Q, I) of one row: the mean over all orders, each over all background rows."""

    @functools.cache
    def value(inside):
        rows = np.where([i in inside for i in range(len(x))], x, background)
        return center_scores(kan, kan(rows)).mean(axis=0)

    orders = list(itertools.permutations(range(len(x))))
    found = np.zeros((len(value(frozenset())), len(x)))
    for order in orders:
        for n, i in enumerate(order):
            found[:, i] += value(frozenset(order[: n + 1])) - value(frozenset(order[:n]))
    return found / len(orders)


def drawn(kan, count, seed):
    return np.asarray(kanserve.network.training_range.finite_rows(kan, count, seed))


@pytest.mark.parametrize("name", SMALL)
def test_contributions_are_shapley_values_and_add_up_to_the_prediction(name):
    kan = ZOO[name]()
    x, background = drawn(kan, 2, 1), drawn(kan, 15, 2)
    found = kan.explain(x, background)
    for row in range(len(x)):
        np.testing.assert_allclose(found.values[row], by_all_orders(kan, x[row], background), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.predictions, center_scores(kan, kan(x)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.base, center_scores(kan, kan(background)).mean(axis=0), rtol=1e-12, atol=1e-12)
    assert not found.errors.any()


def test_four_inputs_in_a_deep_network_with_five_hidden_nodes():
    kan = kanserve.create([4, 5, 2, 1], seed=3)
    x, background = np.random.default_rng(0).uniform(-1, 1, (2, 20, 4))
    np.testing.assert_allclose(
        kan.explain(x[:1], background).values[0], by_all_orders(kan, x[0], background), atol=1e-12
    )


def test_inputs_of_an_additive_network_contribute_their_curves_without_the_means():
    ranges = dict.fromkeys("xyz", (0.0, 2.0))
    kan = kanserve.from_formula("sin(x) + exp(y) - 2*z", ranges=ranges)
    background = np.random.default_rng(0).uniform(0, 2, (300, 3))
    found = kan.explain([[1.0, 2.0, 0.5]], background)
    curves = np.stack([np.sin(background[:, 0]), np.exp(background[:, 1]), -2 * background[:, 2]])
    np.testing.assert_allclose(found.values[0, 0], [np.sin(1), np.exp(2), -1] - curves.mean(axis=1), atol=1e-12)


@pytest.mark.parametrize(
    ("law", "groups"),
    [
        ("x*y + z", ((0, 1), (2,))),
        ("x + y + z", ((0,), (1,), (2,))),
        ("sin(x + y)*z", ((0, 1, 2),)),
        ("exp(x*z) + log(y + 3)", ((0, 2), (1,))),
        ("x^2 + 0*y + 0*z", ((0,),)),
    ],
)
def test_inputs_are_grouped_by_the_functions_in_which_they_meet(law, groups):
    kan = kanserve.from_formula(law, inputs=list("xyz"), ranges=dict.fromkeys("xyz", (-1.0, 1.0)))
    assert meeting_inputs(kan) == groups


def test_random_orders_are_right_within_their_errors_and_exact_for_pairs(monkeypatch):
    product = kanserve.from_formula("x*y + y*z", ranges=dict.fromkeys("xyz", (0.0, 1.0)))
    kan = kanserve.create([5, 3, 1], seed=1)
    x, background = np.random.default_rng(0).uniform(-1, 1, (2, 40, 5))
    exact = [
        one.explain(rows[:3], data)
        for one, rows, data in ((product, x[:, :3], background[:, :3]), (kan, x, background))
    ]
    monkeypatch.setattr(shapley_values, "MOST_EXACT", 1)
    of_pairs = product.explain(x[:3, :3], background[:, :3])
    np.testing.assert_allclose(of_pairs.values, exact[0].values, atol=1e-12)
    sampled = kan.explain(x[:3], background)
    assert (sampled.errors > 0).all()
    assert (np.abs(sampled.values - exact[1].values) < 5 * sampled.errors).all()
    np.testing.assert_allclose(sampled.predictions, kan(x[:3]), atol=1e-12)


def test_weights_of_background_rows_count():
    kan = kanserve.from_formula("x^2", ranges={"x": (0, 3)})
    data = kanserve.Dataset([[0.0], [1.0], [3.0]], [[0.0], [1.0], [9.0]], weights=[1.0, 2.0, 0.0])
    twice = kan.explain([[2.0]], data)
    assert twice.base[0] == pytest.approx(2 / 3, abs=1e-3)


def test_a_row_outside_the_domain_has_none_and_says_so():
    kan = kanserve.from_formula("log(x) + y", ranges={"x": (1, 2), "y": (0, 1)})
    found = kan.explain([[-1.0, 0.5], [1.5, 0.5]])
    assert np.isnan(found.values[0]).all() and np.isfinite(found.values[1]).all()
    assert str(found).startswith("y = nan: ")
    with pytest.raises(DataError, match="finite on none of the background rows"):
        kan.explain([[1.0, 0.5]], [[-1.0, 0.0]])


def test_a_row_that_overflows_where_its_prediction_does_not_has_none():
    kan = kanserve.from_formula("x*y", ranges={"x": (0, 1), "y": (0, 1)})
    found = kan.explain([[1e307, 1.0], [1.0, 1.0]])  # the sum of the outputs for 1000 background rows is infinite
    assert np.isfinite(kan([[1e307, 1.0]])).all()
    assert np.isnan(found.values[0]).all() and np.isfinite(found.values[1]).all()


def test_texts_name_categories_missing_values_and_what_of_a_classifier_is_explained():
    kan = ZOO["categories"]()
    text = str(kan.explain([[1.0, np.inf, 0.0, 0.0], [9.0, 0.5, 0.0, np.nan]]))
    assert "colour = unknown" in text and "only = missing" in text
    three = ZOO["classifier"]()
    assert three.explain(drawn(three, 1, 0)).outputs == tuple(f"score of {name}" for name in three.classes)
    two = ZOO["missing_values"]()
    assert two.explain(drawn(two, 5, 0)).outputs == ("log-odds of yes",)
    assert str(two.explain(drawn(two, 5, 0))).endswith("and 2 more rows")


def test_the_picture_has_a_bar_for_each_input_and_wrong_rows_are_refused():
    found = kanserve.create([14, 1], seed=0).explain(np.zeros((1, 14)))
    assert len(bars(found, 0, 0)) == 13 and bars(found, 0, 0)[-1].label == "2 more inputs"
    axes = found.plot(output="y", theme="light")
    words = [text.get_text() for text in axes.texts]
    assert "on average" in words and any(word.startswith("2 more") for word in words)
    with pytest.raises(InputError, match="rows 0 to 0"):
        found.plot(3)
    with pytest.raises(InputError, match="What is explained is y"):
        found.plot(output="z")


def test_of_very_many_background_rows_some_are_taken_by_their_weights(monkeypatch):
    sizes: list[int] = []

    def counted(kan, rows):
        sizes.append(len(rows))
        return activations(kan, rows)

    monkeypatch.setattr("kanserve.network.shapley_values.activations", counted)
    kan = kanserve.from_formula("x^2", ranges={"x": (0, 1)})
    x = np.random.default_rng(0).uniform(0, 1, (100_000, 1))
    assert np.isclose(kan.explain([[1.0]], x).base[0], 1 / 3, atol=0.01)
    weighted = kanserve.Dataset(x, x, weights=x[:, 0])
    assert np.isclose(kan.explain([[1.0]], weighted).base[0], 1 / 2, atol=0.01)  # the mean of x^3 over that of x
    assert max(sizes) <= 8000
