"""The formula service: each call a plain function, so that most of this needs no server."""

import copy
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from kanserve import formula, repository
from kanserve.artifact_compiler import compile
from kanserve.errors import FormulaError, InputError, InvalidNameError, NotFoundError
from kanserve.formula.constants.uncertainty_report import Alternative, Evidence
from kanserve.formula.from_network.sources import law
from kanserve.network.evaluate import activations, edges
from kanserve.network.kan import Kan, make_layer
from kanserve.network.signal_shares import signal_shares
from kanserve.network.training_range import finite_rows, ranges, sample
from kanserve.serve.models import catalog as models
from kanserve.serve.models.catalog import LazyFormulas
from kanserve.serve.rpc import formula_service
from kanserve.serve.rpc.formula_service import FUNCTIONS, TEXTS, formula_answer
from kanserve.serve.rpc.network_answer import network_answer
from kanserve.serve.rpc.tensors import encode_array
from kanserve.serve.server import start
from kanserve.serve.settings import Settings
from kanserve.serve.state import ServerState
from kanserve.v1 import formula_pb2 as pb
from kanserve.v1 import formula_pb2_grpc
from tests.support.networks import kans, sized_networks
from tests.support.paths import ROOT
from tests.support.servers import server_states, serving

KINDS = {"Spline": pb.EDGE_KIND_SPLINE, "Symbolic": pb.EDGE_KIND_SYMBOLIC, "Sum": pb.EDGE_KIND_SUM, "Zero": 4}


@pytest.fixture(scope="module")
def state() -> Iterator[ServerState]:
    with server_states.served(serving.folder()) as (made, _):
        yield made


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerState]:
    """Networks with what an edge or a node can be."""
    root = tmp_path_factory.mktemp("zoo")
    for name in ("multiplication", "pruned", "constant", "mixed", "domains"):
        repository.publish(root, name, compile(kans.ZOO[name](), ("numpy_source",)))
    with server_states.served(root) as (made, _):
        yield made


def get_formula(state: ServerState, name: str, *formats: str, version: str = "") -> pb.GetFormulaResponse:
    request = pb.GetFormulaRequest(model_name=name, model_version=version, formats=formats)
    answer = formula_service.get_formula(state, request, server_states.call())
    return pb.GetFormulaResponse.FromString(answer.SerializeToString())


def get_network(state: ServerState, name: str, points: int | None = None, version: str = "") -> pb.GetNetworkResponse:
    request = pb.GetNetworkRequest(model_name=name, model_version=version, curve_points=points)
    answer = formula_service.get_network(state, request, server_states.call())
    return pb.GetNetworkResponse.FromString(answer.SerializeToString())


def differentiate(
    state: ServerState, name: str, rows: pb.Float64Array | None = None, version: str = ""
) -> pb.DifferentiateResponse:
    request = pb.DifferentiateRequest(model_name=name, model_version=version, rows=rows)
    answer = formula_service.differentiate(state, request, server_states.call())
    return pb.DifferentiateResponse.FromString(answer.SerializeToString())


def graph_formula(state: ServerState) -> formula.Formula:
    (one,), _ = state.catalog.find("graph").words.read()
    return one


@pytest.mark.slow
@pytest.mark.parametrize("name", serving.KANS)
def test_the_formula_of_each_output_is_the_one_that_the_network_has(state, name):
    response = get_formula(state, name)
    assert (response.model_name, response.model_version) == (name, "1")
    assert tuple(response.classes) == serving.kan(name).classes
    for got, wanted in zip(response.outputs, formula.formulas(serving.kan(name)), strict=True):
        texts = ("name", "text", "latex", "python", "c", "closed_form", "shortened")
        assert [getattr(got, text) for text in texts] == [getattr(wanted, text) for text in texts]
        assert [(v.name, v.unit, v.low, v.high) for v in got.variables] == [
            (v.name, v.unit, v.low, v.high) for v in wanted.variables
        ]
        assert (got.tables_json == "{}") == got.closed_form


