"""The derivatives of a C library, as an artifact has it, are those of the reference, or are not used."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.artifact.format import assemble
from kanserve.artifact_compiler import compile, export_files
from kanserve.errors import DataError
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.network.export_options import ExportOptions
from kanserve.network.kan import Kan
from kanserve.runtime import c_backend, load_backend
from kanserve.runtime.backend import Differentiating
from kanserve_exporters import c_source
from tests.support.cases import one_in
from tests.support.networks import kans, sized_networks

Array = NDArray[np.float64]


def differentiated(backend: Any, x: Array) -> tuple[bool, Array, Array]:
    whole, values, derivatives = backend.differentiate(np.ascontiguousarray(x).tobytes(), len(x))
    y = np.frombuffer(values).reshape(len(x), backend.outputs)
    return whole, y, np.frombuffer(derivatives).reshape(len(x), backend.outputs, backend.inputs)


def moved(kan: Kan, side: float) -> Kan:
    """The network with all edges moved by a little, for what rounding does to its derivatives."""
    layers = []
    for layer in kan.layers:
        affine = layer.affine.copy()
        affine[..., 0] *= 1 + side * 2.0**-44
        layers.append(replace(layer, knots=layer.knots * (1 + side * 2.0**-44), affine=affine))
    return replace(kan, layers=tuple(layers))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", one_in(4, kans.ZOO))
def test_every_network_of_the_zoo_has_the_references_derivatives(name: str) -> None:
    """On its rows: on knots, outside the grid, with NaN and infinity. The library is the fast form of the source."""
    kan = kans.ZOO[name]()
    backend = load_backend(compile(kan, ("c_source",)), "c_source")
    assert isinstance(backend, Differentiating) and backend.differentiates
    x = kans.rows(kan)
    whole, y, got = differentiated(backend, x)
    wanted, slopes = evaluate(kan, x), jacobian(kan, x)
    fine = np.isfinite(slopes).all(axis=(1, 2))
    assert whole == fine.all()
    assert np.isnan(got[~fine]).all() and np.isfinite(got[fine]).all()
    assert np.array_equal(np.isnan(y), np.isnan(wanted))
    change = np.maximum(*(np.abs(jacobian(moved(kan, side), x) - slopes)[fine] for side in (1.0, -1.0)))
    size = np.abs(slopes[fine])
    allowed = np.maximum(1e-12 * np.maximum(size, np.median(size, axis=0)), 0.125 * np.nan_to_num(change))
    assert (np.abs(got[fine] - slopes[fine]) <= allowed).all()


@pytest.mark.slow
@pytest.mark.extended
def test_one_row_and_many_rows_give_the_same() -> None:
    kan = kans.multiplication()
    backend: Any = load_backend(compile(kan, ("c_source",)), "c_source")
    x = np.random.default_rng(0).uniform(-1, 1, (2 * c_backend.SMALL // 8 // kan.shape[0], kan.shape[0]))
    _, y, slopes = differentiated(backend, x)  # so many that the lock is released
    for n in (0, 5, len(x) - 1):
        _, one, derivatives = differentiated(backend, x[n : n + 1])
        assert np.array_equal(one[0], y[n]) and np.array_equal(derivatives[0], slopes[n])
    assert backend.differentiate(b"", 0) == (True, b"", b"")
    with pytest.raises(DataError, match="1 rows"):
        backend.differentiate(b"", 1)


@pytest.mark.slow
@pytest.mark.extended
def test_an_artifact_has_derivatives_where_they_cost_little_and_an_export_where_they_are_asked_for() -> None:
    kan = kans.mixed()
    assert c_source.has_cheap_gradient(kan) and c_source.has_cheap_gradient(sized_networks.splines(784, 64, 10))
    assert not c_source.has_cheap_gradient(sized_networks.splines(300, 120, 300))  # 36,000 numbers on the stack
    assert not c_source.has_cheap_gradient(sized_networks.network((40, 30)))
    assert b"gradient_batch" in compile(kan, ("c_source",)).files["c_source/model.h"]
    files, _ = export_files(kan, ("c_source",), ExportOptions())
    assert b"gradient" not in files["c_source/model.h"]
    single = load_backend(compile(kan, ("c_source",), precision="float"), "c_source")
    assert isinstance(single, Differentiating) and not single.differentiates


@pytest.mark.slow
@pytest.mark.extended
def test_a_library_whose_derivatives_are_wrong_predicts_and_does_not_differentiate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kan = kans.mixed()
    good = compile(kan, ("c_source",))
    source = {path.removeprefix("c_source/"): data for path, data in good.files.items() if path.startswith("c_source/")}
    code = source["model.c"]
    end = b"    if (!model_finite(dy_dx, MODEL_N_OUT*MODEL_N_IN))"
    end = end if end in code else b"    if (!model_finite(dy_dx, model_N_OUT*model_N_IN))"
    assert code.count(end) == 1
    for wrong in (b"    dy_dx[0] += 1e-3;\n", b"    dy_dx[0] = -dy_dx[0];\n", b"    if (y) y[0] += 1;\n"):
        source["model.c"] = code.replace(end, wrong + end)
        parts = source | dict(c_backend.build(source))
        artifact = assemble(
            kan,
            {f"c_source/{path}": data for path, data in parts.items()},
            formulas=good.formulas,
            golden=good.golden(),
        )
        caplog.clear()
        with caplog.at_level(logging.WARNING, "kanserve"):
            backend: Any = load_backend(artifact, "c_source")
        assert not backend.differentiates and "how its predictions change" in caplog.text
        x, y = good.golden()
        np.testing.assert_allclose(backend.predict(x), y, rtol=1e-12)


@pytest.mark.extended
def test_a_library_of_an_older_kanserve_does_not_differentiate() -> None:
    kan = kans.mixed()
    files, _ = export_files(kan, ("c_source",), ExportOptions())
    backend = c_backend.load({path.removeprefix("c_source/"): data for path, data in files.items()})
    assert not backend.differentiates
