"""Inputs on a logarithmic scale: a layer of arcsinh before the network, which a fit takes off and puts on again."""

import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import kanserve
from kanserve import Kan, fit
from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.train import create
from kanserve.train.normalising import normalise
from kanserve.train.outer_layers import (
    OuterLayers,
    arcsinh_scales,
    with_arcsinh_inputs,
    with_clipped_inputs,
    with_exponential,
    without_arcsinh_inputs,
    without_outer_layers,
)
from kanserve.train.stages import with_log_scales

SCALES = (3.0, 0.0)


def incomes(rows: int = 120) -> Dataset:
    x = np.random.default_rng(0).normal(size=(rows, 2))
    y = np.sin(2 * x[:, 0]) + x[:, 1]
    x[:, 0] = np.exp(2 * x[:, 0] + 3)
    return Dataset(x, y, ("income", "b"))


def fitted(data: Dataset, seed: int = 0) -> Kan:
    return fit(with_arcsinh_inputs(create([2, 1]), SCALES), data, starts=1, grid=3, seed=seed)


def test_the_layer_changes_the_inputs_that_have_a_scale():
    data = incomes()
    changed = with_log_scales(data, SCALES)
    assert (changed.x[:, 1] == data.x[:, 1]).all() and (changed.x[:, 0] == np.arcsinh(data.x[:, 0] / 3)).all()
    kan = normalise(create([2, 3, 1]), changed)
    found = with_arcsinh_inputs(kan, SCALES)
    np.testing.assert_allclose(evaluate(found, data.x), evaluate(kan, changed.x), rtol=1e-12, atol=1e-12)
    assert arcsinh_scales(found) == SCALES and arcsinh_scales(kan) == ()
    assert without_arcsinh_inputs(kan) is kan
    inner = without_arcsinh_inputs(found)
    np.testing.assert_allclose(inner.input_shift, kan.input_shift, rtol=1e-12)
    np.testing.assert_allclose(evaluate(inner, changed.x), evaluate(kan, changed.x), rtol=1e-12, atol=1e-12)


def test_all_outer_layers_come_off_and_go_on_again():
    kan = normalise(create([2, 3, 1]), incomes())
    whole = with_arcsinh_inputs(with_clipped_inputs(with_exponential(kan)), SCALES)
    core, around = without_outer_layers(whole)
    assert core.layers == kan.layers and around == OuterLayers(SCALES, clips=True, exponential=True)
    rows = incomes().x
    np.testing.assert_allclose(evaluate(around.around(core), rows), evaluate(whole, rows), rtol=1e-12)


def test_a_network_that_only_looks_alike_keeps_its_layer():
    kan = with_arcsinh_inputs(normalise(create([2, 1]), incomes()), SCALES)
    first = kan.layers[0]
    assert arcsinh_scales(replace(kan, input_shift=np.array([1.0, 0.0]))) == ()
    assert arcsinh_scales(replace(kan, layers=(replace(first, subnode_bias=np.ones(2)), kan.layers[1]))) == ()
    inner = first.affine.copy()
    inner[0, 0, 1] = 0.5
    assert arcsinh_scales(replace(kan, layers=(replace(first, affine=inner), kan.layers[1]))) == ()
    assert arcsinh_scales(kanserve.from_formula("arcsinh(x) + y")) == ()


def test_a_fit_learns_behind_the_layer_and_has_the_raw_ranges():
    data = incomes()
    kan = fitted(data)
    assert kan.shape == (2, 2, 1) and arcsinh_scales(kan) == SCALES
    assert (kan.inputs[0].low, kan.inputs[0].high) == (data.x[:, 0].min(), data.x[:, 0].max())
    assert kanserve.score(kan, data).r2[0] > 0.95 > kanserve.score(fit([2, 1], data, starts=1, grid=3), data).r2[0]
    again = fit(kan, data, starts=1, grid=3)  # its structure has the layer already
    assert kanserve.equal(again, kan)


def test_the_layer_is_in_the_formula_the_file_and_the_pickle(tmp_path: Path):
    kan = fitted(incomes())
    assert "asinh(0.333333*income)" in kanserve.formulas(kan, strict=False)[0].text
    kanserve.save(kan, tmp_path / "kan.safetensors")
    for copy in (kanserve.load(tmp_path / "kan.safetensors"), pickle.loads(pickle.dumps(kan))):
        assert kanserve.equal(copy, kan) and arcsinh_scales(copy) == SCALES


def test_means_of_fits_have_one_such_layer():
    data = incomes()
    kans = [fitted(data, seed) for seed in range(2)]
    mean = kanserve.average(kans)
    assert mean.shape == (2, 2, 1) and arcsinh_scales(mean) == SCALES
    np.testing.assert_allclose(mean(data.x), (kans[0](data.x) + kans[1](data.x)) / 2, rtol=1e-9, atol=1e-9)
    with pytest.raises(kanserve.errors.NetworkError, match="logarithms"):
        kanserve.average([kans[0], fit([2, 1], data, starts=1, grid=3)])


def test_missing_values_and_other_rows_that_judge_are_changed_too():
    data = incomes()
    x = data.x.copy()
    x[::7, 0] = np.nan
    kan = fitted(replace(data, x=x))
    fill = kan.inputs[0].fill_value
    assert fill is not None and 0 < fill < x[np.isfinite(x)].max()
    assert np.isfinite(kan(x)).all() and kan.inputs[0].high == np.nanmax(x[:, 0])
    judged = fit(with_arcsinh_inputs(create([2, 1]), SCALES), data, validation=incomes(60), starts=1, grid=3)
    assert kanserve.score(judged, data).r2[0] > 0.95


def test_inputs_are_described_as_they_were_given():
    data = incomes()
    x = data.x.copy()
    x[::10, 0] = 99999
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fitted(replace(data, x=x))
    assert any("'income' is 99999 in" in str(warning.message) for warning in said)


def test_a_checkpoint_knows_the_scales(tmp_path: Path):
    data, file = incomes(), tmp_path / "fit.checkpoint"
    begin = create([2, 1])
    first = fit(with_arcsinh_inputs(begin, SCALES), data, starts=1, grid=3, checkpoint=file)
    assert kanserve.equal(first, fit(with_arcsinh_inputs(begin, SCALES), data, starts=1, grid=3, checkpoint=file))
    with pytest.raises(kanserve.errors.ConflictError):
        fit(with_arcsinh_inputs(begin, (4.0, 0.0)), data, starts=1, grid=3, checkpoint=file)
