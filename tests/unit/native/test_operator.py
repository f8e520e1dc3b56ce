"""The compiled operators of onnxruntime: the same numbers as the functions in the file, and no file can break them.

Every change in TAMPERED must be refused by the operators, so that the file runs without them or not at all.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from kanserve import native
from kanserve.errors import FormatError
from kanserve.native import build
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan, make_layer
from kanserve.network.rounding_error import allow
from kanserve.network.splines import extend_knots, uniform_knots
from kanserve.runtime.onnx_backend import OnnxBackend, load
from kanserve_exporters.onnx_graph import export
from tests.support.agreement import eager_float32, error
from tests.support.networks.kans import ZOO, rows
from tests.support.programs import skip

pytestmark = pytest.mark.skipif(
    native.operators() is None, reason="needs libonnxruntime-dev: no onnxruntime_c_api.h at the install"
)

Array = NDArray[np.float64]
PRECISIONS: tuple[Precision, ...] = ("double", "float")
PARTS: dict[Precision, float] = {"double": 1e-12, "float": 1e-5}


def _wide(i: int, o: int, intervals: int = 5, order: int = 3, *, even: bool = True, **options: object) -> Kan:
    """One layer of random splines, more of them than in the zoo."""
    rng = np.random.default_rng(i + o)
    steps = np.ones((i, intervals)) if even else rng.uniform(0.3, 1.0, (i, intervals))
    ends = np.concatenate([np.zeros((i, 1)), np.cumsum(steps, axis=1)], axis=1) / steps.sum(axis=1, keepdims=True)
    knots = np.stack([extend_knots(2 * end - 1, order) for end in ends])
    coefficients = rng.normal(0, 0.3, (o, i, intervals + order))
    base = rng.normal(0, 0.3, (o, i))
    return Kan((make_layer(coefficients, knots=knots, order=order, base_weight=base, **options),))  # type: ignore[arg-type]


def partly_splines() -> Kan:
    """Splines of two of four inputs, one with a base alone, one with nothing; products of products."""
    rng = np.random.default_rng(8)
    coefficients, base = rng.normal(0, 0.5, (4, 4, 7)), np.zeros((4, 4))
    coefficients[:, [1, 3]], base[:, 1] = 0, 1
    first = make_layer(
        coefficients,
        knots=uniform_knots(-1, 1, 4, 3),
        base_weight=base,
        arity=[3, 1],
        node_scale=[0.0, 2.0],
        node_bias=[1, 2],
    )
    return Kan((first,))


NETWORKS: dict[str, Callable[[], Kan]] = ZOO | {
    "parts of vectors": lambda: _wide(37, 83),
    "more inputs than rows at once have": lambda: _wide(600, 3),
    "many intervals": lambda: _wide(70, 9, 40, extrapolation="zero"),
    "uneven, many outputs": lambda: _wide(40, 60, even=False),
    "uneven, few outputs, zero": lambda: _wide(35, 2, 20, 2, even=False, extrapolation="zero"),
    "partly splines": partly_splines,
}
TAKEN = ("Cardinal", "Local")  # what the names of the operators begin with


@cache
def _bytes(name: str, precision: Precision) -> bytes:
    return export(NETWORKS[name](), ExportOptions("kan", precision))["model.onnx"]


def _backend(name: str, precision: Precision = "double", threads: int = 1) -> OnnxBackend:
    backend = load({"model.onnx": _bytes(name, precision)}, threads=threads)
    layers = NETWORKS[name]().layers
    assert backend.native == all(layer.coefficients.any() and not layer.symbolic_mask.any() for layer in layers)
    return backend


def _check(name: str, precision: Precision) -> None:
    kan = NETWORKS[name]()
    x = rows(kan)
    got, want = _backend(name, precision).predict(x), evaluate(kan, x)
    fine = np.isfinite(want).all(axis=1)
    assert np.isnan(got[~fine]).all()
    error = np.abs(got[fine] - want[fine])
    assert (error <= allow(kan, x, want, precision, PARTS[precision])[fine]).all()


@pytest.mark.parametrize("precision", ["double", pytest.param("float", marks=pytest.mark.extended)])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_operators_agree_with_evaluate(name: str, precision: Precision) -> None:
    _check(name, precision)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 63, 64, 65, 300, 1025])
def test_any_number_of_rows_gives_each_row_the_numbers_that_it_has_alone(count: int) -> None:
    for name in ("parts of vectors", "deep", "uneven, many outputs"):
        backend = _backend(name)
        x = np.random.default_rng(count).uniform(-1.5, 1.5, (count, backend.inputs))
        x[:: max(count // 3, 1)] = np.nan
        together, some = backend.predict(x), slice(0, None, max(count // 9, 1))
        alone = [backend.predict(row[None])[0] for row in x[some]]
        np.testing.assert_allclose(together[some], np.reshape(alone, (-1, backend.outputs)), rtol=1e-12, atol=1e-13)


def test_threads_change_no_number() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (3000, 37))
    one, two = (_backend("parts of vectors", threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.predict(x), two.predict(x))


def _operators(session: onnxruntime.InferenceSession, x: Array) -> list[str]:
    """What onnxruntime says it ran, by its profile."""
    session.run(["y"], {"x": x})
    events = json.loads(Path(session.end_profiling()).read_text())
    return [str(event["args"]["op_name"]) for event in events if "op_name" in event.get("args", {})]


@pytest.mark.parametrize("name", ["deep", "orders", "uneven_knots", "uneven, many outputs", "multiplication"])
def test_the_operators_take_over_every_layer_of_splines_and_the_file_runs_without(name: str, tmp_path: Path) -> None:
    kan = NETWORKS[name]()
    ran = []
    for library in (native.operators(), None):
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
        if library is not None:
            options.register_custom_ops_library(str(library))
        session = onnxruntime.InferenceSession(_bytes(name, "double"), options, providers=["CPUExecutionProvider"])
        ran.append(_operators(session, rows(kan)))
    assert sum(kernel.startswith(TAKEN) for kernel in ran[0]) == len(kan.layers)
    assert not [kernel for kernel in ran[1] if kernel.startswith(TAKEN)]
    with native.disable_kernels():
        stock = load({"model.onnx": _bytes(name, "double")})
    assert not stock.native
    np.testing.assert_allclose(stock.predict(rows(kan)), _backend(name).predict(rows(kan)), rtol=1e-9, atol=1e-11)


def test_a_runtime_that_does_not_take_the_library_runs_the_file_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "operators.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(native, "operators", lambda: broken)
    backend = load({"model.onnx": _bytes("deep", "double")})
    assert not backend.native
    assert np.isfinite(backend.predict(np.zeros((1, backend.inputs)))).all()


Change = Callable[[onnx.ModelProto], None]


def _attribute(name: str, value: object) -> Change:
    def change(model: onnx.ModelProto) -> None:
        node = next(graph_node for graph_node in model.graph.node if graph_node.domain)
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend(kept)
        if value is not None:
            node.attribute.append(onnx.helper.make_attribute(name, value))

    return change


def _table(name: str, new: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> Change:
    def change(model: onnx.ModelProto) -> None:
        table = next(tensor for tensor in model.graph.initializer if tensor.name == f"layer1_{name}")
        table.CopyFrom(onnx.numpy_helper.from_array(new(onnx.numpy_helper.to_array(table).copy()), table.name))

    return change


def _put(value: float, place: int = 0) -> Callable[[NDArray[np.generic]], NDArray[np.generic]]:
    def new(table: NDArray[np.generic]) -> NDArray[np.generic]:
        table.flat[place] = value
        return table

    return new


def _not_constant(model: onnx.ModelProto) -> None:
    """The bias is computed from the rows."""
    node = next(graph_node for graph_node in model.graph.node if graph_node.domain)
    at = next(n for n, name in enumerate(node.input) if name.endswith("bias"))
    slim = [onnx.helper.make_node("ReduceSum", ["x"], ["sums"], keepdims=0, noop_with_empty_axes=0)]
    slim.append(onnx.helper.make_node("Add", [node.input[at], "sums"], ["moved"]))
    node.input[at] = "moved"
    nodes = [*slim, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


CUBIC, UNEVEN, MANY = "outside_linear", "uneven_knots", "uneven, many outputs"
FEW, EVEN, SCALED = "uneven, few outputs, zero", "many intervals", "raw_features"
TAMPERED: dict[str, tuple[str, Change]] = {
    "no names": (CUBIC, _attribute("tables", None)),
    "a name more": (CUBIC, _attribute("tables", "middles,steps,weights,bias,a,b,c,d,e,f,g,h,i,j,k,l")),
    "a hundred names": (CUBIC, _attribute("tables", ",".join(["weights"] * 100))),
    "names of a megabyte": (CUBIC, _attribute("tables", "a" * 2**20)),
    "no order": (CUBIC, _attribute("order", None)),
    "order 0": (UNEVEN, _attribute("order", 0)),
    "order 2 of a cubic": (CUBIC, _attribute("order", 2)),
    "order 9": (UNEVEN, _attribute("order", 9)),
    "a huge order": (UNEVEN, _attribute("order", 2**62)),
    "a base of its own": (CUBIC, _attribute("base", "cosine")),
    "a base without function": (CUBIC, _attribute("base", "zero")),
    "a table that is not constant": (CUBIC, _not_constant),
    "weights of another layer": (CUBIC, _table("weights", lambda one: np.zeros((5, 7), one.dtype))),
    "weights in a row": (CUBIC, _table("weights", lambda one: one.reshape(-1))),
    "no weights": (CUBIC, _table("weights", lambda one: np.zeros((0, 0), one.dtype))),
    "weights of four dimensions": (CUBIC, _table("weights", lambda one: one.reshape(1, 1, *one.shape))),
    "a short bias": (CUBIC, _table("bias", lambda one: one[:1])),
    "whole numbers as bias": (CUBIC, _table("bias", lambda one: np.zeros(one.shape, np.int64))),
    "slopes that are not the splines'": (CUBIC, _table("weights", lambda one: one + 1)),
    "coefficients short by a row": (CUBIC, _table("spline_weights", lambda one: one[:-1])),
    "steps of 0": (CUBIC, _table("steps", _put(0.0))),
    "steps of NaN": (CUBIC, _table("steps", _put(np.nan))),
    "tiny steps": (CUBIC, _table("steps", _put(5e-324))),
    "an infinite middle": (CUBIC, _table("middles", _put(np.inf))),
    "another end": (CUBIC, _table("lowest", _put(-1e9))),
    "breaks of NaN": (UNEVEN, _table("breaks", _put(np.nan, 2))),
    "breaks that fall": (UNEVEN, _table("breaks", lambda one: one[:, ::-1].copy())),
    "breaks short by one": (UNEVEN, _table("breaks", lambda one: one[:, :-1].copy())),
    "no origins": (UNEVEN, _table("origins", lambda one: one[:0])),
    "an origin more": (UNEVEN, _table("origins", lambda one: np.append(one, one[:1]))),
    "polynomials short by a row": (FEW, _table("polynomials", lambda one: one[:-1])),
    "functions everywhere": (MANY, _table("basis0", lambda one: np.ones_like(one))),
    "a basis short by a row": (MANY, _table("basis2", lambda one: one[1:])),
    "a step of 0": (EVEN, _table("steps", _put(0.0))),
    "scales short by one": (SCALED, _table("input_scale", lambda one: one[:-1])),
    "whole numbers as shifts": (SCALED, _table("input_shift", lambda one: one.astype(np.int64))),
    "groups beyond the last": ("multiplication", _table("groups", _put(10**9))),
    "groups before the first": ("multiplication", _table("groups", _put(-1))),
    "an input beyond the last": ("partly splines", _table("spline_inputs", _put(4, 1))),
    "an input twice": ("partly splines", _table("spline_inputs", _put(0, 1))),
    "an input before the first": ("partly splines", _table("spline_inputs", _put(-(2**63)))),
}


def _tampered(name: str) -> bytes:
    network, change = TAMPERED[name]
    model = onnx.load_from_string(_bytes(network, "double"))
    change(model)
    return model.SerializeToString()


@pytest.mark.parametrize("name", TAMPERED)
def test_a_layer_that_is_not_as_it_should_be_is_not_taken(name: str) -> None:
    _refused(name)


def _refused(name: str) -> None:
    assert not _taken(_tampered(name))


def _taken(data: bytes) -> bool:
    try:
        return load({"model.onnx": data}).native
    except FormatError:
        return False


def test_the_tampered_files_were_taken_before() -> None:
    for network in {network for network, _ in TAMPERED.values()}:
        assert _taken(_bytes(network, "double"))


def test_rounding_can_have_taken_no_more_from_a_step_than_half_its_last_digit() -> None:
    for part, taken in ((2.0**-24, True), (1e-6, False), (np.nan, False)):
        model = onnx.load_from_string(_bytes("one_edge", "float"))
        step = next(tensor for tensor in model.graph.initializer if tensor.name == "layer1_steps")
        _table("steps_rest", _put(part * onnx.numpy_helper.to_array(step)[0]))(model)
        assert _taken(model.SerializeToString()) == taken


@pytest.mark.parametrize("name", ["fine", "parts of vectors", "more inputs than rows at once have"])
def test_in_float_the_operators_are_no_less_exact_than_the_plainest_way(name: str) -> None:
    kan = NETWORKS[name]()
    x = np.random.default_rng(0).uniform(-1, 1, (500, len(kan.inputs))).astype(np.float32).astype(np.float64)
    want = evaluate(kan, x)
    # Both sum as many terms. How these are divided among the lanes of a vector, which differ between processors, moves
    # the largest error by less than twice.
    assert error(_backend(name, "float").predict(x), want) <= 2 * error(eager_float32(kan, x), want)


def test_rows_of_another_width_than_the_layer_has_are_refused() -> None:
    model = onnx.load_from_string(_bytes("one_edge", "double"))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 9
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(native.operators()))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match="another width"):
        session.run(["y"], {"x": np.zeros((1, 9))})


def under_sanitizers(library: str) -> None:
    """What the test below runs in a process of its own."""
    native.operators = lambda: Path(library)
    for name in ("parts of vectors", "orders", "uneven, few outputs, zero", "partly splines", "classifier", "fine"):
        for precision in PRECISIONS:
            _check(name, precision)
    for name in TAMPERED:
        _refused(name)


def _where(program: str, name: str) -> Path:
    command = [*program.split(), f"-print-file-name={name}"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


@pytest.mark.extended
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the sanitizers are looked for as gcc's on Linux")
def test_the_sanitizers_find_nothing_in_networks_or_tampered_files(tmp_path: Path) -> None:
    program = build.compiler()
    assert program is not None
    # The sanitizer asks at its start for what throws onnxruntime's exceptions.
    preloaded = [_where(program, name) for name in ("libasan.so", "libstdc++.so.6")]
    if not all(path.is_absolute() for path in preloaded):
        skip("libasan: the compiler has no address sanitizer")
    library, folder = tmp_path / "operators.so", build.FOLDER / "onnxruntime"
    command = [*program.split(), "-std=c11", "-fPIC", "-shared", "-pthread", f"-I{build.headers()}", "-o", str(library)]
    command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", *build.OPERATOR_FLAGS]
    subprocess.run([*command, *map(str, folder.glob("*.c")), "-lm"], check=True)
    script = f"from tests.unit.native.test_operator import under_sanitizers; under_sanitizers({str(library)!r})"
    environment = os.environ | {"LD_PRELOAD": ":".join(map(str, preloaded)), "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
