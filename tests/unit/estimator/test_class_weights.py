"""`class_weight` of KANClassifier."""

from typing import Any

import numpy as np
import pytest

from kanserve import KANClassifier
from kanserve.network.kan import equal

pytestmark = pytest.mark.filterwarnings("ignore::kanserve.train.fit_warnings.TrainingWarning")

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (60, 1))
Y = np.where(X[:, 0] + RNG.normal(0, 0.5, 60) > 0.8, "rare", "usual")
QUICK: dict[str, Any] = {"hidden": (), "starts": 1, "steps": 20, "random_state": 0}


def test_weights_of_classes_are_weights_of_their_rows() -> None:
    by_class = KANClassifier(class_weight={"rare": 3.0}, **QUICK).fit(X, Y)
    by_row = KANClassifier(**QUICK).fit(X, Y, np.where(Y == "rare", 3.0, 1.0))
    assert equal(by_class.kan_, by_row.kan_)
    both = KANClassifier(class_weight={"rare": 1.5}, **QUICK).fit(X, Y, np.where(Y == "rare", 2.0, 1.0))
    assert equal(both.kan_, by_row.kan_)


def test_balanced_classes_count_as_much_in_all() -> None:
    plain, balanced = (KANClassifier(class_weight=weight, **QUICK).fit(X, Y) for weight in (None, "balanced"))
    shares = [model.predict_proba(X)[:, 0].mean() for model in (plain, balanced)]
    assert shares[0] == pytest.approx(np.mean(Y == "rare"), abs=0.05) and shares[1] > 2 * shares[0]


def test_a_weight_of_no_class_is_refused() -> None:
    wrong: Any = "heavy"
    with pytest.raises(ValueError, match="class_weight"):
        KANClassifier(class_weight=wrong, **QUICK).fit(X, Y)
