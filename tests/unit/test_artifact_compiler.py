import hashlib
import itertools

import numpy as np
import pytest

from kanserve import formula, repository, runtime
from kanserve.artifact import format
from kanserve.artifact_compiler import EXPORTERS, compile, golden_rows, metrics
from kanserve.data.dataset import Dataset
from kanserve.errors import DataError, ExportError, InvalidNameError, NotFoundError
from kanserve.network.evaluate import evaluate, probabilities
from kanserve.network.kan import Kan, Variable, equal, make_layer
from kanserve.network.training_range import outside, sample
from kanserve.runtime import _c_building
from tests.support.networks.kans import ZOO, classifier, mixed, multiplication, one_edge


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(("name", "precision"), list(zip(ZOO, itertools.cycle(["double", "float"]))))
def test_every_backend_of_a_compiled_network_agrees_with_its_golden_rows(name, precision, monkeypatch):
    """`compile` checks all that this machine can run, and says which it could not.

    One precision per network, and C at -O1: test_c_library.py tests libraries at -O3, and the agreement tests of each
    exporter take every network in both precisions.
    """
    monkeypatch.setattr(_c_building, "COMMON", ("-std=c99", "-O1", "-fPIC"))
    kan = ZOO[name]()
    artifact = compile(kan, name="zoo", precision=precision)
    assert artifact.backends == ("c_source", "numpy_source", "onnx_graph")
    assert [key for key in artifact.manifest.provenance if "not checked" in key] == []
    assert equal(artifact.kan(), kan)


@pytest.mark.slow
@pytest.mark.extended
def test_what_is_compiled_is_what_is_read_from_the_repository(tmp_path):
    artifact = compile(multiplication(), name="m", provenance={"who": "a test"})
    repository.publish(tmp_path, "m", artifact)
    again = repository.read(tmp_path, "m")
    assert again.manifest == artifact.manifest and again.files == artifact.files
    assert again.manifest.provenance["who"] == "a test"
    x = sample(multiplication(), 50)
    for kind in EXPORTERS:
        got = runtime.load_backend(again, kind).predict(x)
        np.testing.assert_allclose(got, evaluate(multiplication(), x), rtol=1e-10, atol=1e-12)
    (one, *_) = formula.from_json(again.formulas)
    assert one.text == formula.formulas(multiplication())[0].text


@pytest.mark.slow
@pytest.mark.extended
def test_equal_networks_give_equal_bytes():
    one, other = compile(mixed()), compile(mixed())
    assert one.files == other.files
    assert format.dumps(one.manifest) == format.dumps(other.manifest)


def test_golden_rows_are_inside_then_one_outside_then_one_missing():
    kan = mixed()
    x, y = golden_rows(kan)
    assert len(x) == 34
    np.testing.assert_array_equal(y, evaluate(kan, x))
    assert outside(kan, x).tolist() == [False] * 32 + [True, True]
    assert np.isfinite(y[:32]).all() and np.isnan(y[33]).all() and np.isnan(x[33]).sum() == 1


def test_golden_rows_keep_away_from_poles():
    """1/x on [-1, 1]: of the candidates the half nearest to 0, where a rounding error decides, is left out."""
    kan = Kan((make_layer(functions=[["1/x"]], affine=[[[1.0, 1e-3, 1.0, 0.0]]]),))
    x, _ = golden_rows(kan)
    assert np.abs(x[:32]).min() > 0.1


def test_a_network_that_is_finite_nowhere_is_not_compiled():
    kan = Kan((make_layer(functions=[["log"]], affine=[[[1.0, -9.0, 1.0, 0.0]]]),))
    with pytest.raises(ExportError, match=r"finite nowhere.*layer 1.*input 1 to sum 1.*log on arguments from -9\.9"):
        compile(kan)
    square = make_layer(functions=[["x"], ["x"]], affine=[[[1.0, 0.0, 1e200, 0.0]]] * 2, arity=[2])
    with pytest.raises(ExportError, match=r"In layer 2, the sum or product of finite edges overflows"):
        compile(Kan((make_layer(functions=[["exp"]]), square)))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("precision", ["double", "float"])
@pytest.mark.parametrize("size", [1e9, 1e12])
def test_a_network_that_multiplies_rounding_is_compiled(size, precision):
    """sin(size·x^4): doubles of the argument are 1e-7 or 1e-4 apart, so right backends differ by as much."""
    first = make_layer(functions=[["x^4"]], affine=[[[size**0.25, 0.0, 1.0, 0.0]]])
    compile(Kan((first, make_layer(functions=[["sin"]]))), precision=precision)


def test_metrics_of_a_regression_are_those_of_its_definition():
    kan = one_edge()
    x = sample(kan, 20)
    y = evaluate(kan, x)
    error = np.linspace(-0.1, 0.3, 20)[:, None]
    got = metrics(kan, Dataset(x, y - error))
    assert got.rows == 20 and got.accuracy is None
    assert got.rmse == pytest.approx([float(np.sqrt(np.mean(error**2)))])
    assert got.max_error == pytest.approx([0.3])
    assert got.r2 == pytest.approx([float(1 - np.mean(error**2) / np.var(y - error))])


def test_metrics_of_a_classifier_are_of_its_probabilities():
    kan = classifier()
    x = sample(kan, 30)
    chosen = evaluate(kan, x).argmax(axis=1)
    chosen[:3] = (chosen[:3] + 1) % 3
    got = metrics(kan, Dataset(x, np.eye(3)[chosen], classes=kan.classes))
    assert got.accuracy == pytest.approx(0.9)
    wanted = np.sqrt(np.mean((probabilities(kan, x) - np.eye(3)[chosen]) ** 2, axis=0))
    assert got.rmse == pytest.approx(wanted.tolist())


def test_a_metric_that_is_not_finite_is_none_and_survives_the_manifest():
    kan = Kan((make_layer(functions=[["log"]]),), inputs=(Variable("x", "", 0.1, 1.0),))
    data = Dataset(np.array([[0.5], [-0.5]]), np.zeros((2, 1)))
    artifact = compile(kan, ("numpy_source",), data=data)
    assert artifact.manifest.metrics is not None
    assert artifact.manifest.metrics.r2 == (None,)
    assert format.loads(format.dumps(artifact.manifest)) == artifact.manifest


def test_the_manifest_says_which_rows_it_was_measured_on():
    kan = one_edge()
    x = sample(kan, 20)
    y = evaluate(kan, x)
    made = compile(kan, ("numpy_source",), data=(x, y)).manifest.provenance
    assert hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest() in made["data"]


def test_data_of_another_shape_are_refused():
    with pytest.raises(DataError, match="shape"):
        compile(one_edge(), data=Dataset(np.zeros((3, 2)), np.zeros(3)))


def test_an_unknown_exporter_and_a_bad_name_are_refused():
    with pytest.raises(NotFoundError):
        compile(one_edge(), ("cobol_source",))
    with pytest.raises(InvalidNameError):
        compile(one_edge(), name="../model")


def test_without_a_c_compiler_the_source_is_there_and_the_library_is_noted_as_missing(monkeypatch, tmp_path):
    for variable in ("PATH", "CC"):
        monkeypatch.setenv(variable, str(tmp_path))
    artifact = compile(one_edge(), ("c_source", "numpy_source"))
    assert "no library" in artifact.manifest.provenance["c_source"]
    assert "c_source not checked" in artifact.manifest.provenance
    assert artifact.part("c_source")["model.c"]
    assert not [path for path in artifact.files if path.endswith(".so")]
    assert runtime.load_backend(artifact).outputs == 1
