"""KANRegressor and KANClassifier: what they learn, keep and refuse."""

import io
import pickle
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import kanserve
from kanserve import KANClassifier, KANRegressor
from kanserve.network.evaluate import evaluate, probabilities
from kanserve.simplification.architecture_search import discover


def rows(count=80, seed=0):
    """x1 in (-1, 1), x2 in (10, 30): y needs both, neither is scaled."""
    random = np.random.default_rng(seed)
    x = np.column_stack([random.uniform(-1, 1, count), random.uniform(10, 30, count)])
    return x, np.sin(np.pi * x[:, 0]) + (x[:, 1] / 20) ** 2


def labelled(count=80, names=("low", "high")):
    x, y = rows(count)
    return x, np.array(names, dtype=object)[(y > np.median(y)).astype(int)]


QUICK: dict[str, Any] = {"hidden": (2,), "grid": 5, "starts": 2, "noise_free": True, "random_state": 0}


def test_a_prediction_is_what_the_network_means_and_a_fit_is_what_fit_gives():
    x, y = rows()
    fitted = KANRegressor(**QUICK).fit(x, y)
    np.testing.assert_array_equal(fitted.predict(x), evaluate(fitted.kan_, x)[:, 0])
    assert fitted.score(*rows(seed=1)) > 0.999
    order = np.lexsort(x.T[::-1])
    same = kanserve.fit([2, 2, 1], (x[order], y[order]), grid=(3, 5), starts=2, noise_free=True, seed=0)
    assert kanserve.equal(fitted.kan_, same)


def test_a_long_table_is_predicted_in_parts_and_gives_the_same(monkeypatch):
    x, y = rows()
    fitted = KANRegressor(**QUICK).fit(x, y)
    whole = fitted.predict(x)
    monkeypatch.setattr("kanserve.estimator.few_rows.MOST_NUMBERS", 4 * 7)
    np.testing.assert_allclose(fitted.predict(x), whole, rtol=1e-13)


def test_several_outputs_are_learned_together_and_keep_their_shape():
    x, y = rows()
    both = np.column_stack([y, x[:, 0] ** 2])
    fitted = KANRegressor(**{**QUICK, "hidden": (4,)}).fit(x, both)
    assert fitted.predict(x).shape == both.shape and fitted.score(x, both) > 0.99
    assert len(fitted.kan_.outputs) == 2


def test_a_constant_answer_is_predicted_and_no_column_is_important():
    x, _ = rows()
    fitted = KANRegressor(**QUICK).fit(x, np.full(len(x), 7.5))
    np.testing.assert_array_equal(fitted.predict(x), 7.5)
    np.testing.assert_array_equal(fitted.feature_importances_, [0, 0])


def test_importances_add_up_to_one_and_a_column_of_noise_has_least():
    x, y = rows(200)
    noise = np.random.default_rng(5).normal(size=(200, 1))
    fitted = KANRegressor(**QUICK).fit(np.hstack([x, noise]), y)
    assert fitted.feature_importances_.sum() == pytest.approx(1)
    assert fitted.feature_importances_.argmin() == 2 and fitted.feature_importances_[2] < 0.1


@pytest.mark.parametrize(
    ("law", "low", "high"),
    [
        (lambda a, b: a * b, (-1.0, 0.9), (1.0, 1.1)),
        (lambda area, rooms, year: area**0.75 * rooms**0.12 * year**4.5, (40.0, 1.0, 1900.0), (200.0, 7.0, 2020.0)),
    ],
)
def test_importances_of_a_product_are_those_of_permutation(law, low, high):
    x = np.random.default_rng(0).uniform(low, high, (300, len(low)))
    y = law(*x.T)
    fitted = KANRegressor(**QUICK).fit(x, y)
    permuted = permutation_importance(fitted, x, y, n_repeats=10, random_state=0).importances_mean
    assert fitted.feature_importances_ == pytest.approx(permuted / permuted.sum(), abs=0.05)


