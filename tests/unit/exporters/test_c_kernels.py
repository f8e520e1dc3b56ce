"""The plain and the fast form of the C source, at each width of vectors that this processor has."""

import ctypes
import itertools
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kanserve.network.evaluate import evaluate
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan, make_layer
from kanserve.network.splines import extend_knots, uniform_knots
from kanserve_exporters import c_source as exporter
from tests.support.agreement import assert_agrees, eager_float32
from tests.support.c_builds import SANITIZED, STRICT, run
from tests.support.c_libraries import PRECISIONS, TYPES, predict
from tests.support.networks.kans import ZOO, mixed, raw_features, rows, wide

pytestmark = pytest.mark.slow

# Of the zoo: several blocks of inputs, functions beside splines, affine ends, bases, many intervals.
SOME = ("wide", "mixed", "raw_features", "bases", "fine")
FAST = ("-O0", "-ffp-contract=fast")


def levels() -> dict[str, tuple[str, ...]]:
    """The options for each width that runs here: the plain form, and the fast one by registers."""
    found: dict[str, tuple[str, ...]] = {"plain": ("-ffp-contract=off",)}
    if platform.machine() != "x86_64":
        return found | {"fast": FAST}
    flags = Path("/proc/cpuinfo").read_text().split()
    found["v1"] = FAST
    found |= {"v3": (*FAST, "-march=x86-64-v3")} if "avx2" in flags and "fma" in flags else {}
    return found | ({"v4": (*FAST, "-march=x86-64-v4")} if "avx512f" in flags and "avx512vl" in flags else {})


LEVELS = levels()


@cache
def exported(name: str, kan: Kan, precision: Precision) -> Mapping[str, bytes]:
    """The files of a network, the same for all levels."""
    return exporter.export(kan, ExportOptions(name, precision))


@cache
def networks() -> dict[str, Kan]:
    """Some networks of the zoo, all of which test_agreement_c.py takes, and what the zoo has not."""
    zoo = {f"zoo_{name}": ZOO[name]() for name in SOME}
    return zoo | shapes() | {"partly": partly(), "steep": steep()}


