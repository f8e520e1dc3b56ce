"""`kanserve.load_model`: a published model in this process, from each kind of path."""

import numpy as np
import pytest

import kanserve
from kanserve.errors import DataError, InputError, NotFoundError, SignatureError
from kanserve.network.kan import Kan, equal
from tests.support.networks.kans import mixed

LINE = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for kan in (kanserve.from_formula("3*x", ranges={"x": (0, 1)}), LINE):
        kanserve.publish(folder, "line", kanserve.compile(kan, ["numpy_source", "c_source"], name="line"))
    return folder


def test_a_version_a_model_and_a_repository_are_each_a_path(root):
    for model in (
        kanserve.load_model(root / "line" / "2"),
        kanserve.load_model(str(root / "line")),
        kanserve.load_model(root),
        kanserve.load_model(root, "line"),
        kanserve.load_model(root, "line", 2),
    ):
        assert model.predict([[0.5]]).tolist() == [[2.0]]
    assert kanserve.load_model(root, version=1).predict([[0.5]]).tolist() == [[1.5]]


def test_a_model_has_its_network_formulas_and_manifest_and_says_what_runs_it(root):
    model = kanserve.load_model(root)
    assert equal(model.kan, LINE)
    assert model.formulas[0].text == "2*x + 1"
    assert model.manifest.name == "line" and model.backend == "c_source"
    assert repr(model) == "LoadedModel('line', Kan(1-1, 1 edges, inputs x), c_source)"
    assert kanserve.load_model(root, backend="numpy_source").backend == "numpy_source"


def test_a_model_is_called_like_its_network(root):
    model = kanserve.load_model(root)
    x = np.linspace(0, 1, 7)[:, None]
    np.testing.assert_allclose(model(x), LINE(x), rtol=1e-12)
    assert np.array_equal(model.predict(x), model(x))
    assert model.predict(x.astype(np.float32)).dtype == np.float64


def test_rows_of_another_shape_or_of_text_are_refused(root):
    model = kanserve.load_model(root)
    for wrong in ([[1.0, 2.0]], [1.0], [["a"]], np.zeros((1, 2)), np.zeros(1)):
        with pytest.raises(DataError, match="Rows must"):
            model.predict(wrong)


def test_a_classifier_predicts_labels(tmp_path):
    scores = kanserve.from_formula({"low": "1 - x", "high": "x"}, ranges={"x": (0, 1)})
    kan = Kan(scores.layers, scores.inputs, classes=("low", "high"))
    model = kanserve.LoadedModel(kanserve.compile(kan, ["numpy_source"]))
    assert model.predict([[0.1], [0.9], [np.nan]]).tolist() == ["low", "high", ""]
    assert model([[0.25]]).tolist() == [[0.75, 0.25]]


def test_what_cannot_be_loaded_is_one_line_that_says_what_to_do(root, tmp_path):
    file = tmp_path / "kan.safetensors"
    mixed().save(file)
    with pytest.raises(InputError, match=r"kanserve\.load reads a network"):
        kanserve.load_model(file)
    with pytest.raises(InputError, match="leave out name and version"):
        kanserve.load_model(root / "line" / "2", version=1)
    with pytest.raises(NotFoundError, match="does not exist"):
        kanserve.load_model(tmp_path / "nothing")
    with pytest.raises(NotFoundError, match="no version 9"):
        kanserve.load_model(root, version=9)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="holds no model"):
        kanserve.load_model(tmp_path / "empty")
    for name in ("one", "two"):
        kanserve.publish(tmp_path / "many", name, kanserve.compile(LINE, ["numpy_source"]))
    with pytest.raises(InputError, match="has 2 models; say which one by name: one, two"):
        kanserve.load_model(tmp_path / "many")


def test_a_signature_may_be_demanded(root):
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from kanserve.artifact.signing import Verifier

    verifier = Verifier((Ed25519PrivateKey.generate().public_key(),))
    for path in (root, root / "line", root / "line" / "2"):
        with pytest.raises(SignatureError, match="not signed"):
            kanserve.load_model(path, trusted=verifier)