def test_importances_of_a_classifier_are_of_its_probabilities_and_count_the_weights():
    x = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    labels = np.where(x[:, 0] > 0, "a", np.where(x[:, 1] > 0, "b", "c"))
    weights = np.where(x[:, 0] > 0, 1e-3, 1.0)
    options: dict[str, Any] = {"hidden": (), "grid": 3, "starts": 1, "random_state": 0}
    plain = KANClassifier(**options).fit(x, labels).feature_importances_
    weighted = KANClassifier(**options).fit(x, labels, weights).feature_importances_
    assert plain[0] > plain[1] and weighted[1] > 0.9


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("names", [(0, 7), (False, True), (1.0, 3.0), ("no", "yes")])
def test_labels_of_any_kind_come_back_with_their_probabilities(names):
    x, y = labelled(names=names)
    y = y.astype(type(names[0]))
    fitted = KANClassifier(random_state=0, steps=30).fit(x, y)
    assert fitted.classes_.tolist() == sorted(names) and fitted.classes_.dtype == y.dtype
    assert fitted.predict(x).dtype == y.dtype and fitted.score(x, y) > 0.9
    found = fitted.predict_proba(x)
    np.testing.assert_array_equal(found, probabilities(fitted.kan_, x))
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(x)), found, rtol=1e-12)
    np.testing.assert_array_equal(fitted.decision_function(x) > 0, fitted.predict(x) == names[1])


@pytest.mark.slow
@pytest.mark.extended
def test_of_three_classes_each_has_a_score_and_the_highest_is_predicted():
    x, y = rows(120)
    labels = np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))
    fitted = KANClassifier(random_state=0, steps=60).fit(x, labels)
    scores = fitted.decision_function(x)
    assert scores.shape == (120, 3) and fitted.score(x, labels) > 0.9
    np.testing.assert_array_equal(scores.argmax(axis=1), fitted.predict(x))


@pytest.mark.extended
@pytest.mark.filterwarnings("ignore::kanserve.estimator.ExtrapolationWarning")
def test_logarithms_of_probabilities_are_finite_where_the_probabilities_are_zero():
    x, y = labelled()
    fitted = KANClassifier(random_state=0, steps=10).fit(x, y)
    far = np.array([[1e6, 20.0], [-1e6, 20.0]])
    assert fitted.predict_proba(far).min() == 0 and np.isfinite(fitted.predict_log_proba(far)).all()


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("make", [KANRegressor, KANClassifier])
def test_a_weight_is_a_repetition_and_the_order_of_rows_does_not_matter_bit_for_bit(make):
    x, y = labelled(40) if make is KANClassifier else rows(40)
    random = np.random.default_rng(1)
    weights, order = random.integers(0, 4, len(x)), random.permutation(len(x))
    one = make(hidden=(2,), steps=20, random_state=0)
    weighted = clone(one).fit(x[order], y[order], sample_weight=weights[order])
    repeated = clone(one).fit(np.repeat(x, weights, axis=0), np.repeat(y, weights))
    assert kanserve.equal(weighted.kan_, repeated.kan_)
    equal = clone(one).fit(x, y, sample_weight=np.full(len(x), 0.3))
    assert kanserve.equal(equal.kan_, clone(one).fit(x, y).kan_)


@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")  # they say little of each other
def test_weights_change_what_is_fitted():
    x = np.repeat(np.linspace(0, 1, 30), 2)[:, None]
    y = np.tile([0.0, 1.0], 30)
    fitted = KANRegressor(hidden=(), random_state=0).fit(x, y, sample_weight=np.tile([1.0, 3.0], 30))
    np.testing.assert_allclose(fitted.predict(x), 0.75, atol=0.05)
    weighted, equal = (
        KANClassifier(hidden=(), random_state=0).fit(x, y, sample_weight=np.tile([1.0, w], 30)) for w in (3.0, 1.0)
    )
    assert weighted.predict_proba(x)[:, 1].mean() > 0.6 > equal.predict_proba(x)[:, 1].mean()


