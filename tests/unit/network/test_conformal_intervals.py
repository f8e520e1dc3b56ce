"""Prediction intervals: what they cover, and that every form of a model says the same."""

import ctypes
import json
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

import kanserve
from kanserve.artifact.manifest import dumps, loads
from kanserve.batch import BatchPredictor
from kanserve.data.dataset import Dataset
from kanserve.errors import FormatError, InputError, NotFoundError
from kanserve.network.conformal_intervals import ConformalInterval, conformal_intervals
from kanserve.network.export_options import ExportOptions
from kanserve.runtime import c_backend


def line():
    return kanserve.from_formula("2*a - b", ranges={"a": (0, 1), "b": (0, 1)})


def samples(count, seed=0):
    random = np.random.default_rng(seed)
    x = random.uniform(0, 1, (count, 2))
    return Dataset(x, 2 * x[:, :1] - x[:, 1:] + random.standard_t(3, (count, 1)), ("a", "b"))


@pytest.mark.parametrize("level", [0.9, *(pytest.param(level, marks=pytest.mark.extended) for level in (0.8, 0.95))])
def test_an_interval_covers_as_often_as_it_says_whatever_the_noise(level):
    covered = []
    for seed in range(200):
        unseen, fresh = samples(99, seed), samples(50, 1000 + seed)
        (interval,) = conformal_intervals(line()(unseen.x), unseen.y, [level])
        low, high = interval.around(line()(fresh.x))
        covered.append(((low <= fresh.y) & (fresh.y <= high)).mean())
    assert np.mean(covered) == pytest.approx(level, abs=0.01)  # exactly level on average with 99 samples


def test_there_is_no_interval_for_which_there_are_too_few_samples():
    ones = {count: np.ones((count, 1)) for count in (3, 4, 9, 19)}
    levels = {count: [one.level for one in conformal_intervals(y, y)] for count, y in ones.items()}
    assert levels == {3: [], 4: [0.8], 9: [0.8, 0.9], 19: [0.8, 0.9, 0.95]}


def test_an_answer_that_is_not_finite_counts_as_infinitely_wrong():
    answers = np.zeros((20, 1))
    answers[:3] = np.nan
    assert [one.level for one in conformal_intervals(answers, np.ones((20, 1)))] == [0.8]


@pytest.mark.parametrize(("level", "widths"), [(1.0, (1.0,)), (0.0, (1.0,)), (0.9, (-1.0,)), (0.9, (np.inf,)), (1, ())])
def test_impossible_intervals_are_refused(level, widths):
    with pytest.raises(InputError):
        ConformalInterval(level, widths)


def executed(source):
    names: dict[str, Any] = {}
    exec(source, names)
    return names


@pytest.fixture(scope="module")
def artifact():
    return kanserve.compile(line(), ["c_source", "numpy_source", "onnx_graph"], data=samples(200))


def test_every_form_of_a_model_has_the_intervals_of_its_unseen_samples(artifact, tmp_path):
    unseen = samples(200)
    expected = conformal_intervals(line()(unseen.x), unseen.y)
    assert artifact.manifest.intervals == expected and [one.level for one in expected] == [0.8, 0.9, 0.95]
    module = executed(artifact.files["numpy_source/model.py"].decode())
    assert module["INTERVALS"] == {one.level: one.half_widths for one in expected}
    x = unseen.x[:5]
    ends = expected[1].around(line()(x))
    np.testing.assert_allclose(module["predict_interval"](x), np.stack(ends), rtol=1e-12)
    np.testing.assert_allclose(kanserve.LoadedModel(artifact).predict_interval(x), np.stack(ends), rtol=1e-12)
    library = tmp_path / "model.so"
    library.write_bytes(artifact.files[f"c_source/{c_backend.library_name()}"])
    loaded = ctypes.CDLL(str(library))
    for one in expected:
        numbers = (ctypes.c_double * 1).in_dll(loaded, f"model_interval_{one.percent}")
        assert tuple(numbers) == one.half_widths
    graph = onnx.load_from_string(artifact.files["onnx_graph/model.onnx"])
    told = json.loads({one.key: one.value for one in graph.metadata_props}["intervals"])
    assert [(one["level"], tuple(one["half_widths"])) for one in told] == [(o.level, o.half_widths) for o in expected]


