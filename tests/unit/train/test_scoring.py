"""Scores are what they say."""

import numpy as np
import pytest

from kanserve.data.dataset import Dataset
from kanserve.errors import DataError
from kanserve.network.evaluate import evaluate
from kanserve.train import score
from tests.support.networks.kans import classifier, symbolic
from tests.support.networks.training_rows import hello


def test_scores_are_what_they_say() -> None:
    kan = symbolic()
    x, y = hello(50, 0)
    shifted = score(kan, (x, y + 0.5))
    assert shifted.rmse[0] == pytest.approx(0.5)
    assert shifted.loss == pytest.approx(0.25)
    assert shifted.r2[0] == pytest.approx(1 - 0.25 / y.var())
    assert shifted.accuracy is None
    assert score(kan, (x[:1], y[:1])).r2 == (1.0,)
    assert score(kan, (x[:1], y[:1] + 1)).r2 == (0.0,)
    assert np.isnan(score(kan, (np.full((2, 2), 1e200), np.ones(2))).rmse[0])
    with pytest.raises(DataError, match="1 outputs, the data have 2"):
        score(kan, (x, np.zeros((50, 2))))


def test_a_classifier_is_scored_by_its_highest_score() -> None:
    kan = classifier()
    x = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    answers = evaluate(kan, x)
    right = np.eye(3)[answers.argmax(axis=1)]
    assert score(kan, (x, right)).accuracy == 1.0
    assert score(kan, (x, np.roll(right, 1, axis=1))).accuracy == 0.0
    chances = np.exp(answers) / np.exp(answers).sum(axis=1, keepdims=True)
    assert score(kan, (x, right)).loss == pytest.approx(-np.log(chances.max(axis=1)).mean())
    mixed = np.concatenate([right[:20], np.roll(right[20:], 1, axis=1)])
    assert score(kan, Dataset(x, mixed, weights=np.repeat([3.0, 1.0], 20))).accuracy == pytest.approx(0.75)