@pytest.mark.slow
@pytest.mark.parametrize("make", [KANRegressor, KANClassifier])
def test_a_fitted_estimator_comes_back_from_joblib_and_from_safetensors_to_equal_predictions(make, tmp_path):
    x, y = labelled() if make is KANClassifier else rows()
    fitted = make(hidden=(2,), steps=10, random_state=0).fit(x, y)
    joblib.dump(fitted, tmp_path / "estimator.joblib")
    loaded = joblib.load(tmp_path / "estimator.joblib")
    assert kanserve.equal(loaded.kan_, fitted.kan_) and not loaded.kan_.layers[0].coefficients.flags.writeable
    # Equal bits need equal layouts: what torch has trained comes transposed.
    assert all(layer.coefficients.flags.c_contiguous for model in (fitted, loaded) for layer in model.kan_.layers)
    assert loaded.get_params() == fitted.get_params()
    kanserve.save(fitted.kan_, tmp_path / "kan.safetensors")
    of_kan = make.from_kan(kanserve.load(tmp_path / "kan.safetensors"))
    for model in (loaded, of_kan):
        np.testing.assert_array_equal(model.predict(x), fitted.predict(x))
        if make is KANClassifier:
            np.testing.assert_array_equal(model.predict_proba(x), fitted.predict_proba(x))
    assert of_kan.n_features_in_ == 2 and of_kan.get_params()["hidden"] == (2,)
    assert clone(of_kan).set_params(random_state=0).fit(x, y).kan_.shape == fitted.kan_.shape


@pytest.mark.extended
def test_a_network_knows_labels_as_text_and_from_kan_takes_the_real_ones():
    x, y = labelled(names=(3, 4))
    fitted = KANClassifier(steps=5, random_state=0).fit(x, y.astype(int))
    assert set(KANClassifier.from_kan(fitted.kan_).predict(x)) <= {"3", "4"}
    again = KANClassifier.from_kan(fitted.kan_, classes=fitted.classes_)
    np.testing.assert_array_equal(again.predict(x), fitted.predict(x))
    with pytest.raises(ValueError, match="2 classes, got labels of shape"):
        KANClassifier.from_kan(fitted.kan_, classes=[1, 2, 3])
    with pytest.raises(ValueError, match=r"KANClassifier\.from_kan"):
        KANRegressor.from_kan(fitted.kan_)


def test_grid_and_width_are_searched_for_in_a_pipeline():
    x, y = rows(60)
    pipeline = make_pipeline(StandardScaler(), KANRegressor(starts=2, noise_free=True, random_state=0))
    choices = {"kanregressor__grid": [3, 5], "kanregressor__hidden": [(1,), (2,)]}
    search = GridSearchCV(pipeline, choices, cv=2).fit(x, y)
    assert len(search.cv_results_["params"]) == 4 and np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_[-1]
    assert best.kan_.shape == (2, *search.best_params_["kanregressor__hidden"], 1)
    assert search.score(x, y) > 0.99


