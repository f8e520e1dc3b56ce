import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kanserve import runtime
from kanserve.artifact import assemble, write
from kanserve.artifact_compiler import EXPORTERS, compile, golden_rows
from kanserve.errors import FormatError, GoldenError, NotFoundError
from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import Precision
from kanserve.network.kan import Kan, Variable, make_layer
from kanserve.network.rounding_error import rounding
from kanserve.network.splines import extend_knots
from kanserve.runtime.backend import MAX_GOLDEN_ROWS, check, get, names, tolerance
from kanserve.train import create
from tests.support.networks.kans import ZOO, mixed, one_edge, rows


@pytest.fixture(scope="module")
def model():
    return compile(mixed(), name="mixed")


def changed(artifact, *, golden=None, kan=None, parts=None):
    """The artifact with something else in it and right checksums: what a careless or hostile hand makes."""
    kept = {path: data for path, data in artifact.files.items() if "/" in path}
    return assemble(
        artifact.kan() if kan is None else kan,
        kept if parts is None else parts,
        formulas=artifact.formulas,
        golden=artifact.golden() if golden is None else golden,
    )


def test_the_backends_are_found_by_looking_and_the_preferred_one_is_first():
    assert names() == ("c_source", "onnx_graph", "numpy_source")
    for name in names():
        assert callable(get(name).load)