def test_a_formula_says_how_well_it_fits_and_nothing_where_no_data_were_given(state):
    metrics = serving.artifact("raw").manifest.metrics
    assert metrics is not None
    fits = get_formula(state, "raw").outputs
    assert [fit.r2 for fit in fits] == list(metrics.r2)
    assert [fit.rmse for fit in fits] == list(metrics.rmse)
    assert [fit.max_error for fit in fits] == list(metrics.max_error)
    (unknown,) = get_formula(state, "graph").outputs
    assert not any(unknown.HasField(name) for name in ("r2", "rmse", "max_error"))


def test_a_formula_is_written_once_for_each_model(state):
    model = state.catalog.find("raw")
    assert formula_answer(model, (), 2**24) is formula_answer(model, (), 2**24)
    both = get_formula(state, "graph", "rust", "julia")
    assert both == get_formula(state, "graph", "julia", "rust", "rust") and both.functions["rust"]


def test_formulas_that_are_larger_than_a_message_are_refused(state):
    with (
        server_states.state(state.table, Settings(max_message_bytes=100)) as small,
        pytest.raises(FormulaError, match="more than 100 bytes"),
    ):
        get_formula(small, "raw")


def test_formulas_that_are_too_large_are_refused_before_anything_is_built(state):
    """Those of an older kanserve, which wrote 158 MB for a network of [784, 64, 10], and those that are not written."""
    good = state.catalog.find("raw")
    old, none = copy.copy(good.words), copy.copy(good.words)
    old.size, old._packed = 2**24 + 1, b"never read"
    none._packed = b""
    for words, said in ((old, "more than 16777216 bytes"), (none, r"network has \d+ edges.*Simplify it first")):
        model = replace(good, words=words)
        for formats in ((), ("text",), ("c_function",)):
            with pytest.raises(FormulaError, match=said):
                formula_answer(model, formats, 2**24)


def test_only_the_formats_that_are_asked_for_are_given_and_the_tree_always(state):
    (whole,), (some,) = get_formula(state, "graph").outputs, get_formula(state, "graph", "text", "c").outputs
    assert (some.text, some.c, some.expression_json) == (whole.text, whole.c, whole.expression_json)
    assert not some.latex and not some.python and whole.latex and whole.python
    assert list(some.variables) == list(whole.variables)
    assert get_formula(state, "graph", *TEXTS) == get_formula(state, "graph")


def test_the_formulas_of_a_list_are_given_in_the_formats_that_are_asked_for_too(state):
    model = state.catalog.find("graph")
    known = Evidence(alternatives=(Alternative(graph_formula(state), 3.0, 0.5),))
    formulas, _ = model.words.read()
    words = SimpleNamespace(size=0, read=lambda: (formulas, (known,)))
    with server_states.state(
        server_states.Fixed(models.Catalog({"graph": {1: replace(model, words=words)}}, {}))
    ) as searched:
        (one,) = get_formula(searched, "graph", "latex").outputs
        assert one.pareto[0].latex == formulas[0].latex and not one.pareto[0].text
        (one,) = get_formula(searched, "graph", "fortran").outputs
        assert not one.pareto[0].latex and one.pareto[0].expression_json


@pytest.mark.parametrize("language", FUNCTIONS)
def test_a_function_of_all_outputs_is_the_one_that_the_network_gives(state, language):
    response = get_formula(state, "graph", language)
    assert dict(response.functions) == {language: formula.source(serving.kan("graph"), FUNCTIONS[language])}
    assert not response.outputs[0].text


def test_a_network_with_splines_has_no_function_and_no_format_is_made_up(state):
    with pytest.raises(FormulaError, match="splines, which no language can express"):
        get_formula(state, "raw", "text", "fortran")
    with pytest.raises(InputError, match=r"one of text, latex, .*; got 'cobol'"):
        get_formula(state, "raw", "cobol")


