"""The report: what it says of scores, effects and rows, and that it is one file of its own."""

import re
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import kanserve
from kanserve.analysis.report_page import area_under_roc, straight_line_errors
from kanserve.analysis.shapes import Shapes
from kanserve.errors import DataError
from kanserve.network.importances import input_importances
from tests.support.networks.kans import ZOO, with_codes

RANGES = dict.fromkeys("abc", (0.0, 1.0))
X = np.random.default_rng(0).uniform(size=(300, 3))


def samples(kan, x):
    """Samples with the answers of the network, without rows on which it is not finite."""
    answers = kan(x)
    fine = np.isfinite(answers).all(axis=1)
    if kan.classes:
        return kanserve.Dataset(x[fine], np.eye(len(kan.classes))[answers[fine].argmax(axis=1)], classes=kan.classes)
    return kanserve.Dataset(x[fine], answers[fine], outputs=[one.name for one in kan.outputs])


def test_effects_of_an_additive_network_are_its_curves_and_no_pair_acts_together():
    kan = kanserve.from_formula("sin(6*a) + 2*b^2 + 0*c", ranges=RANGES)
    shapes = Shapes(kan, samples(kan, X))
    shape = shapes.of(0, 0, 0.5)
    curve = np.sin(6 * shape.values)
    np.testing.assert_allclose(shape.effect - shape.effect[0], curve - curve[0], atol=1e-9)
    np.testing.assert_allclose(shape.spread, [shape.effect] * 2, atol=1e-9)
    np.testing.assert_allclose(shape.seen[1], np.interp(shape.seen[0], shape.values, shape.effect), atol=0.1)
    assert shapes.pairs(np.array([0.5, 0.5, 0.0]), 0, 3, 0.0) == []


def test_what_two_inputs_do_together_is_mapped_with_its_share():
    kan = kanserve.from_formula("a*b + c", ranges=RANGES)
    data = samples(kan, X)
    shapes = Shapes(kan, data)
    (pair,) = shapes.pairs(input_importances(kan, data.x), 0, 3, 0.001)
    assert set(pair.names) == {"a", "b"}
    assert pair.share == pytest.approx((1 / 12) ** 2 / kan(X).var(), rel=0.3)
    assert pair.effects[0, 0] > 0.1 and pair.effects[0, -1] < -0.1
    spread = shapes.of(0, 0, 0.3).spread
    assert (spread[1] - spread[0]).max() > 0.2


def test_the_band_of_a_mean_is_between_its_networks_and_one_network_has_none():
    each = [kanserve.from_formula(f"{factor}*a + b^2 + 0*c", ranges=RANGES) for factor in (1, 2, 4)]
    mean = replace(kanserve.from_formula("7*a/3 + b^2 + 0*c", ranges=RANGES), members=tuple(each))
    data = samples(mean, X)
    shape = Shapes(mean, data).of(0, 0, 0.5)
    assert shape.members is not None
    slopes = (shape.members[:, -1] - shape.members[:, 0]) / (shape.values[-1] - shape.values[0])
    np.testing.assert_allclose(np.sort(np.abs(shape.members[:, 0] / (shape.values[0] - 0.5))), [1, 4], rtol=0.1)
    assert (slopes != 0).all() and "of the 3 networks whose mean" in kanserve.report(mean, data)
    assert "The networks lie at most 1." in kanserve.report(mean, data)  # a, 1 to 4 of it over a range of .98, halved
    assert Shapes(each[0], samples(each[0], X)).of(0, 0, 0.5).members is None
    assert "no band of uncertainty" in kanserve.report(each[0], samples(each[0], X))


