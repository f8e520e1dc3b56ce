"""Few rows are predicted by the network's NumPy module, with the numbers of `evaluate`."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from kanserve import KANRegressor
from kanserve.estimator import few_rows
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import fill_unused, sample
from tests.support.networks.kans import ZOO


@pytest.mark.parametrize("name", ZOO)
def test_few_rows_have_the_outputs_of_the_network(name: str) -> None:
    kan = ZOO[name]()
    x = sample(kan, 3)
    x[1, 0] = np.nan
    np.testing.assert_allclose(few_rows.outputs(kan, x), evaluate(kan, fill_unused(kan, x)), rtol=1e-9, atol=1e-9)


def test_a_row_asks_neither_scikit_learn_nor_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    model = KANRegressor((), random_state=0).fit(x, x[:, 0] ** 2)
    expected = model.predict(x)[:2]
    model.predict(x[:1])  # makes the module
    for name in ("kanserve.estimator.few_rows.evaluate", "kanserve.estimator.base.validate_data"):
        monkeypatch.setattr(name, None)
    np.testing.assert_allclose(model.predict(x[:2]), expected, rtol=1e-12, atol=1e-12)


def test_a_large_network_takes_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    kan = KANRegressor((), random_state=0).fit(x, x[:, 0] ** 2).kan_
    monkeypatch.setattr(few_rows, "MOST_COEFFICIENTS", 1)
    again = replace(kan)  # another object, for which no module is kept
    assert (few_rows.outputs(again, x[:3]) == evaluate(kan, x[:3])).all()


@pytest.mark.parametrize("most", [1, few_rows.MOST_COEFFICIENTS])
def test_a_network_is_freed_after_its_predictions(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_rows, "MOST_COEFFICIENTS", most)
    kan = ZOO["raw_features"]()
    few_rows.outputs(kan, sample(kan, 3))
    left = weakref.ref(kan)
    del kan
    gc.collect()
    assert left() is None
