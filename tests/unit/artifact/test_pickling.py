"""Networks, artifacts, backends and models go through pickles, copies and other processes."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.errors import IntegrityError
from kanserve.estimator import KANRegressor
from kanserve.network.kan import equal
from kanserve.runtime import load_backend
from kanserve.runtime.backend import forget_files
from tests.support.artifacts import small
from tests.support.networks.kans import ZOO, mixed
from tests.support.programs import needs_shared_memory

KINDS = ("c_source", "onnx_graph", "numpy_source")
WAYS: dict[str, Any] = {
    f"protocol {number}": (lambda one, n=number: pickle.loads(pickle.dumps(one, n))) for number in range(2, 6)
}
WAYS["deepcopy"] = copy.deepcopy
WAYS["copy"] = copy.copy


@pytest.fixture(scope="module")
def artifact():
    return kanserve.compile(mixed(), KINDS)


def rows():
    return kanserve.network.training_range.sample(mixed(), 5)


def written(array):
    array[...] = 0


@pytest.mark.parametrize("way", WAYS)
def test_an_unpickled_network_is_equal_and_its_arrays_stay_read_only(way):
    for make in ZOO.values():
        kan = make()
        again = WAYS[way](kan)
        assert equal(again, kan)
        arrays = [
            member
            for part in (again, *again.layers)
            for member in vars(part).values()
            if isinstance(member, np.ndarray)
        ]
        assert len(arrays) >= 14 and not any(array.flags.writeable for array in arrays)
    with pytest.raises(ValueError, match="read-only"):
        written(WAYS[way](kan.layers[0]).coefficients)


@pytest.mark.parametrize("way", WAYS)
def test_an_unpickled_artifact_is_the_same_model(way, artifact):
    again = WAYS[way](artifact)
    assert again.manifest == artifact.manifest and dict(again.files) == dict(artifact.files)
    assert equal(again.kan(), artifact.kan()) and again.signature == artifact.signature


def test_an_artifact_that_was_damaged_on_the_way_is_refused():
    sent = pickle.dumps(small())
    assert sent.count(b"hello") == 1
    with pytest.raises(IntegrityError, match=r"model\.py differs from its checksum"):
        pickle.loads(sent.replace(b"hello", b"hullo"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_an_unpickled_backend_gives_the_same_answers(way, kind, artifact):
    backend = load_backend(artifact, kind)
    again = WAYS[way](backend)
    assert type(again) is type(backend) and again is not backend
    assert np.array_equal(again.predict(rows()), backend.predict(rows()))


def test_a_backend_without_its_files_says_how_to_get_one_that_can_be_pickled(artifact):
    backend = load_backend(artifact, "numpy_source")
    forget_files(backend)
    with pytest.raises(TypeError, match=r"load it with kanserve\.load_model"):
        pickle.dumps(backend)


def test_a_server_keeps_no_files_of_a_backend(artifact):
    from kanserve.serve.models import catalog

    with pytest.raises(TypeError, match="without keeping its files"):
        pickle.dumps(catalog.read(artifact, "mixed", 1).backend)


@pytest.mark.extended
@needs_shared_memory
def test_all_of_them_are_carried_to_another_process(artifact):
    from joblib import Parallel, delayed

    kan, model = mixed(), kanserve.LoadedModel(artifact)
    estimator = KANRegressor.from_kan(kanserve.create([2, 1]))
    callables = [kan, load_backend(artifact, "c_source").predict, model, model.predict, artifact.kan()]
    found = Parallel(n_jobs=2, backend="loky")(delayed(function)(rows()) for function in callables)
    for predicted in found:
        np.testing.assert_allclose(predicted, kan(rows()), rtol=1e-12)
    x = np.zeros((3, 2))
    (answers,) = Parallel(n_jobs=2, backend="loky")([delayed(estimator.predict)(x)])
    np.testing.assert_allclose(answers, estimator.predict(x), rtol=1e-12)
    again = pickle.loads(pickle.dumps(estimator))
    assert not again.kan_.layers[0].coefficients.flags.writeable
