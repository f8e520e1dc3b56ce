"""`predict_interval` of KANRegressor: intervals by the errors on rows that networks have not seen."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kanserve import KANRegressor
from kanserve.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::kanserve.train.fit_warnings.TrainingWarning")

RNG = np.random.default_rng(0)


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    x = RNG.uniform(-1, 1, (count, 1))
    return x, x[:, 0] + RNG.normal(0, 0.2, count)


def line(**options: Any) -> KANRegressor:
    chosen: dict[str, Any] = {
        "hidden": (),
        "grid": (3,),
        "starts": 1,
        "steps": 10,
        "random_state": 0,
        "intervals": True,
    }
    return KANRegressor(**{**chosen, **options})


def test_intervals_hold_what_they_promise_on_new_rows() -> None:
    inside = []
    for _ in range(20):
        low, high = line(smooth=0.1).fit(*rows(60)).predict_interval((new := rows(200))[0])
        assert low.shape == high.shape == (200,)
        inside.append(np.mean((low <= new[1]) & (new[1] <= high)))
    # ⌈.9·61⌉/61 = .902 on average; the mean of 20 draws of 60 rows varies by .04 / √20.
    assert np.mean(inside) == pytest.approx(0.902, abs=0.03)


def test_the_errors_are_those_of_networks_that_have_not_seen_the_rows() -> None:
    x, y = rows(40)
    wiggly = line(grid=(10,), smooth=0.0, validation=0).fit(x, y)
    seen = np.abs(wiggly.predict(x) - y)
    assert len(wiggly.unseen_errors_) == 40
    assert np.median(np.abs(wiggly.unseen_errors_)) > 1.2 * np.median(seen)
    wide, narrow = (np.subtract(*wiggly.predict_interval(x, level)[::-1])[0] for level in (0.9, 0.5))
    assert wide > narrow > 0


def test_intervals_keep_their_promise_where_the_network_of_all_rows_is_worse_than_the_others() -> None:
    model = line(smooth=0.1).fit(*rows(60))
    model.kan_ = replace(model.kan_, output_shift=model.kan_.output_shift + 1)  # a fit may end in a worse optimum
    (x, y), predicted = (new := rows(200)), model.predict(new[0])
    low, high = model.predict_interval(x)
    assert np.mean((low <= y) & (y <= high)) > 0.8 and ((low <= predicted) & (predicted <= high)).all()


def test_equal_rows_count_as_often_as_they_are_there_and_outputs_have_their_own() -> None:
    x, y = rows(20)
    twice = line().fit(np.r_[x, x[:5]], np.c_[np.r_[y, y[:5]], np.zeros(25)])
    assert twice.unseen_errors_.shape == (25, 2)
    low, high = twice.predict_interval(x[:3])
    assert low.shape == (3, 2) and (high - low)[:, 0].min() > (high - low)[:, 1].max()


def test_a_later_fit_without_intervals_has_none() -> None:
    model = line().fit(*rows(20))
    with pytest.raises(InputError, match="set intervals=True"):
        model.set_params(intervals=False).fit(*rows(20)).predict_interval([[0.0]])


def test_too_few_rows_for_a_level_are_an_error() -> None:
    with pytest.raises(InputError, match=r"12 rows are too few for an interval of 0\.95"):
        line().fit(*rows(12)).predict_interval([[0.0]], 0.95)
    with pytest.raises(InputError, match="between 0 and 1"):
        line().fit(*rows(12)).predict_interval([[0.0]], 90)


@pytest.mark.parametrize(
    ("options", "weights", "told"),
    [
        ({"symbolic": True}, None, "findings_.best.interval"),
        ({}, np.arange(1.0, 21.0), "takes no sample_weight"),
        ({"intervals": False, "seconds": 3}, None, "needs symbolic=True"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], weights: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        line(**options).fit(*rows(20), weights)


def test_a_formula_is_found_within_seconds() -> None:
    x = RNG.uniform(1, 2, (40, 1))
    model = KANRegressor(symbolic=True, seconds=3, random_state=0).fit(x, 3 * x[:, 0])
    assert str(model.formula_) == "3*x1"


def test_the_width_follows_the_prediction_where_the_errors_do() -> None:
    x = RNG.uniform(-1, 1, (1200, 1))
    y = x[:, 0] + (1.1 + x[:, 0]) / 4 * RNG.normal(size=1200)
    model = line(smooth=0.1).fit(x[:300], y[:300])
    low, high = model.predict_interval(x[300:])
    order = np.argsort(model.predict(x[300:]))
    thirds = np.array_split(((low <= y[300:]) & (y[300:] <= high))[order], 3)
    assert [part.mean() for part in thirds] == pytest.approx([0.9] * 3, abs=0.07)  # of one width: .99, .93, .78
    assert (high - low)[order[-1]] > 3 * (high - low)[order[0]]