@pytest.mark.parametrize("name", ["mixed", "categories", "missing_values", "classifier", "log_link", "hostile_names"])
def test_the_page_is_one_file_whose_pictures_can_be_read(name):
    kan = ZOO[name]()
    data = samples(kan, with_codes(kan, np.random.default_rng(1).uniform(-1, 1, (60, len(kan.inputs)))))
    page = kanserve.report(kan, data)
    assert page.startswith("<!doctype html>") and "Effects of the inputs" in page
    assert "<script" not in page and not re.search(r"<[a-z]+ [^>]*(?:src|href)=\"(?!data:)", page)
    for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(picture)


def test_rows_that_were_fitted_and_codes_for_missing_values_are_said():
    x = X.copy()
    x[:5, 2] = -999.0
    data = kanserve.Dataset(x, X[:, 0] * X[:, 1], ("a", "b", "c"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kan = kanserve.fit([3, 1], data, starts=1)
    page = kanserve.report(kan, data)
    assert "was fitted to 100% of these rows" in page and "code for missing values" in page
    unseen = kanserve.Dataset(X + 0.5, X[:, 0], ("a", "b", "c"))
    assert "has not seen these rows" in (page := kanserve.report(kan, unseen)) and "outside the range" in page
    assert "is unknown" in kanserve.report(kanserve.from_formula("a + b + 0*c", ranges=RANGES), unseen)


def test_samples_without_a_finite_prediction_are_refused():
    kan = kanserve.from_formula("log(a)", ranges={"a": (1, 2)})
    with pytest.raises(DataError, match="finite on none of the rows"):
        kanserve.report(kan, ([[-1.0], [-2.0]], [0.0, 1.0]))


def test_straight_lines_on_left_out_rows_are_what_a_reader_compares_with():
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.normal(size=400), rng.integers(0, 3, 400)])
    x[:40, 0] = np.nan
    y = np.where(np.isnan(x[:, 0]), 3, 2 * x[:, 0]) + np.array([0, 5, 1])[x[:, 1].astype(int)] + rng.normal(0, 0.5, 400)
    data = kanserve.Dataset(x, y, ("size", "kind"), ("price",), categories={"kind": ("a", "b", "c")})
    (error,) = straight_line_errors(data) or []
    assert error == pytest.approx(0.5, rel=0.1)
    assert straight_line_errors(data.take(np.arange(5))) is None


def test_the_area_under_the_curve_is_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    scores, belongs = rng.integers(0, 9, 200) / 8, rng.random(200) < 0.3
    assert area_under_roc(scores, belongs) == pytest.approx(roc_auc_score(belongs, scores), rel=1e-12)
    assert np.isnan(area_under_roc(scores, np.ones(200, bool)))


def test_rows_of_one_class_taken_for_another_are_counted():
    x = X[:40, :1]
    data = kanserve.Dataset(x, np.where(x[:, 0] > 0.5, "high", "low"), ("a",))
    kan = kanserve.fit([1, 2], data, grid=(3,), starts=1)
    wrong = replace(data, y=data.y[:, ::-1])
    page = re.sub(r"<[^>]+>", " ", kanserve.report(kan, wrong))
    low, high = (int((data.y[:, q] == 1).sum()) for q in (1, 0))
    assert re.search(rf"high\s+0\s+{high}\s+0\.000", page) and re.search(rf"low\s+{low}\s+0\s+0\.000", page)


def test_where_predictions_are_off_is_said_and_nowhere_if_they_are_right():
    kan = kanserve.from_formula("a + b", ranges={"a": (0, 1), "b": (0, 1)})
    noise = np.random.default_rng(3).normal(0, 0.1, 300)
    right = kanserve.Dataset(X[:, :2], X[:, 0] + X[:, 1] + noise, ("a", "b"), kan.outputs[0].name)
    assert "than chance explains" in kanserve.report(kan, right)
    bent = replace(right, y=right.y + (X[:, :1] > 0.9))
    page = kanserve.report(kan, bent)
    assert re.search(r"a from 0\.9\d* to 0\.99\d*: answers are (0\.9|1)\d*\.?\d* ± 0\.0\d above the predictions", page)
    assert "than chance explains" not in page