def test_an_artifact_with_intervals_is_read_as_it_was_written(artifact):
    manifest = artifact.manifest
    assert json.loads(dumps(manifest))["format"] == 2
    assert loads(dumps(manifest)) == manifest
    assert json.loads(dumps(replace(manifest, intervals=())))["format"] == 1


def test_intervals_of_another_number_of_outputs_are_refused(artifact):
    with pytest.raises(FormatError, match="one half width for each output"):
        replace(artifact.manifest, intervals=(ConformalInterval(0.9, (1.0, 2.0)),))


def test_batches_have_the_ends_as_columns(artifact):
    x = samples(4).x
    result = BatchPredictor(artifact, interval=0.9, outside=True)({"a": x[:, 0], "b": x[:, 1]})
    assert list(result) == ["y", "y_low", "y_high", "outside"]
    low, high = artifact.manifest.intervals[1].around(line()(x))
    np.testing.assert_allclose(result["y_low"], low[:, 0], rtol=1e-12)
    np.testing.assert_allclose(result["y_high"], high[:, 0], rtol=1e-12)
    with pytest.raises(NotFoundError, match=r"It has those of 0\.8, 0\.9, 0\.95"):
        BatchPredictor(artifact, interval=0.99)({"a": x[:, 0], "b": x[:, 1]})


def test_a_model_that_was_compiled_without_samples_says_how_it_gets_intervals():
    model = kanserve.LoadedModel(kanserve.compile(line(), ["numpy_source"]))
    with pytest.raises(NotFoundError, match="Compile it with samples that it was not trained on: data="):
        model.predict_interval([[0.5, 0.5]])


def test_an_export_has_the_intervals_of_its_options(tmp_path):
    options = ExportOptions(intervals=(ConformalInterval(0.9, (0.5,)),))
    (path,) = kanserve.export(line(), tmp_path / "out", ["numpy_source"], options=options)
    module = executed(path.read_text())
    low, high = module["predict_interval"]([[0.5, 0.5]])
    assert (low.tolist(), high.tolist()) == ([[0.0]], [[1.0]])
    with pytest.raises(ValueError, match=r"intervals of \[0.9\]"):
        module["predict_interval"]([[0.5, 0.5]], level=0.8)


def test_weighted_samples_and_classes_have_no_intervals():
    unseen = samples(50)
    weighted = replace(unseen, weights=np.linspace(1, 2, 50))
    assert kanserve.compile(line(), ["numpy_source"], data=weighted).manifest.intervals == ()


def noisy(count, seed):
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1, 1, (count, 4))
    return Dataset(x, np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + generator.normal(0, 0.3, count))


@pytest.fixture(scope="module")
def fitted():
    return kanserve.fit([4, 5, 1], noisy(60, 0), starts=2)


def test_rows_of_the_fit_make_no_intervals_and_the_card_says_so(fitted, caplog):
    rows = noisy(60, 0)
    artifact = kanserve.compile(fitted, ["numpy_source"], data=rows)
    assert artifact.manifest.intervals == ()
    sentence = "none: the network was fitted to all of these 60 rows"
    assert sentence in artifact.manifest.provenance["intervals"]
    assert sentence in kanserve.model_card(artifact).text
    assert [sentence in record.getMessage() for record in caplog.records] == [True]


def test_a_few_rows_of_the_fit_among_unseen_ones_do_no_harm(fitted):
    seen, unseen = noisy(60, 0), noisy(200, 1)
    for count, has_intervals in ((5, True), (60, False)):
        mixed = Dataset(np.vstack([seen.x[:count], unseen.x]), np.vstack([seen.y[:count], unseen.y]))
        manifest = kanserve.compile(fitted, ["numpy_source"], data=mixed).manifest
        assert bool(manifest.intervals) is has_intervals
    assert "23 % of these 260 rows" in manifest.provenance["intervals"]


def test_an_artifact_says_by_which_rows_its_intervals_are_made(fitted, artifact):
    note = kanserve.compile(fitted, ["numpy_source"], data=noisy(50, 1)).manifest.provenance["intervals"]
    assert note == "by the errors on 50 rows that the network was not fitted to (split conformal prediction)"
    assert "no record that tells whether it was fitted to them" in artifact.manifest.provenance["intervals"]


