"""Names of columns, from a frame through the network to a formula."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sympy
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

import kanserve
from kanserve import KANClassifier, KANRegressor
from kanserve.network.kan import equal


def columns(count=300):
    random = np.random.default_rng(0)
    return {"angle": random.uniform(-1, 1, count), "mean radius": random.uniform(-1, 1, count)}


def energy(x):
    return np.exp(np.sin(np.pi * x["angle"]) + x["mean radius"] ** 2)


def value(formula, x):
    """A formula's values where its symbols are the columns, whose spaces cannot be."""
    names = {name.replace(" ", "_"): values for name, values in x.items()}
    symbols = sorted(formula.free_symbols, key=str)
    return sympy.lambdify(symbols, formula, "numpy")(*(names[str(symbol)] for symbol in symbols))


@pytest.mark.parametrize("frames", [pd, pl], ids=["pandas", "polars"])
def test_the_names_of_a_frame_are_those_of_the_network(frames):
    x = columns(40)
    y = frames.Series(name="energy", data=energy(x)) if frames is pd else pl.Series("energy", energy(x))
    table = frames.DataFrame(x)
    fitted = KANRegressor(hidden=(2,), starts=2, noise_free=True, random_state=0).fit(table, y)
    assert fitted.feature_names_in_.tolist() == ["angle", "mean radius"]
    assert [variable.name for variable in fitted.kan_.inputs] == ["angle", "mean radius"]
    assert [output.name for output in fitted.kan_.outputs] == ["energy"]
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        plain = fitted.predict(np.column_stack(list(x.values())))
    np.testing.assert_array_equal(fitted.predict(table), plain)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(table[["mean radius", "angle"]])
    again = KANRegressor.from_kan(fitted.kan_)
    assert again.feature_names_in_.tolist() == ["angle", "mean radius"]
    np.testing.assert_array_equal(again.predict(table), plain)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.filterwarnings("ignore::kanserve.train.TrainingWarning")  # 26 rows with a weight are few
@pytest.mark.parametrize("frames", [pd, pl], ids=["pandas", "polars"])
def test_answers_may_be_a_frame_and_labels_a_series(frames):
    x = columns(40)
    table, both = frames.DataFrame(x), frames.DataFrame({"first": energy(x), "second": x["angle"] ** 2})
    fitted = KANRegressor(hidden=(2,), starts=2, noise_free=True, random_state=0).fit(table, both)
    assert [output.name for output in fitted.kan_.outputs] == ["first", "second"]
    labels = frames.Series(["in" if joules < 1 else "out" for joules in energy(x)])
    weights = frames.Series(np.arange(40) % 3)
    classifier = KANClassifier(steps=10, random_state=0).fit(table, labels, sample_weight=weights)
    assert classifier.kan_.classes == ("in", "out") and set(classifier.predict(table)) <= {"in", "out"}


def test_names_go_through_a_pipeline_that_keeps_frames():
    x = columns(40)
    pipeline = make_pipeline(StandardScaler(), KANRegressor(starts=1, noise_free=True, random_state=0))
    pipeline.set_output(transform="pandas").fit(pd.DataFrame(x), energy(x))
    assert [variable.name for variable in pipeline[-1].kan_.inputs] == ["angle", "mean radius"]


def test_a_formula_behind_a_scaler_has_the_names_and_the_units_that_the_scaler_gives():
    x = pd.DataFrame({"area": columns(40)["angle"] * 80 + 120, "rooms": np.arange(40) % 5})
    y = 3 * x["area"] + 20 * x["rooms"]
    model = KANRegressor(symbolic=True, random_state=0)
    columnwise = ColumnTransformer([("scale", StandardScaler(), ["area"])], remainder="passthrough")
    pipeline = make_pipeline(columnwise, model).set_output(transform="pandas").fit(x, y)
    names = pipeline[:-1].get_feature_names_out().tolist()
    assert names == model.feature_names_in_.tolist() == [variable.name for variable in model.kan_.inputs]
    area, rooms = (sympy.Symbol(name, real=True) for name in names)
    scaler = columnwise.named_transformers_["scale"]
    mean, scale = scaler.mean_[0], scaler.scale_[0]
    assert float(model.formula_.coeff(area)) == pytest.approx(3 * scale)
    raw = sympy.Symbol("area")
    in_the_tables_units = sympy.expand(model.formula_.subs(area, (raw - mean) / scale))
    assert float(in_the_tables_units.coeff(raw)) == pytest.approx(3)
    assert float(in_the_tables_units.coeff(rooms)) == pytest.approx(20)


