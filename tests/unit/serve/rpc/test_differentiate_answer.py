"""Differentiate: outputs and exact derivatives, by the C of a model or by the reference."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from kanserve import repository
from kanserve.artifact_compiler import compile
from kanserve.client import Client
from kanserve.errors import DeadlineError, TensorError
from kanserve.network.derivatives import derivatives
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan, make_layer
from kanserve.network.training_range import sample
from kanserve.serve.models import catalog as models
from kanserve.serve.rpc import differentiate_answer, formula_service
from kanserve.serve.rpc.tensors import encode_array
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from kanserve.serve.state import ServerState
from kanserve.v1 import formula_pb2 as pb
from tests.support.agreement import assert_grouped_rows_agree
from tests.support.networks.kans import ZOO, rows
from tests.support.servers import server_states, serving


@pytest.fixture(scope="module")
def state() -> Iterator[ServerState]:
    with server_states.served(serving.folder()) as (made, _):
        yield made


def differentiate(
    state: ServerState, name: str, rows: pb.Float64Array | None = None, version: str = "", hessian: bool = False
) -> pb.DifferentiateResponse:
    request = pb.DifferentiateRequest(model_name=name, model_version=version, rows=rows, hessian=hessian)
    answer = formula_service.differentiate(state, request, server_states.call())
    return pb.DifferentiateResponse.FromString(answer.SerializeToString())


def array(message: pb.Float64Array) -> np.ndarray:
    return np.frombuffer(message.values, "<f8").reshape(tuple(message.shape))


@pytest.mark.parametrize("name", serving.KANS)
def test_derivatives_and_values_are_those_of_the_reference(state, name):
    kan, backend = serving.kan(name), state.catalog.find(name).backend
    in_c = getattr(backend, "differentiates", False)
    assert in_c == (name in ("raw", "iris", "wide", "table"))
    x = sample(kan, 7)
    x[2, 1], x[5, -1] = np.nan, 1e9
    response = differentiate(state, name, encode_array(x))
    for got, wanted in ((response.values, evaluate(kan, x)), (response.jacobian, jacobian(kan, x))):
        assert tuple(got.shape) == wanted.shape
        close = 1e-12 * np.nanmax(np.abs(np.where(np.arange(7).reshape(7, *[1] * (wanted.ndim - 1)) == 5, 0, wanted)))
        np.testing.assert_allclose(array(got), wanted, rtol=1e-12 if in_c else 0, atol=close if in_c else 0)
    assert np.isnan(array(response.jacobian)[2]).all() and np.isfinite(array(response.jacobian)[0]).all()
    assert list(response.outside_rows) == [2, 5]


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_an_answer_is_the_message_that_protobuf_would_write(state, count):
    for name in ("raw", "mixed"):
        x = sample(serving.kan(name), max(count, 1))[:count]
        message = differentiate(state, name, encode_array(x))
        request = pb.DifferentiateRequest(model_name=name, rows=encode_array(x))
        answer = formula_service.differentiate(state, request, server_states.call()).SerializeToString()
        assert answer == message.SerializeToString() and len(array(message.values)) == count
        assert not message.HasField("hessian")
        request.hessian = True
        answer = formula_service.differentiate(state, request, server_states.call()).SerializeToString()
        message = pb.DifferentiateResponse.FromString(answer)
        assert answer == message.SerializeToString() and array(message.hessian).shape[2:] == (2, 2)


@pytest.mark.parametrize("name", serving.KANS)
def test_second_derivatives_are_those_of_the_reference_beside_the_first(state, name):
    kan = serving.kan(name)
    x = sample(kan, 7)
    x[2, 1], x[5, -1] = np.nan, 1e9
    if state.catalog.find(name).max_hessian_rows == 0:
        with pytest.raises(TensorError, match="ask without hessian"):
            differentiate(state, name, encode_array(x), hessian=True)
        return
    response, first = (differentiate(state, name, encode_array(x), hessian=wanted) for wanted in (True, False))
    hessian = array(response.hessian)
    assert_grouped_rows_agree(hessian, derivatives(kan, x, order=2))
    assert np.isnan(hessian[2]).all() and np.isfinite(hessian[0]).all()
    np.testing.assert_allclose(hessian, hessian.swapaxes(2, 3), rtol=1e-12, atol=1e-12 * np.nanmax(np.abs(hessian[:5])))
    response.ClearField("hessian")
    assert response == first


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", sorted(ZOO))
def test_the_zoo_has_second_derivatives_with_nan_where_the_reference_has_it(tmp_path, name):
    kan = ZOO[name]()
    x = rows(kan)[:30]
    repository.publish(tmp_path, "one", compile(kan, ("numpy_source",)))
    with server_states.served(tmp_path) as (state, _):
        hessian = array(differentiate(state, "one", encode_array(x), hessian=True).hessian)
    assert_grouped_rows_agree(hessian, derivatives(kan, x, order=2))
    assert np.isnan(hessian[np.isnan(evaluate(kan, x)).any(axis=1)]).all()
    fine = np.isfinite(hessian).all(axis=(1, 2, 3))
    size = np.abs(hessian[fine]).max(initial=0.0)
    np.testing.assert_allclose(hessian[fine], hessian[fine].swapaxes(2, 3), rtol=1e-9, atol=1e-12 * size)


def test_second_derivatives_come_in_parts_and_only_as_many_as_a_message_holds(state, monkeypatch):
    kan = serving.kan("mixed")
    x = sample(kan, 100)
    model = state.catalog.find("mixed")
    monkeypatch.setattr(models, "VALUES_AT_A_TIME", 28)
    small = replace(model, limits=replace(model.limits, max_message_bytes=2**16 + 8 * 7 * 20 * 3))
    widest = max(layer.subnodes for layer in kan.layers)
    assert small.max_hessian_rows == 60 // widest
    with server_states.state(server_states.Fixed(models.Catalog({"mixed": {1: small}}, {}))) as few:
        part = x[: small.max_hessian_rows]
        got = differentiate(few, "mixed", encode_array(part), hessian=True)
        assert_grouped_rows_agree(array(got.hessian), derivatives(kan, part, order=2))
        with pytest.raises(TensorError, match=f"{len(part)} rows in one request, got {len(part) + 1}"):
            differentiate(few, "mixed", encode_array(x[: len(part) + 1]), hessian=True)
        request = pb.DifferentiateRequest(model_name="mixed", rows=encode_array(part), hessian=True)
        left = server_states.call()
        left.alive = iter([True] * (len(part) // 7 + 2) + [False] * 99).__next__
        with pytest.raises(DeadlineError, match="before all rows"):
            formula_service.differentiate(few, request, left)
    none = replace(model, limits=replace(model.limits, max_message_bytes=2**16 + 100))
    with server_states.state(server_states.Fixed(models.Catalog({"mixed": {1: none}}, {}))) as few:
        with pytest.raises(TensorError, match="take more than a message holds"):
            differentiate(few, "mixed", encode_array(x[:1]), hessian=True)
        assert array(differentiate(few, "mixed", encode_array(x[:1])).jacobian).shape == (1, 1, 2)


def test_a_derivative_that_is_not_finite_is_the_references_and_leaves_the_other_numbers(tmp_path):
    """C says NaN for all derivatives of such a row."""
    kan = Kan((make_layer(functions=[["sqrt", "x"]]),))
    repository.publish(tmp_path, "root", compile(kan, ("c_source",)))
    x = np.array([[4.0, 1.0], [0.0, 1.0], [-1.0, 1.0]])
    with server_states.served(tmp_path) as (state, _):
        response = differentiate(state, "root", encode_array(x))
    np.testing.assert_array_equal(array(response.values), evaluate(kan, x))  # no products: the same bits
    np.testing.assert_array_equal(array(response.jacobian), jacobian(kan, x))
    assert array(response.jacobian)[0].tolist() == [[0.25, 1.0]] and array(response.jacobian)[1, 0, 0] == math.inf


@pytest.mark.extended
def test_second_derivatives_come_from_c_where_an_artifact_has_them(tmp_path, monkeypatch):
    """Over the wire, and only rows with some that are not finite from the reference: C says NaN for all of these."""
    kan, power = serving.kan("mixed"), Kan((make_layer(functions=[["x^(4/3)", "sin"]]),))
    for name, one in (("mixed", kan), ("power", power)):
        repository.publish(tmp_path, name, compile(one, ("c_source",), options=ExportOptions(hessian=True)))
    asked = []

    def reference(network: Kan, x: np.ndarray, order: int) -> np.ndarray:
        asked.extend(x.tolist())
        return derivatives(network, x, order=order)

    monkeypatch.setattr(differentiate_answer, "derivatives", reference)
    x = sample(kan, 7)
    wanted = derivatives(kan, x, order=2)
    zero = np.array([[4.0, 1.0], [0.0, 1.0], [2.0, 3.0]])
    with start(Settings(str(tmp_path), port=0)) as server, Client(server.address) as client:
        values, slopes, second = client.differentiate("mixed", x, hessian=True)
        assert not asked
        first = client.differentiate("mixed", x)
        _, _, other = client.differentiate("power", zero, hessian=True)
    assert np.array_equal(values, first[0]) and np.array_equal(slopes, first[1])
    np.testing.assert_allclose(second, wanted, rtol=1e-11, atol=1e-11 * np.abs(wanted).max())
    assert asked == [[0.0, 1.0]]
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(other, derivatives(power, zero, order=2), rtol=1e-12)


def test_the_derivative_is_the_slope_of_what_the_model_answers(state):
    """In raw units: a wrong scale of an input or an output would show."""
    model = state.catalog.find("raw")
    x, step = sample(model.kan, 5, seed=2), np.array([1e-4, 1e-2])
    jacobian = array(differentiate(state, "raw", encode_array(x)).jacobian)
    for i in range(2):
        move = np.zeros(2)
        move[i] = step[i]
        slope = (model.backend.predict(x + move) - model.backend.predict(x - move)) / (2 * step[i])
        np.testing.assert_allclose(jacobian[:, :, i], slope, rtol=1e-4, atol=1e-6)


def test_many_rows_are_differentiated_in_parts_and_too_many_refused(state, monkeypatch):
    kan = serving.kan("mixed")
    x = sample(kan, 100)
    rows = encode_array(x)
    model = state.catalog.find("mixed")
    monkeypatch.setattr(models, "VALUES_AT_A_TIME", 28)
    small = replace(model)
    assert small.rows_at_a_time == 7
    with server_states.state(server_states.Fixed(models.Catalog({"mixed": {1: small}}, {}))) as few:
        assert_grouped_rows_agree(array(differentiate(few, "mixed", rows).jacobian), jacobian(kan, x))
        request, left = pb.DifferentiateRequest(model_name="mixed", rows=rows), server_states.call()
        left.alive = iter([True, True, False]).__next__
        with pytest.raises(DeadlineError, match="before all rows"):
            formula_service.differentiate(few, request, left)
    rows.shape[0] = 8193
    with pytest.raises(TensorError, match=r"8192 rows in one request, got 8193"):
        differentiate(state, "mixed", rows)


@pytest.mark.parametrize(
    ("shape", "size", "text"),
    [
        ([2, 3], 48, r"shape \[rows, 2\], got \[2, 3\]"),
        ([4], 32, r"shape \[rows, 2\], got \[4\]"),
        ([-1, 2], 0, r"shape \[rows, 2\], got \[-1, 2\]"),
        ([2, 2], 31, "32 bytes, got 31"),
        ([2**62, 2], 0, "8192 rows"),
    ],
)
def test_rows_that_are_none_are_refused_with_what_was_wanted_and_got(state, shape, size, text):
    rows = pb.Float64Array(shape=shape, values=bytes(size))
    with pytest.raises(TensorError, match=text):
        differentiate(state, "raw", rows)
