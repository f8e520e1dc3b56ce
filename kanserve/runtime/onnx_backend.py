"""Runs an ONNX artifact in onnxruntime, on the CPU, from its bytes.

A graph is data, but a runtime may do more with it than compute: read other files for its tensors, call operators of a
library, loop forever. So the bytes are checked before onnxruntime gets them. They are refused if they contain external
tensors, operators or functions of other domains than ONNX's own and `ai.kanserve`, operators that our exporter never
writes (some make tensors of any size from a number), functions that call functions, or nested graphs (all control
flow). A valid file may still need much memory: tables of n rows and of n columns combine to n² numbers. Only the
relevant parts of the format are parsed, without any package: a message is a list of numbered fields whose numbers never
change (onnx.proto3; the encoding is protobuf's).
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve import native
from kanserve.errors import DataError, FormatError, MissingDependencyError
from kanserve.runtime._onnx_chain import SHARE, Chain, Kernel, listening
from kanserve.runtime.backend import Portable, keep_files

# The names that kanserve/native/onnxruntime/operator.c registers. Our files hold each layer as a function that every
# runtime can run; where that library is, its kernels run the layers of splines several times faster.
_KINDS = rb"Cardinal(?:Linear|Quadratic|Cubic|Quartic|Quintic)|LocalPolynomials|LocalBasis"
_COMPILED = re.compile(rb"(?:" + _KINDS + rb")[2-8]?")


def all_compiled(functions: AbstractSet[bytes]) -> bool:
    """Whether there are compiled operators for all of a file's functions."""
    return all(_COMPILED.fullmatch(function) for function in functions)


def register_compiled(options: Any) -> bool:
    """Register the operators in `options`, a SessionOptions of onnxruntime. Returns False if there are none."""
    path = native.operators()
    if path is None:
        return False
    try:
        options.register_custom_ops_library(str(path))
    except Exception as error:  # onnxruntime's exceptions have no other base class
        logging.getLogger("kanserve").info("onnxruntime does not take the compiled operators: %s", error)
        return False
    # The kernels need no memory arena, whose locks cost a small network a tenth of its time.
    options.enable_cpu_mem_arena = False
    return True


FILE = "model.onnx"
_STANDARD, _OURS = (b"", b"ai.onnx"), (b"ai.kanserve",)
_TYPES: dict[str, np.dtype[Any]] = {"tensor(float)": np.dtype(np.float32), "tensor(double)": np.dtype(np.float64)}
# Exactly the operators that the exporter writes; a test compares the two.
_NAMES = """Abs Acos Add And ArgMax Asin Asinh Atan Atanh Cast Clip Concat Constant Cos Cosh Div Equal Erf Exp Flatten
Floor Gather Gemm Greater GreaterOrEqual HardSigmoid IsInf IsNaN Less Log MatMul Min Mul Neg Not Or Pow Reciprocal
ReduceSum Reshape Round Sigmoid Sign Sin Sinh Softmax Split Sqrt Squeeze Sub Tan Tanh Unsqueeze Where"""
OPERATORS = frozenset(_NAMES.split())
_QUIET = 4  # onnxruntime's log level "fatal": errors are raised as exceptions anyway


@dataclass(frozen=True)
class OnnxBackend(Portable):
    """A session of onnxruntime; thread-safe."""

    session: Any  # onnxruntime has no types
    options: Any  # RunOptions; making new ones takes a tenth of a small network's call
    inputs: int
    outputs: int
    dtype: np.dtype[Any]
    batch: int  # rows at a time, so that intermediate values stay small
    native: bool = False  # whether compiled operators compute all layers
    chain: Chain | None = None  # runs these operators directly, if nothing else is between x and y
    chained: int = 0  # rows up to which the chain is used; with several threads it is slower for many
    releasing: Any = None  # RunOptions that make the session's arena return its memory, if it has one

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """The outputs (N, outputs) of raw feature rows (N, inputs), float32 or float64."""
        rows = x
        if x.dtype != self.dtype or not x.flags.c_contiguous:
            with np.errstate(over="ignore"):  # too large for float32: infinity, which makes the row NaN
                rows = np.ascontiguousarray(x, self.dtype)
        if rows.ndim != 2 or rows.shape[1] != self.inputs:
            raise DataError(f"Rows must have shape (N, {self.inputs}), got {rows.shape}.")
        if len(rows) <= self.batch:
            return self._run(rows)
        result = np.empty((len(rows), self.outputs), self.dtype)
        for start in range(0, len(rows), self.batch):
            part = rows[start : start + self.batch]
            last = start + self.batch >= len(rows)
            result[start : start + self.batch] = self._run(part, self.releasing if last else None)
        return result

    def _run(self, rows: NDArray[Any], options: Any = None) -> NDArray[Any]:
        if self.chain is not None and len(rows) <= self.chained:
            return self.chain.run(rows)
        result: NDArray[Any] = self.session.run(["y"], {"x": rows}, options or self.options)[0]
        return result