@pytest.mark.slow
@pytest.mark.extended
def test_folds_may_be_fitted_in_two_processes_with_the_same_result():
    x, y = rows(60)
    one = KANRegressor(**QUICK)
    alone, shared = (cross_val_score(one, x, y, cv=2, n_jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(alone, shared)


def test_a_random_state_makes_fits_equal_and_none_makes_them_differ():
    x, y = rows(40)
    quick = {**QUICK, "starts": 1}
    assert kanserve.equal(KANRegressor(**quick).fit(x, y).kan_, KANRegressor(**quick).fit(x, y).kan_)
    states = [np.random.RandomState(3), np.random.RandomState(3)]
    one, two = (KANRegressor(**{**quick, "random_state": state}).fit(x, y).kan_ for state in states)
    assert kanserve.equal(one, two)
    one, two = (KANRegressor(**{**quick, "random_state": None}).fit(x, y).kan_ for _ in range(2))
    assert not kanserve.equal(one, two)


def test_hidden_may_be_a_number_or_nothing_and_have_nodes_that_multiply():
    x, y = rows(40)
    quick = {**QUICK, "starts": 1, "grid": 3}
    assert KANRegressor(**{**quick, "hidden": 3}).fit(x, y).kan_.shape == (2, 3, 1)
    assert KANRegressor(**{**quick, "hidden": ()}).fit(x, y).kan_.shape == (2, 1)
    products = KANRegressor(**{**quick, "hidden": ((1, 2),)}).fit(x, y)
    assert products.kan_.layers[0].arity.tolist() == [1, 2, 2]
    assert KANRegressor.from_kan(products.kan_).hidden == ((1, 2),)


@pytest.mark.slow
def test_without_a_width_the_smallest_network_is_found():
    x, y = rows(200)
    found = KANRegressor(hidden="fewest", random_state=0).fit(x, y)
    order = np.lexsort(x.T[::-1])
    assert kanserve.equal(found.kan_, discover((x[order], y[order])))
    assert found.kan_.shape == (2, 1) and found.score(*rows(seed=1)) > 0.999
    labels = (x[:, 0] ** 2 + (x[:, 1] / 20 - 1) ** 2 < 0.3).astype(int)
    classifier = KANClassifier(hidden="fewest", random_state=0).fit(x, labels)
    assert classifier.kan_.shape[-1] == 2 and classifier.score(x, labels) > 0.95


@pytest.mark.slow
def test_nothing_is_told_unless_asked(capfd):
    x, y = rows(30)
    KANRegressor(**QUICK).fit(x, y)
    assert capfd.readouterr() == ("", "")
    KANRegressor(**{**QUICK, "symbolic": True, "progress": True, "max_fits": 50}).fit(x, y)
    out, told = capfd.readouterr()
    assert out == "" and "validation" in told


@pytest.mark.extended
def test_what_cannot_be_is_refused_as_scikit_learn_does():
    x, y = rows(30)
    with pytest.raises(NotFittedError):
        KANRegressor().predict(x)
    with pytest.raises(ValueError, match="all rows that count are of one class, 'a'"):
        KANClassifier().fit(x, ["a"] * len(x))
    with pytest.raises(ValueError, match="Unknown label type"):
        KANClassifier().fit(x, y)
    with pytest.raises(ValueError, match="increasing numbers of intervals"):
        KANRegressor(grid=(5, 3)).fit(x, y)
    wrong: Any
    for wrong in (3.5, (), "fine", (3, 5.5)):
        with pytest.raises(ValueError, match="grid is a number of intervals"):
            KANRegressor(grid=wrong).fit(x, y)
    for wrong in (2.5, "wide"):
        with pytest.raises(ValueError, match="hidden is the nodes of each hidden layer"):
            KANRegressor(hidden=wrong).fit(x, y)
    with pytest.raises(ValueError, match="at least one start"):
        KANRegressor(starts=0).fit(x, y)
    with pytest.raises(ValueError, match="got 0"):
        KANRegressor(hidden=(0,)).fit(x, y)
    for make in (KANRegressor, KANClassifier):
        with pytest.raises(ValueError, match="zero"):
            make().fit(x, y > 0, sample_weight=np.zeros(len(x)))
    with pytest.raises(ValueError, match="Negative values"):
        KANRegressor().fit(x, y, sample_weight=-np.ones(len(x)))
    with pytest.warns(DataConversionWarning):
        assert KANRegressor(**QUICK).fit(x, y[:, None]).predict(x).shape == (30,)


def test_rows_that_are_all_the_same_give_their_answer():
    fitted = KANRegressor(random_state=0).fit([[1.0, 2.0]] * 5, [3.0] * 5)
    np.testing.assert_array_equal(fitted.predict([[1.0, 2.0]]), [3.0])


def test_a_pickle_of_an_unfitted_estimator_is_unfitted():
    again = pickle.load(io.BytesIO(pickle.dumps(KANRegressor(hidden=(3, 2)))))
    assert again.hidden == (3, 2) and not hasattr(again, "kan_")


@pytest.mark.slow
@pytest.mark.extended
def test_a_classifier_is_wide_unless_its_scores_shall_be_formulas(monkeypatch):
    x = np.random.default_rng(0).uniform(-1, 1, (60, 2))
    y = (x.sum(axis=1) > 0).astype(int)
    assert KANClassifier(steps=3, random_state=0).fit(x, y).kan_.shape == (2, 32, 2)
    monkeypatch.setattr("kanserve.estimator.base.simplify", lambda kan, data, **options: kan)
    assert KANClassifier(symbolic=True, steps=3, random_state=0).fit(x, y).kan_.shape == (2, 5, 2)
    with pytest.raises(ValueError, match="hidden is the nodes of each hidden layer"):
        KANRegressor().set_params(hidden="some").fit(x, y)
