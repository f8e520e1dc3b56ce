"""The compiled operators without onnxruntime around them: the numbers of the session, and only where it is sure."""

import gc
import threading
import weakref
from dataclasses import replace

import numpy as np
import onnx
import pytest

from kanserve import native
from kanserve.network.encoding import encodes
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan
from kanserve.runtime import _onnx_chain as chains
from kanserve.runtime.onnx_backend import OnnxBackend, load
from kanserve_exporters.onnx_graph import export
from tests.support.networks.kans import ZOO, rows

pytestmark = pytest.mark.skipif(
    native.operators() is None, reason="needs libonnxruntime-dev: no onnxruntime_c_api.h at the install"
)


def model(network: Kan, precision: str = "double") -> bytes:
    (data,) = export(network, ExportOptions(precision=precision)).values()  # type: ignore[arg-type]  # one of two
    return data


def loaded(network: Kan, precision: str = "double", threads: int = 1) -> OnnxBackend:
    return load({"model.onnx": model(network, precision)}, threads=threads)


@pytest.mark.parametrize("precision", [pytest.param("double", marks=pytest.mark.extended), "float"])
@pytest.mark.parametrize("name", sorted(ZOO))
def test_a_chain_gives_the_numbers_of_its_session_to_the_last_bit(name, precision):
    network = ZOO[name]()
    backend = loaded(network, precision)
    alone = replace(backend, chain=None)
    if backend.native:
        assert (backend.chain is not None) is not encodes(network)  # which has operators before the layers
    x = np.resize(rows(network), (600, len(network.inputs))).astype(backend.dtype)
    x[7] = np.nan
    for count in (0, 1, 2, 255, 256, 257, 600):
        np.testing.assert_array_equal(backend.predict(x[:count]), alone.predict(x[:count]))
    np.testing.assert_array_equal(backend.predict(x[::2]), alone.predict(x[::2]))


def splines() -> Kan:
    return next(
        kan for kan in (make() for make in ZOO.values()) if loaded(kan).chain is not None and len(kan.layers) > 1
    )


def test_several_threads_share_a_chain():
    network = splines()
    backend = loaded(network)
    x = rows(network)
    wanted = [backend.predict(x[n : n + 1]) for n in range(len(x))]
    wrong: list[int] = []

    def ask(start: int) -> None:
        for n in range(start, start + 400):
            if not np.array_equal(backend.predict(x[n % len(x)][None]), wanted[n % len(x)], equal_nan=True):
                wrong.append(n)

    threads = [threading.Thread(target=ask, args=(7 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_chain_lives_as_long_as_its_session_and_no_longer():
    backend = loaded(splines())
    session, chain = weakref.ref(backend.session), backend.chain
    del backend
    gc.collect()
    assert session() is not None and chain is not None
    del chain
    gc.collect()
    assert session() is None


def test_many_rows_are_shared_among_threads_by_onnxruntime():
    backend = loaded(splines(), threads=2)
    assert backend.chain is not None and backend.chained == chains.SHARE


def test_a_file_that_holds_more_than_a_chain_has_none():
    network = splines()
    made = onnx.load_from_string(model(network))
    (last,) = (node for node in made.graph.node if list(node.output) == ["y"])
    last.output[0] = "before"
    made.graph.node.append(onnx.helper.make_node("Neg", ["before"], ["y"]))
    backend = load({"model.onnx": made.SerializeToString()})
    assert backend.chain is None
    x = rows(network)
    np.testing.assert_array_equal(backend.predict(x), -loaded(network).predict(x))


def test_kernels_that_are_not_those_of_the_file_make_no_chain():
    network = splines()
    backend = loaded(network)
    with pytest.raises(ValueError, match="there are no kernels"):
        chains.Chain(backend.session, [], [], backend.dtype)
    assert backend.chain is not None
    kernels = list(backend.chain._kernels)
    with pytest.raises(ValueError, match="not what the file says"):
        chains.Chain(backend.session, kernels, [b"CardinalCubic"] * (len(kernels) + 1), backend.dtype)


def test_the_operators_work_where_they_were_built_before_there_was_a_chain(monkeypatch):
    network = splines()
    wanted = loaded(network).predict(rows(network))
    monkeypatch.setattr(chains, "_open", lambda path: None)
    backend = loaded(network)
    assert backend.chain is None and backend.native
    np.testing.assert_array_equal(backend.predict(rows(network)), wanted)
