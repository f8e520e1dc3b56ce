"""Inputs for the fuzzers of the kernels to begin with: what networks of the zoo make of them, in the format of each."""

import struct
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from kanserve.network.evaluate import activations
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Layer
from kanserve.train.torch.basis_tensor import HEAD, pieces, table_of
from kanserve_exporters import onnx_graph
from tests.support.networks.kans import ZOO, rows

LARGEST = 20_000  # bytes of an input
# As in fuzz_operators.c and operator.c.
_NAMES = [
    "weights",
    "bias",
    "lowest",
    "highest",
    "spline_inputs",
    "groups",
    "node_scale",
    "node_bias",
    "input_shift",
    "input_scale",
    "middles",
    "steps",
    "middles_rest",
    "steps_rest",
    "spline_weights",
    "lows",
    "breaks",
    "origins",
    "polynomials",
    "basis0",
    "basis1",
    "basis2",
    "basis3",
    "basis4",
    "basis5",
    "basis6",
    "basis7",
    "basis8",
]
_BASES = ("zero", "silu", "identity")
_KINDS = [
    "CardinalLinear",
    "CardinalQuadratic",
    "CardinalCubic",
    "CardinalQuartic",
    "CardinalQuintic",
    "LocalPolynomials",
    "LocalBasis",
]
_NUMBERED = 8
_INT64 = 8


# As in fuzz_layer.c and fuzz_descent.c.
_IS_DOUBLE, _WEIGHTED, _WITH_BASE, _AFFINE = 1, 4, 8, 16
_TAME, _MANY_ROWS, _KEEP_BASIS, _THREADS = 1, 2, 4, 8
_SPECIAL = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-310, 1e300, -1e300, np.inf, -np.inf, np.nan)


def layers() -> Iterator[bytes]:
    """The zoo's layers of splines in both precisions with some rows; and small ones of any shape, of tame numbers."""
    for make in ZOO.values():
        kan = make()
        for layer, x in zip(kan.layers, activations(kan, rows(kan)[:4]), strict=False):
            if layer.spline_mask.any():
                for number in (0, 1):
                    made = _layer(layer, x, number)
                    if len(made) <= LARGEST:
                        yield made
    generator = np.random.default_rng(0)
    for how in range(64):
        yield bytes([how | 2]) + generator.bytes(60)


def _layer(layer: Layer, x: NDArray[np.float64], is_double: int) -> bytes:
    dtype = np.float64 if is_double else np.float32
    outputs, inputs, functions = layer.coefficients.shape
    table = table_of(layer)
    count = pieces(table.shape[1], layer.order)
    base = ("zero", "silu", "identity").index(layer.base)
    how = is_double * _IS_DOUBLE | _WEIGHTED | _WITH_BASE | _AFFINE
    sizes = [inputs - 1, outputs - 1, layer.order - 1, functions - layer.order - 1, count - 2, base, len(x), 0, 1]
    first = table[:, HEAD + 2 * count - 1 : HEAD + 3 * count - 1].astype(np.uint8)
    uniform = np.ones((inputs, 1 if layer.order == 3 else 0), np.uint8)
    gradient = np.ones((len(x), outputs))
    weights = [layer.base_weight] if base else []
    affine = [np.ones(outputs), np.zeros(outputs)] * 2
    after = [array.astype(dtype).tobytes() for array in (*weights, x, gradient, gradient, *affine)]
    before = [table.astype(dtype).tobytes(), np.hstack([uniform, first]).tobytes()]
    numbers = [array.astype(dtype).tobytes() for array in (layer.coefficients, x)]
    return bytes([how, *(size % 256 for size in sizes)]) + b"".join([*before, *numbers, b"\0", *after, b"\0"])


