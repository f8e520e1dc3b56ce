"""Bytes that are no file of ours: the ONNX backend refuses them before onnxruntime sees them."""

from collections.abc import Callable

import onnx
import pytest

from kanserve.errors import FormatError
from kanserve.runtime.onnx_backend import load
from kanserve_exporters.onnx_graph import DOMAIN
from tests.support.networks.onnx_networks import model_bytes


def _changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = onnx.load_from_string(model_bytes("one_edge", "double"))
    change(model)
    return model.SerializeToString()


def _external(tensor: onnx.TensorProto) -> None:
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"


def _subgraph(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.name = "loop"


def _recursive(model: onnx.ModelProto) -> None:
    model.functions[0].node.add(op_type=model.functions[0].name, domain=DOMAIN, input=["v"], output=["again"])


def _renamed_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "z"
    model.graph.node[0].input[0] = "z"


HOSTILE: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "a tensor in another file": (lambda m: _external(m.graph.initializer[0]), "another file"),
    "a constant in another file": (
        lambda m: _external(m.graph.node.add(op_type="Constant", output=["k"]).attribute.add(name="value").t),
        "another file",
    ),
    "a function's constant in another file": (
        lambda m: _external(m.functions[0].node.add(op_type="Constant").attribute.add(name="value").t),
        "another file",
    ),
    "a foreign operator": (lambda m: setattr(m.graph.node[-1], "domain", "com.microsoft"), "domain of an operator"),
    "a foreign function": (lambda m: setattr(m.functions[0], "domain", ""), "domain of a function"),
    "a function that calls itself": (_recursive, "domain of an operator"),
    "a graph within the graph": (_subgraph, "flat graph"),
    "a sparse table": (lambda m: m.graph.sparse_initializer.add().dims.append(1), "plain tensors"),
    "training": (lambda m: m.training_info.add().initialization.__setattr__("name", "t"), "inference"),
    "no function": (lambda m: m.ClearField("functions"), "cannot load"),
    "an unknown operator": (
        lambda m: setattr(m.functions[0].node[-1], "op_type", "Nonsense"),
        "operators that kanserve",
    ),
    "an operator of ours that the file lacks": (
        lambda m: m.graph.node.add(op_type="Loop", domain=DOMAIN, input=["x"], output=["z"]),
        "cannot load",
    ),
    "an operator that makes a tensor of any size": (
        lambda m: m.graph.node.add(op_type="ConstantOfShape", input=["x"], output=["z"]),
        "operators that kanserve",
    ),
    "a function with such an operator": (
        lambda m: m.functions[0].node.add(op_type="Expand", input=["v", "v"], output=["z"]),
        "operators that kanserve",
    ),
    "a function of no domain": (lambda m: m.functions[0].ClearField("domain"), "domain of a function"),
    "another input": (_renamed_input, "must take 'x'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_model_that_is_not_ours_is_refused(name: str) -> None:
    change, message = HOSTILE[name]
    with pytest.raises(FormatError, match=message):
        load({"model.onnx": _changed(change)})


def test_an_operator_that_is_named_twice_must_be_allowed_both_times() -> None:
    # Which of the two counts is the reader's choice. Field 4 is the operator, 7 its domain or, of the model, the graph.
    for fields in (b"\x22\x03Add\x22\x04Tile", b"\x22\x04Tile\x22\x03Add", b"\x22\x04Tile\x3a\x0bai.kanserve\x3a\x00"):
        graph = b"\x0a" + bytes([len(fields)]) + fields
        tail = b"\x3a" + bytes([len(graph)]) + graph
        with pytest.raises(FormatError, match="Tile"):
            load({"model.onnx": model_bytes("one_edge", "float") + tail})


def test_bytes_that_are_no_model_are_refused() -> None:
    whole = model_bytes("one_edge", "float")
    assert load({"model.onnx": whole}).inputs == 1
    for data in (b"", b"junk", whole[: len(whole) // 2], b"\x80" * 20, b"\x18\x00\x00\x00ORTM" + bytes(64)):
        with pytest.raises(FormatError):
            load({"model.onnx": data})
    with pytest.raises(FormatError, match=r"holds model\.onnx"):
        load({"other.onnx": whole})


def test_a_field_number_that_another_parser_would_cut_off_is_refused() -> None:
    """2^32 + the key of the graph: read in 32 bits it is the graph, in 64 an unknown field to be skipped."""
    graph = model_bytes("one_edge", "float")
    for tail in (b"\xba\x80\x80\x80\x10\x00", b"\x3c", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"):
        with pytest.raises(FormatError, match="not an ONNX model"):
            load({"model.onnx": graph + tail})
