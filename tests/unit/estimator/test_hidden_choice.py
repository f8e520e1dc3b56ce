"""hidden="auto": as many hidden nodes as predict unseen rows well, and no more."""

from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.data.dataset import Dataset
from kanserve.estimator import KANClassifier, KANRegressor, hidden_choice
from kanserve.estimator.hidden_choice import (
    CLEAR_ROWS,
    FOLDS,
    MANY_ROWS,
    SAMPLE_ROWS,
    Plan,
    Unseen,
    _folds,
    _not_far_behind,
    _simplest,
    automatic_plan,
    choose_plan,
)


def samples(rows: int = 300, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (rows, 6))
    return x, np.sin(3 * x[:, 0]) + x[:, 1] + generator.normal(0, noise, rows)


@pytest.mark.slow
@pytest.mark.extended
def test_a_sum_of_curves_in_noise_needs_no_hidden_nodes():
    x, y = samples()
    model = KANRegressor(random_state=0).fit(x, y)
    assert model.kan_.shape == (6, 1)  # the mean of five networks
    fresh, exact = samples(2000, 0.0)
    assert model.score(fresh, exact) > 0.95


@pytest.mark.slow
def test_a_product_gets_hidden_nodes():
    x, _ = samples()
    model = KANRegressor(random_state=0).fit(x[:, :2], x[:, 0] * x[:, 1])
    assert len(model.kan_.shape) == 3
    assert model.score(x[:, :2], x[:, 0] * x[:, 1]) > 0.99


@pytest.mark.slow
@pytest.mark.extended
def test_tables_choose_their_hidden_nodes_too():
    x, y = samples(120)
    x[::5, 2] = np.nan
    data = Dataset(np.column_stack([x[:, :3], np.arange(120) % 3]), y, categories={"x4": ("a", "b", "c")})
    model = KANRegressor(random_state=0, steps=5)
    model._learn(data)
    assert model.kan_.inputs[3].categories == ("a", "b", "c") and model.kan_.shape[0] == 4
    model.set_params(hidden=(2,), n_networks=2)._learn(data)
    both = [KANRegressor((2,), steps=5, random_state=0)]
    both[0]._learn(data)
    assert model.kan_.inputs == both[0].kan_.inputs and model.kan_.shape == (4, 4, 1)


@pytest.mark.slow
def test_the_mean_of_networks_predicts_noisy_answers_better_than_one():
    x, y = samples(100)
    fresh, exact = samples(2000, 0.0)
    one, five = (KANRegressor((), n_networks=n, random_state=0).fit(x, y).score(fresh, exact) for n in (1, 5))
    assert five > one


@pytest.mark.slow
@pytest.mark.extended
def test_exact_answers_need_one_network():
    x, _ = samples()
    y = x[:, 0] * x[:, 1]
    automatic = KANRegressor(random_state=0).fit(x[:, :2], y).kan_
    nodes = automatic.shape[1:-1]
    assert kanserve.equal(automatic, KANRegressor(nodes, random_state=0).fit(x[:, :2], y).kan_)


def test_the_number_of_networks_is_checked():
    x, y = samples(50)
    wrong: Any
    for wrong in (0, 2.5, "many"):
        with pytest.raises(ValueError, match="n_networks"):
            KANRegressor((), n_networks=wrong).fit(x, y)


def test_every_row_is_predicted_once_by_networks_that_have_not_seen_it():
    x, y = samples(100)
    folds = _folds(kanserve.Dataset(x, y), 0)
    assert len(folds) == FOLDS
    judged = np.concatenate([judges.y[:, 0] for _, judges in folds])
    assert sorted(judged) == sorted(y)
    for train, judges in folds:
        assert len(train) + len(judges) == 100 and not set(train.y[:, 0]) & set(judges.y[:, 0])


def test_of_many_rows_a_part_is_enough():
    x, y = samples(12_000)
    ((train, judges),) = _folds(kanserve.Dataset(x, y), 0)
    assert len(train) == len(judges) == SAMPLE_ROWS


def unseen(losses: dict[tuple[int, ...], np.ndarray]) -> dict[tuple[int, ...], Unseen]:
    return {nodes: Unseen(np.zeros((len(one), 1)), one) for nodes, one in losses.items()}


def test_fewer_nodes_are_taken_unless_they_are_clearly_worse():
    losses = np.random.default_rng(0).uniform(0, 1, 400)
    noise = np.random.default_rng(1).normal(0, 0.1, 400)
    assert _simplest(unseen({(): losses + noise - noise.mean(), (2,): losses})) == ()
    assert _simplest(unseen({(): losses + 0.1 + noise, (2,): losses})) == (2,)
    assert _simplest(unseen({(): np.full(400, np.inf), (2,): losses})) == (2,)
    assert _simplest(unseen({(): np.full(400, np.nan), (2,): losses})) == (2,)
    assert _simplest(unseen({(): np.full(400, np.inf), (2,): np.full(400, np.nan)})) == ()
    assert _simplest(unseen({(): np.empty(0), (2,): np.empty(0)})) == ()


