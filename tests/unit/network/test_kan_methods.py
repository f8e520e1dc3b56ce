"""What people type first: `kan(x)`, `kan.predict`, `kan.plot`, `kan.formula`, `kan.export`, `kan.save`."""

import logging

import numpy as np
import pytest

import kanserve
from kanserve.errors import ConflictError, InputError, NotFoundError
from kanserve.estimator import KANRegressor
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan, equal
from tests.support.networks.kans import mixed

X = np.random.default_rng(0).uniform(-1, 1, (20, 2))


def classifier():
    scores = kanserve.from_formula({"low": "1 - x", "high": "x"}, ranges={"x": (0, 1)})
    return Kan(scores.layers, scores.inputs, classes=("low", "high"))


def test_a_call_is_evaluate():
    kan = kanserve.create([2, 3, 2], seed=1)
    assert np.array_equal(kan(X), kanserve.evaluate(kan, X))


def test_predict_gives_the_outputs_of_a_network_without_classes():
    kan = kanserve.create([2, 3, 1], seed=1)
    assert np.array_equal(kan.predict(X), kan(X)) and kan.predict(X).shape == (20, 1)


def test_predict_gives_the_classes_of_a_classifier_and_nothing_for_what_is_not_finite():
    assert classifier().predict([[0.1], [0.9], [np.nan]]).tolist() == ["low", "high", ""]


def test_the_formula_of_one_output_is_a_formula_and_of_several_one_for_each():
    one = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    assert one.formula().text == one.formula("y").text == one.formula(0).text == "2*x + 1"
    several = classifier()
    assert [formula.name for formula in several.formula()] == ["low", "high"]
    assert several.formula("high").text == several.formula(1).text == "x"
    for wrong in ("middle", 2, -1, True):
        with pytest.raises(InputError, match="it has low, high"):
            several.formula(wrong)


def test_plot_draws_where_it_is_told():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    assert mixed().plot(kanserve.network.training_range.sample(mixed(), 10), ax=axes) is axes
    assert axes.lines or axes.texts


def test_save_is_read_by_load(tmp_path):
    kan = mixed()
    kan.save(tmp_path / "kan.safetensors")
    assert equal(kanserve.load(tmp_path / "kan.safetensors"), kan)


def test_export_writes_each_format_into_a_folder_of_its_own(tmp_path):
    kan = classifier()
    files = kan.export(tmp_path / "new" / "out", formats=("numpy_source", "c_source"), name="levels", precision="float")
    assert {path.relative_to(tmp_path / "new" / "out").parts[0] for path in files} == {"c_source", "numpy_source"}
    assert all(path.is_file() for path in files) and "float" in (tmp_path / "new/out/c_source/levels.h").read_text()
    with pytest.raises(ConflictError, match="choose another folder"):
        kan.export(tmp_path / "new" / "out")


def test_export_takes_one_format_as_a_text_and_refuses_what_is_none(tmp_path):
    (file,) = mixed().export(tmp_path / "a", "numpy_source")
    assert file == tmp_path / "a" / "numpy_source" / "model.py"
    with pytest.raises(NotFoundError):
        mixed().export(tmp_path / "b", "pickle")
    assert not (tmp_path / "b").exists()


def test_export_warns_of_a_format_that_nothing_here_runs(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "kanserve"):
        mixed().export(tmp_path / "c", "c_source", options=ExportOptions(c_form="header_only"))
    assert "c_source is not compared with the network" in caplog.text


def test_an_estimator_exports_its_network(tmp_path):
    estimator = KANRegressor(hidden=(), grid=3, starts=1, random_state=0)
    with pytest.raises(ValueError, match="not fitted"):
        estimator.export(tmp_path / "out")
    estimator.fit(X, X[:, 0])
    estimator.export(tmp_path / "out", formats=["numpy_source"], name="sums")
    assert (tmp_path / "out" / "numpy_source" / "sums.py").is_file()