def load(files: Mapping[str, bytes], *, threads: int = 1) -> OnnxBackend:
    """Load the backend from {"model.onnx": bytes}. Raises FormatError if it is not a network exported by kanserve."""
    backend = _load(files, threads)
    keep_files(backend, "onnx_graph", files, threads)
    return backend


def _load(files: Mapping[str, bytes], threads: int) -> OnnxBackend:
    # Otherwise onnxruntime stores an identifier of the machine in HOME and sends telemetry.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError("onnxruntime", "onnx") from None
    if FILE not in files:
        raise FormatError(f"An ONNX artifact holds {FILE}, got {', '.join(files) or 'no files'}.")
    functions = _check_model(files[FILE])
    session, kernels = listening(partial(_native_session, onnxruntime, files[FILE], threads))
    if session is not None:
        made = _backend(session, onnxruntime.RunOptions(), native=all_compiled(functions))
        return _chain(made, kernels, files[FILE], threads)
    try:
        session = _session(onnxruntime, files[FILE], _options(onnxruntime, threads))
    except Exception as error:  # onnxruntime's exceptions have no other base class
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FormatError(f"onnxruntime {onnxruntime.__version__} cannot load {FILE}: {reason}") from None
    releasing = onnxruntime.RunOptions()
    releasing.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return replace(_backend(session, onnxruntime.RunOptions(), native=False), releasing=releasing)


