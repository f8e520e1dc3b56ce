"""The formula service: each call a plain function, so that most of this needs no server."""

import math
from dataclasses import replace

import grpc
import numpy as np
import pytest

from kanserve import formula, repository
from kanserve.compiler import compile
from kanserve.errors import FormulaError, InputError, InvalidNameError, NotFoundError, TensorError
from kanserve.importance import importance
from kanserve.ir import Kan, layer
from kanserve.ranges import finite_rows, ranges, sample
from kanserve.reference import activations, derivative, edges, evaluate
from kanserve.serve import formulas, models
from kanserve.serve.formulas import differentiate, get_formula, get_network
from kanserve.serve.models import Catalog
from kanserve.serve.server import start
from kanserve.serve.tensors import encode_array
from kanserve.v1 import formula_pb2 as pb
from kanserve.v1 import formula_pb2_grpc
from tests import kans, serving

KINDS = {"Spline": pb.EDGE_KIND_SPLINE, "Symbolic": pb.EDGE_KIND_SYMBOLIC, "Sum": pb.EDGE_KIND_SUM, "Zero": 4}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return models.load(serving.folder())


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Networks with what an edge or a node can be."""
    root = tmp_path_factory.mktemp("zoo")
    for name in ("multiplication", "pruned", "constant", "mixed", "domains"):
        repository.publish(root, name, compile(kans.ZOO[name](), ("numpy_source",)))
    return models.load(root)


def array(message: pb.Float64Array) -> np.ndarray:
    return np.frombuffer(message.values, "<f8").reshape(tuple(message.shape))


@pytest.mark.parametrize("name", serving.KANS)
def test_the_formula_of_each_output_is_the_one_that_the_network_has(catalog, name):
    response = get_formula(catalog, pb.GetFormulaRequest(model_name=name))
    assert (response.model_name, response.model_version) == (name, "1")
    assert tuple(response.classes) == serving.kan(name).classes
    for got, wanted in zip(response.outputs, formula.formulas(serving.kan(name)), strict=True):
        texts = ("name", "text", "latex", "python", "c", "closed_form", "shortened")
        assert [getattr(got, one) for one in texts] == [getattr(wanted, one) for one in texts]
        assert [(v.name, v.unit, v.low, v.high) for v in got.variables] == [
            (v.name, v.unit, v.low, v.high) for v in wanted.variables
        ]
        assert (got.tables_json == "{}") == got.closed_form


def test_a_formula_says_how_well_it_fits_and_nothing_where_no_data_were_given(catalog):
    metrics = serving.artifact("raw").manifest.metrics
    assert metrics is not None
    fits = get_formula(catalog, pb.GetFormulaRequest(model_name="raw")).outputs
    assert [one.r2 for one in fits] == list(metrics.r2)
    assert [one.rmse for one in fits] == list(metrics.rmse)
    assert [one.max_error for one in fits] == list(metrics.max_error)
    (unknown,) = get_formula(catalog, pb.GetFormulaRequest(model_name="graph")).outputs
    assert not any(unknown.HasField(one) for one in ("r2", "rmse", "max_error"))


def test_a_formula_is_written_once_for_each_model_and_so_is_why_there_is_none(catalog, monkeypatch):
    asked = pb.GetFormulaRequest(model_name="raw")
    assert get_formula(catalog, asked) is get_formula(catalog, asked)
    large = models.Catalog({"raw": {1: replace(catalog.find("raw"))}}, {})
    monkeypatch.setattr(formulas, "MAX_MESSAGE_BYTES", 100)
    for _ in range(2):
        with pytest.raises(FormulaError, match="more than 100 bytes"):
            get_formula(large, asked)
        monkeypatch.setattr(formulas, "to_json", None)  # written again, it would fail


@pytest.mark.parametrize("name", ["multiplication", "pruned", "constant", "mixed", "domains"])
def test_the_nodes_and_edges_are_those_of_the_network(zoo, name):
    kan = kans.ZOO[name]()
    response = get_network(zoo, pb.GetNetworkRequest(model_name=name, curve_points=9))
    assert [one.name for one in response.inputs] == [one.name for one in kan.inputs]
    values = activations(kan, finite_rows(kan, 500))
    for told, meant, shares, reach in zip(
        response.layers, kan.layers, importance(kan, finite_rows(kan, 500)).edges, values, strict=False
    ):
        assert [tuple(one.subnodes) for one in told.nodes] == [tuple(group) for group in meant.groups]
        assert [(one.scale, one.bias) for one in told.nodes] == list(
            zip(meant.node_scale, meant.node_bias, strict=True)
        )
        assert [one.scale for one in told.subnodes] == meant.subnode_scale.tolist()
        assert [one.bias for one in told.subnodes] == meant.subnode_bias.tolist()
        assert len(told.edges) == meant.subnodes * meant.inputs
        for one in told.edges:
            j, i = one.target, one.source
            edge = meant.edge(j, i)
            assert one.kind == KINDS[type(edge).__name__]
            assert one.share == shares[j, i]
            assert one.function == meant.functions[j, i]
            if one.function:
                assert [one.a, one.b, one.c, one.d] == meant.affine[j, i].tolist()
            if one.kind == pb.EDGE_KIND_ZERO:
                assert not one.x and not one.y
                continue
            x = np.array(one.x)
            assert len(x) == 9 and (np.diff(x) > 0).all()
            rows = np.zeros((9, meant.inputs))
            rows[:, i] = x
            np.testing.assert_array_equal(one.y, edges(meant, rows)[:, j, i])
            if reach is not values[0] and np.ptp(reach[:, i]) > 0:
                assert (x[0], x[-1]) == (reach[:, i].min(), reach[:, i].max())
    assert [one.name for one in response.layers[-1].nodes] == [one.name for one in kan.outputs]


def test_the_curves_of_the_inputs_go_over_their_training_ranges(catalog):
    kan = serving.kan("raw")
    response = get_network(catalog, pb.GetNetworkRequest(model_name="raw"))
    for edge in response.layers[0].edges:
        scale, shift = response.input_scale[edge.source], response.input_shift[edge.source]
        ends = [edge.x[0] * scale + shift, edge.x[-1] * scale + shift]
        np.testing.assert_allclose(ends, ranges(kan)[edge.source], rtol=1e-14)
        assert len(edge.x) == len(edge.y) == 65
    assert list(response.output_scale) == kan.output_scale.tolist()
    assert list(response.output_shift) == kan.output_shift.tolist()


def test_curves_are_as_many_points_as_asked_for_within_a_limit(catalog):
    none = get_network(catalog, pb.GetNetworkRequest(model_name="wide", curve_points=0))
    assert all(not edge.x for layer in none.layers for edge in layer.edges)
    with pytest.raises(InputError, match=r"1180 points, got 2000"):  # 888 edges, 2^20 values in all
        get_network(catalog, pb.GetNetworkRequest(model_name="wide", curve_points=2000))
    with pytest.raises(InputError, match=r"2048 points, got 4294967295"):
        get_network(catalog, pb.GetNetworkRequest(model_name="raw", curve_points=2**32 - 1))


def test_a_network_that_is_finite_nowhere_is_drawn_without_shares():
    kan = Kan((layer(functions=[["log"]], affine=[[[1.0, -9.0, 1.0, 0.0]]]),))
    good = compile(kans.one_edge(), ("numpy_source",))
    model = models.Model("m", 1, good.manifest, kan, good.formulas, None, "none")  # type: ignore[arg-type]  # not asked to predict
    response = get_network(models.Catalog({"m": {1: model}}, {}), pb.GetNetworkRequest(model_name="m", curve_points=2))
    (edge,) = response.layers[0].edges
    assert edge.share == 0 and list(edge.x) == [-1, 1] and all(map(math.isnan, edge.y))


@pytest.mark.parametrize("name", serving.KANS)
def test_derivatives_and_values_are_those_of_the_reference(catalog, name):
    kan = serving.kan(name)
    x = sample(kan, 7)
    x[2, 0], x[5, -1] = np.nan, 1e9
    response = differentiate(catalog, pb.DifferentiateRequest(model_name=name, rows=encode_array(x)))
    np.testing.assert_array_equal(array(response.values), evaluate(kan, x))
    np.testing.assert_array_equal(array(response.jacobian), derivative(kan, x))
    assert np.isnan(array(response.jacobian)[2]).all() and np.isfinite(array(response.jacobian)[0]).all()
    assert list(response.outside_rows) == [2, 5]


def test_the_derivative_is_the_slope_of_what_the_model_answers(catalog):
    """In raw units: a wrong scale of an input or an output would show."""
    model = catalog.find("raw")
    x, step = sample(model.kan, 5, seed=2), np.array([1e-4, 1e-2])
    jacobian = array(differentiate(catalog, pb.DifferentiateRequest(model_name="raw", rows=encode_array(x))).jacobian)
    for i in range(2):
        move = np.zeros(2)
        move[i] = step[i]
        slope = (model.backend.predict(x + move) - model.backend.predict(x - move)) / (2 * step[i])
        np.testing.assert_allclose(jacobian[:, :, i], slope, rtol=1e-4, atol=1e-6)


def test_many_rows_are_differentiated_in_parts_and_too_many_refused(catalog, monkeypatch):
    kan = serving.kan("mixed")
    x = sample(kan, 100)
    request = pb.DifferentiateRequest(model_name="mixed", rows=encode_array(x))
    monkeypatch.setattr(models, "VALUES_AT_A_TIME", 28)
    small = models.load(serving.folder()).find("mixed")
    assert small.rows_at_a_time == 7
    response = differentiate(models.Catalog({"mixed": {1: small}}, {}), request)
    np.testing.assert_array_equal(array(response.jacobian), derivative(kan, x))
    request.rows.shape[0] = 8193
    with pytest.raises(TensorError, match=r"8192 rows in one request, got 8193"):
        differentiate(catalog, request)


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
def test_rows_that_are_none_are_refused_with_what_was_wanted_and_got(catalog, shape, size, text):
    rows = pb.Float64Array(shape=shape, values=bytes(size))
    with pytest.raises(TensorError, match=text):
        differentiate(catalog, pb.DifferentiateRequest(model_name="raw", rows=rows))


@pytest.mark.parametrize(("name", "version", "error"), [("fox", "", NotFoundError), ("raw", "x", InvalidNameError)])
def test_a_model_that_is_not_there_has_no_formula_no_network_and_no_derivative(catalog, name, version, error):
    with pytest.raises(error):
        get_formula(catalog, pb.GetFormulaRequest(model_name=name, model_version=version))
    with pytest.raises(error):
        get_network(catalog, pb.GetNetworkRequest(model_name=name, model_version=version))
    with pytest.raises(error):
        differentiate(catalog, pb.DifferentiateRequest(model_name=name, model_version=version))


def test_the_service_answers_over_the_wire_with_the_codes_of_the_table(catalog):
    with start(serving.folder(), port=0) as server, grpc.insecure_channel(server.address) as channel:
        stub = formula_pb2_grpc.FormulaServiceStub(channel)
        request = pb.GetFormulaRequest(model_name="graph")
        assert stub.GetFormula(request) == get_formula(catalog, request)
        with pytest.raises(grpc.RpcError) as refused:
            stub.Differentiate(pb.DifferentiateRequest(model_name="raw"))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as missing:
            stub.GetNetwork(pb.GetNetworkRequest(model_name="fox"))
        assert missing.value.code() is grpc.StatusCode.NOT_FOUND
