"""The second derivatives of a C library, as an artifact has it, are those of the reference, or are not used."""

import logging
from typing import Any

import numpy as np
import pytest

from kanserve.artifact.format import Artifact, assemble
from kanserve.artifact_compiler import compile
from kanserve.errors import DataError
from kanserve.network.derivatives import derivatives
from kanserve.network.evaluate import jacobian
from kanserve.network.export_options import ExportOptions
from kanserve.runtime import c_backend, load_backend
from kanserve.runtime.backend import TwiceDifferentiating
from tests.support.cases import one_in
from tests.support.networks import kans

HESSIAN = ExportOptions(hessian=True)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", one_in(4, kans.ZOO))
def test_every_network_of_the_zoo_has_the_references_second_derivatives(name: str) -> None:
    """On its rows: on knots, outside the grid, with NaN and infinity. The library is the fast form of the source."""
    kan = kans.ZOO[name]()
    backend = load_backend(compile(kan, ("c_source",), options=HESSIAN), "c_source")
    assert isinstance(backend, TwiceDifferentiating) and backend.differentiates and backend.differentiates_twice
    x = kans.rows(kan)
    whole, data = backend.differentiate_twice(x.tobytes(), len(x))
    wanted = derivatives(kan, x, order=2)
    got = np.frombuffer(data).reshape(wanted.shape)
    fine = np.isfinite(wanted).all(axis=(1, 2, 3)) & np.isfinite(jacobian(kan, x)).all(axis=(1, 2))
    assert whole == fine.all() and np.isnan(got[~fine]).all()
    assert np.array_equal(got, got.swapaxes(2, 3), equal_nan=True)
    size = np.abs(wanted[fine])
    assert (np.abs(got[fine] - wanted[fine]) <= 1e-11 * np.maximum(size, np.median(size, axis=0))).all()


@pytest.mark.slow
@pytest.mark.extended
def test_rows_are_counted_and_only_an_export_that_asks_has_second_derivatives() -> None:
    kan = kans.mixed()
    backend: Any = load_backend(compile(kan, ("c_source",), options=HESSIAN), "c_source")
    assert backend.differentiate_twice(b"", 0) == (True, b"")
    with pytest.raises(DataError, match="1 rows"):
        backend.differentiate_twice(b"", 1)
    plain = load_backend(compile(kan, ("c_source",)), "c_source")
    assert isinstance(plain, TwiceDifferentiating) and plain.differentiates and not plain.differentiates_twice
    options = ExportOptions(hessian=True, precision="float")
    single = load_backend(compile(kan, ("c_source",), options=options), "c_source")
    assert isinstance(single, TwiceDifferentiating) and not single.differentiates_twice


def changed(good: Artifact, before: bytes, wrong: bytes) -> Artifact:
    """The artifact with other C code, built anew."""
    source = {path.removeprefix("c_source/"): data for path, data in good.files.items() if path.startswith("c_source/")}
    assert source["model.c"].count(before) == 1
    source["model.c"] = source["model.c"].replace(before, wrong + before)
    parts = source | dict(c_backend.build(source))
    files = {f"c_source/{path}": data for path, data in parts.items()}
    return assemble(good.kan(), files, formulas=good.formulas, golden=good.golden())


@pytest.mark.slow
@pytest.mark.extended
def test_a_library_whose_second_derivatives_are_wrong_still_has_the_first_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = compile(kans.mixed(), ("c_source",), options=HESSIAN)
    end = b"    if (!model_finite(d2y_dx2, model_N_OUT*model_N_IN*model_N_IN))"
    for wrong in (b"    d2y_dx2[0] += 1e-3;\n", b"    d2y_dx2[1] = d2y_dx2[2] = -d2y_dx2[1];\n"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "kanserve"):
            backend: Any = load_backend(changed(good, end, wrong), "c_source")
        assert backend.differentiates and not backend.differentiates_twice
        assert "second derivatives of 'model'" in caplog.text and "how its derivatives change" in caplog.text
    first = b"    if (!model_finite(dy_dx, model_N_OUT*model_N_IN))"
    backend = load_backend(changed(good, first, b"    dy_dx[0] += 1e-3;\n"), "c_source")
    assert not backend.differentiates and not backend.differentiates_twice