def test_what_is_far_behind_on_many_rows_is_not_tried_again():
    losses = np.random.default_rng(0).uniform(0, 1, 400)
    noise = np.random.default_rng(1).normal(0, 0.1, 400)
    found = {(): losses + 0.1 + noise, (2,): losses + 0.01 + noise, (5,): losses}
    assert list(_not_far_behind(unseen(found))) == [(2,), (5,)]
    assert list(_not_far_behind(unseen({(): np.full(400, np.inf), (2,): losses}))) == [(2,)]
    assert list(_not_far_behind(unseen({(): np.full(400, np.inf), (2,): np.full(400, np.inf)}))) == [(), (2,)]
    few = CLEAR_ROWS - 1
    assert list(_not_far_behind(unseen({nodes: one[:few] for nodes, one in found.items()}))) == list(found)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(("rows", "tried"), [(900, 1), (300, 2), (150, FOLDS)])
def test_a_curve_for_each_input_is_tried_once_where_products_are_seen(monkeypatch, rows, tried):
    seen: list[tuple[int, ...]] = []

    def fit(begin: kanserve.Kan, *arguments: Any, **options: Any) -> kanserve.Kan:
        seen.append(begin.shape)
        return kanserve.fit(begin, *arguments, **options)

    monkeypatch.setattr("kanserve.estimator.hidden_choice.fit", fit)
    x = np.random.default_rng(0).uniform(-1, 1, (rows, 2))
    options = KANRegressor()._fit_arguments()
    y = x[:, 0] * x[:, 1] + np.random.default_rng(1).normal(0, 0.05, rows)
    nodes = choose_plan(Dataset(x, y), 3, options, 0).hidden
    assert nodes != () and seen.count((2, 1)) == tried


@pytest.mark.slow
@pytest.mark.extended
def test_of_many_rows_inputs_that_tell_nothing_are_left_out():
    generator = np.random.default_rng(0)
    x = generator.uniform(size=(MANY_ROWS, 30))
    y = x[:, 3] * x[:, 7] + np.sin(5 * x[:, 11]) + 0.2 * generator.normal(size=len(x))
    model = KANRegressor(random_state=0, steps=20).fit(x, y)
    kept = set(np.flatnonzero(model.feature_importances_))
    assert len(model.kan_.shape) == 3 and {3, 7, 11} <= kept and len(kept) < 10  # some of the other 27 by chance
    whole = KANRegressor((), random_state=0, steps=1, starts=1, grid=3, screen=False).fit(x, y)
    assert whole.feature_importances_.all()


@pytest.mark.parametrize("given", ["adam", "auto"])
def test_the_optimizer_of_the_choice_is_the_one_that_was_given(given, monkeypatch):
    x = np.random.default_rng(0).uniform(size=(MANY_ROWS, 30))
    y = np.sin(9 * x[:, 3])
    seen = []

    def fit(begin, data, **options):
        seen.append((len(begin.shape), options["optimizer"]))
        return begin

    monkeypatch.setattr(hidden_choice, "fit", fit)
    options = {**KANRegressor()._fit_arguments(), "optimizer": given}
    choose_plan(kanserve.Dataset(x, y), 3, options, 0)
    assert seen == [(2, given), (3, "lbfgs" if given == "auto" else given)]


def classes(kind: str, rows: int = 400) -> Dataset:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 3))
    scores = {"noise": 0 * x[:, 0], "sum": 3 * np.sin(2 * x[:, 0]) + 2 * x[:, 1], "product": 6 * x[:, 0] * x[:, 1]}
    label = generator.uniform(size=rows) < 1 / (1 + np.exp(-scores[kind]))
    return Dataset(x, np.eye(2)[label.astype(int)], classes=("no", "yes"))


@pytest.mark.extended
@pytest.mark.slow
def test_classes_are_chosen_as_numbers_are():
    plans = {kind: automatic_plan(classes(kind), 3, {}, 0) for kind in ("noise", "sum", "product")}
    assert plans["sum"].hidden == () and plans["sum"].networks > 1
    assert plans["sum"].starts is None  # there is one optimum
    assert plans["product"].hidden != ()
    assert plans["noise"].share < 0.6 < plans["product"].share


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")
@pytest.mark.filterwarnings("ignore::kanserve.estimator.ExtrapolationWarning")
def test_a_classifier_of_noise_predicts_the_class_frequencies():
    x = np.random.default_rng(0).normal(size=(1300, 4))
    labels = np.random.default_rng(1).integers(0, 2, 1300)
    model = KANClassifier(random_state=0).fit(x[:300], labels[:300])
    losses = -model.predict_log_proba(x[300:])[np.arange(1000), labels[300:]]
    assert losses.mean() < np.log(2) + losses.std() / np.sqrt(1000)


def test_formulas_of_classes_have_few_nodes():
    assert automatic_plan(classes("noise"), 3, {}, 0, formulas=True) == Plan((5,))


@pytest.mark.slow
@pytest.mark.extended
def test_networks_of_a_mean_have_fewer_starts_each():
    x, _ = samples(150)
    y = x[:, 0] * x[:, 1] + np.random.default_rng(1).normal(0, 0.05, 150)
    data = Dataset(x[:, :2], y)
    assert automatic_plan(data, 3, {}, 0)[1:3] == (5, 3)
    assert KANRegressor(n_networks=1)._plan(data, 0)[1:3] == (1, None)