@pytest.mark.slow
@pytest.mark.extended
def test_a_symbolic_fit_finds_the_formula_in_the_names_of_the_columns():
    x = columns()
    table, y = pd.DataFrame(x), energy(x)
    fitted = KANRegressor(symbolic=True, random_state=0).fit(table, y)
    assert fitted.closed_form_ and fitted.findings_.status == "exact" and equal(fitted.kan_, fitted.findings_.best.kan)
    assert {str(symbol) for symbol in fitted.formula_.free_symbols} == {"angle", "mean_radius"}
    assert {type(atom) for atom in fitted.formula_.atoms(sympy.Function)} == {sympy.exp, sympy.sin}
    np.testing.assert_allclose(value(fitted.formula_, x), fitted.predict(table), rtol=1e-9)
    elsewhere = {"angle": np.linspace(-3, 3, 50), "mean radius": np.linspace(2, -2, 50)}
    np.testing.assert_allclose(value(fitted.formula_, elsewhere), energy(elsewhere), rtol=1e-6)
    assert fitted.feature_importances_.sum() == pytest.approx(1)
    assert "KANRegressor" in estimator_html_repr(fitted)  # newer versions ask for every attribute there


def test_several_outputs_have_a_list_of_formulas():
    x = columns(150)
    both = np.column_stack([x["angle"] ** 2, np.exp(x["mean radius"])])
    fitted = KANRegressor(symbolic=True, random_state=0).fit(pd.DataFrame(x), both)
    assert [{str(name) for name in expression.free_symbols} for expression in fitted.formula_] == [
        {"angle"},
        {"mean_radius"},
    ]
    for q, expression in enumerate(fitted.formula_):
        np.testing.assert_allclose(value(expression, x), both[:, q], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.extended
def test_a_classifier_has_a_formula_for_each_score():
    x = columns()
    table = pd.DataFrame(x)
    odds = 3 * x["angle"] + 4 * x["mean radius"] ** 2 - 1
    labels = np.where(np.random.default_rng(1).uniform(size=300) < 1 / (1 + np.exp(-odds)), "out", "in")
    fitted = KANClassifier(hidden=(), symbolic=True, tolerance=0.1, random_state=0).fit(table, labels)
    assert fitted.closed_form_ and len(fitted.formula_) == 2
    scores = [np.broadcast_to(value(expression, x), 300) for expression in fitted.formula_]
    np.testing.assert_allclose(scores[1] - scores[0], fitted.decision_function(table), rtol=1e-9, atol=1e-9)
    assert np.corrcoef(fitted.decision_function(table), odds)[0, 1] > 0.9


def test_a_spline_that_is_left_is_a_function_without_a_body_and_said_to_be():
    fitted = KANRegressor.from_kan(kanserve.create([1, 1])).set_params(symbolic=True)
    assert not fitted.closed_form_
    assert [str(atom.func) for atom in fitted.formula_.atoms(sympy.core.function.AppliedUndef)] == ["s_1_1_1"]
    assert [str(symbol) for symbol in fitted.formula_.free_symbols] == ["x1"]


def test_a_fit_that_was_not_symbolic_says_where_its_formula_is():
    x = columns(40)
    fitted = KANRegressor(hidden=(), starts=1, random_state=0).fit(pd.DataFrame(x), energy(x))
    with pytest.raises(AttributeError, match="symbolic=True"):
        _ = fitted.formula_
    assert not hasattr(fitted, "closed_form_")


@pytest.mark.slow
def test_a_symbolic_fit_is_the_search_with_its_options():
    x = columns(60)
    table, y = pd.DataFrame(x), x["angle"] * np.exp(-x["mean radius"])
    fitted = KANRegressor(symbolic=True, random_state=3, max_fits=50).fit(table, y)
    order = np.lexsort((y, *table.to_numpy().T[::-1]))
    searched = kanserve.find_formulas(table.assign(y=y).iloc[order], target="y", max_fits=50, seed=3)
    assert str(fitted.findings_) == str(searched)
    limited = KANRegressor(symbolic=True, random_state=3, max_fits=5, search={"functions": ["sin"]}).fit(table, y)
    assert limited.findings_.ended == "max_fits"
    assert not any("exp" in formula.formula.text for formula in limited.findings_)
    assert clone(limited).search == {"functions": ["sin"]}


@pytest.mark.extended
def test_a_repeated_row_is_one_of_twice_the_weight_in_a_symbolic_fit():
    x = columns(40)
    y = x["angle"] + 0.1 * np.random.default_rng(0).normal(size=40)
    table, weights = pd.DataFrame(x), np.arange(40) % 3
    weighted = KANRegressor(symbolic=True, random_state=0, max_fits=3).fit(table, y, sample_weight=0.5 * weights)
    rows = np.repeat(np.arange(40), weights)
    repeated = KANRegressor(symbolic=True, random_state=0, max_fits=3).fit(table.iloc[rows], y[rows])
    assert str(weighted.findings_) == str(repeated.findings_)
    unequal = KANRegressor(symbolic=True, max_fits=3).fit(table, y, sample_weight=1 + 0.1 * np.arange(40) ** 2)
    assert unequal.findings_[0].data.weights is not None