@pytest.mark.parametrize("name", ["", "backend", "__init__", "_native", "os", "../c_source", "c_source.os", "C_SOURCE"])
def test_a_name_that_is_no_backend_imports_nothing(name):
    before = set(sys.modules)
    with pytest.raises(NotFoundError, match="Unknown backend"):
        get(name)
    assert set(sys.modules) == before


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("width", [1e-6, 1e-3])
def test_networks_that_jump_at_close_knots_agree_in_all_formats_and_between_the_knots(width):
    close = 0.3 + width * np.linspace(-0.5, 0.5, 4)
    knots = extend_knots(np.union1d(np.linspace(-1, 1, 5), close), 3)
    coefficients = np.random.default_rng(0).normal(size=(1, 1, len(knots) - 4))
    kan = Kan((make_layer(coefficients, knots=knots[None]),))
    x = np.concatenate([np.linspace(-1.5, 1.5, 100), 0.3 + width * np.linspace(-1, 1, 100)])[:, None]
    artifact, want = compile(kan, name="jump"), evaluate(kan, x)
    for name in EXPORTERS:
        found = runtime.load_backend(artifact, name).predict(x)
        np.testing.assert_allclose(found, want, rtol=0, atol=1e-14 / width)  # rounded x times the slope
    rounded = runtime.load_backend(compile(kan, name="jump", precision="float"))
    np.testing.assert_allclose(rounded.predict(x[:100]), want[:100], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", EXPORTERS)
def test_a_loaded_backend_answers_like_the_network(name, model):
    kan, x = model.kan(), rows(model.kan())
    backend = runtime.load_backend(model, name)
    assert (backend.inputs, backend.outputs) == (len(kan.inputs), len(kan.outputs))
    assert backend.dtype == np.float64
    np.testing.assert_allclose(backend.predict(x), evaluate(kan, x), rtol=1e-9, atol=1e-9)


def test_the_first_backend_that_can_run_is_taken(model):
    parts = {path: data for path, data in model.files.items() if "/" in path}
    assert type(runtime.load_backend(model)) is type(runtime.load_backend(model, "c_source"))
    assert runtime.load_preferred(model)[0] == "c_source"
    source = {path: data for path, data in parts.items() if not path.endswith(".so")}
    assert source.keys() != parts.keys()
    without = changed(model, parts=source)
    assert type(runtime.load_backend(without)) is type(runtime.load_backend(model, "onnx_graph"))
    with pytest.raises(NotFoundError):
        runtime.load_backend(without, "c_source")


def test_a_library_that_the_system_cannot_load_is_passed_over_unless_it_was_asked_for(model):
    parts = {path: data for path, data in model.files.items() if "/" in path}
    (library,) = [path for path in parts if path.endswith(".so")]
    # Bytes 18 and 19 of an ELF file are its processor; there is none of this number.
    foreign = changed(model, parts=parts | {library: parts[library][:18] + b"\xfe\xca" + parts[library][20:]})
    assert type(runtime.load_backend(foreign)) is type(runtime.load_backend(model, "onnx_graph"))
    with pytest.raises(FormatError):
        runtime.load_backend(foreign, "c_source")


def test_when_no_backend_can_run_each_says_why(model):
    parts = {path: data for path, data in model.files.items() if path.startswith("c_source/") and ".so" not in path}
    with pytest.raises(NotFoundError, match="c_source: "):
        runtime.load_backend(changed(model, parts=parts))
    with pytest.raises(NotFoundError, match="It has elsewhere; known are"):
        runtime.load_backend(changed(model, parts={"elsewhere/model": b""}))
    with pytest.raises(NotFoundError, match="has no 'onnx_graph'"):
        runtime.load_backend(changed(model, parts=parts), "onnx_graph")


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_tampered_golden_row_is_found(name, model):
    x, y = model.golden()
    for row, value in ((0, y[0] * (1 + 1e-9)), (3, np.nan), (len(y) - 1, 0.0), (5, np.inf)):
        tampered = y.copy()
        tampered[row] = value
        with pytest.raises(GoldenError, match=f"golden row {row}") as caught:
            runtime.load_backend(changed(model, golden=(x, tampered)), name)
        assert "float64" not in str(caught.value)  # a number, not its type


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", EXPORTERS)
def test_a_backend_of_another_network_is_found(name, model):
    first = mixed().layers[0]
    layer = replace(first, node_bias=first.node_bias + 1e-6)
    other = compile(replace(mixed(), layers=(layer, *mixed().layers[1:])), (name,), name="mixed")
    parts = {path: data for path, data in other.files.items() if "/" in path}
    with pytest.raises(GoldenError, match="The backend disagrees"):
        runtime.load_backend(changed(model, parts=parts), name)


def test_a_backend_of_another_shape_is_found(model):
    other = compile(one_edge(), ("numpy_source",))
    parts = {path: data for path, data in other.files.items() if "/" in path}
    with pytest.raises(GoldenError, match="inputs and give"):
        runtime.load_backend(changed(model, parts=parts))


def test_a_manifest_of_another_network_is_found(model):
    manifest = replace(model.manifest, outputs=(*model.manifest.outputs[:-1], Variable("other")))
    with pytest.raises(FormatError, match="not those of the network"):
        runtime.load_backend(replace(model, manifest=manifest))


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_the_golden_check_still_means_something_for_every_network(name):
    kan = ZOO[name]()
    x, y = golden_rows(kan)
    size = np.nanmax(np.abs(y), axis=0)
    assert (tolerance(kan, x, y, "double") <= 1e-11 * size).all()
    assert (tolerance(kan, x, y, "float") <= 1e-3 * size).all()
    assert np.isfinite(rounding(kan, x, "float")[np.isfinite(y)]).all()


class Answers:
    """A backend with fixed answers."""

    outputs = 1
    dtype = np.dtype(np.float32)

    def __init__(self, y, inputs=1):
        self.y, self.inputs = y, inputs

    def predict(self, x):
        return self.y


def test_a_row_next_to_a_pole_excuses_no_other_row():
    kan = Kan(
        (make_layer(functions=[["1/x"]], affine=[[[1.0, -1.0100001, 1.0, 0.0]]]),),
        inputs=(Variable("x", low=0, high=1),),
    )
    x = np.append(golden_rows(kan)[0], [[1.01]], axis=0)
    y = evaluate(kan, x)
    assert abs(y[-1, 0]) > 9e6 and np.nanmax(np.abs(y[:-1])) < 10
    limits: dict[Precision, float] = {"float": 2e-5, "double": 2e-12}
    for precision, part in limits.items():
        assert (tolerance(kan, x, y, precision)[:32] <= part * np.abs(y[:32]).max()).all()
    check(Answers(y.astype(np.float32)), kan, (x, y), "float")
    wrong = y.copy()
    wrong[:32] = -50
    with pytest.raises(GoldenError, match="The backend disagrees with golden row 0"):
        check(Answers(wrong), kan, (x, y), "float")


def test_the_row_outside_is_left_out_where_rounding_decides_it():
    kan = Kan(
        (make_layer(functions=[["1/x"]], affine=[[[1.0, -1.0100001, 1.0, 0.0]]]),),
        inputs=(Variable("x", low=0, high=1),),
    )
    assert golden_rows(kan)[0].max(initial=0, where=~np.isnan(golden_rows(kan)[0])) <= 1


def test_more_golden_rows_than_any_compiler_writes_are_refused():
    kan = one_edge()
    x = np.linspace(-1, 1, MAX_GOLDEN_ROWS + 1)[:, None]
    y = evaluate(kan, x)
    check(Answers(y[1:]), kan, (x[1:], y[1:]), "double")
    with pytest.raises(GoldenError, match="At most 1000 golden rows"):
        check(Answers(y), kan, (x, y), "double")


@pytest.mark.extended
def test_of_a_large_network_the_last_golden_rows_are_compared():
    kan = create([200, 100, 1], seed=0)
    x, y = golden_rows(kan)
    check(Answers(y, 200), kan, (x, y), "double")
    for row, who in ((0, "The backend"), (len(y) - 2, "The network")):
        assert np.isfinite(y[row]).all()
        wrong = y.copy()
        wrong[row] += 1
        with pytest.raises(GoldenError, match=f"{who} disagrees with golden row {row}"):
            check(Answers(y, 200), kan, (x, wrong), "double")


BARE = """
import sys
for heavy in ("torch", "sympy", "onnx", "scipy", "sklearn", "pyarrow", "matplotlib", "grpc", "typer", "rich"):
    sys.modules[heavy] = None
import numpy as np
from kanserve import repository, runtime
from kanserve.network.evaluate import evaluate
artifact = repository.read(sys.argv[1], "model")
x, y = artifact.golden()
for name in artifact.backends:
    backend = runtime.load_backend(artifact, name)
    np.testing.assert_allclose(backend.predict(x.astype(np.float32).astype(float)),
        evaluate(artifact.kan(), x.astype(np.float32).astype(float)), rtol=1e-9)
assert "kanserve.artifact_compiler" not in sys.modules and "kanserve_exporters" not in sys.modules
print(*artifact.backends)
"""


def test_an_artifact_is_served_without_torch_sympy_or_onnx(model, tmp_path):
    (tmp_path / "model").mkdir()
    write(tmp_path / "model" / "1", model)
    root = Path(runtime.__file__).parents[2]
    command = [sys.executable, "-W", "error", "-c", BARE, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["c_source", "numpy_source", "onnx_graph"]