def _options(onnxruntime: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # its own ORT format was not checked
    return options


def _session(onnxruntime: Any, data: bytes, options: Any) -> Any:
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _native_session(onnxruntime: Any, data: bytes, threads: int) -> Any:
    """A session with the compiled operators; None if there are none, or they lack a layer of the file."""
    options = _options(onnxruntime, threads)
    if not register_compiled(options):
        return None
    try:
        return _session(onnxruntime, data, options)
    except Exception as error:  # if the file itself is invalid, loading it without the operators fails too
        logging.getLogger("kanserve").info("The compiled operators do not run this file: %s", error)
        return None


def _backend(session: Any, options: Any, native: bool) -> OnnxBackend:
    inputs = {get_variable.name: get_variable for get_variable in session.get_inputs()}
    outputs = {output.name: output for output in session.get_outputs()}
    if list(inputs) != ["x"] or "y" not in outputs:
        raise FormatError(f"The graph must take 'x' and give 'y'; it takes {list(inputs)} and gives {list(outputs)}.")
    x, y = inputs["x"], outputs["y"]
    for port in (x, y):
        if port.type not in _TYPES or len(port.shape) != 2 or not isinstance(port.shape[1], int) or port.type != x.type:
            raise FormatError(f"{port.name!r} must be float or double (batch, n), got {port.type} {port.shape}.")
    text = session.get_modelmeta().custom_metadata_map.get("batch", "")
    batch = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1024
    batch = max(batch, 1)
    if native:  # the only intermediate values are the layers' outputs
        batch = max(batch, 1024)
    return OnnxBackend(session, options, x.shape[1], y.shape[1], _TYPES[x.type], batch, native)


def _chain(backend: OnnxBackend, kernels: Sequence[Kernel], data: bytes, threads: int) -> OnnxBackend:
    """The backend with a chain of the session's kernels if that gives the same results, else unchanged."""
    try:
        chain = Chain(backend.session, kernels, _operators(data), backend.dtype)
    except ValueError:
        return backend
    x = np.linspace(-1, 1, 3 * backend.inputs).reshape(3, backend.inputs).astype(backend.dtype)
    if not np.array_equal(chain.run(x), backend._run(x), equal_nan=True):
        return backend
    return replace(backend, chain=chain, chained=backend.batch if threads == 1 else SHARE)


def _operators(data: bytes) -> list[bytes]:
    """The file's functions from x to y, if each one's input is the previous one's output, else an empty list."""
    found, last = list[bytes](), b"x"
    for node in (
        message for field, graph in _messages(data) if field == 7 for number, message in _messages(graph) if number == 1
    ):
        fields: dict[int, list[bytes]] = {}
        for field, value in _messages(node):
            fields.setdefault(field, []).append(bytes(value))
        inputs, outputs, kinds, domains = (fields.get(number, []) for number in (1, 2, 4, 7))
        if len(kinds) == len(domains) == len(outputs) == 1 and domains[0] in _OURS and inputs[:1] == [last]:
            found.append(kinds[0])
            (last,) = outputs
        elif last != b"y":
            return []
    return found if last == b"y" else []


def _check_model(data: bytes) -> set[bytes]:
    """The functions that the model calls. Raises FormatError if it could do anything but compute."""
    called, held = set[bytes](), set[bytes]()
    try:
        for field, value in _messages(data):
            match field:
                case 7:
                    called |= _check_graph(value)
                case 20:
                    raise FormatError(f"{FILE} must be for inference; it holds training information.")
                case 25:
                    held |= _check_function(value)
    except (IndexError, ValueError) as error:
        raise FormatError(f"{FILE} is not an ONNX model: {error}.") from None
    # With the compiled operators onnxruntime would not notice; without them the file would not run.
    for kind in sorted(called - held):
        raise FormatError(f"Runtimes cannot load {FILE}: it does not hold the function {kind[:80]!r} that it calls.")
    return called


def _check_graph(data: memoryview) -> set[bytes]:
    """The functions that the graph calls."""
    called = set[bytes]()
    for field, value in _messages(data):
        match field:
            case 1:
                called |= _check_node(value, _STANDARD + _OURS)
            case 5:
                _check_tensor(value)
            case 15:
                raise FormatError(f"{FILE} must hold its tables as plain tensors; it has a sparse one.")
    return called


def _check_function(data: memoryview) -> set[bytes]:
    """The function's name."""
    names = set[bytes]()
    if all(field != 10 for field, _ in _messages(data)):
        _check_domain(memoryview(b""), _OURS, "a function")
    for field, value in _messages(data):
        match field:
            case 1:
                names.add(bytes(value))
            case 7:
                _check_node(value, _STANDARD)
            case 10:
                _check_domain(value, _OURS, "a function")
            case 11:
                _check_attribute(value)
    return names


def _check_node(data: memoryview, domains: tuple[bytes, ...]) -> set[bytes]:
    """The functions of the file that this node may call."""
    # A field may occur twice, and readers differ on which one counts: all are checked.
    kinds, found = [], []
    for field, value in _messages(data):
        match field:
            case 4:
                kinds.append(bytes(value))
            case 5:
                _check_attribute(value)
            case 7:
                _check_domain(value, domains, "an operator")
                found.append(bytes(value))
    if found and all(domain in _OURS for domain in found):
        return set(kinds)  # a function of the file, whose operators are checked where it is defined
    for kind in kinds:
        if kind.decode(errors="replace") not in OPERATORS:
            raise FormatError(f"{FILE} must have operators that kanserve exports only, got {kind[:80]!r}.")
    return set()


def _check_attribute(data: memoryview) -> None:
    for field, value in _messages(data):
        match field:
            case 5 | 10:
                _check_tensor(value)
            case 6 | 11:
                raise FormatError(f"{FILE} must be one flat graph; an operator holds another graph.")
            case 22 | 23:
                raise FormatError(f"{FILE} must hold its tables as plain tensors; it has a sparse one.")


def _check_tensor(data: memoryview) -> None:
    for field, value in _fields(data):
        if field == 13 or (field == 14 and value != 0):
            raise FormatError(f"{FILE} must hold all of its tensors; one is said to be in another file.")


def _check_domain(value: memoryview, allowed: tuple[bytes, ...], what: str) -> None:
    if bytes(value) not in allowed:
        wanted = " or ".join(repr(value.decode()) for value in allowed)
        raise FormatError(f"The domain of {what} in {FILE} must be {wanted}, got {bytes(value)[:80]!r}.")


def _messages(data: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a message that are bytes: strings and messages."""
    for field, value in _fields(data):
        if isinstance(value, memoryview):
            yield field, value


def _fields(data: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The numbered fields of a message, in order. Raises ValueError or IndexError for invalid bytes."""
    view = memoryview(data)
    position = 0
    while position < len(view):
        key, position = _varint(view, position)
        if key >= 2**32:  # a parser may drop the higher bits and read another field than we do
            raise ValueError(f"a field number beyond 29 bits before byte {position}")
        match key & 7:
            case 0:
                value, position = _varint(view, position)
                yield key >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, position = _varint(view, position)
            case 5:
                size = 4
            case kind:
                raise ValueError(f"wire type {kind} at byte {position}")
        if size > len(view) - position:
            raise ValueError(f"a field of {size} bytes where {len(view) - position} are left")
        if key & 7 == 2:
            yield key >> 3, view[position : position + size]
        position += size


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    """A varint (groups of seven bits, lowest first), and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"a number of more than ten bytes before byte {position}")