def descents() -> Iterator[bytes]:
    """Networks of any shape: of tame numbers, and with special ones among the others."""
    generator = np.random.default_rng(0)
    for number in range(96):
        how = (number % 2 * _TAME) | _KEEP_BASIS * (number // 2 % 2)
        how |= _MANY_ROWS * (number % 16 == 5) | _THREADS * (number % 16 == 9)
        shape = bytes([how]) + generator.bytes(120)
        yield shape + (b"" if how & _TAME else generator.choice(_SPECIAL, 300).tobytes())


def operators() -> Iterator[bytes]:
    """The nodes of the zoo's ONNX files in both precisions, with some rows."""
    for make in ZOO.values():
        kan = make()
        for number, precision in enumerate(("float", "double")):
            (data,) = onnx_graph.export(kan, ExportOptions(precision=precision)).values()  # type: ignore[arg-type]
            graph = onnx.load_from_string(data).graph
            nodes = [_node(graph, node, number) for node in graph.node if _kind(node) is not None][:3]
            x = rows(kan)[:20].astype((np.float32, np.float64)[number])
            if nodes and sum(map(len, nodes)) + x.nbytes < LARGEST:
                yield _operators(nodes, x)
    yield from _local_nodes()


def _operators(nodes: list[bytes], x: NDArray[np.generic]) -> bytes:
    return struct.pack("<BHBB", 0, len(x), 0, len(nodes) - 1) + b"".join(nodes) + x.tobytes()


def _local_nodes() -> Iterator[bytes]:
    """Kinds of layers that only larger networks have, small ones of them."""
    generator = np.random.default_rng(0)
    lows, steps = np.array([-1.0, 0.0]), np.array([0.5, 1.0])
    grids = ({"breaks": lows[:, None] + steps[:, None] * np.arange(3)}, {"lows": lows, "steps": steps})
    origins = lows[:, None] + steps[:, None] * np.array([0, 0, 1, 2])
    affine = {"weights": generator.normal(size=(2, 3)), "bias": generator.normal(size=3)}
    basis = {f"basis{power}": np.zeros((2, 4, 4)) for power in (1, 0)}
    for piece in range(4):
        for table in basis.values():
            table[:, piece, min(piece, 2) : min(piece, 2) + 2] = generator.normal(size=(2, 2))
    kinds = (
        (_KINDS.index("LocalPolynomials"), {"polynomials": generator.normal(size=(16, 3))}),
        (_KINDS.index("LocalBasis"), {"spline_weights": generator.normal(size=(8, 3)), **basis}),
    )
    x = generator.normal(size=(5, 2))
    for kind, splines in kinds:
        for grid in grids:
            tables = {"origins": origins, **grid, **splines, **affine}
            for number, dtype in enumerate((np.float32, np.float64)):
                node = _described(kind, 0, number, 1, "silu", {name: tables[name].astype(dtype) for name in tables})
                yield _operators([node], x.astype(dtype))
    # So many products that threads share the rows. After the input's end all numbers are 0, as those here.
    sizes = {"origins": (40, 2), "breaks": (40, 1), "weights": (40, 40), "bias": (40,), "polynomials": (160, 40)}
    many = {name: np.zeros(shape, np.float32) for name, shape in sizes.items()}
    yield _operators([_described(kinds[0][0], 0, 0, 1, "zero", many)], np.zeros((600, 0))).rstrip(b"\0")


def _kind(node: onnx.NodeProto) -> tuple[int, int] | None:
    """The position of a node's operator among the kinds, and its number from 0."""
    name = node.op_type.rstrip("0123456789")
    return (_KINDS.index(name), int(node.op_type[len(name) :] or 1) - 1) if name in _KINDS else None


def _node(graph: onnx.GraphProto, node: onnx.NodeProto, is_double: int) -> bytes:
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    names = attributes["tables"].decode().split(",")
    tables = {name: constants[given] for name, given in zip(names, node.input[1:], strict=True)}
    kind, number = _kind(node) or (0, 0)
    return _described(kind, number, is_double, attributes["order"], attributes["base"].decode(), tables)


def _described(
    kind: int, number: int, is_double: int, order: int, base: str, tables: Mapping[str, NDArray[np.generic]]
) -> bytes:
    """A node as fuzz_operators.c reads it."""
    head = [(kind * _NUMBERED + number) * 2 + is_double, order, _BASES.index(base), len(tables)]
    return bytes(head) + b"".join(_table(name, values) for name, values in tables.items()) + b"\0"


def _table(name: str, values: NDArray[np.generic]) -> bytes:
    number = _NAMES.index(name) if name in _NAMES else len(_NAMES)
    how = values.ndim | (_INT64 if values.dtype == np.int64 else 0)
    return bytes([number, how]) + struct.pack(f"<{values.ndim}H", *values.shape) + values.tobytes()