@cache
def wanted(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    """Rows of a network, what the reference gives there, and what plain float32 does."""
    x = rows(networks()[name], 60)
    return x, evaluate(networks()[name], x), eager_float32(networks()[name], x)


def written(folder: Path, kans: dict[str, Kan], precision: Precision, level: str) -> None:
    """The sources, and all.c that takes them all in: the compiler then reads what it needs for vectors once."""
    for name, kan in kans.items():
        for path, data in exported(name, kan, precision).items():
            (folder / path).write_bytes(data)
    fast = "" if level == "plain" else "".join(f"#define {name}_FAST\n" for name in kans)
    (folder / "all.c").write_text(fast + "".join(f'#include "{name}.c"\n' for name in kans))


def built(folder: Path, kans: dict[str, Kan], precision: Precision, level: str) -> ctypes.CDLL:
    written(folder, kans, precision, level)
    run("gcc", *STRICT, *LEVELS[level], "-shared", "-fPIC", "all.c", "-o", "all.so", "-lm", at=folder)
    return ctypes.CDLL(str(folder / "all.so"))


def shapes() -> dict[str, Kan]:
    """What the zoo has not: every remainder of outputs by a vector, rows of several blocks of inputs, high orders."""
    rng = np.random.default_rng(7)

    def one(inputs: int, outputs: int, order: int, **options: Any) -> Kan:
        knots = np.stack([uniform_knots(low, low + 2, 4, order) for low in rng.uniform(-1.3, -0.7, inputs)])
        coefficients = rng.normal(0, 0.5, (outputs, inputs, 4 + order))
        settings: dict[str, Any] = {
            "knots": knots,
            "order": order,
            "base_weight": rng.normal(0, 0.3, (outputs, inputs)),
        }
        return Kan((make_layer(coefficients, **(settings | options)),))

    outputs = {f"outputs_{n}": one(3, n, 3) for n in (5, 17, 33, 65)}
    inputs = {f"inputs_{n}": one(n, 2, 3, extrapolation="zero") for n in (7, 40)}
    orders = {f"order_{order}": one(5, 3, order, extrapolation="zero") for order in (1, 4)}
    uneven = np.stack([extend_knots(np.sort(rng.uniform(-1, 1, 5)), 3) for _ in range(19)])
    clamped = np.array([-1.0] * 3 + [-0.6, -0.3, 0.1, 0.4, 0.7] + [1.0] * 3)
    more = {
        "uneven": one(19, 6, 3, knots=uneven),
        "uneven_identity": one(19, 3, 3, knots=uneven, base="identity"),
        "clamped_zero": one(2, 3, 3, knots=np.stack([clamped] * 2), extrapolation="zero", base="zero"),
    }
    return outputs | inputs | orders | more


def partly() -> Kan:
    """A spline, then functions with domains."""
    first = make_layer([[[-1.0, 0.2, 0.5, -0.4, 0.8, 1.0, 0.3, -0.6]]], knots=uniform_knots(-1, 1, 5, 3))
    return Kan((first, make_layer(functions=[["log"]], affine=[[[1.0, -0.2, 1.0, 0.0]]])))


def steep() -> Kan:
    """Overflows far outside its range."""
    return Kan((make_layer([[[1.0, -2.0, 5.0, 8.0, -9.0, 3.0, 40.0, -30.0]]], knots=uniform_knots(-1, 1, 5, 3)),))


def builds() -> Iterator[Any]:
    """Each precision and level; all but the plain form of one are extended."""
    for build in itertools.product(PRECISIONS, LEVELS):
        short = build == ("double", "plain")
        yield pytest.param(build, id="-".join(build), marks=() if short else pytest.mark.extended)


@pytest.fixture(scope="module", params=builds())
def everything(request, tmp_path_factory):
    precision, level = request.param
    kans = networks()
    return precision, kans, built(tmp_path_factory.mktemp("built"), kans, precision, level)


@pytest.mark.extended
def test_each_form_agrees_with_the_reference(everything):
    precision, kans, library = everything
    for name in kans:
        x, want, eager = wanted(name)
        _, got = predict(library, name, x.astype(TYPES[precision][0]), want.shape[1])
        try:
            assert_agrees(got, want, eager=eager if precision == "float" else None)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


@pytest.mark.extended
def test_one_row_is_a_batch_of_one_and_self_tests_pass(everything):
    precision, kans, library = everything
    kind, number = TYPES[precision]
    for name, kan in kans.items():
        assert getattr(library, f"{name}_selftest")(None) == 0, name
        x = rows(kan, 3)[:3].astype(kind)
        _, want = predict(library, name, x, kan.shape[-1])
        for row, wanted in zip(x, want, strict=True):
            y = (number * kan.shape[-1])()
            getattr(library, f"{name}_predict")((number * len(row))(*row), y)
            assert np.allclose(y, wanted, rtol=0, atol=1e-5 if precision == "float" else 1e-12, equal_nan=True), name


@pytest.mark.extended
def test_batches_end_anywhere_and_strides_may_be_longer_than_rows(everything):
    precision, _, library = everything
    kind = TYPES[precision][0]
    for name, kan in (("zoo_wide", wide()), ("zoo_mixed", mixed()), ("zoo_raw_features", raw_features())):
        inputs, outputs = kan.shape[0], kan.shape[-1]
        x = np.resize(rows(kan, 40)[:40], (100, inputs)).astype(kind)
        want = evaluate(kan, x)
        eager = eager_float32(kan, x) if precision == "float" else None
        for count in (0, 1, 31, 32, 33, 100):
            spaced = np.full((count, inputs + 3), np.nan, kind)
            spaced[:, :inputs] = x[:count]
            code, got = predict(library, name, spaced, outputs, (inputs + 3, outputs + 2))
            assert code == 0 and (got[:, outputs:] == 7).all()
            if count:
                assert_agrees(got[:, :outputs], want[:count], eager=None if eager is None else eager[:count])


def test_bad_rows_in_a_tile_are_nan_alone_and_the_first_code_is_returned(everything):
    precision, _, library = everything
    kind = TYPES[precision][0]
    x = np.random.default_rng(5).uniform(-1, 1, (70, 20)).astype(kind)
    good = predict(library, "zoo_wide", x, 17)[1]
    broken = x.copy()
    broken[[5, 40, 69], [0, 19, 7]] = np.nan, np.inf, -np.inf
    code, got = predict(library, "zoo_wide", broken, 17)
    bad = np.isin(np.arange(70), [5, 40, 69])
    assert code == -2 and np.isnan(got[bad]).all()
    assert (got[~bad] == good[~bad]).all()
    # Logarithms and roots of what splines give: outside their domain in some rows.
    x = np.linspace(-1, 1, 50, dtype=kind)[:, None]
    code, got = predict(library, "partly", x, 1)
    outside = np.isnan(evaluate(partly(), x)[:, 0])
    assert code == -3 and 0 < outside.sum() < 50 and (np.isnan(got[:, 0]) == outside).all()
    far = np.array([[0.1], [np.finfo(kind).max], [0.2], [np.nan]], kind)
    assert predict(library, "steep", far[:3], 1)[0] == -4 and predict(library, "steep", far[::-1], 1)[0] == -2


BATCH = """
static int @_try(void)
{
    const double v[] = {0, -0.0, 0.5, 1e19, -1e10, 1e300, -1e300, 1e-310, NAN, INFINITY, -INFINITY};
    const size_t rows = 121;
    size_t n, i;
    /* As large as they must be, so that a step beyond shows. */
    @_real *x = (@_real *)malloc(rows*@_N_IN*sizeof *x), *y = (@_real *)malloc(rows*@_N_OUT*sizeof *y);
    for (n = 0; n < rows; n++) for (i = 0; i < @_N_IN; i++) x[n*@_N_IN + i] = (@_real)v[i % 2 ? n/11 : n % 11];
    if (@_predict_batch(x, rows, @_N_IN, y, @_N_OUT) == 0) return 1;
    for (n = 0; n < rows; n++) {
        if (n % 11 >= 8 && y[n*@_N_OUT] == y[n*@_N_OUT]) return 2;
        if (n % 11 < 3 && n/11 < 3 && y[n*@_N_OUT] != y[n*@_N_OUT]) return 3;
    }
    free(x);
    free(y);
    return 0;
}
"""


@pytest.mark.extended
@pytest.mark.parametrize("level", list(LEVELS))
def test_undefined_behaviour_does_not_happen_in_batches_of_nasty_rows(tmp_path, level):
    kans = {name: ZOO[name]() for name in ("uneven_knots", "wide", "outside_zero")}
    written(tmp_path, kans, "float", level)
    with (tmp_path / "all.c").open("a") as file:
        file.write("#include <stdlib.h>\n" + "".join(BATCH.replace("@", name) for name in kans))
        file.write(f"int main(void)\n{{\n    return {' || '.join(f'{name}_try()' for name in kans)};\n}}\n")
    run("gcc", "-std=c99", *LEVELS[level], *SANITIZED, "all.c", "-lm", "-o", "main", at=tmp_path)
    run("./main", at=tmp_path)
