"""The mean of several fits: as many as the plan says, from seeds that differ."""

import numpy as np
import pytest

from kanserve.data.dataset import Dataset
from kanserve.estimator import KANClassifier, KANRegressor, base
from kanserve.estimator.base import SEEDS
from kanserve.estimator.hidden_choice import Plan, _candidates


def flowers(rows: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (rows, 3))
    return x, np.floor((x[:, 0] + 1) / 2 * classes)


def test_a_fit_follows_its_plan(monkeypatch):
    x, y = flowers(60)
    monkeypatch.setattr(base, "automatic_plan", lambda *_, **__: Plan((2,), 3, 2, 0.5))
    automatic = KANClassifier(random_state=0, steps=2).fit(x, y)
    given = KANClassifier((2,), n_networks=3, starts=2, random_state=0, steps=2).fit(x, y)
    assert automatic.kan_.shape == given.kan_.shape == (3, 6, 3)
    plain = np.log(np.bincount(y.astype(int)) / len(y))
    wanted = (given.decision_function(x) + plain) / 2
    np.testing.assert_allclose(automatic.decision_function(x), wanted, rtol=1e-9, atol=1e-12)


def test_many_classes_or_rows_are_tried_with_one_wide_network():
    for x, y in (flowers(90, 9), flowers(1200)):
        assert _candidates(Dataset(x, y, classes=tuple(map(str, np.unique(y)))), monotone=False)[-1] == (32,)


def test_the_scores_are_the_means_of_fits_from_two_seeds():
    x, y = flowers(60)
    other = int(np.random.default_rng(0).integers(SEEDS))
    one, two = (KANClassifier((2,), steps=2, starts=1, random_state=seed).fit(x, y) for seed in (0, other))
    mean = KANClassifier((2,), n_networks=2, steps=2, starts=1, random_state=0).fit(x, y)
    assert mean.kan_.shape == (3, 4, 3) and mean.kan_.classes == one.kan_.classes
    wanted = (one.decision_function(x) + two.decision_function(x)) / 2
    np.testing.assert_allclose(mean.decision_function(x), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore::kanserve.estimator.ExtrapolationWarning")
def test_a_monotone_mean_is_monotone():
    x, _ = flowers(120)
    y = x[:, 0] + np.random.default_rng(1).normal(0, 0.3, 120)
    model = KANRegressor((2,), n_networks=2, grid=3, starts=1, steps=5, monotonic_cst=[1, 0, 0], random_state=0)
    model.fit(x, y)
    line = np.column_stack([np.linspace(-3, 3, 200), np.zeros((200, 2))])
    assert model.kan_.shape == (3, 4, 1) and np.diff(model.predict(line)).min() >= -1e-12