def test_a_formula_that_is_too_large_for_a_function_is_refused_before_it_is_looked_at(state):
    one = graph_formula(state)
    long = replace(one, tree=(*one.tree, *[("const", 1.0)] * 100_000))
    with pytest.raises(FormulaError, match="more than 100000 steps"):
        law([long], serving.kan("graph").inputs, serving.kan("graph").outputs, "c")


def test_neither_a_formula_nor_a_function_needs_sympy_or_what_searches_and_writes_formulas():
    code = f"""
import sys
from tests.support.servers import server_states
from kanserve.serve.rpc import formula_service as formulas
from kanserve.v1 import formula_pb2 as pb
with server_states.served({str(serving.folder())!r}) as (state, _):
    asked = pb.GetFormulaRequest(model_name="graph", formats=[*formulas.TEXTS])
    answer = formulas.get_formula(state, asked, server_states.call()).SerializeToString()
    assert pb.GetFormulaResponse.FromString(answer).outputs[0].text
    assert "kanserve.formula.printing.languages" not in sys.modules
    asked.formats.extend(formulas.FUNCTIONS)
    answer = formulas.get_formula(state, asked, server_states.call()).SerializeToString()
    assert len(pb.GetFormulaResponse.FromString(answer).functions) == len(formulas.FUNCTIONS)
    ours = {{"kanserve.formula.to_network.from_formula", "kanserve.formula.constants.nonlinear_fit"}}
    assert not {{"sympy", "torch", "onnx", *ours}} & {{*sys.modules}}
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["multiplication", "pruned", "constant", "mixed", "domains"])
def test_the_nodes_and_edges_are_those_of_the_network(zoo, name):
    kan = kans.ZOO[name]()
    response = get_network(zoo, name, 9)
    assert [variable.name for variable in response.inputs] == [variable.name for variable in kan.inputs]
    values = activations(kan, finite_rows(kan, 500))
    for told, meant, shares, reach in zip(
        response.layers, kan.layers, signal_shares(kan, finite_rows(kan, 500)).edges, values, strict=False
    ):
        assert [tuple(node.subnodes) for node in told.nodes] == [tuple(group) for group in meant.groups]
        assert [(node.scale, node.bias) for node in told.nodes] == list(
            zip(meant.node_scale, meant.node_bias, strict=True)
        )
        assert [subnode.scale for subnode in told.subnodes] == meant.subnode_scale.tolist()
        assert [subnode.bias for subnode in told.subnodes] == meant.subnode_bias.tolist()
        assert len(told.edges) == meant.subnodes * meant.inputs
        for described in told.edges:
            j, i = described.target, described.source
            edge = meant.edge(j, i)
            assert described.kind == KINDS[type(edge).__name__]
            assert described.share == shares[j, i]
            assert described.function == meant.functions[j, i]
            if described.function:
                assert [described.a, described.b, described.c, described.d] == meant.affine[j, i].tolist()
            if described.kind == pb.EDGE_KIND_ZERO:
                assert not described.x and not described.y
                continue
            x = np.array(described.x)
            assert len(x) == 9 and (np.diff(x) > 0).all()
            rows = np.zeros((9, meant.inputs))
            rows[:, i] = x
            np.testing.assert_array_equal(described.y, edges(meant, rows)[:, j, i])
            if reach is not values[0] and np.ptp(reach[:, i]) > 0:
                assert (x[0], x[-1]) == (reach[:, i].min(), reach[:, i].max())
    assert [node.name for node in response.layers[-1].nodes] == [output.name for output in kan.outputs]


def test_the_curves_of_the_inputs_go_over_their_training_ranges(state):
    kan = serving.kan("raw")
    response = get_network(state, "raw")
    for edge in response.layers[0].edges:
        scale, shift = response.input_scale[edge.source], response.input_shift[edge.source]
        ends = [edge.x[0] * scale + shift, edge.x[-1] * scale + shift]
        np.testing.assert_allclose(ends, ranges(kan)[edge.source], rtol=1e-14)
        assert len(edge.x) == len(edge.y) == 65
    assert list(response.output_scale) == kan.output_scale.tolist()
    assert list(response.output_shift) == kan.output_shift.tolist()


def test_curves_are_as_many_points_as_asked_for_within_a_limit(state):
    none = get_network(state, "wide", 0)
    assert all(not edge.x for layer in none.layers for edge in layer.edges)
    with pytest.raises(InputError, match=r"1811 points, got 2000"):  # 576 edges in 2^24 bytes
        get_network(state, "wide", 2000)
    with pytest.raises(InputError, match=r"2048 points, got 4294967295"):
        get_network(state, "raw", 2**32 - 1)


def test_a_network_is_described_once_and_one_that_no_message_holds_is_refused(state):
    model = state.catalog.find("wide")
    assert network_answer(model, None, 2**24) is network_answer(model, None, 2**24)
    few = network_answer(replace(model), None, 2**18)
    assert len(few) <= 2**18 and 0 < len(pb.GetNetworkResponse.FromString(few).layers[0].edges[0].x) < 65
    with pytest.raises(InputError, match="576 edges is too large for a message of 65536 bytes"):
        network_answer(model, None, 2**16)


@pytest.mark.slow
def test_the_network_of_784_64_10_fits_into_a_message_and_takes_a_second(state):
    kan = sized_networks.splines(784, 64, 10)
    model = replace(state.catalog.find("raw"), kan=kan)
    answer = network_answer(model, None, 2**24)
    assert len(answer) <= 2**24
    response = pb.GetNetworkResponse.FromString(answer)
    assert sum(len(layer.edges) for layer in response.layers) == kan.edges == 50_816


def test_a_network_that_is_finite_nowhere_is_drawn_without_shares():
    kan = Kan((make_layer(functions=[["log"]], affine=[[[1.0, -9.0, 1.0, 0.0]]]),))
    good = compile(kans.one_edge(), ("numpy_source",))
    words = LazyFormulas(good, good.kan())
    model = models.Model("m", 1, good.manifest, kan, words, None, "none")  # type: ignore[arg-type]  # not asked to predict
    with server_states.state(server_states.Fixed(models.Catalog({"m": {1: model}}, {}))) as nowhere:
        response = get_network(nowhere, "m", 2)
    (edge,) = response.layers[0].edges
    assert edge.share == 0 and list(edge.x) == [-1, 1] and all(map(math.isnan, edge.y))


def test_a_call_notes_the_model_that_was_found_and_its_rows(state):
    one = server_states.call()
    formula_service.differentiate(
        state, pb.DifferentiateRequest(model_name="raw", rows=encode_array(sample(serving.kan("raw"), 5))), one
    )
    assert (one.model, one.version, one.rows) == ("raw", 1, 5) and one.computed > 0
    missed = server_states.call()
    with pytest.raises(NotFoundError):
        formula_service.get_network(state, pb.GetNetworkRequest(model_name="fox"), missed)
    assert (missed.model, missed.version) == ("", 0)


@pytest.mark.parametrize(("name", "version", "error"), [("fox", "", NotFoundError), ("raw", "x", InvalidNameError)])
def test_a_model_that_is_not_there_has_no_formula_no_network_and_no_derivative(state, name, version, error):
    with pytest.raises(error):
        get_formula(state, name, version=version)
    with pytest.raises(error):
        get_network(state, name, version=version)
    with pytest.raises(error):
        differentiate(state, name, version=version)


def test_the_service_answers_over_the_wire_with_the_codes_of_the_table(state):
    with start(serving.folder(), port=0) as server, grpc.insecure_channel(server.address) as channel:
        stub = formula_pb2_grpc.FormulaServiceStub(channel)
        request = pb.GetFormulaRequest(model_name="graph")
        assert stub.GetFormula(request) == get_formula(state, "graph")
        with pytest.raises(grpc.RpcError) as refused:
            stub.Differentiate(pb.DifferentiateRequest(model_name="raw"))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as missing:
            stub.GetNetwork(pb.GetNetworkRequest(model_name="fox"))
        assert missing.value.code() is grpc.StatusCode.NOT_FOUND