def growing(count, seed=0):
    """Samples of the line whose errors grow with its value."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, 1, (count, 2))
    y = 2 * x[:, :1] - x[:, 1:]
    return Dataset(x, y + (0.1 + (y + 1) / 2) * random.normal(size=(count, 1)), ("a", "b"))


def test_the_width_follows_the_answer_where_the_errors_do():
    thirds, widths = [], []
    for seed in range(20):
        unseen, fresh = growing(500, seed), growing(900, 1000 + seed)
        (interval,) = conformal_intervals(line()(unseen.x), unseen.y, [0.9])
        plain = replace(interval, half_widths=(np.quantile(np.abs(unseen.y - line()(unseen.x)), 0.9),), scales=())
        answers = line()(fresh.x)
        low, high = interval.around(answers)
        order = np.argsort(answers[:, 0])
        thirds.append([part.mean() for part in np.array_split(((low <= fresh.y) & (fresh.y <= high))[order], 3)])
        widths.append((high - low).mean() / np.subtract(*plain.around(answers)[::-1]).mean())
    assert np.mean(thirds, axis=0) == pytest.approx(0.9, abs=0.03)  # one width for all covers .99, .93 and .78
    assert np.mean(widths) < 0.95


def test_even_errors_and_few_samples_have_one_width():
    with_scales = [
        bool(conformal_intervals(line()(rows.x), rows.y, [0.9])[0].scales)
        for rows in [*(samples(200, seed) for seed in range(40)), *(growing(59, seed) for seed in range(5))]
    ]
    assert sum(with_scales) <= 2


@pytest.mark.parametrize("places", [((0.0, 1.0), (0.0, 2.0)), ((0.0, 0.0),), ((np.nan, 1.0),), ((0, 1.0),)])
def test_impossible_scales_are_refused(places):
    with pytest.raises(InputError):
        ConformalInterval(0.9, (1.0,), (places,))
    with pytest.raises(InputError, match="a scale for each of its 2 outputs"):
        ConformalInterval(0.9, (1.0, 1.0), (((0.0, 1.0),),))


def test_every_form_of_a_model_has_the_same_scales(tmp_path):
    unseen = growing(400)
    artifact = kanserve.compile(line(), ["c_source", "numpy_source", "onnx_graph"], data=unseen)
    interval, manifest = artifact.manifest.intervals[1], artifact.manifest
    assert interval.scales and json.loads(dumps(manifest))["format"] == 3 and loads(dumps(manifest)) == manifest
    x = np.vstack([unseen.x[:50], [[9.0, 0.0], [0.0, 9.0], [np.nan, 0.0]]])  # beyond both ends, and no answer
    low, high = interval.around(line()(x))
    assert np.ptp((high - low)[:50]) > 0 and np.isnan(high[-1]).all()
    module = executed(artifact.files["numpy_source/model.py"].decode())
    np.testing.assert_allclose(module["predict_interval"](x), [low, high], rtol=1e-12)
    np.testing.assert_allclose(kanserve.LoadedModel(artifact).predict_interval(x), [low, high], rtol=1e-12)
    batch = BatchPredictor(artifact, interval=0.9)({"a": x[:, 0], "b": x[:, 1]})
    np.testing.assert_allclose([batch["y_low"], batch["y_high"]], [low[:, 0], high[:, 0]], rtol=1e-12)
    graph = onnx.load_from_string(artifact.files["onnx_graph/model.onnx"])
    told = json.loads({one.key: one.value for one in graph.metadata_props}["intervals"])
    assert ConformalInterval.from_json(told[1]) == interval
    assert "Half widths depend on the answer" in kanserve.model_card(artifact).text
    library = tmp_path / "model.so"
    library.write_bytes(artifact.files[f"c_source/{c_backend.library_name()}"])
    in_c, half = ctypes.CDLL(str(library)).model_interval_90_half_widths, ctypes.c_double()
    for answer, width in zip(line()(x)[:, 0], (high - low)[:, 0] / 2, strict=True):
        in_c(ctypes.byref(ctypes.c_double(answer)), ctypes.byref(half))
        np.testing.assert_allclose(half.value, width, rtol=1e-12)
