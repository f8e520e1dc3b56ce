"""The settings of search and simplification: each says what it is, and a call puts its own in force."""

import ast
import inspect
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

import kanserve
from kanserve.errors import InputError
from kanserve.search import SearchSettings, closed_form_settings, search_settings
from kanserve.simplification import SimplificationSettings, simplification_settings

X = np.random.default_rng(0).uniform(1, 2, (100, 2))


@pytest.mark.parametrize("module", [search_settings, closed_form_settings, simplification_settings])
def test_each_setting_says_what_it_is(module):
    (kind,) = (node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.ClassDef))
    said = {
        setting.target.id
        for setting, text in zip(kind.body, kind.body[1:], strict=False)
        if isinstance(setting, ast.AnnAssign) and isinstance(setting.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and len(str(text.value.value)) > 10
    }
    names = {field.name for field in fields(getattr(module, kind.name))}
    assert len(names) > 15 and names - said == set()


def test_settings_are_in_force_for_one_call():
    data = X, 3 * X[:, 0] / X[:, 1] + 0.1 * np.random.default_rng(1).normal(size=100)
    assert kanserve.find_formulas(data, max_fits=40).ended == "settled"
    never = SearchSettings(residual_test_largest_error=0.0)  # no error is taken for noise
    assert kanserve.find_formulas(data, max_fits=40, settings=never).ended == "max_fits"
    assert search_settings.SEARCH.get() == SearchSettings()
    seen = []
    own = SimplificationSettings(validation_last_steps=3)
    kan = kanserve.fit([2, 2, 1], (X, X[:, 0] * X[:, 1]), starts=1)
    for step in (kanserve.simplify, kanserve.prune, kanserve.symbolify):
        step(
            kan,
            (X, X[:, 0]),
            settings=own,
            progress=lambda _: seen.append(simplification_settings.SIMPLIFICATION.get()),
        )
    assert set(seen) == {own} and simplification_settings.SIMPLIFICATION.get() == SimplificationSettings()


def test_settings_of_another_kind_are_refused():
    with pytest.raises(InputError, match=r"settings must be SearchSettings\(...\), got dict"):
        kanserve.find_formulas((X, X[:, 0]), settings={"results_most_listed": 2})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"settings must be SimplificationSettings\(...\), got SearchSettings"):
        kanserve.prune(kanserve.create([2, 1]), (X, X[:, 0]), settings=SearchSettings())  # type: ignore[arg-type]


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError):
        SearchSettings().results_most_listed = 2  # type: ignore[misc]
